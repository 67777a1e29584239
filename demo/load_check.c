/* load_check.c: is this what this generation must say?
 *
 * The first answer of a generation to a picture fixes its version, digest, label and probability; every later one must
 * agree. A thread looks for the model file with that digest and runs the pictures through the engine itself: from then
 * on answers are held against that, and so is what was fixed before. */
#include <dirent.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/digest.h"
#include "cli/cli.h"
#include "demo/load.h"

#define NEAR    1e-3f /* probabilities of a float model, run in other batches */
#define MAX_DIR 8

struct said {
    bool known;
    char label[LOAD_LABEL];
    float p;
};

struct gen {
    uint64_t number, served, mixed, first_ns;
    int64_t version;
    char digest[80];
    struct said first[LOAD_MAX_PICTURES];
    uint64_t count[LOAD_MAX_PICTURES];
    struct said want[LOAD_MAX_PICTURES]; /* by the engine; read once `ready` is set */
    atomic_bool ready, tried;
    bool compared;
};

struct load_check {
    const char *dir[MAX_DIR];
    unsigned n_dirs, n_pictures, n_gens;
    const struct load_picture *picture;
    struct gen gen[LOAD_MAX_GENS];
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t more;
    unsigned asked; /* generations that the thread may look at; under lock */
    bool stop;      /* under lock */
};

/* ---- the thread: what the model file itself says ---- */

static bool says(const struct wn_cli_model *m, const struct load_picture *pic, struct said *ret)
{
    struct winnow_err err;
    size_t bytes;
    const struct wn_pipe_io *row = wn_pipeline_row(m->pipeline, &bytes);
    const struct winnow_io *io = winnow_model_input(m->model, 0);
    struct winnow_tensor x = { .dtype = io->dtype, .rank = io->rank, .bytes = bytes }, y[16] = { 0 };
    unsigned n_out = winnow_model_n_outputs(m->model);
    WN_CLEANUP(wn_freep) void *data = malloc(bytes);
    struct wn_class best;
    x.data = data;
    x.shape[0] = 1;
    memcpy(x.shape + 1, row->shape, (io->rank - 1) * sizeof x.shape[0]);
    if (!data || n_out > WN_COUNT(y) || wn_pipeline_encode(m->pipeline, pic->bytes, pic->n, data, &err) != WINNOW_OK ||
        winnow_run(m->model, m->scratch, &x, 1, y, n_out, &err) != WINNOW_OK)
        return false;
    const struct winnow_tensor *s = &y[wn_pipeline_model_output(m->pipeline)];
    if (wn_pipeline_top_k(m->pipeline, s->data, (unsigned)(s->bytes / 4), 1, &best) != 1)
        return false;
    snprintf(ret->label, sizeof ret->label, "%s", best.label);
    ret->p = best.score;
    ret->known = true;
    return true;
}

static bool run_folder(struct load_check *c, struct gen *g, const char *folder)
{
    struct winnow_err err;
    struct wn_cli_model m = { 0 };
    bool ok = wn_cli_open(folder, 1, NULL, &m, &err) == WINNOW_OK && m.pipeline;
    for (unsigned i = 0; i < c->n_pictures && ok; i++)
        ok = says(&m, &c->picture[i], &g->want[i]);
    wn_cli_close(&m);
    return ok;
}

static bool look_in(struct load_check *c, struct gen *g, const char *dir)
{
    DIR *d = opendir(dir);
    bool found = false;
    for (struct dirent *e; d && !found && (e = readdir(d)) != NULL;) {
        struct wn_sha256 sum;
        char text[WN_DIGEST_TEXT];
        struct winnow_err err;
        WN_CLEANUP(wn_freep) char *folder = wn_asprintf("%s/%s", dir, e->d_name);
        WN_CLEANUP(wn_freep) char *file = wn_asprintf("%s/%s/model.onnx", dir, e->d_name);
        WN_CLEANUP(wn_freep) char **beside = NULL;
        if (e->d_name[0] != '.' && folder && file && winnow_external_list(file, &beside, NULL, &err) == WINNOW_OK &&
            wn_sha256_with(file, (const char *const *)beside, &sum, &err) == WINNOW_OK)
            found = strcmp(wn_digest_text(&sum, text), g->digest) == 0 && run_folder(c, g, folder);
    }
    if (d)
        closedir(d);
    return found;
}

static void *check_main(void *arg)
{
    struct load_check *c = arg;
    for (unsigned done = 0;; done++) {
        pthread_mutex_lock(&c->lock);
        while (!c->stop && c->asked == done)
            pthread_cond_wait(&c->more, &c->lock);
        bool stop = c->stop && c->asked == done;
        pthread_mutex_unlock(&c->lock);
        if (stop)
            return NULL;
        struct gen *g = &c->gen[done];
        bool found = false;
        for (unsigned i = 0; i < c->n_dirs && !found; i++)
            found = look_in(c, g, c->dir[i]);
        atomic_store_explicit(&g->ready, found, memory_order_release);
        atomic_store_explicit(&g->tried, true, memory_order_release);
    }
}

struct load_check *load_check_new(const char *const *dirs, unsigned n_dirs, const struct load_picture *pictures,
                                  unsigned n_pictures)
{
    struct load_check *c = calloc(1, sizeof *c);
    if (!c)
        return NULL;
    c->n_dirs = WN_MIN(n_dirs, (unsigned)MAX_DIR);
    memcpy(c->dir, dirs, c->n_dirs * sizeof *dirs);
    c->picture = pictures;
    c->n_pictures = n_pictures;
    pthread_mutex_init(&c->lock, NULL);
    pthread_cond_init(&c->more, NULL);
    if (pthread_create(&c->thread, NULL, check_main, c) != 0) {
        free(c);
        return NULL;
    }
    return c;
}

void load_check_free(struct load_check *c)
{
    if (!c)
        return;
    pthread_mutex_lock(&c->lock);
    c->stop = true;
    pthread_cond_signal(&c->more);
    pthread_mutex_unlock(&c->lock);
    pthread_join(c->thread, NULL);
    pthread_cond_destroy(&c->more);
    pthread_mutex_destroy(&c->lock);
    free(c);
}

/* ---- the loop's side ---- */

static struct gen *find(struct load_check *c, const struct load_answer *a)
{
    for (unsigned i = 0; i < c->n_gens; i++)
        if (c->gen[i].number == a->generation)
            return &c->gen[i];
    if (c->n_gens == LOAD_MAX_GENS)
        return NULL;
    struct gen *g = &c->gen[c->n_gens++];
    g->number = a->generation;
    g->version = a->version;
    g->first_ns = wn_now_ns();
    snprintf(g->digest, sizeof g->digest, "%s", a->digest);
    pthread_mutex_lock(&c->lock);
    c->asked = c->n_gens;
    pthread_cond_signal(&c->more);
    pthread_mutex_unlock(&c->lock);
    return g;
}

static bool same(const struct said *want, const char *label, float p)
{
    return strcmp(want->label, label) == 0 && fabsf(want->p - p) <= NEAR;
}

/* The engine's answers came: hold against them what was taken for granted before. */
static void compare(struct load_check *c, struct gen *g)
{
    if (g->compared || !atomic_load_explicit(&g->ready, memory_order_acquire))
        return;
    g->compared = true;
    for (unsigned i = 0; i < c->n_pictures; i++)
        if (g->first[i].known && !same(&g->want[i], g->first[i].label, g->first[i].p))
            g->mixed += g->count[i];
}

bool load_check_answer(struct load_check *c, unsigned picture, const struct load_answer *a, char why[160])
{
    struct gen *g = find(c, a);
    if (!g) {
        snprintf(why, 160, "more than %d generations", LOAD_MAX_GENS);
        return false;
    }
    compare(c, g);
    g->served++;
    struct said *first = &g->first[picture];
    if (!first->known) {
        first->known = true;
        snprintf(first->label, sizeof first->label, "%s", a->label);
        first->p = a->p;
    }
    const struct said *want = g->compared ? &g->want[picture] : first;
    bool ok = g->version == a->version && strcmp(g->digest, a->digest) == 0 && same(want, a->label, a->p);
    if (ok) {
        g->count[picture]++;
        return true;
    }
    g->mixed++;
    snprintf(why, 160, "generation %llu says %.16s (%.4f) with version %lld, not %.16s (%.4f) with %lld",
             (unsigned long long)a->generation, a->label, (double)a->p, (long long)a->version, want->label,
             (double)want->p, (long long)g->version);
    return false;
}

uint64_t load_check_mixed(struct load_check *c)
{
    uint64_t n = 0;
    for (unsigned i = 0; i < c->n_gens; i++) {
        compare(c, &c->gen[i]);
        n += c->gen[i].mixed;
    }
    return n;
}

json_t *load_check_json(struct load_check *c, uint64_t start_ns)
{
    json_t *list = json_array();
    for (unsigned i = 0; i < c->n_gens; i++) {
        struct gen *g = &c->gen[i];
        compare(c, g);
        json_array_append_new(list,
                              json_pack("{s:I,s:I,s:s,s:f,s:I,s:I,s:b,s:b,s:s,s:f}", "generation",
                                        (json_int_t)g->number, "version", (json_int_t)g->version, "digest", g->digest,
                                        "first_s", (double)(g->first_ns - start_ns) / 1e9, "served",
                                        (json_int_t)g->served, "mixed", (json_int_t)g->mixed, "reference", g->compared,
                                        "tried", atomic_load_explicit(&g->tried, memory_order_acquire), "label",
                                        g->first[0].label, "probability", (double)g->first[0].p));
    }
    return list;
}
