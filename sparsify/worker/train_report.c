/* train_report.c: report.json (everything a person may want to see) and result.json (what the daemon reads). */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "base/digest.h"
#include "base/file.h"
#include "sparsify/worker/train_impl.h"
#include "winnow/winnow.h"

#define MAX_PROGRESS ((size_t)256 << 20)
#define MAX_POINTS   500

static json_t *real(double x)
{
    return isfinite(x) ? json_real(x) : json_null();
}

/* Digits that say something. */
static json_t *share(double x)
{
    return real(round(x * 1e6) / 1e6);
}

static json_t *layers(struct wn_trainer *tr, double *ret_sparsity, double *ret_flops)
{
    json_t *list = json_array();
    double n = 0, kept = 0, macs = 0, kept_macs = 0;
    for (unsigned i = 0; i < wn_trainer_n_params(tr); i++) {
        const struct wn_param *p = wn_trainer_param(tr, i);
        if (p->kind != WN_PARAM_WEIGHT || !p->can_prune)
            continue;
        double density = (double)p->kept / (double)p->n;
        if (p->prunable) {
            n += (double)p->n;
            kept += (double)p->kept;
        }
        macs += p->macs;
        kept_macs += p->macs * density;
        json_t *shape = json_array();
        for (unsigned d = 0; d < p->rank; d++)
            json_array_append_new(shape, json_integer(p->dim[d]));
        json_array_append_new(list, json_pack("{s:s, s:o, s:I, s:o, s:f, s:b}", "name", p->name, "shape", shape,
                                              "weights", (json_int_t)p->n, "sparsity", share(1 - density), "macs",
                                              p->macs, "prunable", p->prunable));
    }
    *ret_sparsity = n > 0 ? 1 - kept / n : 0;
    *ret_flops = macs > 0 ? 1 - kept_macs / macs : 0;
    return list;
}

/* Points of one kind of event in progress.jsonl. A resumed job repeats steps: what a later line says replaces it. */
static json_t *curve(const char *text, const char *event, const char *key)
{
    json_t *all = json_array();
    for (const char *s = text; *s;) {
        size_t len = strcspn(s, "\n");
        json_t *o = json_loadb(s, len, 0, NULL);
        const char *kind = json_string_value(json_object_get(o, "event"));
        json_t *at = json_object_get(o, key);
        if (kind && strcmp(kind, event) == 0 && json_is_number(at)) {
            for (size_t n = json_array_size(all); n > 0; n--) {
                const json_t *last = json_array_get(all, n - 1);
                if (json_number_value(json_object_get(last, key)) < json_number_value(at))
                    break;
                json_array_remove(all, n - 1);
            }
            json_object_del(o, "event");
            json_object_del(o, "t");
            json_object_del(o, "phase");
            json_object_del(o, "eta_s");
            json_array_append(all, o);
        }
        json_decref(o);
        s += len;
        s += *s == '\n';
    }
    size_t n = json_array_size(all), every = (n + MAX_POINTS - 1) / MAX_POINTS;
    json_t *some = json_array();
    for (size_t i = 0; i < n; i++)
        if (i % every == 0 || i + 1 == n)
            json_array_append(some, json_array_get(all, i));
    json_decref(all);
    return some;
}

/* Of the model `name` of the job, with the files that its weights lie in; 0: not known. */
static json_int_t model_bytes(struct wn_train_run *r, const char *name)
{
    struct stat st;
    struct winnow_err err;
    uint64_t beside;
    WN_CLEANUP(wn_freep) char *path = wn_asprintf("%s/%s", r->job->dir, name);
    WN_CLEANUP(wn_freep) char **names = NULL;
    if (!path || stat(path, &st) != 0 || winnow_external_list(path, &names, &beside, &err) != WINNOW_OK)
        return 0;
    return (json_int_t)((uint64_t)st.st_size + beside);
}

static json_t *metrics(struct wn_train_run *r, double sparsity, double flops)
{
    return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:I, s:I, s:I, s:I, s:o, s:o, s:o, s:b}", "sparsity",
                     share(sparsity), "flop_sparsity", share(flops), "train_accuracy", share(r->score.accuracy), "loss",
                     share(r->score.loss), "float_accuracy", share(r->score_f32.accuracy), "agreement",
                     share(r->agreement), "master_agreement", share(r->master_agreement), "compared_rows",
                     (json_int_t)r->compared, "validation_rows", (json_int_t)r->rows.n_val, "model_bytes",
                     model_bytes(r, "work/candidate/model.onnx"), "base_bytes", model_bytes(r, "base/model.onnx"),
                     "epochs", real(r->epochs), "wall_s", share((double)(wn_now_ns() - r->started_ns) / 1e9), "cpu_s",
                     share(wn_progress_cpu_s()), "quantized", wn_trainer_quant_enabled(r->tr));
}

static enum winnow_status write_json(struct wn_train_run *r, const char *name, json_t *o)
{
    WN_CLEANUP(wn_freep) char *text = o ? json_dumps(o, JSON_INDENT(1) | JSON_REAL_PRECISION(9)) : NULL;
    WN_CLEANUP(wn_freep) char *path = wn_asprintf("%s/work/%s", r->job->dir, name);
    json_decref(o);
    if (!text || !path)
        return wn_fail(r->err, WINNOW_E_NOMEM, "%s", name);
    return wn_file_write_durable(path, text, strlen(text), r->err);
}

enum winnow_status wn_train_report(struct wn_train_run *r)
{
    double sparsity, flops;
    size_t n = 0;
    struct wn_sha256 recipe;
    char digest[WN_DIGEST_TEXT];
    WN_CLEANUP(wn_freep) void *text = NULL;
    WN_CLEANUP(wn_freep) char *progress = wn_asprintf("%s/work/progress.jsonl", r->job->dir);
    if (!progress || !wn_sha256(r->recipe_text, r->recipe_bytes, &recipe))
        return wn_fail(r->err, WINNOW_E_NOMEM, "report.json");
    WN_TRY(wn_file_read(progress, MAX_PROGRESS, &text, &n, r->err));
    json_t *list = layers(r->tr, &sparsity, &flops), *m = metrics(r, sparsity, flops);
    json_t *report = json_pack(
        "{s:i, s:s, s:s, s:s, s:s, s:I, s:i, s:i, s:I, s:I, s:o, s:o, s:o, s:O}", "format", 1, "base", r->origin.file,
        "recipe", (const char *)r->recipe_text, "recipe_digest", wn_digest_text(&recipe, digest), "version", WN_VERSION,
        "seed", (json_int_t)r->job->seed, "threads", (int)r->opts.threads, "batch", (int)r->opts.batch, "train_rows",
        (json_int_t)r->rows.n_train, "validation_rows", (json_int_t)r->rows.n_val, "steps", curve(text, "step", "step"),
        "evals", curve(text, "eval", "epoch"), "layers", list, "metrics", m);
    enum winnow_status status = write_json(r, "report.json", report);
    if (status == WINNOW_OK)
        status = write_json(r, "result.json",
                            json_pack("{s:i, s:s, s:O}", "format", 1, "status", "succeeded", "metrics", m));
    json_decref(m);
    return status;
}
