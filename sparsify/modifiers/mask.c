/* mask.c: which weights are pruned. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "sparsify/modifiers/modifiers.h"

bool wn_mask_type_of(const char *name, enum wn_mask_type *ret)
{
    static const char *const blocks[] = { "block4", "block", "[1, 4]", "[1,4]", "1x4", "4-block" };
    *ret = WN_MASK_UNSTRUCTURED;
    if (strcmp(name, "unstructured") == 0 || strcmp(name, "0:0") == 0)
        return true;
    *ret = WN_MASK_1X4;
    for (size_t i = 0; i < WN_COUNT(blocks); i++)
        if (strcmp(name, blocks[i]) == 0)
            return true;
    return false;
}

/* A tensor seen as groups: (O, I, taps), four input channels at one tap side by side for 1x4. */
struct view {
    size_t O, I, taps, per; /* per: groups per output channel */
    unsigned width;         /* weights per group */
};

static struct view view_of(const struct wn_param *p, enum wn_mask_type type)
{
    struct view v = { .O = (size_t)p->dim[0],
                      .I = p->rank > 1 ? (size_t)p->dim[1] : 1,
                      .taps = 1,
                      .width = type == WN_MASK_1X4 ? 4 : 1 };
    for (unsigned d = 2; d < p->rank; d++)
        v.taps *= (size_t)p->dim[d];
    v.per = (v.I + v.width - 1) / v.width * v.taps;
    return v;
}

/* Weights of group g: index of the first, their number, and the distance between them. */
static size_t group_at(const struct view *v, size_t g, size_t *n)
{
    size_t o = g / v->per, rest = g % v->per, block = rest / v->taps, tap = rest % v->taps, i = block * v->width;
    *n = WN_MIN(v->width, v->I - i);
    return (o * v->I + i) * v->taps + tap;
}

static float score(const struct wn_param *p, const struct view *v, size_t g)
{
    size_t n, at = group_at(v, g, &n);
    float sum = 0;
    for (size_t k = 0; k < n; k++)
        sum += fabsf(p->w[at + k * v->taps]);
    return sum / (float)n;
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

/* An output channel that lost everything gets its largest weight back: an empty channel wastes its batch norm. */
static void keep_channels(const struct wn_param *p, const struct view *v, uint8_t *mask)
{
    for (size_t o = 0; o < v->O; o++) {
        size_t per = v->I * v->taps, best = 0;
        const float *w = p->w + o * per;
        uint8_t *m = mask + o * per;
        if (memchr(m, 1, per))
            continue;
        for (size_t i = 1; i < per; i++)
            if (fabsf(w[i]) > fabsf(w[best]))
                best = i;
        if (w[best] != 0)
            m[best] = 1;
    }
}

static void apply(const struct wn_param *p, const struct view *v, const uint8_t *pruned, uint8_t *mask)
{
    for (size_t g = 0; g < v->O * v->per; g++) {
        size_t n, at = group_at(v, g, &n);
        for (size_t k = 0; k < n; k++)
            mask[at + k * v->taps] = !pruned[g];
    }
    keep_channels(p, v, mask);
}

static enum winnow_status rank(struct wn_param *const *params, size_t n, double sparsity, enum wn_mask_type type,
                               uint8_t *const *masks, struct winnow_err *err)
{
    size_t total = 0, base = 0;
    for (size_t i = 0; i < n; i++) {
        struct view v = view_of(params[i], type);
        total += v.O * v.per;
    }
    if (total > UINT32_MAX)
        return wn_fail(err, WINNOW_E_TOO_LARGE, "more than 2^32 weights to rank");
    WN_CLEANUP(wn_freep) uint64_t *key = malloc((total + 1) * sizeof *key);
    WN_CLEANUP(wn_freep) uint8_t *pruned = calloc(total + 1, 1);
    if (!key || !pruned)
        return wn_fail(err, WINNOW_E_NOMEM, "ranking %zu weights", total);
    for (size_t i = 0; i < n; i++) {
        struct view v = view_of(params[i], type);
        for (size_t g = 0; g < v.O * v.per; g++)
            key[base + g] = key_of(score(params[i], &v, g), (uint32_t)(base + g));
        base += v.O * v.per;
    }
    size_t k = (size_t)llround(sparsity * (double)total);
    select_smallest(key, total, k);
    for (size_t i = 0; i < k; i++)
        pruned[(uint32_t)key[i]] = 1;
    base = 0;
    for (size_t i = 0; i < n; i++) {
        struct view v = view_of(params[i], type);
        apply(params[i], &v, pruned + base, masks[i]);
        base += v.O * v.per;
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
