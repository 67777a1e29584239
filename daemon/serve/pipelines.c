/* pipelines.c: which pipeline.yaml a version has, and all of them read beforehand, for `winnowd --check`.
 *
 * DESIGN  What a pipeline.yaml may say depends on its model's inputs and outputs, so the model is read too: from its
 *         compiled form where there is one, else as it is in the file, without packing weights and without a run.
 * LOCKS   none. */
#include "daemon/serve/internal.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void pipe_io(const struct winnow_io *io, struct wn_pipe_io *ret)
{
    *ret = (struct wn_pipe_io){ .name = io->name, .dtype = io->dtype, .table_rows = io->table_rows };
    ret->rank = io->rank ? io->rank - 1 : 0;
    for (unsigned d = 0; d < ret->rank; d++)
        ret->shape[d] = io->shape[d + 1];
}

static bool has_pipeline(const char *dir)
{
    WN_CLEANUP(wn_freep) char *path = wn_asprintf("%s/pipeline.yaml", dir);
    return path && access(path, F_OK) == 0;
}

char *wn_pipeline_folder(const char *dir, const char *model, char *const *root, unsigned n_roots)
{
    if (has_pipeline(dir))
        return wn_strdup(dir);
    for (unsigned r = 0; r < n_roots; r++) {
        char *shared = wn_asprintf("%s/%s", root[r], model);
        if (shared && has_pipeline(shared))
            return shared;
        free(shared);
    }
    return NULL;
}

enum winnow_status wn_pipeline_of_model(const char *folder, const winnow_model *model, struct wn_pipeline **ret,
                                        struct winnow_err *err)
{
    const unsigned n_in = winnow_model_n_inputs(model), n_out = winnow_model_n_outputs(model);
    WN_CLEANUP(wn_freep) struct wn_pipe_io *io = calloc(n_in + n_out + 1u, sizeof *io);
    if (!io)
        return wn_fail(err, WINNOW_E_NOMEM, "pipeline of '%s'", folder);
    for (unsigned i = 0; i < n_in; i++)
        pipe_io(winnow_model_input(model, i), &io[i]);
    for (unsigned i = 0; i < n_out; i++)
        pipe_io(winnow_model_output(model, i), &io[n_in + i]);
    return wn_pipeline_open(folder, io, n_in, io + n_in, n_out, ret, err);
}

/* ---- all of them ---- */

struct look {
    const struct wn_config *cfg;
    char *root[WN_MAX_ROOTS]; /* as the registry has them: STATE/models first */
    unsigned n_roots;
    char *cache;
    wn_pipeline_bad_fn *tell;
    void *arg;
    char last[240]; /* versions may share a pipeline.yaml, which is told of once */
};

static void look_done(struct look *l)
{
    for (unsigned r = 0; r < l->n_roots; r++)
        free(l->root[r]);
    free(l->cache);
}

static void tell(struct look *l, const char *model, int64_t version, bool loads, const char *why)
{
    if (strcmp(l->last, why) != 0)
        l->tell(l->arg, model, version, loads, why);
    snprintf(l->last, sizeof l->last, "%s", why);
}

static enum winnow_status read_model(const struct look *l, const char *dir, winnow_model **ret, struct winnow_err *err)
{
    const struct winnow_load_opts opts = { .max_file_bytes = l->cfg->models.max_file,
                                           .max_memory_bytes = l->cfg->models.max_memory,
                                           .max_external_bytes = l->cfg->models.max_file,
                                           .reference = true },
                                  compiled = { .cache = l->cache };
    WN_CLEANUP(wn_freep) char *path = wn_asprintf("%s/model.onnx", dir);
    if (!path)
        return wn_fail(err, WINNOW_E_NOMEM, "'%s'", dir);
    return winnow_cache_load(path, &compiled, ret, NULL) == WINNOW_OK ? WINNOW_OK
                                                                      : winnow_model_load(path, &opts, ret, err);
}

static void look_at_version(struct look *l, const char *dir, const char *model, int64_t version)
{
    struct winnow_err err;
    winnow_model *m = NULL;
    struct wn_pipeline *pipeline = NULL;
    WN_CLEANUP(wn_freep) char *onnx = wn_asprintf("%s/model.onnx", dir);
    WN_CLEANUP(wn_freep) char *folder = wn_pipeline_folder(dir, model, l->root, l->n_roots);
    if (!folder || !onnx || access(onnx, F_OK) != 0)
        return;
    if (read_model(l, dir, &m, &err) != WINNOW_OK)
        tell(l, model, version, false, err.msg);
    else if (wn_pipeline_of_model(folder, m, &pipeline, &err) != WINNOW_OK)
        tell(l, model, version, true, err.msg);
    wn_pipeline_free(pipeline);
    winnow_model_unref(m);
}

static int is_model(const struct dirent *e)
{
    return wn_model_name_valid(e->d_name);
}

static int is_version(const struct dirent *e)
{
    return wn_version_parse(e->d_name) != 0;
}

static void look_at_model(struct look *l, const char *root, const char *model)
{
    struct dirent **list = NULL;
    WN_CLEANUP(wn_freep) char *folder = wn_asprintf("%s/%s", root, model);
    const int n = folder ? scandir(folder, &list, is_version, versionsort) : 0;
    for (int i = 0; i < n; i++) {
        WN_CLEANUP(wn_freep) char *dir = wn_asprintf("%s/%s", folder, list[i]->d_name);
        if (dir)
            look_at_version(l, dir, model, wn_version_parse(list[i]->d_name));
        free(list[i]);
    }
    free(list);
}

void wn_pipelines_look(const struct wn_config *cfg, wn_pipeline_bad_fn *fn, void *arg)
{
    WN_CLEANUP(look_done) struct look l = { .cfg = cfg, .tell = fn, .arg = arg };
    l.cache = wn_asprintf("%s/cache", cfg->models.state);
    l.root[l.n_roots++] = wn_asprintf("%s/models", cfg->models.state);
    for (size_t i = 0; i < cfg->models.repositories.n && l.n_roots < WN_MAX_ROOTS; i++)
        l.root[l.n_roots++] = wn_strdup(cfg->models.repositories.at[i]);
    for (unsigned r = 0; r < l.n_roots; r++) {
        struct dirent **list = NULL;
        const int n = l.root[r] ? scandir(l.root[r], &list, is_model, alphasort) : 0;
        for (int i = 0; i < n; i++) {
            look_at_model(&l, l.root[r], list[i]->d_name);
            free(list[i]);
        }
        free(list);
    }
}
