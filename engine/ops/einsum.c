/* einsum.c: Einsum.  Source: ONNX Operators.md; numpy.einsum.
 *
 * Every letter of the equation, and every axis that an ellipsis stands for, is a loop. An operand's step for a letter
 * is the sum of its strides of the axes with that letter, so that diagonals need no case of their own; 0 where it has
 * none, or extent 1 under the ellipsis. Letters that the output lacks are summed. */
#include "engine/ops/einsum.h"

#include <ctype.h>
#include <string.h>
#include "engine/ops/budget.h"

#define ELLIPSIS 64 /* labels of the axes under an ellipsis count down from here + WINNOW_MAX_RANK */

/* One term: letters as 1 .. 52, the ellipsis as 0. Moves *s behind it. */
static enum winnow_status read_term(const char **s, const char *end, struct wn_einsum_term *t, struct winnow_err *err)
{
    bool dots = false;
    t->n = 0;
    for (; *s < end && **s != ',' && **s != '-'; (*s)++) {
        uint8_t label;
        if (**s == ' ')
            continue;
        if (**s == '.') {
            if (dots || end - *s < 3 || memcmp(*s, "...", 3))
                return wn_bad(err, "equation: a dot that is no ellipsis");
            dots = true;
            *s += 2;
            label = 0;
        } else if (isalpha((unsigned char)**s)) {
            label = (uint8_t)(islower((unsigned char)**s) ? **s - 'a' + 27 : **s - 'A' + 1); /* as letters sort */
        } else {
            return wn_bad(err, "equation: unexpected character 0x%02x", (unsigned char)**s);
        }
        if (t->n > WINNOW_MAX_RANK)
            return wn_bad(err, "equation: a term with more than %d axes", WINNOW_MAX_RANK);
        t->label[t->n++] = label;
    }
    return WINNOW_OK;
}

/* Without "->": the ellipsis, then the letters that appear once, in order. */
static void implicit_output(struct wn_einsum *e)
{
    unsigned count[64] = { 0 };
    bool dots = false;
    for (unsigned i = 0; i < e->n_in; i++)
        for (unsigned k = 0; k < e->in[i].n; k++) {
            count[e->in[i].label[k]]++;
            dots |= e->in[i].label[k] == 0;
        }
    if (dots)
        e->out.label[e->out.n++] = 0;
    for (uint8_t l = 1; l < 64; l++)
        if (count[l] == 1 && e->out.n <= WINNOW_MAX_RANK)
            e->out.label[e->out.n++] = l;
}

enum winnow_status wn_einsum_parse(const struct wn_node *node, struct wn_einsum *ret, struct winnow_err *err)
{
    const struct wn_attr *a = wn_node_attr(node, "equation");
    memset(ret, 0, sizeof *ret);
    if (!a || a->kind != WN_ATTR_STRING || node->n_in > WN_EINSUM_MAX_IN)
        return wn_bad(err, "no equation, or more than %d inputs", WN_EINSUM_MAX_IN);
    const char *s = a->s.p, *end = s + a->s.n;
    for (;; s++) {
        if (ret->n_in == WN_EINSUM_MAX_IN)
            return wn_bad(err, "equation: more than %d terms", WN_EINSUM_MAX_IN);
        WN_TRY(read_term(&s, end, &ret->in[ret->n_in++], err));
        if (s == end || *s != ',')
            break;
    }
    if (ret->n_in != node->n_in)
        return wn_bad(err, "equation has %u terms for %u inputs", ret->n_in, node->n_in);
    if (s == end) {
        implicit_output(ret);
        return WINNOW_OK;
    }
    if (end - s < 2 || memcmp(s, "->", 2))
        return wn_bad(err, "equation: a minus that is no arrow");
    s += 2;
    WN_TRY(read_term(&s, end, &ret->out, err));
    return s == end ? WINNOW_OK : wn_bad(err, "equation goes on behind the output");
}

/* The ellipsis replaced by labels of its own, right-aligned: ELLIPSIS + 0 is the last axis under it. */
static enum winnow_status open_term(struct wn_einsum_term *t, unsigned axes, struct winnow_err *err)
{
    struct wn_einsum_term o = { 0 };
    if (t->n + axes > WINNOW_MAX_RANK + 1)
        return wn_lack(err, "more than %d axes", WINNOW_MAX_RANK);
    for (unsigned k = 0; k < t->n; k++)
        if (t->label[k])
            o.label[o.n++] = t->label[k];
        else
            for (unsigned i = axes; i-- > 0;)
                o.label[o.n++] = (uint8_t)(ELLIPSIS + i);
    if (o.n > WINNOW_MAX_RANK)
        return wn_lack(err, "more than %d axes", WINNOW_MAX_RANK);
    *t = o;
    return WINNOW_OK;
}

static bool has_dots(const struct wn_einsum_term *t)
{
    return memchr(t->label, 0, t->n) != NULL;
}

/* Terms with one label per axis, for inputs of these ranks. */
static enum winnow_status open_terms(struct wn_einsum *e, const int *rank, struct winnow_err *err)
{
    unsigned most = 0;
    for (unsigned i = 0; i < e->n_in; i++) {
        struct wn_einsum_term *t = &e->in[i];
        bool dots = has_dots(t);
        int axes = rank[i] - (int)t->n + dots;
        if (axes < 0 || (!dots && axes))
            return wn_bad(err, "input %u has rank %d, its term %u letters", i, rank[i], t->n - dots);
        if (dots) {
            WN_TRY(open_term(t, (unsigned)axes, err));
            most = WN_MAX(most, (unsigned)axes);
        }
    }
    if (has_dots(&e->out))
        return open_term(&e->out, most, err);
    return e->out.n <= WINNOW_MAX_RANK ? WINNOW_OK : wn_lack(err, "more than %d axes", WINNOW_MAX_RANK);
}

/* Extents of all labels (0 past ELLIPSIS + rank); -1 unknown. */
static enum winnow_status extents(const struct wn_einsum *e, const struct wn_type *in, int64_t ext[128],
                                  struct winnow_err *err)
{
    bool seen[128] = { false };
    for (unsigned l = 0; l < 128; l++)
        ext[l] = -1;
    for (unsigned i = 0; i < e->n_in; i++)
        for (unsigned k = 0; k < e->in[i].n; k++) {
            unsigned l = e->in[i].label[k];
            int64_t n = in[i].dim[k], was = ext[l];
            bool free = l >= ELLIPSIS; /* broadcasts */
            if (!seen[l] || was < 0 || (free && was == 1))
                ext[l] = seen[l] && free && n == 1 ? was : n < 0 && seen[l] ? was : n;
            else if (n >= 0 && n != was && !(free && n == 1))
                return wn_bad(err, "extents %lld and %lld of one letter", (long long)was, (long long)n);
            seen[l] = true;
        }
    for (unsigned k = 0; k < e->out.n; k++) {
        if (!seen[e->out.label[k]])
            return wn_bad(err, "equation: the output has a letter that no input has");
        for (unsigned j = 0; j < k; j++)
            if (e->out.label[j] == e->out.label[k])
                return wn_bad(err, "equation: the output has a letter twice");
    }
    return WINNOW_OK;
}

enum winnow_status wn_infer_einsum(struct wn_infer *in, struct winnow_err *err)
{
    struct wn_einsum e;
    int rank[WN_EINSUM_MAX_IN];
    int64_t ext[128];
    WN_TRY(wn_einsum_parse(in->node, &e, err));
    in->out[0].dtype = in->in[0].dtype;
    for (unsigned i = 0; i < in->n_in; i++) {
        if (!in->given[i])
            return wn_bad(err, "input %u may not be omitted", i);
        WN_TRY(wn_want(in, i, WN_NUMBERS, err));
        WN_TRY(wn_want_same(in, 0, i, err));
        if (in->in[i].rank < 0)
            return WINNOW_OK;
        rank[i] = in->in[i].rank;
    }
    WN_TRY(open_terms(&e, rank, err));
    WN_TRY(extents(&e, in->in, ext, err));
    wn_type_set_rank(&in->out[0], (int)e.out.n);
    for (unsigned k = 0; k < e.out.n; k++)
        in->out[0].dim[k] = ext[e.out.label[k]];
    return WINNOW_OK;
}

/* ---- run ---- */

/* The loops: the output's labels first, then those that are summed. */
struct loops {
    unsigned n_in, n, n_out;
    int64_t summed; /* products of one sum */
    int64_t ext[64], step[WN_EINSUM_MAX_IN][64];
};

static void add_loop(struct loops *l, const struct wn_einsum *e, const struct wn_run *run, uint8_t label, int64_t ext)
{
    l->ext[l->n] = ext;
    for (unsigned i = 0; i < e->n_in; i++) {
        int64_t stride[WINNOW_MAX_RANK];
        wn_strides(run->in[i]->rank, run->in[i]->dim, stride);
        l->step[i][l->n] = 0;
        for (unsigned k = 0; k < e->in[i].n; k++)
            if (e->in[i].label[k] == label && (label < ELLIPSIS || run->in[i]->dim[k] != 1))
                l->step[i][l->n] += stride[k];
    }
    l->n++;
}

#define DEFINE_SUM(NAME, T)                                                                                            \
    static enum winnow_status NAME(const struct loops *l, const T *const *x, T *y, struct wn_budget *budget,           \
                                   struct winnow_err *err)                                                             \
    {                                                                                                                  \
        int64_t idx[64] = { 0 }, at[WN_EINSUM_MAX_IN] = { 0 };                                                         \
        for (size_t o = 0;; o++) {                                                                                     \
            WN_TRY(wn_budget_work(budget, (uint64_t)l->summed, err));                                                  \
            T sum = 0;                                                                                                 \
            unsigned k;                                                                                                \
            do {                                                                                                       \
                T product = 1;                                                                                         \
                for (unsigned i = 0; i < l->n_in; i++)                                                                 \
                    product *= x[i][at[i]];                                                                            \
                sum += product;                                                                                        \
                for (k = l->n; k-- > l->n_out;) { /* the next of the summed indices */                                 \
                    for (unsigned i = 0; i < l->n_in; i++)                                                             \
                        at[i] += l->step[i][k];                                                                        \
                    if (++idx[k] < l->ext[k])                                                                          \
                        break;                                                                                         \
                    for (unsigned i = 0; i < l->n_in; i++)                                                             \
                        at[i] -= l->step[i][k] * l->ext[k];                                                            \
                    idx[k] = 0;                                                                                        \
                }                                                                                                      \
            } while (k + 1 > l->n_out);                                                                                \
            y[o] = sum;                                                                                                \
            for (k = l->n_out; k-- > 0;) {                                                                             \
                for (unsigned i = 0; i < l->n_in; i++)                                                                 \
                    at[i] += l->step[i][k];                                                                            \
                if (++idx[k] < l->ext[k])                                                                              \
                    break;                                                                                             \
                for (unsigned i = 0; i < l->n_in; i++)                                                                 \
                    at[i] -= l->step[i][k] * l->ext[k];                                                                \
                idx[k] = 0;                                                                                            \
            }                                                                                                          \
            if (k + 1 == 0)                                                                                            \
                return WINNOW_OK;                                                                                      \
        }                                                                                                              \
    }
DEFINE_SUM(sum_f64, double)
DEFINE_SUM(sum_u64, uint64_t) /* also for signed: two's complement products agree modulo 2^64 */

enum winnow_status wn_run_einsum(struct wn_run *run, struct winnow_err *err)
{
    struct wn_einsum e;
    struct wn_type type[WN_EINSUM_MAX_IN];
    struct loops l = { 0 };
    int rank[WN_EINSUM_MAX_IN];
    int64_t ext[128];
    const void *x[WN_EINSUM_MAX_IN];
    struct wn_tensor *y = &run->out[0];
    bool is_float = wn_dtype_is_float(y->dtype), used[128] = { false };
    WN_TRY(wn_einsum_parse(run->node, &e, err));
    for (unsigned i = 0; i < run->n_in; i++) {
        type[i] = wn_type_of(run->in[i]);
        rank[i] = type[i].rank;
        x[i] = is_float ? (const void *)wn_as_f64(run->in[i], run->tmp) : wn_as_i64(run->in[i], run->tmp);
        if (!x[i])
            return wn_nomem(err);
    }
    WN_TRY(open_terms(&e, rank, err));
    WN_TRY(extents(&e, type, ext, err));
    l.n_in = e.n_in;
    for (unsigned k = 0; k < e.out.n; k++) {
        add_loop(&l, &e, run, e.out.label[k], ext[e.out.label[k]]);
        used[e.out.label[k]] = true;
    }
    l.n_out = l.n;
    int64_t n = wn_tensor_count(y);
    l.summed = 1;
    for (unsigned i = 0; i < e.n_in; i++)
        for (unsigned k = 0; k < e.in[i].n; k++) {
            uint8_t label = e.in[i].label[k];
            if (used[label])
                continue;
            used[label] = true;
            WN_TRY(wn_dim_mul(l.summed, ext[label], &l.summed, err));
            add_loop(&l, &e, run, label, ext[label]);
        }
    void *acc = wn_arena_calloc(run->tmp, (size_t)n + 1, 8);
    if (!acc)
        return wn_nomem(err);
    if (n && l.summed && is_float)
        WN_TRY(sum_f64(&l, (const double *const *)x, acc, run->budget, err));
    else if (n && l.summed)
        WN_TRY(sum_u64(&l, (const uint64_t *const *)x, acc, run->budget, err));
    for (int64_t i = 0; i < n; i += WN_CHUNK)
        wn_store(y->dtype, y->data, i, (size_t)WN_MIN(n - i, WN_CHUNK), is_float ? WN_CLS_F64 : WN_CLS_U64,
                 (const char *)acc + i * 8);
    return WINNOW_OK;
}

/* The batch is one letter (or axis under the ellipsis): of every input that has it, and of the output. */
void wn_rows_einsum(struct wn_rows *r)
{
    struct wn_einsum e;
    int rank[WN_EINSUM_MAX_IN], label = -1;
    if (wn_rows_trivial(r) || wn_einsum_parse(r->node, &e, NULL) != WINNOW_OK)
        return;
    for (unsigned i = 0; i < r->n_in; i++)
        if ((rank[i] = r->infer->in[i].rank) < 0)
            return;
    if (open_terms(&e, rank, NULL) != WINNOW_OK)
        return;
    for (unsigned i = 0; i < r->n_in; i++) {
        if (r->in_axis[i] < 0)
            continue;
        int l = e.in[i].label[r->in_axis[i]];
        if (label >= 0 && l != label)
            return;
        label = l;
    }
    for (unsigned i = 0; i < r->n_in; i++)
        for (unsigned k = 0; k < e.in[i].n; k++)
            if (e.in[i].label[k] == label && r->in_axis[i] != (int)k &&
                !(r->in_axis[i] < 0 && label >= ELLIPSIS && r->infer->in[i].dim[k] == 1))
                return;
    for (unsigned k = 0; k < e.out.n; k++)
        if (e.out.label[k] == label)
            r->out_axis = (int)k;
}
