/* spec.c: reads pipeline.yaml and the labels file, and settles what the model's shapes leave open. What belongs to one
 * task stands in the task's own file. */
#include "pipeline/spec.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/file.h"
#include "base/vec.h"

#define MAX_LABELS      1000000u
#define MAX_LABEL_BYTES 1000u
#define MAX_LABEL_FILE  ((size_t)64 << 20)

/** The one table of tasks. */
static const struct wn_task_kind *const kinds[] = { &wn_task_image, &wn_task_text, &wn_task_embeddings };

/* ---- values ---- */
const struct wn_yaml_node *wn_spec_key(const struct wn_spec *s, const char *key)
{
    return wn_yaml_get(s->doc->root, key);
}

static enum winnow_status want_string(const struct wn_spec *s, const char *key, const struct wn_yaml_node *v,
                                      const char **ret)
{
    if (v->kind != WN_YAML_STRING || !*v->text)
        return WN_SPEC_BAD(s, v, "%s: expected a string, not %s", key, wn_yaml_kind_name(v->kind));
    *ret = wn_arena_strndup(&s->p->arena, v->text, strlen(v->text));
    return *ret ? WINNOW_OK : wn_fail(s->err, WINNOW_E_NOMEM, "pipeline.yaml");
}

enum winnow_status wn_spec_string(const struct wn_spec *s, const char *key, const char **ret)
{
    const struct wn_yaml_node *v = wn_spec_key(s, key);
    return v ? want_string(s, key, v, ret) : WINNOW_OK;
}

enum winnow_status wn_spec_choice(const struct wn_spec *s, const char *key, const char *const *choices, unsigned *ret)
{
    const struct wn_yaml_node *v = wn_spec_key(s, key);
    char all[100] = "";
    if (!v)
        return WINNOW_OK;
    for (unsigned i = 0; choices[i]; i++) {
        if (v->kind == WN_YAML_STRING && strcmp(v->text, choices[i]) == 0) {
            *ret = i;
            return WINNOW_OK;
        }
        strcat(strcat(all, i ? ", " : ""), choices[i]);
    }
    return WN_SPEC_BAD(s, v, "%s: must be one of %s", key, all);
}

enum winnow_status wn_spec_bool(const struct wn_spec *s, const char *key, bool *ret)
{
    const struct wn_yaml_node *v = wn_spec_key(s, key);
    if (v && v->kind != WN_YAML_BOOL)
        return WN_SPEC_BAD(s, v, "%s: expected true or false, not %s", key, wn_yaml_kind_name(v->kind));
    *ret = v ? v->as.b : *ret;
    return WINNOW_OK;
}

enum winnow_status wn_spec_want_int(const struct wn_spec *s, const char *key, const struct wn_yaml_node *v, int64_t min,
                                    int64_t max, int64_t *ret)
{
    if (v->kind != WN_YAML_INT)
        return WN_SPEC_BAD(s, v, "%s: expected an integer, not %s", key, wn_yaml_kind_name(v->kind));
    if (v->as.i < min || v->as.i > max)
        return WN_SPEC_BAD(s, v, "%s: %lld is not between %lld and %lld", key, (long long)v->as.i, (long long)min,
                           (long long)max);
    *ret = v->as.i;
    return WINNOW_OK;
}

enum winnow_status wn_spec_int(const struct wn_spec *s, const char *key, int64_t min, int64_t max, int64_t *ret)
{
    const struct wn_yaml_node *v = wn_spec_key(s, key);
    return v ? wn_spec_want_int(s, key, v, min, max, ret) : WINNOW_OK;
}

enum winnow_status wn_spec_want_number(const struct wn_spec *s, const char *key, const struct wn_yaml_node *v,
                                       double *ret)
{
    double x;
    if (!wn_yaml_number(v, &x)) {
        char *end;
        x = v->kind == WN_YAML_STRING ? strtod(v->text, &end) : 0;
        if (v->kind != WN_YAML_STRING || end == v->text || *end != '/')
            return WN_SPEC_BAD(s, v, "%s: expected a number, not %s", key, wn_yaml_kind_name(v->kind));
        const char *below = end + 1;
        double d = strtod(below, &end);
        if (end == below || *end || d == 0)
            return WN_SPEC_BAD(s, v, "%s: '%.40s' is not a fraction", key, v->text);
        x /= d;
    }
    if (!isfinite(x) || fabs(x) > 1e30)
        return WN_SPEC_BAD(s, v, "%s: '%.40s' is out of range", key, v->text);
    *ret = x;
    return WINNOW_OK;
}

/* ---- keys ---- */

static enum winnow_status choose_task(struct wn_spec *s)
{
    const char *names[WN_COUNT(kinds) + 1] = { 0 };
    unsigned i = UINT32_MAX;
    if (s->doc->root->kind != WN_YAML_MAP)
        return WN_SPEC_BAD(s, s->doc->root, "expected keys, not %s", wn_yaml_kind_name(s->doc->root->kind));
    for (size_t k = 0; k < WN_COUNT(kinds); k++)
        names[k] = kinds[k]->name;
    WN_TRY(wn_spec_choice(s, "task", names, &i));
    if (i == UINT32_MAX)
        return WN_SPEC_BAD(s, s->doc->root, "key 'task' is missing");
    s->p->kind = kinds[i];
    return WINNOW_OK;
}

static enum winnow_status check_keys(const struct wn_spec *s)
{
    static const char *const common[] = { "task", "input", "model_output", "max_bytes" };
    const struct wn_yaml_node *root = s->doc->root;
    const char *names[64];
    size_t n = 0;
    for (; n < WN_COUNT(common); n++)
        names[n] = common[n];
    for (const char *const *k = s->p->kind->keys; *k && n < WN_COUNT(names); k++)
        names[n++] = *k;
    for (size_t i = 0; i < root->n; i++) {
        size_t k = 0;
        while (k < n && strcmp(names[k], root->key[i]->text) != 0)
            k++;
        if (k < n)
            continue;
        const char *near = wn_near_name(root->key[i]->text, names, n);
        return WN_SPEC_BAD(s, root->key[i], "unknown key '%.60s'%s%s%s", root->key[i]->text,
                           near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
    }
    return WINNOW_OK;
}

/* ---- the model's side ---- */

/* What tensors there are: "'scores' [batch,10], 'mask' (not f32) [batch,?]", cut where there is no more room. */
static const char *list_io(const struct wn_pipe_io *io, unsigned n, char *buf, size_t room)
{
    size_t used = 0;
    *buf = '\0';
    for (unsigned i = 0; i < n && used < room; i++) {
        used += (size_t)snprintf(buf + used, room - used, "%s'%.24s'%s [batch", i ? ", " : "", io[i].name,
                                 io[i].dtype == WINNOW_F32 ? "" : " (not f32)");
        for (unsigned d = 0; d < io[i].rank && used < room; d++)
            used += io[i].shape[d] < 0 ? (size_t)snprintf(buf + used, room - used, ",?")
                                       : (size_t)snprintf(buf + used, room - used, ",%lld", (long long)io[i].shape[d]);
        if (used < room)
            used += (size_t)snprintf(buf + used, room - used, "]");
    }
    return buf;
}

/* Index of the tensor the key names, or of the only candidate. */
enum winnow_status wn_spec_choose_io(const struct wn_spec *s, const char *key, const struct wn_pipe_io *io, unsigned n,
                                     bool (*fits)(const struct wn_pipe_io *), const char *what, unsigned *ret)
{
    const struct wn_yaml_node *v = wn_spec_key(s, key);
    unsigned found = 0;
    char all[120];
    if (v && v->kind != WN_YAML_STRING)
        return WN_SPEC_BAD(s, v, "%s: expected a string, not %s", key, wn_yaml_kind_name(v->kind));
    for (unsigned i = 0; i < n; i++) {
        if (v ? strcmp(io[i].name, v->text) != 0 : !fits(&io[i]))
            continue;
        if (!found++)
            *ret = i;
    }
    if (v && !found)
        return WN_SPEC_BAD(s, v, "%s: the model has no tensor '%.60s', but %s", key, v->text,
                           list_io(io, n, all, sizeof all));
    if (v && !fits(&io[*ret]))
        return WN_SPEC_BAD(s, v, "%s: '%.40s' does not have the shape of %s: there is %s", key, v->text, what,
                           list_io(io, n, all, sizeof all));
    if (found > 1)
        return WN_SPEC_BAD(s, s->doc->root, "more than one tensor has the shape of %s: say which with '%s': %s", what,
                           key, list_io(io, n, all, sizeof all));
    if (!found)
        return WN_SPEC_BAD(s, s->doc->root, "no tensor has the shape of %s: there is %s; '%s' chooses", what,
                           list_io(io, n, all, sizeof all), key);
    return WINNOW_OK;
}

static bool is_scores(const struct wn_pipe_io *io)
{
    if (io->dtype != WINNOW_F32 || io->rank < 1)
        return false;
    unsigned wide = 0; /* (classes), or (classes, 1, 1) and the like */
    for (unsigned i = 0; i < io->rank; i++)
        wide += io->shape[i] != 1;
    return wide <= 1;
}

/* ---- labels ---- */

/* One label per line; a carriage return before the line's end is dropped; the last line may lack its end. */
static enum winnow_status split_labels(struct wn_spec *s, const char *path, const char *text, size_t n)
{
    WN_VEC(const char *) labels = { 0 };
    enum winnow_status status = WINNOW_OK;
    for (size_t at = 0; at < n && status == WINNOW_OK;) {
        const char *end = memchr(text + at, '\n', n - at);
        size_t len = end ? (size_t)(end - text) - at : n - at, keep = len;
        keep -= keep && text[at + keep - 1] == '\r';
        const char *copy = NULL;
        if (!keep || keep > MAX_LABEL_BYTES || memchr(text + at, '\0', keep) || labels.n == MAX_LABELS)
            status = wn_fail(s->err, WINNOW_E_MALFORMED, "%s:%zu: %s", path, labels.n + 1,
                             !keep                    ? "an empty label"
                             : labels.n == MAX_LABELS ? "too many labels"
                                                      : "a label that is too long or has a NUL character");
        else if (!(copy = wn_arena_strndup(&s->p->arena, text + at, keep)) || !wn_vec_push(&labels, copy))
            status = wn_fail(s->err, WINNOW_E_NOMEM, "%s", path);
        at += len + 1;
    }
    if (status == WINNOW_OK) {
        s->p->label = wn_arena_memdup(&s->p->arena, labels.at, labels.n * sizeof *labels.at);
        s->p->n_labels = (unsigned)labels.n;
        if (!s->p->label)
            status = wn_fail(s->err, WINNOW_E_NOMEM, "%s", path);
    }
    wn_vec_done(&labels);
    return status;
}

static enum winnow_status settle_labels(struct wn_spec *s)
{
    const char *name = NULL;
    const struct wn_yaml_node *v = wn_spec_key(s, "labels");
    if (!v)
        return WINNOW_OK;
    WN_TRY(want_string(s, "labels", v, &name));
    if (strchr(name, '/') || name[0] == '.')
        return WN_SPEC_BAD(s, v, "labels: '%.80s' must be a file beside pipeline.yaml", name);
    WN_CLEANUP(wn_freep) char *path = wn_asprintf("%s/%s", s->dir, name);
    WN_CLEANUP(wn_freep) void *text = NULL;
    size_t n = 0;
    if (!path)
        return wn_fail(s->err, WINNOW_E_NOMEM, "pipeline.yaml");
    enum winnow_status status = wn_file_read(path, MAX_LABEL_FILE, &text, &n, s->err);
    if (status == WINNOW_E_NOT_FOUND) /* of the pipeline E_NOT_FOUND means that there is none */
        return WN_SPEC_BAD(s, v, "labels: there is no file '%.80s'", name);
    WN_TRY(status);
    WN_TRY(split_labels(s, path, text, n));
    const struct wn_pipe_io *out = &s->out[s->p->model_output];
    int64_t classes = 1;
    for (unsigned i = 0; i < out->rank; i++)
        classes = out->shape[i] < 0 ? -1 : out->shape[i] == 1 || classes < 0 ? classes : out->shape[i];
    if (classes >= 0 && classes != s->p->n_labels)
        return WN_SPEC_BAD(s, v, "labels: '%.80s' has %u lines, the model's '%s' has %lld classes", name,
                           s->p->n_labels, out->name, (long long)classes);
    return WINNOW_OK;
}

enum winnow_status wn_spec_scores(struct wn_spec *s)
{
    WN_TRY(wn_spec_choose_io(s, "model_output", s->out, s->n_out, is_scores, "scores", &s->p->model_output));
    WN_TRY(wn_spec_bool(s, "softmax", &s->p->softmax));
    return settle_labels(s);
}

/* ---- the whole ---- */

static enum winnow_status settle(struct wn_spec *s)
{
    WN_TRY(choose_task(s));
    WN_TRY(check_keys(s));
    WN_TRY(wn_spec_string(s, "input", &s->p->raw[0]));
    return s->p->kind->settle(s);
}

static void pipeline_freep(struct wn_pipeline **p)
{
    wn_pipeline_free(*p);
}

enum winnow_status wn_pipeline_open(const char *dir, const struct wn_pipe_io *inputs, unsigned n_inputs,
                                    const struct wn_pipe_io *outputs, unsigned n_outputs,
                                    struct wn_pipeline **ret_pipeline, struct winnow_err *err)
{
    WN_CLEANUP(wn_freep) char *path = wn_asprintf("%s/pipeline.yaml", dir);
    WN_CLEANUP(pipeline_freep) struct wn_pipeline *p = calloc(1, sizeof *p);
    if (!path || !p)
        return wn_fail(err, WINNOW_E_NOMEM, "pipeline of '%s'", dir);
    struct wn_yaml doc = { 0 };
    WN_TRY(wn_yaml_read(path, 0, &doc, err));
    struct wn_spec s = {
        .doc = &doc, .err = err, .p = p, .dir = dir, .in = inputs, .n_in = n_inputs, .out = outputs, .n_out = n_outputs
    };
    enum winnow_status status = settle(&s);
    wn_yaml_done(&doc);
    WN_TRY(status);
    *ret_pipeline = WN_TAKE(p);
    return WINNOW_OK;
}
