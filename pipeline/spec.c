/* spec.c: reads pipeline.yaml and the labels file, and settles what the model's shapes leave open. */
#include "pipeline/spec.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "base/file.h"
#include "base/vec.h"
#include "base/yaml.h"

#define MAX_LABELS      1000000u
#define MAX_LABEL_BYTES 1000u
#define MAX_LABEL_FILE  ((size_t)64 << 20)
#define MAX_SIZE        4096 /* H and W of the model's input */

/* What the file says, before the model's shapes are looked at. */
struct reader {
    struct wn_yaml *doc;
    struct winnow_err *err;
    struct wn_pipeline *p;
    const char *dir;
    const struct wn_pipe_io *in, *out;
    unsigned n_in, n_out;
    const struct wn_yaml_node *size, *resize_to, *scale, *mean, *std, *layout, *color, *labels, *model_input,
        *model_output;
};

#define BAD(r, node, ...) wn_yaml_fail((r)->doc, (node), (r)->err, WINNOW_E_MALFORMED, __VA_ARGS__)

static enum winnow_status want_string(const struct reader *r, const char *key, const struct wn_yaml_node *v,
                                      const char **ret)
{
    if (v->kind != WN_YAML_STRING || !*v->text)
        return BAD(r, v, "%s: expected a string, not %s", key, wn_yaml_kind_name(v->kind));
    *ret = wn_arena_strndup(&r->p->arena, v->text, strlen(v->text));
    return *ret ? WINNOW_OK : wn_fail(r->err, WINNOW_E_NOMEM, "pipeline.yaml");
}

/* A string out of `choices` (NULL-terminated); its index. */
static enum winnow_status want_choice(const struct reader *r, const char *key, const struct wn_yaml_node *v,
                                      const char *const *choices, unsigned *ret)
{
    char all[100] = "";
    for (unsigned i = 0; choices[i]; i++) {
        if (v->kind == WN_YAML_STRING && strcmp(v->text, choices[i]) == 0) {
            *ret = i;
            return WINNOW_OK;
        }
        strcat(strcat(all, i ? ", " : ""), choices[i]);
    }
    return BAD(r, v, "%s: must be one of %s", key, all);
}

static enum winnow_status want_bool(const struct reader *r, const char *key, const struct wn_yaml_node *v, bool *ret)
{
    if (v->kind != WN_YAML_BOOL)
        return BAD(r, v, "%s: expected true or false, not %s", key, wn_yaml_kind_name(v->kind));
    *ret = v->as.b;
    return WINNOW_OK;
}

static enum winnow_status want_int(const struct reader *r, const char *key, const struct wn_yaml_node *v, int64_t min,
                                   int64_t max, int64_t *ret)
{
    if (v->kind != WN_YAML_INT)
        return BAD(r, v, "%s: expected an integer, not %s", key, wn_yaml_kind_name(v->kind));
    if (v->as.i < min || v->as.i > max)
        return BAD(r, v, "%s: %lld is not between %lld and %lld", key, (long long)v->as.i, (long long)min,
                   (long long)max);
    *ret = v->as.i;
    return WINNOW_OK;
}

/* A finite number, or a fraction written "1/255". */
static enum winnow_status want_number(const struct reader *r, const char *key, const struct wn_yaml_node *v,
                                      double *ret)
{
    double x;
    if (!wn_yaml_number(v, &x)) {
        char *end;
        x = v->kind == WN_YAML_STRING ? strtod(v->text, &end) : 0;
        if (v->kind != WN_YAML_STRING || end == v->text || *end != '/')
            return BAD(r, v, "%s: expected a number, not %s", key, wn_yaml_kind_name(v->kind));
        const char *below = end + 1;
        double d = strtod(below, &end);
        if (end == below || *end || d == 0)
            return BAD(r, v, "%s: '%.40s' is not a fraction", key, v->text);
        x /= d;
    }
    if (!isfinite(x) || fabs(x) > 1e30)
        return BAD(r, v, "%s: '%.40s' is out of range", key, v->text);
    *ret = x;
    return WINNOW_OK;
}

/* ---- keys ---- */
static enum winnow_status key_task(struct reader *r, const struct wn_yaml_node *v)
{
    static const char *const tasks[] = { "image_classification", NULL };
    unsigned i;
    WN_TRY(want_choice(r, "task", v, tasks, &i));
    r->p->task = tasks[i];
    return WINNOW_OK;
}

static enum winnow_status key_input(struct reader *r, const struct wn_yaml_node *v)
{
    return want_string(r, "input", v, &r->p->input_name);
}

static enum winnow_status key_resize(struct reader *r, const struct wn_yaml_node *v)
{
    static const char *const ways[] = { "squash", "crop", NULL };
    unsigned i;
    WN_TRY(want_choice(r, "resize", v, ways, &i));
    r->p->crop = i == 1;
    return WINNOW_OK;
}

static enum winnow_status key_softmax(struct reader *r, const struct wn_yaml_node *v)
{
    return want_bool(r, "softmax", v, &r->p->softmax);
}

static enum winnow_status key_max_pixels(struct reader *r, const struct wn_yaml_node *v)
{
    int64_t n = 0;
    WN_TRY(want_int(r, "max_pixels", v, 1, INT64_C(1) << 29, &n));
    r->p->limits.max_pixels = (uint64_t)n;
    return WINNOW_OK;
}

static enum winnow_status key_max_side(struct reader *r, const struct wn_yaml_node *v)
{
    int64_t n = 0;
    WN_TRY(want_int(r, "max_side", v, 1, 65535, &n));
    r->p->limits.max_side = (uint32_t)n;
    return WINNOW_OK;
}

static enum winnow_status key_max_bytes(struct reader *r, const struct wn_yaml_node *v)
{
    int64_t n = 0;
    WN_TRY(want_int(r, "max_bytes", v, 1, INT64_C(1) << 30, &n));
    r->p->limits.max_bytes = (size_t)n;
    return WINNOW_OK;
}

/* Keys that read at once (`read`), and keys that wait for the model's shapes (`at`: a node pointer of struct reader).
 */
static const struct {
    const char *name;
    enum winnow_status (*read)(struct reader *, const struct wn_yaml_node *);
    size_t at;
} keys[] = {
    { "task", key_task, 0 },
    { "input", key_input, 0 },
    { "model_input", NULL, offsetof(struct reader, model_input) },
    { "model_output", NULL, offsetof(struct reader, model_output) },
    { "layout", NULL, offsetof(struct reader, layout) },
    { "size", NULL, offsetof(struct reader, size) },
    { "color", NULL, offsetof(struct reader, color) },
    { "resize", key_resize, 0 },
    { "resize_to", NULL, offsetof(struct reader, resize_to) },
    { "scale", NULL, offsetof(struct reader, scale) },
    { "mean", NULL, offsetof(struct reader, mean) },
    { "std", NULL, offsetof(struct reader, std) },
    { "labels", NULL, offsetof(struct reader, labels) },
    { "softmax", key_softmax, 0 },
    { "max_side", key_max_side, 0 },
    { "max_pixels", key_max_pixels, 0 },
    { "max_bytes", key_max_bytes, 0 },
};

static enum winnow_status read_keys(struct reader *r)
{
    const struct wn_yaml_node *root = r->doc->root;
    if (root->kind != WN_YAML_MAP)
        return BAD(r, root, "expected keys, not %s", wn_yaml_kind_name(root->kind));
    for (size_t i = 0; i < root->n; i++) {
        const char *names[WN_COUNT(keys)];
        size_t k;
        for (k = 0; k < WN_COUNT(keys) && strcmp(keys[k].name, root->key[i]->text) != 0; k++)
            names[k] = keys[k].name;
        if (k == WN_COUNT(keys)) {
            const char *near = wn_near_name(root->key[i]->text, names, k);
            return BAD(r, root->key[i], "unknown key '%.60s'%s%s%s", root->key[i]->text, near ? "; did you mean '" : "",
                       near ? near : "", near ? "'?" : "");
        }
        if (keys[k].read)
            WN_TRY(keys[k].read(r, root->item[i]));
        else
            *(const struct wn_yaml_node **)(void *)((char *)r + keys[k].at) = root->item[i];
    }
    return r->p->task ? WINNOW_OK : BAD(r, root, "key 'task' is missing");
}

/* ---- the model's side ---- */

/* Index of the tensor the key names, or of the only candidate. */
static enum winnow_status choose_io(const struct reader *r, const char *key, const struct wn_yaml_node *v,
                                    const struct wn_pipe_io *io, unsigned n, bool (*fits)(const struct wn_pipe_io *),
                                    const char *what, unsigned *ret)
{
    unsigned found = 0;
    if (v && v->kind != WN_YAML_STRING)
        return BAD(r, v, "%s: expected a string, not %s", key, wn_yaml_kind_name(v->kind));
    for (unsigned i = 0; i < n; i++) {
        if (v ? strcmp(io[i].name, v->text) != 0 : !fits(&io[i]))
            continue;
        if (!found++)
            *ret = i;
    }
    if (v && !found)
        return BAD(r, v, "%s: the model has no tensor '%.80s'", key, v->text);
    if (v && !fits(&io[*ret]))
        return BAD(r, v, "%s: '%.80s' does not have the shape of %s", key, v->text, what);
    if (found != 1)
        return BAD(r, r->doc->root, "the model has %s tensor with the shape of %s; name it with '%s'",
                   found ? "more than one" : "no", what, key);
    return WINNOW_OK;
}

static bool is_picture(const struct wn_pipe_io *io)
{
    return io->rank == 3 && (io->shape[0] == 1 || io->shape[0] == 3 || io->shape[2] == 1 || io->shape[2] == 3 ||
                             io->shape[0] < 0 || io->shape[2] < 0);
}

static bool is_scores(const struct wn_pipe_io *io)
{
    if (io->dtype != WN_PIPE_F32 || io->rank < 1)
        return false;
    unsigned wide = 0; /* (classes), or (classes, 1, 1) and the like */
    for (unsigned i = 0; i < io->rank; i++)
        wide += io->shape[i] != 1;
    return wide <= 1;
}

static bool is_channels(int64_t extent)
{
    return extent == 1 || extent == 3;
}

/* Which axis holds the channels. */
static enum winnow_status settle_layout(struct reader *r, const struct wn_pipe_io *in)
{
    static const char *const layouts[] = { "nchw", "nhwc", NULL };
    bool first = is_channels(in->shape[0]), last = is_channels(in->shape[2]);
    unsigned i = 0;
    if (r->layout) {
        WN_TRY(want_choice(r, "layout", r->layout, layouts, &i));
        int64_t c = in->shape[i ? 2 : 0];
        if (c >= 0 && !is_channels(c))
            return BAD(r, r->layout, "layout: with %s the model's '%s' would have %lld channels; 1 or 3 are supported",
                       layouts[i], in->name, (long long)c);
    } else if (first == last) {
        return BAD(r, r->doc->root, "key 'layout' is missing: the shape of '%s' fits nchw and nhwc", in->name);
    }
    r->p->nhwc = r->layout ? i == 1 : last;
    return WINNOW_OK;
}

static enum winnow_status settle_color(struct reader *r, const struct wn_pipe_io *in)
{
    static const char *const colors[] = { "rgb", "bgr", "grey", NULL };
    int64_t c = in->shape[r->p->nhwc ? 2 : 0];
    unsigned i = c == 1 ? 2 : 0;
    if (r->color)
        WN_TRY(want_choice(r, "color", r->color, colors, &i));
    unsigned channels = i == 2 ? 1 : 3;
    if (c >= 0 && c != channels)
        return BAD(r, r->color, "color: '%s' has %u channels, the model's '%s' has %lld", colors[i], channels, in->name,
                   (long long)c);
    r->p->channels = channels;
    r->p->bgr = i == 1;
    return WINNOW_OK;
}

/* size: N, or [H, W]. */
static enum winnow_status read_size(const struct reader *r, int64_t hw[2])
{
    const struct wn_yaml_node *v = r->size;
    if (v->kind == WN_YAML_INT) {
        WN_TRY(want_int(r, "size", v, 1, MAX_SIZE, &hw[0]));
        hw[1] = hw[0];
        return WINNOW_OK;
    }
    if (v->kind != WN_YAML_SEQ || v->n != 2)
        return BAD(r, v, "size: expected an integer, or [height, width]");
    WN_TRY(want_int(r, "size", v->item[0], 1, MAX_SIZE, &hw[0]));
    return want_int(r, "size", v->item[1], 1, MAX_SIZE, &hw[1]);
}

static enum winnow_status settle_size(struct reader *r, const struct wn_pipe_io *in)
{
    int64_t model[2] = { in->shape[r->p->nhwc ? 0 : 1], in->shape[r->p->nhwc ? 1 : 2] }, hw[2] = { -1, -1 };
    if (r->size)
        WN_TRY(read_size(r, hw));
    for (unsigned i = 0; i < 2; i++) {
        const char *side = i ? "width" : "height";
        if (hw[i] >= 0 && model[i] >= 0 && hw[i] != model[i])
            return BAD(r, r->size, "size: %s %lld, but the model's '%s' has %lld", side, (long long)hw[i], in->name,
                       (long long)model[i]);
        hw[i] = hw[i] >= 0 ? hw[i] : model[i];
        if (hw[i] < 0)
            return BAD(r, r->doc->root, "key 'size' is missing: the %s of the model's '%s' is dynamic", side, in->name);
        if (hw[i] < 1 || hw[i] > MAX_SIZE)
            return BAD(r, r->doc->root, "%s %lld of the model's '%s' is not between 1 and %d", side, (long long)hw[i],
                       in->name, MAX_SIZE);
    }
    r->p->h = (uint32_t)hw[0];
    r->p->w = (uint32_t)hw[1];
    return WINNOW_OK;
}

static enum winnow_status settle_crop(struct reader *r)
{
    int64_t least = WN_MAX(r->p->w, r->p->h), to = least;
    if (r->resize_to && !r->p->crop)
        return BAD(r, r->resize_to, "resize_to: only with 'resize: crop'");
    if (r->resize_to)
        WN_TRY(want_int(r, "resize_to", r->resize_to, least, 2 * MAX_SIZE, &to));
    r->p->resize_to = (uint32_t)to;
    return WINNOW_OK;
}

/* One number for all channels, or a list with one per channel in the model's channel order. */
static enum winnow_status per_channel(const struct reader *r, const char *key, const struct wn_yaml_node *v, double def,
                                      double ret[3])
{
    for (unsigned k = 0; k < 3; k++)
        ret[k] = def;
    if (!v)
        return WINNOW_OK;
    if (v->kind == WN_YAML_SEQ && v->n != r->p->channels)
        return BAD(r, v, "%s: %zu numbers for %u channels", key, v->n, r->p->channels);
    for (unsigned k = 0; k < r->p->channels; k++)
        WN_TRY(want_number(r, key, v->kind == WN_YAML_SEQ ? v->item[k] : v, &ret[k]));
    return WINNOW_OK;
}

static enum winnow_status settle_values(struct reader *r, const struct wn_pipe_io *in)
{
    double scale[3], mean[3], std[3];
    const struct wn_yaml_node *any = r->scale ? r->scale : r->mean ? r->mean : r->std;
    if (in->dtype == WN_PIPE_U8 && any)
        return BAD(r, any, "scale, mean and std are for models with float input; '%s' takes bytes as they are",
                   in->name);
    WN_TRY(per_channel(r, "scale", r->scale, 1, scale));
    WN_TRY(per_channel(r, "mean", r->mean, 0, mean));
    WN_TRY(per_channel(r, "std", r->std, 1, std));
    for (unsigned k = 0; k < r->p->channels; k++) {
        if (!(fabs(std[k]) > 1e-30))
            return BAD(r, r->std, "std: must not be 0");
        for (unsigned v = 0; v < 256; v++)
            r->p->table[k][v] = (float)((v * scale[k] - mean[k]) / std[k]);
    }
    return WINNOW_OK;
}

static enum winnow_status settle_row(struct reader *r, const struct wn_pipe_io *in)
{
    struct wn_pipeline *p = r->p;
    p->row = *in;
    p->row.name = wn_arena_strndup(&p->arena, in->name, strlen(in->name));
    if (!p->row.name)
        return wn_fail(r->err, WINNOW_E_NOMEM, "pipeline.yaml");
    p->row.shape[p->nhwc ? 2 : 0] = p->channels;
    p->row.shape[p->nhwc ? 0 : 1] = p->h;
    p->row.shape[p->nhwc ? 1 : 2] = p->w;
    p->row_bytes = (size_t)p->w * p->h * p->channels * (in->dtype == WN_PIPE_F32 ? sizeof(float) : 1);
    return WINNOW_OK;
}

/* ---- labels ---- */

/* One label per line; a carriage return before the line's end is dropped; the last line may lack its end. */
static enum winnow_status split_labels(struct reader *r, const char *path, const char *text, size_t n)
{
    WN_VEC(const char *) labels = { 0 };
    enum winnow_status status = WINNOW_OK;
    for (size_t at = 0; at < n && status == WINNOW_OK;) {
        const char *end = memchr(text + at, '\n', n - at);
        size_t len = end ? (size_t)(end - text) - at : n - at, keep = len;
        keep -= keep && text[at + keep - 1] == '\r';
        const char *copy = NULL;
        if (!keep || keep > MAX_LABEL_BYTES || memchr(text + at, '\0', keep) || labels.n == MAX_LABELS)
            status = wn_fail(r->err, WINNOW_E_MALFORMED, "%s:%zu: %s", path, labels.n + 1,
                             !keep                    ? "an empty label"
                             : labels.n == MAX_LABELS ? "too many labels"
                                                      : "a label that is too long or has a NUL character");
        else if (!(copy = wn_arena_strndup(&r->p->arena, text + at, keep)) || !wn_vec_push(&labels, copy))
            status = wn_fail(r->err, WINNOW_E_NOMEM, "%s", path);
        at += len + 1;
    }
    if (status == WINNOW_OK) {
        r->p->label = wn_arena_memdup(&r->p->arena, labels.at, labels.n * sizeof *labels.at);
        r->p->n_labels = (unsigned)labels.n;
        if (!r->p->label)
            status = wn_fail(r->err, WINNOW_E_NOMEM, "%s", path);
    }
    wn_vec_done(&labels);
    return status;
}

static enum winnow_status settle_labels(struct reader *r)
{
    const char *name = NULL;
    if (!r->labels)
        return WINNOW_OK;
    WN_TRY(want_string(r, "labels", r->labels, &name));
    if (strchr(name, '/') || name[0] == '.')
        return BAD(r, r->labels, "labels: '%.80s' must be a file beside pipeline.yaml", name);
    WN_CLEANUP(wn_freep) char *path = wn_asprintf("%s/%s", r->dir, name);
    WN_CLEANUP(wn_freep) void *text = NULL;
    size_t n = 0;
    if (!path)
        return wn_fail(r->err, WINNOW_E_NOMEM, "pipeline.yaml");
    enum winnow_status status = wn_file_read(path, MAX_LABEL_FILE, &text, &n, r->err);
    if (status == WINNOW_E_NOT_FOUND) /* of the pipeline E_NOT_FOUND means that there is none */
        return BAD(r, r->labels, "labels: there is no file '%.80s'", name);
    WN_TRY(status);
    WN_TRY(split_labels(r, path, text, n));
    const struct wn_pipe_io *out = &r->out[r->p->model_output];
    int64_t classes = 1;
    for (unsigned i = 0; i < out->rank; i++)
        classes = out->shape[i] < 0 ? -1 : out->shape[i] == 1 || classes < 0 ? classes : out->shape[i];
    if (classes >= 0 && classes != r->p->n_labels)
        return BAD(r, r->labels, "labels: '%.80s' has %u lines, the model's '%s' has %lld classes", name,
                   r->p->n_labels, out->name, (long long)classes);
    return WINNOW_OK;
}

static enum winnow_status settle(struct reader *r)
{
    struct wn_pipeline *p = r->p;
    WN_TRY(read_keys(r));
    WN_TRY(choose_io(r, "model_input", r->model_input, r->in, r->n_in, is_picture, "a picture", &p->model_input));
    WN_TRY(choose_io(r, "model_output", r->model_output, r->out, r->n_out, is_scores, "scores", &p->model_output));
    const struct wn_pipe_io *in = &r->in[p->model_input];
    WN_TRY(settle_layout(r, in));
    WN_TRY(settle_color(r, in));
    WN_TRY(settle_size(r, in));
    WN_TRY(settle_crop(r));
    WN_TRY(settle_values(r, in));
    WN_TRY(settle_row(r, in));
    return settle_labels(r);
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
    p->input_name = "image";
    struct wn_yaml doc = { 0 };
    WN_TRY(wn_yaml_read(path, 0, &doc, err));
    struct reader r = {
        .doc = &doc, .err = err, .p = p, .dir = dir, .in = inputs, .n_in = n_inputs, .out = outputs, .n_out = n_outputs
    };
    enum winnow_status status = settle(&r);
    wn_yaml_done(&doc);
    WN_TRY(status);
    *ret_pipeline = WN_TAKE(p);
    return WINNOW_OK;
}
