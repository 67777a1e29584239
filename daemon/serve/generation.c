/* generation.c: one version from its folder into memory, ready to run.
 *
 * DESIGN  The file is read once, hashed, compiled, and warmed up before anybody can get it: a run on zeros (on one
 *         thread of its own, not on the executors' pools), and a scratch per stream with its plan and memory. A version
 *         that cannot run its own declared shapes does not become live. Where an extent is dynamic there is no declared
 *         shape: a guess is run, and its failure means nothing.
 *         Beside traffic the work is done by a thread of SCHED_BATCH and nice 10, about a tenth of a busy core's share.
 *         SCHED_IDLE was considered: on a saturated machine it gets 0.3 %, and a swap would take minutes. The thread is
 *         made for the load, since priority cannot be raised again without privilege, and takes none of our locks: the
 *         loader, at normal priority, publishes what it made.
 * LOCKS   none but cat, for the counters. */
#include "daemon/serve/internal.h"

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "base/file.h"
#include "base/log.h"

#define AUX_FILE_MAX ((size_t)64 << 20) /* a tokenizer.json */
#define AUX_FILES    64
#define GUESS        32                 /* a dynamic extent, for warming up */
#define WARM_MAX     ((size_t)64 << 20) /* bytes of guessed inputs beyond which nothing is guessed */
#define RESERVE_MAX  ((size_t)16 << 20) /* bytes of outputs kept per scratch from the start */
#define NICE         10
#define WARM_MACS    1e12 /* a model of more per run is not run for warmth: minutes on this thread */

/* ---- the small files ---- */

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static bool is_aux(const char *name)
{
    size_t n = strlen(name);
    return name[0] != '.' && strcmp(name, "live") != 0 && strcmp(name, "lineage.json") != 0 &&
           (n < 5 || (strcmp(name + n - 5, ".onnx") != 0)) && (n < 4 || strcmp(name + n - 4, ".npz") != 0);
}

/* Names and contents of the small files of `dir` into the hasher, in order of their names. */
static enum winnow_status hash_dir(struct wn_hasher *h, const char *dir, struct winnow_err *err)
{
    char *name[AUX_FILES];
    unsigned n = 0;
    DIR *d = opendir(dir);
    if (!d)
        return wn_fail_errno(err, 2, "opening folder '%s'", dir);
    for (struct dirent *e; (e = readdir(d)) != NULL && n < AUX_FILES;) {
        struct stat st;
        if (is_aux(e->d_name) && fstatat(dirfd(d), e->d_name, &st, 0) == 0 && S_ISREG(st.st_mode) &&
            (size_t)st.st_size <= AUX_FILE_MAX && (name[n] = wn_strdup(e->d_name)) != NULL)
            n++;
    }
    closedir(d);
    qsort(name, n, sizeof name[0], by_name);
    enum winnow_status status = WINNOW_OK;
    for (unsigned i = 0; i < n; i++) {
        WN_CLEANUP(wn_freep) char *path = wn_asprintf("%s/%s", dir, name[i]);
        WN_CLEANUP(wn_freep) void *bytes = NULL;
        size_t len = 0;
        if (status == WINNOW_OK)
            status =
                path ? wn_file_read(path, AUX_FILE_MAX, &bytes, &len, err) : wn_fail(err, WINNOW_E_NOMEM, "%s", dir);
        if (status == WINNOW_OK && !(wn_hasher_add(h, name[i], strlen(name[i]) + 1) && wn_hasher_add(h, bytes, len)))
            status = wn_fail(err, WINNOW_E_NOMEM, "hashing '%s'", path);
        free(name[i]);
    }
    return status;
}

enum winnow_status wn_gen_aux(const char *dir, struct wn_sha256 *ret, struct winnow_err *err)
{
    WN_CLEANUP(wn_freep) char *parent = wn_asprintf("%s/..", dir);
    struct wn_hasher *h = wn_hasher_new();
    enum winnow_status status = parent && h ? WINNOW_OK : wn_fail(err, WINNOW_E_NOMEM, "hashing '%s'", dir);
    if (status == WINNOW_OK)
        status = hash_dir(h, dir, err);
    if (status == WINNOW_OK)
        status = hash_dir(h, parent, err);
    if (status == WINNOW_OK && !wn_hasher_finish(h, ret))
        status = wn_fail(err, WINNOW_E_INTERNAL, "hashing '%s'", dir);
    wn_hasher_free(h);
    return status;
}

/* ---- pipeline and configuration ---- */

static enum winnow_status open_pipeline(const struct wn_serve *serve, struct wn_gen *gen, struct winnow_err *err)
{
    WN_CLEANUP(wn_freep)
    char *dir = wn_pipeline_folder(gen->dir, gen->name, serve->repo.root, serve->repo.n_roots);
    return dir ? wn_pipeline_of_model(dir, gen->model, &gen->pipeline, err) : WINNOW_OK;
}

/* Labels of outputs: files beside config.pbtxt. */
static enum winnow_status read_labels(const char *root, struct wn_gen *gen, struct winnow_err *err)
{
    for (unsigned i = 0; i < gen->conf.n_labels; i++) {
        const char *file = gen->conf.label[i].file;
        if (strchr(file, '/') || strchr(file, '\\') || file[0] == '.')
            return wn_fail(err, WINNOW_E_MALFORMED, "%s/config.pbtxt: label_filename '%s' is no file beside it",
                           gen->name, file);
        WN_CLEANUP(wn_freep) char *path = wn_asprintf("%s/%s/%s", root, gen->name, file);
        if (!path)
            return wn_fail(err, WINNOW_E_NOMEM, "labels of model '%s'", gen->name);
        WN_TRY(wn_labels_read(path, &gen->labels[i], err));
    }
    return WINNOW_OK;
}

/* The model's config.pbtxt: beside its versions, in the first root that has one. */
static enum winnow_status read_file(struct wn_serve *serve, struct wn_gen *gen, struct winnow_err *err)
{
    for (unsigned r = 0; r < serve->repo.n_roots; r++) {
        WN_CLEANUP(wn_freep) char *path = wn_asprintf("%s/%s/config.pbtxt", serve->repo.root[r], gen->name);
        if (!path)
            return wn_fail(err, WINNOW_E_NOMEM, "config.pbtxt of model '%s'", gen->name);
        if (access(path, F_OK) < 0)
            continue;
        WN_TRY(wn_model_config_read(path, &gen->conf, err));
        return read_labels(serve->repo.root[r], gen, err);
    }
    return WINNOW_OK;
}

/* The file, and over it the numbers that were given with the load. */
static enum winnow_status read_config(struct wn_serve *serve, struct wn_gen *gen, struct winnow_err *err)
{
    WN_TRY(read_file(serve, gen, err));
    pthread_mutex_lock(&serve->cat);
    const struct wn_served *m = gen->model_of;
    gen->conf_number = m->conf_number;
    if (m->has_conf) {
        gen->conf.max_batch = m->conf.max_batch;
        gen->conf.max_wait_us = m->conf.max_wait_us;
        gen->conf.max_queue = m->conf.max_queue;
        gen->conf.timeout_us = m->conf.timeout_us;
    }
    pthread_mutex_unlock(&serve->cat);
    return WINNOW_OK;
}

/* ---- warming up ---- */

/* Inputs of one row, zeros. *ret_guessed: some extent was made up. */
static enum winnow_status zeros(const struct wn_gen *gen, struct winnow_tensor *in, bool *ret_guessed,
                                struct winnow_err *err)
{
    *ret_guessed = false;
    size_t total = 0;
    for (unsigned i = 0; i < gen->n_in; i++) {
        const struct winnow_io *io = winnow_model_input(gen->model, i);
        in[i] = (struct winnow_tensor){ .dtype = io->dtype, .rank = io->rank };
        for (unsigned d = 0; d < io->rank; d++) {
            bool batch = d == 0 && gen->merge;
            in[i].shape[d] = io->shape[d] >= 0 ? io->shape[d] : d == 0 ? 1 : GUESS;
            *ret_guessed |= io->shape[d] < 0 && !batch;
        }
        if (!wn_shape_bytes(in[i].shape, in[i].rank, winnow_dtype_size(io->dtype), &in[i].bytes) ||
            !wn_add_size(total, in[i].bytes, &total))
            return wn_fail(err, WINNOW_E_TOO_LARGE, "input '%s' is too large", io->name);
    }
    if (*ret_guessed && total > WARM_MAX)
        return WINNOW_OK; /* not worth it: no memory, so nothing is run */
    for (unsigned i = 0; i < gen->n_in; i++)
        if (!(in[i].data = calloc(in[i].bytes + 1, 1)))
            return wn_fail(err, WINNOW_E_NOMEM, "warming up: %zu bytes", in[i].bytes);
    return WINNOW_OK;
}

/* Scratches of the streams: planned and with memory for a batch of `rows`. */
static enum winnow_status reserve(struct wn_gen *gen, const struct winnow_tensor *in, int64_t rows,
                                  struct winnow_err *err)
{
    WN_CLEANUP(wn_freep) struct winnow_tensor *many = calloc(gen->n_in + 1u, sizeof *many);
    if (!many)
        return wn_fail(err, WINNOW_E_NOMEM, "warming up");
    for (unsigned i = 0; i < gen->n_in; i++) {
        many[i] = in[i];
        if (gen->merge) {
            many[i].shape[0] = rows;
            many[i].bytes *= (size_t)rows; /* not looked at */
        }
    }
    for (unsigned s = 0; s < gen->n_streams; s++)
        WN_TRY(winnow_scratch_reserve(gen->scratch[s], many, gen->n_in, err));
    return WINNOW_OK;
}

static double planned_macs(const winnow_scratch *scratch)
{
    double macs = 0;
    for (unsigned i = 0; i < winnow_scratch_n_steps(scratch); i++) {
        struct winnow_step step;
        winnow_scratch_step(scratch, i, &step);
        macs += (double)step.macs;
    }
    return macs;
}

static enum winnow_status run_twice(struct wn_gen *gen, winnow_scratch *scratch, const struct winnow_tensor *in,
                                    size_t *ret_out_bytes, uint64_t *ret_ns, struct winnow_err *err)
{
    WN_CLEANUP(wn_freep) struct winnow_tensor *out = calloc(gen->n_out + 1u, sizeof *out);
    if (!out)
        return wn_fail(err, WINNOW_E_NOMEM, "warming up");
    WN_TRY(winnow_run(gen->model, scratch, in, gen->n_in, out, gen->n_out, err));
    uint64_t start = wn_now_ns(); /* the first run pays for page faults and caches; the second is what one costs */
    WN_TRY(winnow_run(gen->model, scratch, in, gen->n_in, out, gen->n_out, err));
    *ret_ns = wn_now_ns() - start;
    *ret_out_bytes = 0;
    for (unsigned i = 0; i < gen->n_out; i++)
        *ret_out_bytes += out[i].bytes;
    return WINNOW_OK;
}

/* A run and its cost, on a scratch that nobody else uses. Without an answer the sizes of outputs are not known. */
static enum winnow_status run_first(struct wn_gen *gen, uint64_t loop_ns, const struct winnow_tensor *in,
                                    size_t *ret_out_bytes, uint64_t *ret_ns, struct winnow_err *err)
{
    winnow_scratch *scratch;
    *ret_ns = 0;
    *ret_out_bytes = RESERVE_MAX;
    WN_TRY(winnow_scratch_new(gen->model, NULL, &scratch, err));
    enum winnow_status status = winnow_scratch_reserve(scratch, in, gen->n_in, err);
    double macs = status == WINNOW_OK ? planned_macs(scratch) : 0;
    winnow_scratch_limit(scratch, loop_ns, 0);
    if (macs > WARM_MACS)
        wn_notice("model_not_warmed", "model=%s version=%" PRId64 " multiplications=%.3g", gen->name, gen->version,
                  macs);
    else if (status == WINNOW_OK)
        status = run_twice(gen, scratch, in, ret_out_bytes, ret_ns, err);
    winnow_scratch_free(scratch);
    return status;
}

static enum winnow_status warm(struct wn_gen *gen, uint64_t loop_ns, struct winnow_err *err)
{
    bool guessed;
    size_t out_bytes = 0;
    uint64_t ns = 0;
    struct winnow_tensor *in = calloc(gen->n_in + 1u, sizeof *in);
    if (!in)
        return wn_fail(err, WINNOW_E_NOMEM, "warming up");
    enum winnow_status status = zeros(gen, in, &guessed, err);
    if (status == WINNOW_OK && (gen->n_in == 0 || in[0].data))
        status = run_first(gen, loop_ns, in, &out_bytes, &ns, err);
    if (status == WINNOW_OK && !guessed) {
        int64_t most = WN_MAX(1, (int64_t)(RESERVE_MAX / WN_MAX(out_bytes, 1u)));
        status = reserve(gen, in, WN_MIN(wn_gen_max_rows(gen), most), err);
        gen->cost_one = (double)ns;
    }
    for (unsigned i = 0; i < gen->n_in; i++)
        free(in[i].data);
    free(in);
    if (status != WINNOW_OK && guessed && status != WINNOW_E_NOMEM)
        return WINNOW_OK;
    return status == WINNOW_OK ? status : wn_fail_at(err, status, "warming up");
}

/* ---- loading ---- */

struct load {
    struct wn_serve *serve;
    struct wn_gen *gen;
    size_t max_file, max_memory, max_cache;
    uint64_t loop_ns;
    bool beside_traffic;
    enum winnow_status status;
    struct winnow_err err;
};

/* A file that tensors were read from: counted, and not touched since `since_ns` (wall clock), for then it may not be
 * what was read. */
static enum winnow_status check_beside(struct wn_gen *gen, const char *name, int64_t since_ns, struct winnow_err *err)
{
    bool there = false;
    WN_CLEANUP(wn_freep) char *path = wn_asprintf("%s/%s", gen->dir, name);
    if (!path)
        return wn_fail(err, WINNOW_E_NOMEM, "hashing '%s'", name);
    struct wn_file_id id = wn_file_id_of(path, &there);
    if (!there || id.ctime_ns >= since_ns)
        return wn_fail(err, WINNOW_E_UNAVAILABLE, "'%s' changed while it was read", path);
    gen->file_bytes += id.size;
    return WINNOW_OK;
}

/* The digest of the files `path` and those that its tensors were read from, which are the ones that were read. */
static enum winnow_status digest_files(struct wn_gen *gen, const char *path, int64_t since_ns, struct winnow_err *err)
{
    bool there;
    WN_TRY(wn_gen_digest_of(gen, path, &gen->sha, err));
    const struct wn_file_id after = wn_file_id_of(path, &there);
    if (!there || !wn_file_id_equal(&gen->id, &after))
        return wn_fail(err, WINNOW_E_UNAVAILABLE, "'%s' changed while it was read", path);
    const char *name;
    for (unsigned i = 0; (name = winnow_model_external(gen->model, i)) != NULL; i++)
        WN_TRY(check_beside(gen, name, since_ns, err));
    return WINNOW_OK;
}

/* From STATE/cache, where the model was compiled before; where winnowd did it, its digest came along. */
static bool read_compiled(struct load *l, const char *path, int64_t since_ns)
{
    struct wn_gen *gen = l->gen;
    size_t n;
    bool there;
    struct winnow_err why;
    gen->file_bytes = gen->id.size;
    const struct winnow_load_opts opts = { .max_memory_bytes = l->max_memory, .cache = l->serve->repo.cache };
    if (!l->max_cache || gen->id.size > l->max_file)
        return false;
    enum winnow_status status = winnow_cache_load(path, &opts, &gen->model, &why);
    if (status != WINNOW_OK && status != WINNOW_E_NOT_FOUND)
        wn_notice("compiled_model_not_used", "model=%s version=%" PRId64 " why=%s", gen->name, gen->version, why.msg);
    if (status != WINNOW_OK)
        return false;
    const void *tag = winnow_model_tag(gen->model, &n);
    if (n == sizeof gen->sha)
        memcpy(&gen->sha, tag, n);
    else
        status = n ? WINNOW_E_MALFORMED : digest_files(gen, path, since_ns, &why);
    const struct wn_file_id after = wn_file_id_of(path, &there);
    if (status != WINNOW_OK || !there || !wn_file_id_equal(&gen->id, &after)) {
        gen->model = winnow_model_unref(gen->model);
        return false;
    }
    wn_digest_text(&gen->sha, gen->digest);
    return true;
}

void wn_gen_keep(struct wn_gen *gen, size_t max_bytes)
{
    size_t n;
    bool there;
    struct winnow_err err;
    const struct winnow_load_opts opts = { .cache = gen->serve->repo.cache, .max_cache_bytes = max_bytes };
    WN_CLEANUP(wn_freep) char *path = wn_asprintf("%s/model.onnx", gen->dir);
    if (!max_bytes || !path || (winnow_model_tag(gen->model, &n) && n))
        return;
    const struct wn_file_id now = wn_file_id_of(path, &there);
    if (!there || !wn_file_id_equal(&now, &gen->id))
        return;
    enum winnow_status status = winnow_cache_save(gen->model, path, &opts, &gen->sha, sizeof gen->sha, &err);
    if (status == WINNOW_OK)
        wn_info("model_compiled", "model=%s version=%" PRId64, gen->name, gen->version);
    else if (status != WINNOW_E_UNAVAILABLE) /* too soon after it was written: the next time */
        wn_warning("model_not_kept", "model=%s version=%" PRId64 " error=%s", gen->name, gen->version, err.msg);
}

static enum winnow_status read_model(struct load *l, struct winnow_err *err)
{
    int64_t since_ns = wn_wall_file_ns();
    struct wn_gen *gen = l->gen;
    WN_CLEANUP(wn_freep) char *path = wn_asprintf("%s/model.onnx", gen->dir);
    WN_CLEANUP(wn_freep) void *bytes = NULL;
    size_t n;
    bool ok;
    if (!path)
        return wn_fail(err, WINNOW_E_NOMEM, "model '%s'", gen->name);
    gen->id = wn_file_id_of(path, &ok);
    if (read_compiled(l, path, since_ns))
        return WINNOW_OK;
    WN_TRY(wn_file_read(path, l->max_file, &bytes, &n, err));
    struct wn_file_id after = wn_file_id_of(path, &ok);
    if (!ok || !wn_file_id_equal(&gen->id, &after))
        return wn_fail(err, WINNOW_E_UNAVAILABLE, "'%s' changed while it was read", path);
    if (!wn_sha256(bytes, n, &gen->sha))
        return wn_fail(err, WINNOW_E_INTERNAL, "SHA-256 of '%s'", path);
    gen->file_bytes = n;
    struct winnow_load_opts opts = { .max_file_bytes = l->max_file,
                                     .max_memory_bytes = l->max_memory,
                                     .folder = gen->dir,
                                     .max_external_bytes = l->max_file,
                                     .consume = true };
    WN_TRY(winnow_model_load_memory(bytes, n, path, &opts, &gen->model, err));
    if (winnow_model_external(gen->model, 0))
        WN_TRY(digest_files(gen, path, since_ns, err));
    wn_digest_text(&gen->sha, gen->digest);
    return WINNOW_OK;
}

static enum winnow_status load_now(struct load *l, struct winnow_err *err)
{
    struct wn_gen *gen = l->gen;
    WN_TRY(read_model(l, err));
    gen->n_in = winnow_model_n_inputs(gen->model);
    gen->n_out = winnow_model_n_outputs(gen->model);
    WN_TRY(read_config(l->serve, gen, err));
    gen->merge = winnow_model_rows_independent(gen->model, NULL) && gen->n_in > 0 && gen->conf.max_batch != 0;
    for (unsigned i = 0; i < gen->n_in; i++) {
        const struct winnow_io *io = winnow_model_input(gen->model, i);
        for (unsigned d = 0; d < io->rank; d++)
            gen->dynamic |= io->shape[d] < 0 && !(d == 0 && gen->merge);
    }
    WN_TRY(wn_gen_aux(gen->dir, &gen->aux, err));
    WN_TRY(open_pipeline(l->serve, gen, err));
    for (unsigned s = 0; s < gen->n_streams; s++)
        WN_TRY(winnow_scratch_new(gen->model, wn_executor_pool(l->serve, s), &gen->scratch[s], err));
    WN_TRY(warm(gen, l->loop_ns, err));
    gen->weight_bytes = winnow_model_weight_bytes(gen->model); /* packed by the first plan */
    return WINNOW_OK;
}

static void *load_thread(void *arg)
{
    struct load *l = arg;
    if (l->beside_traffic) { /* a failure leaves the priority as it is */
        struct sched_param none = { 0 };
        pthread_setschedparam(pthread_self(), SCHED_BATCH, &none);
        setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), NICE);
    }
    l->status = load_now(l, &l->err);
    return NULL;
}

static struct wn_gen *gen_new(struct wn_serve *serve, struct wn_served *m, int64_t version, const char *dir,
                              bool made_here)
{
    struct wn_gen *gen = calloc(1, sizeof *gen);
    if (!gen)
        return NULL;
    gen->magic = WN_GEN_MAGIC;
    atomic_init(&gen->refs, 1);
    gen->serve = serve;
    gen->reaper = wn_reaper_ref(serve->reaper);
    gen->model_of = m;
    memcpy(gen->name, m->name, sizeof gen->name);
    gen->version = version;
    gen->made_here = made_here;
    gen->max_batch = &serve->max_batch;
    gen->conf = (struct wn_model_config){ .max_batch = -1, .max_wait_us = -1, .max_queue = -1, .timeout_us = -1 };
    gen->queue.gen = gen;
    gen->queues = &gen->queue;
    gen->n_streams = serve->n_streams;
    gen->scratch = calloc(gen->n_streams, sizeof *gen->scratch);
    gen->dir = wn_strdup(dir);
    gen->counters = wn_counters_of(serve, m, version);
    if (!gen->scratch || !gen->dir || !gen->counters) {
        wn_gen_free(gen);
        return NULL;
    }
    return gen;
}

enum winnow_status wn_gen_load(struct wn_serve *serve, struct wn_served *m, int64_t version, const char *dir,
                               bool made_here, struct wn_gen **ret_gen, struct wn_file_id *ret_id,
                               struct winnow_err *err)
{
    struct load l = { .serve = serve, .beside_traffic = wn_serve_ready(serve) };
    l.gen = gen_new(serve, m, version, dir, made_here);
    if (!l.gen)
        return wn_fail(err, WINNOW_E_NOMEM, "model '%s' version %" PRId64, m->name, version);
    pthread_mutex_lock(&serve->cat);
    l.max_file = serve->repo.max_file;
    l.max_memory = serve->repo.max_memory;
    l.max_cache = serve->repo.max_cache;
    l.loop_ns = serve->repo.loop_us * 1000;
    pthread_mutex_unlock(&serve->cat);
    uint64_t start = wn_now_ns();
    size_t n_tag;
    pthread_t thread;
    if (wn_thread_start(&thread, "load", load_thread, &l) == 0)
        pthread_join(thread, NULL);
    else
        l.status = load_now(&l, &l.err);
    *ret_id = l.gen->id;
    if (l.status != WINNOW_OK) {
        wn_gen_free(l.gen);
        if (err)
            *err = l.err;
        return l.status;
    }
    l.gen->number = atomic_fetch_add(&serve->generations, 1) + 1;
    l.gen->loaded_at_ms = (uint64_t)wn_wall_ns() / 1000000u;
    wn_info("model_loaded",
            "model=%s version=%" PRId64 " generation=%" PRIu64 " digest=%s weights=%zu compiled=%s took_ms=%" PRIu64,
            m->name, version, l.gen->number, l.gen->digest, l.gen->weight_bytes,
            winnow_model_tag(l.gen->model, &n_tag) ? "yes" : "no", (wn_now_ns() - start) / 1000000u);
    *ret_gen = l.gen;
    return WINNOW_OK;
}

/* ---- comparing ---- */

static enum winnow_status same_list(const char *what, const winnow_model *a, const winnow_model *b, unsigned n_a,
                                    unsigned n_b, const struct winnow_io *(*get)(const winnow_model *, unsigned),
                                    struct winnow_err *err)
{
    if (n_a != n_b)
        return wn_fail(err, WINNOW_E_PRECONDITION, "it has %u %ss, the live version %u", n_b, what, n_a);
    for (unsigned i = 0; i < n_a; i++) {
        const struct winnow_io *x = get(a, i), *y = get(b, i);
        if (strcmp(x->name, y->name) != 0)
            return wn_fail(err, WINNOW_E_PRECONDITION, "%s %u is '%s', in the live version '%s'", what, i, y->name,
                           x->name);
        if (x->dtype != y->dtype)
            return wn_fail(err, WINNOW_E_PRECONDITION, "%s '%s' is %s, in the live version %s", what, x->name,
                           winnow_dtype_name(y->dtype), winnow_dtype_name(x->dtype));
        if (x->rank != y->rank || memcmp(x->shape, y->shape, x->rank * sizeof x->shape[0]) != 0)
            return wn_fail(err, WINNOW_E_PRECONDITION, "%s '%s' has another shape than in the live version", what,
                           x->name);
    }
    return WINNOW_OK;
}

enum winnow_status wn_gen_same_io(const struct wn_gen *a, const struct wn_gen *b, struct winnow_err *err)
{
    WN_TRY(same_list("input", a->model, b->model, a->n_in, b->n_in, winnow_model_input, err));
    WN_TRY(same_list("output", a->model, b->model, a->n_out, b->n_out, winnow_model_output, err));
    unsigned n_a = a->pipeline ? wn_pipeline_n_labels(a->pipeline) : 0;
    unsigned n_b = b->pipeline ? wn_pipeline_n_labels(b->pipeline) : 0;
    if (n_a != n_b)
        return wn_fail(err, WINNOW_E_PRECONDITION, "it has %u labels, the live version %u", n_b, n_a);
    for (unsigned i = 0; i < n_a; i++)
        if (strcmp(wn_pipeline_label(a->pipeline, i), wn_pipeline_label(b->pipeline, i)) != 0)
            return wn_fail(err, WINNOW_E_PRECONDITION, "label %u is '%s', in the live version '%s'", i,
                           wn_pipeline_label(b->pipeline, i), wn_pipeline_label(a->pipeline, i));
    return WINNOW_OK;
}
