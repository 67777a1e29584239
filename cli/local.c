/* local.c: models, inputs and JSON for the commands that run models themselves. */
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/npz.h"
#include "base/repo_names.h"
#include "cli/cli.h"

int wn_cli_fail(const char *command, const struct winnow_err *err)
{
    fprintf(stderr, "%s: %s\n", command, err->msg);
    return WN_EXIT_FAILED;
}

enum winnow_status wn_cli_write_json(const char *path, json_t *json, struct winnow_err *err)
{
    bool out = strcmp(path, "-") == 0;
    FILE *f = out ? stdout : fopen(path, "we");
    enum winnow_status status = WINNOW_OK;
    if (!json)
        status = wn_fail(err, WINNOW_E_NOMEM, "JSON");
    else if (!f)
        status = wn_fail_errno(err, errno, "%s", path);
    else if (json_dumpf(json, f, JSON_INDENT(2) | JSON_REAL_PRECISION(9)) || fputc('\n', f) == EOF || fflush(f))
        status = wn_fail_errno(err, errno, "writing %s", path);
    if (f && !out && fclose(f) && status == WINNOW_OK)
        status = wn_fail_errno(err, errno, "writing %s", path);
    json_decref(json);
    return status;
}

/* ---- models ---- */

static bool is_folder(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

static struct wn_pipe_io pipe_io(const struct winnow_io *io)
{
    struct wn_pipe_io p = {
        .name = io->name, .dtype = io->dtype, .rank = io->rank ? io->rank - 1 : 0, .table_rows = io->table_rows
    };
    for (unsigned d = 1; d < io->rank; d++)
        p.shape[d - 1] = io->shape[d];
    return p;
}

static enum winnow_status open_pipeline(struct wn_cli_model *m, const char *dir, struct winnow_err *err)
{
    unsigned n_in = winnow_model_n_inputs(m->model), n_out = winnow_model_n_outputs(m->model);
    WN_CLEANUP(wn_freep) struct wn_pipe_io *ios = calloc(n_in + n_out + 1, sizeof *ios);
    if (!ios)
        return wn_fail(err, WINNOW_E_NOMEM, "%s", m->path);
    for (unsigned i = 0; i < n_in; i++)
        ios[i] = pipe_io(winnow_model_input(m->model, i));
    for (unsigned i = 0; i < n_out; i++)
        ios[n_in + i] = pipe_io(winnow_model_output(m->model, i));
    WN_CLEANUP(wn_freep) char *own = wn_asprintf("%s/pipeline.yaml", dir);
    WN_CLEANUP(wn_freep) char *shared = own && access(own, F_OK) != 0 ? wn_cli_shared_folder(dir) : NULL;
    enum winnow_status status =
        wn_pipeline_open(shared ? shared : dir, ios, n_in, ios + n_in, n_out, &m->pipeline, err);
    return status == WINNOW_E_NOT_FOUND ? WINNOW_OK : status;
}

static char *folder_of(const char *file)
{
    const char *slash = strrchr(file, '/');
    return slash ? wn_asprintf("%.*s", (int)(slash - file), file) : wn_strdup(".");
}

static bool has_model(const char *folder, const char *below)
{
    WN_CLEANUP(wn_freep) char *file = wn_asprintf("%s%s%s/model.onnx", folder, below ? "/" : "", below ? below : "");
    return file && access(file, F_OK) == 0;
}

/* The highest VERSION of which there is path/VERSION/model.onnx; 0: none. */
static int64_t highest_version(const char *path)
{
    int64_t highest = 0;
    DIR *d = opendir(path);
    for (struct dirent *e; d && (e = readdir(d)) != NULL;) {
        int64_t version = wn_version_parse(e->d_name);
        if (version > highest && has_model(path, e->d_name))
            highest = version;
    }
    if (d)
        closedir(d);
    return highest;
}

char *wn_cli_model_folder(const char *path)
{
    int64_t version = has_model(path, NULL) ? 0 : highest_version(path);
    if (!version)
        return wn_strdup(path);
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/')
        n--;
    fprintf(stderr, "%.*s: taking version %" PRId64 ", the highest there\n", (int)n, path, version);
    return wn_asprintf("%.*s/%" PRId64, (int)n, path, version);
}

char *wn_cli_shared_folder(const char *folder)
{
    WN_CLEANUP(wn_freep) char *real = realpath(folder, NULL);
    char *slash = real ? strrchr(real, '/') : NULL;
    if (!slash || slash == real || !wn_version_parse(slash + 1))
        return NULL;
    *slash = 0;
    return WN_TAKE(real);
}

char *wn_cli_model_file(const char *path)
{
    if (!is_folder(path))
        return wn_strdup(path);
    WN_CLEANUP(wn_freep) char *folder = wn_cli_model_folder(path);
    return folder ? wn_asprintf("%s/model.onnx", folder) : NULL;
}

enum winnow_status wn_cli_open(const char *path, unsigned threads, const struct winnow_load_opts *opts,
                               struct wn_cli_model *ret, struct winnow_err *err)
{
    struct stat st;
    *ret = (struct wn_cli_model){ .path = path };
    ret->file = wn_cli_model_file(path);
    if (!ret->file)
        return wn_fail(err, WINNOW_E_NOMEM, "%s", path);
    const uint64_t begin = wn_now_ns();
    WN_TRY(winnow_model_load(ret->file, opts, &ret->model, err));
    ret->load_ms = (double)(wn_now_ns() - begin) / 1e6;
    size_t n_tag;
    ret->asked_cache = opts && !opts->reference ? opts->cache : NULL;
    ret->cache = opts && !opts->reference && !winnow_model_tag(ret->model, &n_tag) ? opts->cache : NULL;
    WN_CLEANUP(wn_freep) char **beside = NULL;
    uint64_t more = 0;
    WN_TRY(winnow_external_list(ret->file, &beside, &more, err));
    ret->file_bytes = stat(ret->file, &st) == 0 ? (size_t)st.st_size + (size_t)more : 0;
    WN_TRY(winnow_pool_new(threads, &ret->pool, err));
    WN_TRY(winnow_scratch_new(ret->model, ret->pool, &ret->scratch, err));
    WN_CLEANUP(wn_freep) char *dir = folder_of(ret->file);
    return dir ? open_pipeline(ret, dir, err) : wn_fail(err, WINNOW_E_NOMEM, "%s", path);
}

void wn_cli_close(struct wn_cli_model *m)
{
    struct winnow_err err;
    const struct winnow_load_opts opts = { .cache = m->cache };
    if (m->model && m->cache && winnow_cache_save(m->model, m->file, &opts, NULL, 0, &err) != WINNOW_OK)
        fprintf(stderr, "winnow: not kept: %s\n", err.msg);
    wn_pipeline_free(m->pipeline);
    winnow_scratch_free(m->scratch);
    winnow_pool_free(m->pool);
    winnow_model_unref(m->model);
    free(m->file);
    *m = (struct wn_cli_model){ 0 };
}

enum winnow_status wn_cli_tune(struct wn_cli_model *m, const struct wn_cli_inputs *in, bool tune,
                               struct winnow_err *err)
{
    if (!tune)
        return WINNOW_OK;
    WN_TRY(winnow_scratch_tune(m->scratch, in->t, in->n, err));
    m->cache = m->asked_cache; /* also what came from there is kept anew */
    return WINNOW_OK;
}

enum winnow_status wn_cli_run_once(struct wn_cli_model *m, const struct wn_cli_inputs *in,
                                   struct winnow_tensor *outputs, struct winnow_err *err)
{
    unsigned n_out = winnow_model_n_outputs(m->model);
    memset(outputs, 0, n_out * sizeof *outputs);
    return winnow_run(m->model, m->scratch, in->t, in->n, outputs, n_out, err);
}

const char *wn_cli_shape(const int64_t *shape, unsigned rank, char *buf, size_t room)
{
    size_t used = (size_t)snprintf(buf, room, "[");
    for (unsigned i = 0; i < rank && used < room; i++)
        used += (size_t)snprintf(buf + used, room - used, "%s%lld", i ? "," : "", (long long)shape[i]);
    if (used < room)
        snprintf(buf + used, room - used, "]");
    return buf;
}

/* ---- inputs ---- */

static enum winnow_dtype dtype_of(enum wn_npy_type type)
{
    switch (type) {
    case WN_NPY_B1:
        return WINNOW_BOOL;
    case WN_NPY_F2:
        return WINNOW_F16;
    case WN_NPY_F4:
        return WINNOW_F32;
    case WN_NPY_F8:
        return WINNOW_F64;
    case WN_NPY_I1:
        return WINNOW_I8;
    case WN_NPY_I2:
        return WINNOW_I16;
    case WN_NPY_I4:
        return WINNOW_I32;
    case WN_NPY_I8:
        return WINNOW_I64;
    case WN_NPY_U1:
        return WINNOW_U8;
    case WN_NPY_U2:
        return WINNOW_U16;
    case WN_NPY_U4:
        return WINNOW_U32;
    case WN_NPY_U8:
        return WINNOW_U64;
    default:
        return WINNOW_UNDEFINED;
    }
}

enum winnow_status wn_cli_inputs_read(const winnow_model *model, const char *path, struct wn_cli_inputs *ret,
                                      struct winnow_err *err)
{
    struct wn_npz npz = { 0 };
    unsigned n = winnow_model_n_inputs(model);
    *ret = (struct wn_cli_inputs){ calloc(n + 1, sizeof *ret->t), n };
    if (!ret->t)
        return wn_fail(err, WINNOW_E_NOMEM, "%s", path);
    WN_TRY(wn_npz_read(path, NULL, &npz, err));
    enum winnow_status status = WINNOW_OK;
    for (unsigned i = 0; i < n && status == WINNOW_OK; i++) {
        const char *name = winnow_model_input(model, i)->name;
        struct wn_npy *a = wn_npz_find(&npz, name);
        if (!a && n == 1 && npz.n == 1)
            a = &npz.array[0].npy;
        if (!a) {
            status = wn_fail(err, WINNOW_E_NOT_FOUND, "%s has no array '%s'", path, name);
            break;
        }
        if (a->type == WN_NPY_F8 && winnow_model_input(model, i)->dtype == WINNOW_F32) { /* numpy's default */
            status = wn_fail(err, WINNOW_E_MALFORMED,
                             "%s: '%s' is float64, but the model wants float32: save x.astype('float32')", path, name);
            break;
        }
        ret->t[i] = (struct winnow_tensor){
            .dtype = dtype_of(a->type), .rank = a->rank, .data = WN_TAKE(a->data), .bytes = a->bytes
        };
        memcpy(ret->t[i].shape, a->shape, sizeof ret->t[i].shape);
    }
    wn_npz_done(&npz);
    return status;
}

void wn_cli_inputs_done(struct wn_cli_inputs *in)
{
    for (unsigned i = 0; in->t && i < in->n; i++)
        free(in->t[i].data);
    free(in->t);
    *in = (struct wn_cli_inputs){ 0 };
}

/* "1,3,224,224" */
static enum winnow_status read_shape(const char *given, const char *s, struct winnow_tensor *t, struct winnow_err *err)
{
    t->rank = 0;
    while (t->rank < WINNOW_MAX_RANK) {
        char *end;
        errno = 0;
        t->shape[t->rank] = strtoll(s, &end, 10);
        if (end == s || errno || t->shape[t->rank] < 0 || (*end && *end != ','))
            break;
        t->rank++;
        if (!*end)
            return WINNOW_OK;
        s = end + 1;
    }
    return wn_fail(err, WINNOW_E_MALFORMED, "--shape %s: INPUT=1,3,224,224 is wanted, at most %d whole numbers", given,
                   WINNOW_MAX_RANK);
}

/* The input that "name=1,3,224,224" is about; the names of all where it is none. */
static enum winnow_status find_input(const winnow_model *model, const char *given, unsigned *ret,
                                     struct winnow_err *err)
{
    unsigned n = winnow_model_n_inputs(model);
    const char *eq = strrchr(given, '='); /* a name may hold one */
    size_t len = eq ? (size_t)(eq - given) : strlen(given), used = 0;
    char names[160] = "";
    for (*ret = 0; *ret < n; (*ret)++) {
        const char *name = winnow_model_input(model, *ret)->name;
        if (strlen(name) == len && memcmp(name, given, len) == 0)
            return WINNOW_OK;
        if (used < sizeof names)
            used += (size_t)snprintf(names + used, sizeof names - used, "%s'%s'", *ret ? ", " : "", name);
    }
    return wn_fail(err, WINNOW_E_NOT_FOUND, "--shape %s: the model has no input '%.*s', but %s", given, (int)len, given,
                   names);
}

/* Shapes as the model has them, `batch` for a first dimension that is dynamic, then what was said. */
static enum winnow_status set_shapes(const winnow_model *model, int64_t batch, char *const *shapes, size_t n_shapes,
                                     struct winnow_tensor *t, struct winnow_err *err)
{
    unsigned at;
    for (unsigned i = 0; i < winnow_model_n_inputs(model); i++) {
        const struct winnow_io *io = winnow_model_input(model, i);
        t[i].dtype = io->dtype;
        t[i].rank = io->rank;
        memcpy(t[i].shape, io->shape, sizeof t[i].shape);
        if (io->rank && io->shape[0] < 0)
            t[i].shape[0] = batch;
    }
    for (size_t i = 0; i < n_shapes; i++) {
        WN_TRY(find_input(model, shapes[i], &at, err));
        const char *eq = strrchr(shapes[i], '=');
        WN_TRY(read_shape(shapes[i], eq ? eq + 1 : "", &t[at], err));
    }
    return WINNOW_OK;
}

/* A batch that is asked for and no input can have would be measured as what it is not. */
static enum winnow_status check_batch(const winnow_model *model, int64_t batch, const struct winnow_tensor *t,
                                      struct winnow_err *err)
{
    for (unsigned i = 0; batch > 1 && i < winnow_model_n_inputs(model); i++)
        if (t[i].rank && t[i].shape[0] == batch)
            return WINNOW_OK;
    return batch > 1 ? wn_fail(err, WINNOW_E_MALFORMED, "a batch of %lld: no input of the model can have it",
                               (long long)batch)
                     : WINNOW_OK;
}

static uint32_t next_random(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*state >> 33);
}

static void fill_random(struct winnow_tensor *t, uint64_t *state)
{
    size_t elem = winnow_dtype_size(t->dtype), n = elem ? t->bytes / elem : 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t r = next_random(state);
        if (t->dtype == WINNOW_F32)
            ((float *)t->data)[i] = (float)(r % 20001) / 10000 - 1;
        else if (t->dtype == WINNOW_F64)
            ((double *)t->data)[i] = (double)(r % 20001) / 10000 - 1;
        else if (t->dtype == WINNOW_F16)
            ((uint16_t *)t->data)[i] = (uint16_t)(0x3000 + r % 0x0c00); /* 0.125 … 1 */
        else if (t->dtype == WINNOW_BOOL || t->dtype == WINNOW_I64 || t->dtype == WINNOW_I32)
            ((uint8_t *)t->data)[i * elem] = (uint8_t)(r % 2); /* ids and masks: 0 or 1 is valid everywhere */
        else if (t->dtype != WINNOW_STRING)
            ((uint8_t *)t->data)[i * elem] = (uint8_t)r;
    }
}

enum winnow_status wn_cli_inputs_random(const winnow_model *model, int64_t batch, char *const *shapes, size_t n_shapes,
                                        unsigned seed, struct wn_cli_inputs *ret, struct winnow_err *err)
{
    unsigned n = winnow_model_n_inputs(model);
    uint64_t state = seed + 1;
    *ret = (struct wn_cli_inputs){ calloc(n + 1, sizeof *ret->t), n };
    if (!ret->t)
        return wn_fail(err, WINNOW_E_NOMEM, "inputs");
    WN_TRY(set_shapes(model, batch, shapes, n_shapes, ret->t, err));
    WN_TRY(check_batch(model, batch, ret->t, err));
    for (unsigned i = 0; i < n; i++) {
        const struct winnow_io *io = winnow_model_input(model, i);
        struct winnow_tensor *t = &ret->t[i];
        for (unsigned d = 0; d < t->rank; d++)
            if (t->shape[d] < 0)
                return wn_fail(err, WINNOW_E_MALFORMED, "input '%s' is dynamic in dimension %u: say --shape %s=…",
                               io->name, d, io->name);
        if (!wn_shape_bytes(t->shape, t->rank, winnow_dtype_size(t->dtype), &t->bytes))
            return wn_fail(err, WINNOW_E_TOO_LARGE, "input '%s' is too large", io->name);
        t->data = calloc(1, t->bytes + 1);
        if (!t->data)
            return wn_fail(err, WINNOW_E_NOMEM, "input '%s'", io->name);
        fill_random(t, &state);
    }
    return WINNOW_OK;
}
