/* tls.c: certificates as one immutable, counted object, and the server's side of a handshake on it.
 *
 * DESIGN  A reload makes a new object and swaps the pointer in every loop; connections keep the one they began with, so
 *         nothing is dropped. Its ticket keys are new as well: a reload ends resumption of older sessions.
 *         TLS 1.2 and 1.3, forward secret AEAD suites only, no compression, no renegotiation: what HTTP/2 demands (RFC
 *         9113, 9.2) holds for HTTP/1.1 too. No early data: it can be replayed.
 *         bufferevent_openssl_socket_new, not a filter: filters recurse. A peer's close without close_notify counts as
 *         its end: both protocols say themselves where a message ends. A record that carries no data ends SSL_read()
 *         (no automatic retry), so that a peer who sends only such records does not keep the loop. */
#include "daemon/net/tls.h"

#include <event2/bufferevent.h>
#include <event2/bufferevent_ssl.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <stdlib.h>
#include <string.h>
#include "base/file.h"
#include "base/log.h"

#define MAX_PEM   ((size_t)1 << 20)
#define MAX_CHAIN 16
/* RFC 9113, appendix A forbids everything else of TLS 1.2. */
#define SUITES_12                                                                                                      \
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:"                         \
    "ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305"

struct wn_tls {
    unsigned magic;
#define WN_TLS_MAGIC 0x7157c0deu
    atomic_uint refs;
    SSL_CTX *ctx;
    int64_t expires_s;
};

/* ---- certificates ---- */
struct wn_tls *wn_tls_ref(struct wn_tls *tls)
{
    if (tls)
        atomic_fetch_add_explicit(&tls->refs, 1, memory_order_relaxed);
    return tls;
}

void wn_tls_unref(struct wn_tls *tls)
{
    if (!tls)
        return;
    WN_CHECK_MAGIC(tls, WN_TLS_MAGIC);
    if (atomic_fetch_sub_explicit(&tls->refs, 1, memory_order_acq_rel) != 1)
        return;
    SSL_CTX_free(tls->ctx);
    tls->magic = 0;
    free(tls);
}

static void unrefp(struct wn_tls **tls)
{
    wn_tls_unref(*tls);
}

static void bio_freep(BIO **bio)
{
    BIO_free_all(*bio);
}

/* The newest of OpenSSL's errors in words. */
static enum winnow_status fail(struct winnow_err *err, const char *what, const char *path)
{
    unsigned long e = ERR_peek_last_error();
    const char *why = e ? ERR_reason_error_string(e) : NULL;
    ERR_clear_error();
    return wn_fail(err, WINNOW_E_MALFORMED, "%s '%s': %s", what, path, why ? why : "cannot be used");
}

/* Nothing of the kind could be read: OpenSSL's words for a file that holds something else say nothing about it. */
static enum winnow_status nothing_read(struct winnow_err *err, const char *what, const char *kind, const char *path)
{
    int reason = ERR_GET_REASON(ERR_peek_last_error());
    if (reason != PEM_R_NO_START_LINE && reason != ERR_R_UNSUPPORTED)
        return fail(err, what, path);
    ERR_clear_error();
    return wn_fail(err, WINNOW_E_MALFORMED, "%s '%s': no %s in it, in PEM", what, path, kind);
}

/* A file's bytes as a BIO; `ret_bytes` must outlive it. */
static enum winnow_status open_pem(const char *what, const char *path, void **ret_bytes, size_t *ret_n, BIO **ret_bio,
                                   struct winnow_err *err)
{
    enum winnow_status s = wn_file_read(path, MAX_PEM, ret_bytes, ret_n, err);
    if (s != WINNOW_OK)
        return wn_fail_at(err, s, "%s", what);
    *ret_bio = BIO_new_mem_buf(*ret_bytes, (int)*ret_n);
    return *ret_bio ? WINNOW_OK : wn_fail(err, WINNOW_E_NOMEM, "%s '%s'", what, path);
}

/* Nobody is there to be asked for a password. */
static int no_password(char *buf, int room, int rw, void *arg)
{
    return -1;
}

static int64_t seconds_of(const ASN1_TIME *t)
{
    struct tm tm;
    return ASN1_TIME_to_tm(t, &tm) == 1 ? (int64_t)timegm(&tm) : 0;
}

/* The server's certificate, then those between it and the root. */
static enum winnow_status load_chain(struct wn_tls *tls, const char *path, struct winnow_err *err)
{
    WN_CLEANUP(wn_freep) void *bytes = NULL;
    WN_CLEANUP(bio_freep) BIO *bio = NULL;
    size_t n;
    WN_TRY(open_pem("certificate", path, &bytes, &n, &bio, err));
    X509 *leaf = PEM_read_bio_X509_AUX(bio, NULL, no_password, NULL);
    if (!leaf)
        return nothing_read(err, "certificate", "certificate", path);
    tls->expires_s = seconds_of(X509_get0_notAfter(leaf));
    if (X509_cmp_current_time(X509_get0_notAfter(leaf)) < 0)
        wn_warning("certificate_expired", "file=%s", path);
    else if (X509_cmp_current_time(X509_get0_notBefore(leaf)) > 0)
        wn_warning("certificate_not_yet_valid", "file=%s", path);
    int ok = SSL_CTX_use_certificate(tls->ctx, leaf);
    X509_free(leaf);
    if (ok != 1)
        return fail(err, "certificate", path);
    X509 *next;
    for (int i = 0; (next = PEM_read_bio_X509(bio, NULL, no_password, NULL)) != NULL; i++)
        if (i == MAX_CHAIN || SSL_CTX_add0_chain_cert(tls->ctx, next) != 1) {
            X509_free(next);
            return i == MAX_CHAIN ? wn_fail(err, WINNOW_E_TOO_LARGE, "certificate '%s': more than %d", path, MAX_CHAIN)
                                  : fail(err, "certificate", path);
        }
    if (ERR_GET_REASON(ERR_peek_last_error()) != PEM_R_NO_START_LINE)
        return fail(err, "certificate", path);
    ERR_clear_error();
    return WINNOW_OK;
}

static enum winnow_status load_key(struct wn_tls *tls, const char *certificate, const char *path,
                                   struct winnow_err *err)
{
    WN_CLEANUP(wn_freep) void *bytes = NULL;
    WN_CLEANUP(bio_freep) BIO *bio = NULL;
    size_t n;
    WN_TRY(open_pem("key", path, &bytes, &n, &bio, err));
    EVP_PKEY *key = PEM_read_bio_PrivateKey(bio, NULL, no_password, NULL);
    OPENSSL_cleanse(bytes, n);
    if (!key && ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_BAD_PASSWORD_READ)
        return wn_fail(err, WINNOW_E_MALFORMED, "key '%s' is encrypted: nobody is there to be asked for its password",
                       path);
    if (!key)
        return nothing_read(err, "key", "private key", path);
    int ok = SSL_CTX_use_PrivateKey(tls->ctx, key);
    EVP_PKEY_free(key);
    if (ok != 1 || SSL_CTX_check_private_key(tls->ctx) != 1) {
        ERR_clear_error();
        return wn_fail(err, WINNOW_E_MALFORMED, "key '%s' does not belong to certificate '%s'", path, certificate);
    }
    return WINNOW_OK;
}

/* h2 before http/1.1; a client that offers neither is told so. */
static int choose_alpn(SSL *ssl, const unsigned char **out, unsigned char *n, const unsigned char *offer,
                       unsigned offer_n, void *arg)
{
    static const unsigned char ours[] = "\x02h2\x08http/1.1";
    unsigned char *chosen = NULL;
    if (SSL_select_next_proto(&chosen, n, ours, sizeof ours - 1, offer, offer_n) != OPENSSL_NPN_NEGOTIATED)
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    *out = chosen;
    return SSL_TLSEXT_ERR_OK;
}

/* Renegotiation is refused by an alert; for HTTP/2 it is the connection's end (RFC 9113, 9.2.1), so here it always is.
 * Inside SSL_read(): only marks. */
static void on_info(const SSL *ssl, int where, int value)
{
    struct wn_conn *conn = SSL_get_app_data(ssl);
    if (where != SSL_CB_WRITE_ALERT || (value & 0xff) != SSL_AD_NO_RENEGOTIATION || !conn || conn->dead)
        return;
    wn_count(&conn->loop->counters.errors, 1);
    wn_conn_blame(conn, "renegotiation");
    wn_conn_kill(conn);
    wn_conn_wake_by(conn, 0);
}

static bool set_rules(SSL_CTX *ctx)
{
    SSL_CTX_set_options(ctx, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION | SSL_OP_CIPHER_SERVER_PREFERENCE |
                                 SSL_OP_PRIORITIZE_CHACHA | SSL_OP_IGNORE_UNEXPECTED_EOF);
    SSL_CTX_clear_mode(ctx, SSL_MODE_AUTO_RETRY);
    SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF); /* tickets: the client keeps its session */
    SSL_CTX_set_alpn_select_cb(ctx, choose_alpn, NULL);
    SSL_CTX_set_info_callback(ctx, on_info);
    static const unsigned char name[] = "winnow";
    return SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION) == 1 && SSL_CTX_set_cipher_list(ctx, SUITES_12) == 1 &&
           SSL_CTX_set_session_id_context(ctx, name, sizeof name - 1) == 1;
}

enum winnow_status wn_tls_new(const char *certificate, const char *key, struct wn_tls **ret_tls, struct winnow_err *err)
{
    WN_CLEANUP(unrefp) struct wn_tls *tls = calloc(1, sizeof *tls);
    if (!tls)
        return wn_fail(err, WINNOW_E_NOMEM, "certificate '%s'", certificate);
    tls->magic = WN_TLS_MAGIC;
    atomic_init(&tls->refs, 1);
    ERR_clear_error();
    tls->ctx = SSL_CTX_new(TLS_server_method());
    if (!tls->ctx || !set_rules(tls->ctx))
        return wn_fail(err, WINNOW_E_NOMEM, "certificate '%s'", certificate);
    WN_TRY(load_chain(tls, certificate, err));
    WN_TRY(load_key(tls, certificate, key && *key ? key : certificate, err));
    *ret_tls = WN_TAKE(tls);
    return WINNOW_OK;
}

int64_t wn_tls_expires(const struct wn_tls *tls)
{
    return tls->expires_s;
}

/* ---- connections ---- */
struct bufferevent *wn_tls_transport(struct wn_tls *tls, struct wn_conn *conn)
{
    SSL *ssl = SSL_new(tls->ctx); /* holds the context: a reload does not touch it */
    if (!ssl)
        return NULL;
    SSL_set_app_data(ssl, conn);
    return bufferevent_openssl_socket_new(conn->loop->base, conn->fd, ssl, BUFFEREVENT_SSL_ACCEPTING,
                                          BEV_OPT_CLOSE_ON_FREE);
}

const struct wn_proto *wn_tls_chosen(struct wn_conn *conn)
{
    SSL *ssl = bufferevent_openssl_get_ssl(conn->bev);
    const unsigned char *name;
    unsigned n;
    struct wn_counters *c = &conn->loop->counters;
    wn_count(SSL_session_reused(ssl)              ? &c->tls_resumed
             : SSL_version(ssl) == TLS1_2_VERSION ? &c->tls_12
                                                  : &c->tls_13,
             1);
    SSL_get0_alpn_selected(ssl, &name, &n);
    return n == 2 ? &wn_h2_proto : &wn_h1_proto;
}

const char *wn_tls_error(struct wn_conn *conn)
{
    unsigned long e, last = 0;
    while ((e = bufferevent_get_openssl_error(conn->bev)) != 0)
        last = e > SSL_ERROR_WANT_ACCEPT ? e : last; /* the first is SSL_get_error()'s small number */
    const char *why = last ? ERR_reason_error_string(last) : NULL;
    return why ? why : "TLS handshake broken off";
}

void wn_tls_say_end(struct wn_conn *conn)
{
    SSL *ssl = bufferevent_openssl_get_ssl(conn->bev);
    if (!ssl || !SSL_is_init_finished(ssl))
        return;
    ERR_clear_error();
    SSL_shutdown(ssl);
    ERR_clear_error();
}

const char *wn_exchange_tls(const struct wn_exchange *x)
{
    SSL *ssl = x->conn->bev ? bufferevent_openssl_get_ssl(x->conn->bev) : NULL;
    return ssl ? SSL_get_version(ssl) : NULL;
}
