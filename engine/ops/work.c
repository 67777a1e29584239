/* work.c: about what a node costs before it is run, from shapes alone, so that the same file is folded the same way on
 * every machine. Most operators touch each element a few times. */
#include "engine/ops/ops.h"

#include <string.h>

enum rule { LINEAR, PRODUCT, WINDOW, ALL_PAIRS, EVERY_TUPLE, NOT_KNOWN };

static const struct {
    const char *type;
    enum rule rule;
    uint8_t a, b; /* which inputs: of a product, both sides; of a window, its weights */
} rules[] = {
    { "MatMul", PRODUCT, 0, 1 },
    { "MatMulInteger", PRODUCT, 0, 1 },
    { "QLinearMatMul", PRODUCT, 0, 3 },
    { "Gemm", PRODUCT, 0, 1 },
    { "QGemm", PRODUCT, 0, 3 },
    { "Conv", WINDOW, 0, 1 },
    { "ConvInteger", WINDOW, 0, 1 },
    { "QLinearConv", WINDOW, 0, 3 },
    { "ConvTranspose", ALL_PAIRS, 0, 1 },
    { "MaxPool", ALL_PAIRS, 0, 0 },
    { "AveragePool", ALL_PAIRS, 0, 0 },
    { "LpPool", ALL_PAIRS, 0, 0 },
    { "LRN", ALL_PAIRS, 0, 0 },
    { "Einsum", EVERY_TUPLE, 0, 0 },
    { "If", NOT_KNOWN, 0, 0 },
    { "Loop", NOT_KNOWN, 0, 0 },
    { "Scan", NOT_KNOWN, 0, 0 },
    { "RNN", NOT_KNOWN, 0, 0 },
    { "GRU", NOT_KNOWN, 0, 0 },
    { "LSTM", NOT_KNOWN, 0, 0 },
    { "LinearAttention", NOT_KNOWN, 0, 0 },
    { "DeformConv", NOT_KNOWN, 0, 0 },
    { "RoiAlign", NOT_KNOWN, 0, 0 },
    { "NonMaxSuppression", NOT_KNOWN, 0, 0 },
    { "TfIdfVectorizer", NOT_KNOWN, 0, 0 },
};

static size_t rule_of(const struct wn_node *node)
{
    size_t i = 0;
    while (i < WN_COUNT(rules) && strcmp(rules[i].type, node->op_type) != 0)
        i++;
    return i;
}

static uint64_t times(uint64_t a, uint64_t b)
{
    uint64_t y;
    return __builtin_mul_overflow(a, b, &y) ? UINT64_MAX : y;
}

static uint64_t plus(uint64_t a, uint64_t b)
{
    return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}

/* UINT64_MAX where the shape is not known. */
static uint64_t elements(const struct wn_type *t)
{
    uint64_t n = t->rank < 0 ? UINT64_MAX : 1;
    for (int i = 0; i < t->rank; i++)
        n = t->dim[i] < 0 ? UINT64_MAX : times(n, (uint64_t)t->dim[i]);
    return n;
}

static uint64_t extent(const struct wn_type *t, int axis_from_end)
{
    return t->rank < axis_from_end || t->dim[t->rank - axis_from_end] < 0 ? UINT64_MAX
                                                                          : (uint64_t)t->dim[t->rank - axis_from_end];
}

static uint64_t by_rule(const struct wn_infer *in, size_t r)
{
    const struct wn_type *a = &in->in[rules[r].a], *b = &in->in[rules[r].b];
    const uint64_t y = elements(&in->out[0]);
    uint64_t n = 1;
    switch (rules[r].rule) {
    case PRODUCT:
        return times(y, extent(a, wn_node_int(in->node, "transA", 0) != 0 ? 2 : 1));
    case WINDOW:
        return b->rank < 1 || b->dim[0] < 1 ? UINT64_MAX : times(y, elements(b) / (uint64_t)b->dim[0]);
    case ALL_PAIRS:
        return times(elements(a), plus(y, elements(b)));
    case EVERY_TUPLE:
        for (unsigned i = 0; i < in->n_in; i++)
            n = times(n, elements(&in->in[i]));
        return n;
    case LINEAR:
        return 0;
    default:
        return UINT64_MAX;
    }
}

bool wn_ops_work_is_linear(const struct wn_node *node)
{
    return rule_of(node) == WN_COUNT(rules);
}

uint64_t wn_ops_work(const struct wn_infer *infer)
{
    const size_t r = rule_of(infer->node);
    uint64_t work = r < WN_COUNT(rules) ? by_rule(infer, r) : 0;
    for (unsigned i = 0; i < infer->n_in; i++)
        if (infer->given[i] && infer->in[i].rank >= 0)
            work = plus(work, times(elements(&infer->in[i]), winnow_dtype_size(infer->in[i].dtype)));
    for (unsigned i = 0; i < infer->n_out; i++)
        if (infer->out[i].rank >= 0)
            work = plus(work, times(elements(&infer->out[i]), winnow_dtype_size(infer->out[i].dtype)));
    return work;
}
