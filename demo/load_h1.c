/* load_h1.c: REST over HTTP/1.1 connections that are kept open: one request at a time on each. */
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include "demo/load.h"

#define TIMEOUT_S 15
#define MAX_HEAD  8192

struct conn {
    struct load_h1 *h;
    struct bufferevent *bev;
    bool up, busy;
    struct load_request req;
};

struct load_h1 {
    struct load *load;
    struct sockaddr_in to;
    struct conn *conn; /* [n] */
    unsigned n;
    WN_VEC(struct load_request) waiting; /* from `first` on */
    size_t first;
};

static void connect_it(struct conn *c);
static void next_request(struct load_h1 *h);

static void end(struct conn *c, const struct load_answer *a, const char *why)
{
    if (c->busy) {
        c->busy = false;
        load_done(c->h->load, &c->req, a, why);
    }
}

static void reconnect(struct conn *c, const char *why)
{
    if (c->bev)
        bufferevent_free(c->bev);
    c->bev = NULL;
    c->up = false;
    end(c, NULL, why);
}

static void put(struct conn *c, const struct load_request *req)
{
    const struct load_picture *pic = load_picture(c->h->load, req->picture);
    c->req = *req;
    c->busy = true;
    struct evbuffer *out = bufferevent_get_output(c->bev);
    evbuffer_add_printf(out,
                        "POST /v2/models/%s/infer HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n"
                        "Content-Length: %zu\r\n\r\n",
                        load_model(c->h->load), pic->n);
    evbuffer_add(out, pic->bytes, pic->n);
}

static void next_request(struct load_h1 *h)
{
    for (unsigned i = 0; i < h->n && h->first < h->waiting.n; i++) {
        struct conn *c = &h->conn[i];
        if (c->busy)
            continue;
        if (!c->bev)
            connect_it(c);
        if (c->bev)
            put(c, &h->waiting.at[h->first++]);
    }
    if (h->first == h->waiting.n)
        h->first = h->waiting.n = 0;
}

/* Value of a header in the head, or NULL; *ret_n its length. */
static const char *header(const char *head, const char *name, size_t *ret_n)
{
    size_t len = strlen(name);
    for (const char *line = strstr(head, "\r\n"); line && line[2]; line = strstr(line + 2, "\r\n"))
        if (strncasecmp(line + 2, name, len) == 0 && line[2 + len] == ':') {
            const char *v = line + 3 + len;
            v += strspn(v, " ");
            *ret_n = strcspn(v, "\r\n");
            return v;
        }
    return NULL;
}

static bool answer_of(const char *head, const char *body, size_t n, struct load_answer *a)
{
    size_t len;
    const char *v = header(head, "winnow-version", &len), *g = header(head, "winnow-generation", &len);
    const char *d = header(head, "winnow-digest", &len);
    if (!v || !g || !d || len >= sizeof a->digest)
        return false;
    a->version = strtoll(v, NULL, 10);
    a->generation = strtoull(g, NULL, 10);
    snprintf(a->digest, sizeof a->digest, "%.*s", (int)len, d);
    json_t *json = json_loadb(body, n, 0, NULL);
    const char *label = json_string_value(json_object_get(json, "label"));
    const json_t *p = json_object_get(json, "probability");
    bool ok = label && json_is_number(p);
    if (ok) {
        snprintf(a->label, sizeof a->label, "%s", label);
        a->p = (float)json_number_value(p);
    }
    json_decref(json);
    return ok;
}

/* One whole response at the front of `in`, or nothing yet. */
static bool take(struct conn *c, struct evbuffer *in)
{
    char head[MAX_HEAD + 1];
    size_t len;
    struct evbuffer_ptr at = evbuffer_search(in, "\r\n\r\n", 4, NULL);
    if (at.pos < 0 || at.pos + 4 > MAX_HEAD) {
        if (evbuffer_get_length(in) > MAX_HEAD)
            reconnect(c, "a response without an end of its head");
        return false;
    }
    size_t head_n = (size_t)at.pos + 4;
    evbuffer_copyout(in, head, head_n);
    head[head_n - 2] = 0; /* keeps the last line's end */
    const char *length = header(head, "content-length", &len);
    size_t body_n = length ? strtoul(length, NULL, 10) : 0;
    if (!length || body_n > (1u << 20)) {
        reconnect(c, "a response without Content-Length");
        return false;
    }
    if (evbuffer_get_length(in) < head_n + body_n)
        return false;
    struct load_answer a = { 0 };
    char why[160];
    unsigned char *all = evbuffer_pullup(in, (ev_ssize_t)(head_n + body_n));
    const char *body = (const char *)all + head_n;
    bool ok = strncmp(head, "HTTP/1.1 200", 12) == 0 && answer_of(head, body, body_n, &a);
    if (!ok)
        snprintf(why, sizeof why, "%.12s %.*s", head, (int)WN_MIN(body_n, (size_t)120), body);
    bool close = header(head, "connection", &len) && len == 5;
    evbuffer_drain(in, head_n + body_n);
    end(c, ok ? &a : NULL, why);
    if (close)
        reconnect(c, "closed");
    return !close;
}

static void on_read(struct bufferevent *bev, void *arg)
{
    struct conn *c = arg;
    struct load_h1 *h = c->h;
    while (c->bev == bev && c->busy && take(c, bufferevent_get_input(bev)))
        ;
    next_request(h);
}

static void on_event(struct bufferevent *bev, short what, void *arg)
{
    struct conn *c = arg;
    if (what & BEV_EVENT_CONNECTED)
        c->up = true;
    else if (!(what & BEV_EVENT_TIMEOUT) || c->busy)
        reconnect(c, what & BEV_EVENT_TIMEOUT ? "no answer in time" : "connection lost");
    else
        bufferevent_enable(bev, EV_READ | EV_WRITE); /* a timeout while idle */
    next_request(c->h);
}

static void connect_it(struct conn *c)
{
    struct timeval timeout = { TIMEOUT_S, 0 };
    c->bev = bufferevent_socket_new(load_base(c->h->load), -1, BEV_OPT_CLOSE_ON_FREE | BEV_OPT_DEFER_CALLBACKS);
    if (!c->bev)
        return;
    bufferevent_setcb(c->bev, on_read, NULL, on_event, c);
    bufferevent_set_timeouts(c->bev, &timeout, &timeout);
    bufferevent_enable(c->bev, EV_READ | EV_WRITE);
    if (bufferevent_socket_connect(c->bev, (struct sockaddr *)&c->h->to, sizeof c->h->to) != 0)
        reconnect(c, "cannot connect");
}

struct load_h1 *load_h1_new(struct load *load, const struct sockaddr_in *to, unsigned connections)
{
    struct load_h1 *h = calloc(1, sizeof *h);
    if (!h || !(h->conn = calloc(connections, sizeof *h->conn))) {
        free(h);
        return NULL;
    }
    h->load = load;
    h->to = *to;
    h->n = connections;
    for (unsigned i = 0; i < connections; i++)
        h->conn[i].h = h;
    return h;
}

void load_h1_send(struct load_h1 *h, const struct load_request *req)
{
    if (!wn_vec_push(&h->waiting, *req))
        load_done(h->load, req, NULL, "out of memory");
    next_request(h);
}

void load_h1_free(struct load_h1 *h)
{
    if (!h)
        return;
    for (unsigned i = 0; i < h->n; i++)
        reconnect(&h->conn[i], "not answered when the load ended");
    for (; h->first < h->waiting.n; h->first++)
        load_done(h->load, &h->waiting.at[h->first], NULL, "not sent when the load ended");
    wn_vec_done(&h->waiting);
    free(h->conn);
    free(h);
}
