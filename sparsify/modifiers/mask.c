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
    if (v->rows == 1 && v->inputs == 1) /* no divisions for each of many weights */
        return (struct group){ g, 1, 1 };
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

/* Non-negative floats order like their bits. */
static uint32_t rank_of(const struct wn_param *p, const struct view *v, size_t g)
{
    float s = score(p, v, g);
    uint32_t bits;
    memcpy(&bits, &s, sizeof bits);
    return bits;
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

/* Where the k groups of lowest rank end: all below `rank`, and of those that have it the first `ties`. */
struct border {
    uint32_t rank;
    uint64_t ties;
};

#define BINS ((size_t)1 << 16)

/* How many groups have each value of 16 bits of the rank; only those that begin with `*high` where that is given. */
static void count_ranks(struct wn_param *const *params, size_t n, enum wn_mask_type type, const uint32_t *high,
                        uint64_t *count /* [BINS] */)
{
    memset(count, 0, BINS * sizeof *count);
    for (size_t i = 0; i < n; i++) {
        struct view v = view_of(params[i], type);
        for (size_t g = 0; g < v.groups; g++) {
            uint32_t r = rank_of(params[i], &v, g);
            if (!high)
                count[r >> 16]++;
            else if (r >> 16 == *high)
                count[r & (BINS - 1)]++;
        }
    }
}

/* The first bin that is not whole among the k lowest; *k becomes how many of it are. BINS: all are. */
static uint32_t bin_of(const uint64_t *count, uint64_t *k)
{
    uint32_t b = 0;
    while (b < BINS && *k >= count[b])
        *k -= count[b++];
    return b;
}

/* By counting, half the bits at a time: a list of all weights to sort would be larger than they are. */
static enum winnow_status find_border(struct wn_param *const *params, size_t n, enum wn_mask_type type, uint64_t k,
                                      struct border *ret, struct winnow_err *err)
{
    WN_CLEANUP(wn_freep) uint64_t *count = malloc(BINS * sizeof *count);
    if (!count)
        return wn_fail(err, WINNOW_E_NOMEM, "ranking weights");
    count_ranks(params, n, type, NULL, count);
    uint32_t high = bin_of(count, &k);
    *ret = (struct border){ .rank = UINT32_MAX };
    if (high == BINS)
        return WINNOW_OK;
    count_ranks(params, n, type, &high, count);
    *ret = (struct border){ .rank = high << 16 | bin_of(count, &k), .ties = k };
    return WINNOW_OK;
}

static void apply(const struct wn_param *p, const struct view *v, struct border *border, uint8_t *mask)
{
    for (size_t g = 0; g < v->groups; g++) {
        uint32_t r = rank_of(p, v, g);
        bool tie = r == border->rank && border->ties > 0;
        border->ties -= tie;
        set_group(v, group_at(v, g), mask, r >= border->rank && !tie);
    }
    keep_channels(p, v, mask);
}

static enum winnow_status rank(struct wn_param *const *params, size_t n, double sparsity, enum wn_mask_type type,
                               uint8_t *const *masks, struct winnow_err *err)
{
    uint64_t total = 0;
    struct border border = { 0 };
    for (size_t i = 0; i < n; i++)
        total += view_of(params[i], type).groups;
    WN_TRY(find_border(params, n, type, (uint64_t)llround(sparsity * (double)total), &border, err));
    for (size_t i = 0; i < n; i++) {
        struct view v = view_of(params[i], type);
        apply(params[i], &v, &border, masks[i]);
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
