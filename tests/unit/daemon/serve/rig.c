/* rig.c: see rig.h. */
#include "tests/unit/daemon/serve/rig.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/log.h"
#include "engine/graph/graph.h"
#include "engine/graph/onnx.h"

#define CHECK(x)                                                                                                       \
    do {                                                                                                               \
        if (!(x)) {                                                                                                    \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #x);                                                    \
            abort();                                                                                                   \
        }                                                                                                              \
    } while (0)

void rig_sh(const char *fmt, ...)
{
    char cmd[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(cmd, sizeof cmd, fmt, ap);
    va_end(ap);
    CHECK(system(cmd) == 0);
}

void rig_init(struct rig *rig)
{
    struct winnow_err err;
    memset(rig, 0, sizeof *rig);
    snprintf(rig->root, sizeof rig->root, "/tmp/wn-serve-XXXXXX");
    CHECK(mkdtemp(rig->root));
    snprintf(rig->repo, sizeof rig->repo, "%s/repo", rig->root);
    snprintf(rig->state, sizeof rig->state, "%s/state", rig->root);
    rig_sh("mkdir %s %s", rig->repo, rig->state);
    char yaml[512];
    int n = snprintf(yaml, sizeof yaml,
                     "models:\n  repositories: [%s]\n  state: %s\n  poll: 100ms\n  settle: 200ms\n"
                     "engine:\n  threads: 1\n  streams: 1\n",
                     rig->repo, rig->state);
    CHECK(wn_config_parse(yaml, (size_t)n, "rig.yaml", &rig->cfg, &err) == WINNOW_OK);
    wn_log_configure(WN_LOG_TEXT, getenv("RIG_LOG") ? WN_LOG_INFO : WN_LOG_ERROR);
}

void rig_start(struct rig *rig)
{
    struct winnow_err err;
    if (wn_serve_new(&rig->cfg, &rig->serve, &err) != WINNOW_OK) {
        fprintf(stderr, "wn_serve_new: %s\n", err.msg);
        abort();
    }
    for (int i = 0; i < 20000 && !wn_serve_ready(rig->serve); i++)
        usleep(1000);
    CHECK(wn_serve_ready(rig->serve));
}

void rig_stop(struct rig *rig)
{
    wn_serve_free(rig->serve, 0);
    rig->serve = NULL;
}

void rig_done(struct rig *rig)
{
    rig_stop(rig);
    rig_sh("rm -rf %s", rig->root);
    wn_config_done(&rig->cfg);
}

/* ---- models ---- */

/* I - 2/n: a mirror without a zero in it, which no sparse kernel shortens; two of them are I, to the bit for whole
 * numbers and a power of two. */
static wn_vid mirror(struct wn_graph *g, int64_t width)
{
    float *w = calloc((size_t)(width * width), sizeof *w);
    CHECK(w);
    for (int64_t i = 0; i < width * width; i++)
        w[i] = (float)(i / width == i % width) - 2.0f / (float)width;
    wn_vid c = wn_graph_add_const(g, "mirror", WINNOW_F32, 2, (int64_t[]){ width, width }, w);
    free(w);
    return c;
}

void rig_model(const char *path, enum rig_kind kind, int64_t width, float add)
{
    struct wn_arena arena = { 0 };
    struct wn_graph g;
    struct winnow_err err;
    wn_graph_init(&g, &arena);
    g.name = "rig";
    g.ir_version = 8;
    struct wn_opset opset = { "", 13 };
    CHECK(wn_vec_push(&g.opsets, opset));
    int64_t in[2] = { kind == RIG_WHOLE ? 2 : -1, kind == RIG_DYNAMIC ? -1 : width };
    wn_vid x = wn_graph_add_value(&g, "x", WINNOW_F32, 2, in), y = wn_graph_add_value(&g, "y", WINNOW_F32, 2, in);
    CHECK(x != WN_NONE && y != WN_NONE && wn_vec_push(&g.inputs, x) && wn_vec_push(&g.outputs, y));
    if (kind != RIG_WHOLE) {
        g.values.at[x].dim_name[0] = g.values.at[y].dim_name[0] = "N";
        if (kind == RIG_DYNAMIC)
            g.values.at[x].dim_name[1] = g.values.at[y].dim_name[1] = "W";
    }
    wn_vid c = wn_graph_add_const(&g, "c", WINNOW_F32, 0, NULL, &add), at = x;
    if (kind == RIG_HEAVY) {
        wn_vid by = mirror(&g, width);
        for (int i = 0; i < (width > 256 ? 24 : 60); i++) {
            wn_vid next = wn_graph_add_value(&g, NULL, WINNOW_F32, 2, in);
            CHECK(wn_graph_add_node(&g, "", "MatMul", NULL, (wn_vid[]){ at, by }, 2, &next, 1));
            at = next;
        }
    }
    CHECK(wn_graph_add_node(&g, "", "Add", NULL, (wn_vid[]){ at, c }, 2, &y, 1));
    if (wn_onnx_write_file(&g, path, false, &err) != WINNOW_OK) {
        fprintf(stderr, "%s: %s\n", path, err.msg);
        abort();
    }
    wn_graph_done(&g);
    wn_arena_done(&arena);
}

void rig_put(struct rig *rig, const char *name, int version, enum rig_kind kind, int64_t width, float add)
{
    char path[256];
    rig_sh("mkdir -p %s/%s/.new", rig->repo, name);
    snprintf(path, sizeof path, "%s/%s/.new/model.onnx", rig->repo, name);
    rig_model(path, kind, width, add);
    rig_sh("mv -T %s/%s/.new %s/%s/%d", rig->repo, name, rig->repo, name, version);
}

void rig_text(const struct rig *rig, const char *path, const char *text)
{
    char full[256];
    snprintf(full, sizeof full, "%s/%s", rig->root, path);
    FILE *f = fopen(full, "w");
    CHECK(f && fputs(text, f) >= 0 && fclose(f) == 0);
}

/* ---- administration ---- */

void rig_wait_init(struct rig_wait *w)
{
    memset(w, 0, sizeof *w);
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->cond, NULL);
}

void rig_wait_cb(void *arg, enum winnow_status status, const struct winnow_err *err)
{
    struct rig_wait *w = arg;
    pthread_mutex_lock(&w->lock);
    CHECK(!w->called);
    w->called = true;
    w->status = status;
    w->err = *err;
    pthread_cond_signal(&w->cond);
    pthread_mutex_unlock(&w->lock);
}

enum winnow_status rig_wait_for(struct rig_wait *w)
{
    pthread_mutex_lock(&w->lock);
    while (!w->called)
        pthread_cond_wait(&w->cond, &w->lock);
    pthread_mutex_unlock(&w->lock);
    return w->status;
}

static enum winnow_status finish(struct rig_wait *w, struct winnow_err *err)
{
    enum winnow_status status = rig_wait_for(w);
    if (err)
        *err = w->err;
    return status;
}

enum winnow_status rig_promote(struct rig *rig, const char *name, int64_t version, bool same_io, struct winnow_err *err)
{
    struct rig_wait w;
    rig_wait_init(&w);
    wn_serve_promote(rig->serve, name, version, "rig", same_io, rig_wait_cb, &w);
    return finish(&w, err);
}

enum winnow_status rig_rollback(struct rig *rig, const char *name)
{
    struct rig_wait w;
    rig_wait_init(&w);
    wn_serve_rollback(rig->serve, name, "rig", rig_wait_cb, &w);
    return finish(&w, NULL);
}

enum winnow_status rig_load(struct rig *rig, const char *name, struct winnow_err *err)
{
    struct rig_wait w;
    rig_wait_init(&w);
    wn_serve_load(rig->serve, name, rig_wait_cb, &w);
    return finish(&w, err);
}

enum winnow_status rig_unload(struct rig *rig, const char *name)
{
    struct rig_wait w;
    rig_wait_init(&w);
    wn_serve_unload(rig->serve, name, rig_wait_cb, &w);
    return finish(&w, NULL);
}

/* ---- jobs ---- */

static void on_done(struct wn_job *job)
{
    struct rig_job *j = WN_CONTAINER_OF(job, struct rig_job, job);
    rig_wait_cb(&j->wait, job->status, &job->err);
}

void rig_job_init(struct rig_job *j, struct wn_gen *gen, int64_t rows, int64_t width, float base)
{
    memset(j, 0, sizeof *j);
    rig_wait_init(&j->wait);
    size_t n = (size_t)(rows * width);
    float *x = malloc((n + 1) * sizeof *x);
    CHECK(x);
    for (size_t i = 0; i < n; i++)
        x[i] = base + (float)i;
    j->base = base;
    j->in = (struct winnow_tensor){
        .dtype = WINNOW_F32, .rank = 2, .shape = { rows, width }, .data = x, .bytes = n * sizeof *x
    };
    j->job.gen = gen;
    j->job.inputs = &j->in;
    j->job.done = on_done;
}

enum winnow_status rig_job_wait(struct rig_job *j)
{
    return rig_wait_for(&j->wait);
}

bool rig_job_check(struct rig_job *j, float add)
{
    const struct winnow_tensor *y = j->job.outputs;
    if (!y || y->bytes != j->in.bytes || y->shape[0] != j->in.shape[0] || y->shape[1] != j->in.shape[1])
        return false;
    for (size_t i = 0; i < y->bytes / sizeof(float); i++)
        if (((const float *)y->data)[i] != ((const float *)j->in.data)[i] + add)
            return false;
    return true;
}

void rig_job_done(struct rig_job *j)
{
    wn_job_done_outputs(&j->job);
    wn_gen_unref(j->job.gen);
    free(j->in.data);
    pthread_mutex_destroy(&j->wait.lock);
    pthread_cond_destroy(&j->wait.cond);
}

int64_t rig_live(struct rig *rig, const char *name)
{
    struct wn_gen *gen;
    if (wn_serve_acquire(rig->serve, name, NULL, &gen, NULL) != WINNOW_OK)
        return 0;
    int64_t version = wn_gen_version(gen);
    wn_gen_unref(gen);
    return version;
}

bool rig_await(struct rig *rig, const char *name, int64_t version)
{
    for (int i = 0; i < 10000; i++) {
        if (rig_live(rig, name) == version)
            return true;
        usleep(1000);
    }
    return false;
}

float rig_ask(struct rig *rig, const char *name, int64_t width)
{
    struct wn_gen *gen;
    struct rig_job j;
    struct winnow_err err;
    float got = -1;
    if (wn_serve_acquire(rig->serve, name, NULL, &gen, &err) != WINNOW_OK)
        return -1;
    rig_job_init(&j, gen, 1, width, 0);
    if (wn_serve_submit(rig->serve, &j.job, &err) == WINNOW_OK && rig_job_wait(&j) == WINNOW_OK)
        got = *(const float *)j.job.outputs->data;
    rig_job_done(&j);
    return got;
}
