/* mask.c: which weights are pruned. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "sparsify/modifiers/modifiers.h"

/* Weights in a group: output channels x input channels at one tap; what SparseML calls it, and we do. */
static const struct {
    unsigned rows, inputs;
    const char *names[6];
} shapes[] = {
    [WN_MASK_UNSTRUCTURED] = { 1, 1, { "unstructured", "0:0", "1x1" } },
    [WN_MASK_1X4] = { 1, 4, { "block4", "block", "4-block", "1x4", "[1, 4]", "[1,4]" } },
    [WN_MASK_2X1] = { 2, 1, { "2x1", "[2, 1]", "[2,1]" } },
    [WN_MASK_4X1] = { 4, 1, { "4x1", "[4, 1]", "[4,1]" } },
};

bool wn_mask_type_of(const char *name, enum wn_mask_type *ret)
{
    for (size_t t = 0; t < WN_COUNT(shapes); t++)
        for (size_t i = 0; i < WN_COUNT(shapes[t].names) && shapes[t].names[i]; i++)
            if (strcmp(name, shapes[t].names[i]) == 0) {
                *ret = (enum wn_mask_type)t;
                return true;
            }
    return false;
}

bool wn_mask_type_of_shape(int64_t rows, int64_t inputs, enum wn_mask_type *ret)
{
    for (size_t t = 0; t < WN_COUNT(shapes); t++)
        if (shapes[t].rows == rows && shapes[t].inputs == inputs) {
            *ret = (enum wn_mask_type)t;
            return true;
        }
    return false;
}

/* A tensor (O, I, taps) seen as groups of rows x inputs weights at one tap; those at the ends may be smaller. */
struct view {
    size_t O, I, taps;
    size_t rows, inputs;
    size_t groups;
};

/* One group: its weights are at + (r * I + i) * taps for r < rows, i < inputs. */
struct group {
    size_t at, rows, inputs;
};

static struct view view_of(const struct wn_param *p, enum wn_mask_type type)
{
    struct view v = { .O = (size_t)p->dim[0],
                      .I = p->rank > 1 ? (size_t)p->dim[1] : 1,
                      .taps = 1,
                      .rows = shapes[type].rows,
                      .inputs = shapes[type].inputs };
    for (unsigned d = 2; d < p->rank; d++)
        v.taps *= (size_t)p->dim[d];
    v.groups = (v.O + v.rows - 1) / v.rows * ((v.I + v.inputs - 1) / v.inputs) * v.taps;
    return v;
}

/* The group that begins with output channel o and input i. */
static struct group group_from(const struct view *v, size_t o, size_t i, size_t tap)
{
    return (struct group){ .at = (o * v->I + i) * v->taps + tap,
                           .rows = WN_MIN(v->rows, v->O - o),
                           .inputs = WN_MIN(v->inputs, v->I - i) };
}

static struct group group_at(const struct view *v, size_t g)
{
    size_t across = (v->I + v->inputs - 1) / v->inputs;
    return group_from(v, g / v->taps / across * v->rows, g / v->taps % across * v->inputs, g % v->taps);
}

static void set_group(const struct view *v, struct group group, uint8_t *mask, uint8_t value)
{
    for (size_t r = 0; r < group.rows; r++)
        for (size_t i = 0; i < group.inputs; i++)
            mask[group.at + (r * v->I + i) * v->taps] = value;
}

static float score(const struct wn_param *p, const struct view *v, size_t g)
{
    struct group group = group_at(v, g);
    float sum = 0;
    for (size_t r = 0; r < group.rows; r++)
        for (size_t i = 0; i < group.inputs; i++)
            sum += fabsf(p->w[group.at + (r * v->I + i) * v->taps]);
    return sum / (float)(group.rows * group.inputs);
}

/* Non-negative floats order like their bits; position breaks ties. */
static uint64_t key_of(float score, uint32_t position)
{
    uint32_t bits;
    memcpy(&bits, &score, sizeof bits);
    return (uint64_t)bits << 32 | position;
}

/* Reorder key[n] so that the k smallest come first (Hoare's quickselect, median of three). All keys differ. */
static void select_smallest(uint64_t *key, size_t n, size_t k)
{
    ptrdiff_t lo = 0, hi = (ptrdiff_t)n - 1, at = (ptrdiff_t)k;
    while (lo < hi && at <= hi) {
        uint64_t a = key[lo], b = key[lo + (hi - lo) / 2], c = key[hi];
        uint64_t pivot = a < b ? (b < c ? b : a < c ? c : a) : (a < c ? a : b < c ? c : b);
        ptrdiff_t i = lo, j = hi;
        while (i <= j) {
            while (key[i] < pivot)
                i++;
            while (key[j] > pivot)
                j--;
            if (i <= j) {
                uint64_t t = key[i];
                key[i++] = key[j];
                key[j--] = t;
            }
        }
        if (at <= j)
            hi = j;
        else if (at >= i)
            lo = i;
        else
            return;
    }
}

/* An output channel that lost everything gets the group of its largest weight back: an empty channel wastes its batch
 * norm. */
static void keep_channels(const struct wn_param *p, const struct view *v, uint8_t *mask)
{
    for (size_t o = 0; o < v->O; o++) {
        size_t per = v->I * v->taps, best = 0;
        const float *w = p->w + o * per;
        if (memchr(mask + o * per, 1, per))
            continue;
        for (size_t i = 1; i < per; i++)
            if (fabsf(w[i]) > fabsf(w[best]))
                best = i;
        size_t input = best / v->taps;
        if (w[best] != 0)
            set_group(v, group_from(v, o - o % v->rows, input - input % v->inputs, best % v->taps), mask, 1);
    }
}

static void apply(const struct wn_param *p, const struct view *v, const uint8_t *pruned, uint8_t *mask)
{
    for (size_t g = 0; g < v->groups; g++)
        set_group(v, group_at(v, g), mask, !pruned[g]);
    keep_channels(p, v, mask);
}

static enum winnow_status rank(struct wn_param *const *params, size_t n, double sparsity, enum wn_mask_type type,
                               uint8_t *const *masks, struct winnow_err *err)
{
    size_t total = 0, base = 0;
    for (size_t i = 0; i < n; i++) {
        struct view v = view_of(params[i], type);
        total += v.groups;
    }
    if (total > UINT32_MAX)
        return wn_fail(err, WINNOW_E_TOO_LARGE, "more than 2^32 weights to rank");
    WN_CLEANUP(wn_freep) uint64_t *key = malloc((total + 1) * sizeof *key);
    WN_CLEANUP(wn_freep) uint8_t *pruned = calloc(total + 1, 1);
    if (!key || !pruned)
        return wn_fail(err, WINNOW_E_NOMEM, "ranking %zu weights", total);
    for (size_t i = 0; i < n; i++) {
        struct view v = view_of(params[i], type);
        for (size_t g = 0; g < v.groups; g++)
            key[base + g] = key_of(score(params[i], &v, g), (uint32_t)(base + g));
        base += v.groups;
    }
    size_t k = (size_t)llround(sparsity * (double)total);
    select_smallest(key, total, k);
    for (size_t i = 0; i < k; i++)
        pruned[(uint32_t)key[i]] = 1;
    base = 0;
    for (size_t i = 0; i < n; i++) {
        struct view v = view_of(params[i], type);
        apply(params[i], &v, pruned + base, masks[i]);
        base += v.groups;
    }
    return WINNOW_OK;
}

enum winnow_status wn_mask_choose(struct wn_param *const *params, size_t n, double sparsity, bool together,
                                  enum wn_mask_type type, uint8_t *const *masks, struct winnow_err *err)
{
    if (together)
        return rank(params, n, sparsity, type, masks, err);
    for (size_t i = 0; i < n; i++)
        WN_TRY(rank(params + i, 1, sparsity, type, masks + i, err));
    return WINNOW_OK;
}
