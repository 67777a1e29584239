/* onednn.c: dense.h on oneDNN 2.6 (Debian's libdnnl-dev, OpenMP runtime). The only file that knows the library: version
 * 3 changed these calls.
 *
 * DESIGN  Convolutions run in nChw8c. A pass that the library only has as "ref" there (dilated 3x3 and depthwise 5x5
 *         backward-weights) would take seconds, so each convolution takes the first of nChw8c, nhwc, nchw in which no
 *         pass is ref, and reorders inside when that is not C8.  Weight layouts are the library's choice per pass.
 *         Scratchpads are ours: one buffer, the largest of all primitives, since steps run one after the other.
 * Batch norm's backward pass needs `shift` as an input although it does not use it: without, execute fails. */
#include "sparsify/kernels/dense.h"

#include <oneapi/dnnl/dnnl.h>
#include <stdlib.h>
#include <string.h>

struct wn_dense {
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    dnnl_primitive_attr_t attr; /* scratchpad: user */
    void *scratch;
    size_t scratch_bytes;
};

static enum winnow_status failed(struct winnow_err *err, dnnl_status_t s, const char *what)
{
    return wn_fail(err, s == dnnl_out_of_memory ? WINNOW_E_NOMEM : WINNOW_E_INTERNAL, "oneDNN: %s: %s", what,
                   s == dnnl_unimplemented       ? "not implemented"
                   : s == dnnl_invalid_arguments ? "invalid arguments"
                   : s == dnnl_out_of_memory     ? "out of memory"
                                                 : "runtime error");
}
#define TRY_DNN(call, what)                                                                                            \
    do {                                                                                                               \
        dnnl_status_t s_ = (call);                                                                                     \
        if (s_ != dnnl_success)                                                                                        \
            return failed(err, s_, what);                                                                              \
    } while (0)

void wn_dense_free(struct wn_dense *d)
{
    if (!d)
        return;
    if (d->attr)
        dnnl_primitive_attr_destroy(d->attr);
    if (d->stream)
        dnnl_stream_destroy(d->stream);
    if (d->engine)
        dnnl_engine_destroy(d->engine);
    free(d->scratch);
    free(d);
}

static void dense_freep(struct wn_dense **p)
{
    wn_dense_free(*p);
}

enum winnow_status wn_dense_new(struct wn_dense **ret, struct winnow_err *err)
{
    WN_CLEANUP(dense_freep) struct wn_dense *d = calloc(1, sizeof *d);
    if (!d)
        return wn_fail(err, WINNOW_E_NOMEM, "dense kernels");
    TRY_DNN(dnnl_engine_create(&d->engine, dnnl_cpu, 0), "engine");
    TRY_DNN(dnnl_stream_create(&d->stream, d->engine, dnnl_stream_default_flags), "stream");
    TRY_DNN(dnnl_primitive_attr_create(&d->attr), "attributes");
    TRY_DNN(dnnl_primitive_attr_set_scratchpad_mode(d->attr, dnnl_scratchpad_mode_user), "scratchpad mode");
    *ret = WN_TAKE(d);
    return WINNOW_OK;
}

/* ---- one argument, one primitive ---- */

/** A memory object whose pointer changes rarely; setting it may clear padding, so only when it does change. */
struct mem {
    dnnl_memory_t m;
    dnnl_memory_desc_t md;
    const void *at;
    void *own; /* our own buffer, for reordered copies */
};

static void mem_done(struct mem *m)
{
    if (m->m)
        dnnl_memory_destroy(m->m);
    free(m->own);
    *m = (struct mem){ 0 };
}

static enum winnow_status mem_init(struct wn_dense *d, struct mem *m, const dnnl_memory_desc_t *md, bool own,
                                   struct winnow_err *err)
{
    m->md = *md;
    if (own) {
        size_t n = wn_round_up(dnnl_memory_desc_get_size(md) + 1, 64);
        m->own = aligned_alloc(64, n);
        if (!m->own)
            return wn_fail(err, WINNOW_E_NOMEM, "dense kernels: %zu bytes", n);
        memset(m->own, 0, n);
        m->at = m->own;
    }
    TRY_DNN(dnnl_memory_create(&m->m, md, d->engine, own ? m->own : DNNL_MEMORY_NONE), "memory");
    return WINNOW_OK;
}

static enum winnow_status mem_at(struct mem *m, const void *p, struct winnow_err *err)
{
    if (m->at == p)
        return WINNOW_OK;
    union {
        const void *c;
        void *v;
    } u = { .c = p };
    TRY_DNN(dnnl_memory_set_data_handle(m->m, u.v), "memory handle");
    m->at = p;
    return WINNOW_OK;
}

struct prim {
    dnnl_primitive_t p;
    dnnl_memory_t scratch;
    const void *scratch_at;
    size_t scratch_bytes;
};

static void prim_done(struct prim *p)
{
    if (p->p)
        dnnl_primitive_destroy(p->p);
    if (p->scratch)
        dnnl_memory_destroy(p->scratch);
    *p = (struct prim){ 0 };
}

/** Takes over pd. */
static enum winnow_status prim_init(struct wn_dense *d, struct prim *p, dnnl_primitive_desc_t pd,
                                    struct winnow_err *err)
{
    dnnl_status_t s = dnnl_primitive_create(&p->p, pd);
    if (s == dnnl_success) {
        const dnnl_memory_desc_t *md = dnnl_primitive_desc_query_md(pd, dnnl_query_scratchpad_md, 0);
        p->scratch_bytes = dnnl_memory_desc_get_size(md);
        s = dnnl_memory_create(&p->scratch, md, d->engine, DNNL_MEMORY_NONE);
    }
    dnnl_primitive_desc_destroy(pd);
    TRY_DNN(s, "primitive");
    if (p->scratch_bytes > d->scratch_bytes) {
        free(d->scratch);
        d->scratch_bytes = wn_round_up(p->scratch_bytes, 4096);
        d->scratch = aligned_alloc(4096, d->scratch_bytes);
        if (!d->scratch) {
            d->scratch_bytes = 0;
            return wn_fail(err, WINNOW_E_NOMEM, "dense kernels: scratch memory");
        }
    }
    return WINNOW_OK;
}

static enum winnow_status run(struct wn_dense *d, struct prim *p, unsigned n, dnnl_exec_arg_t *arg, const char *what,
                              struct winnow_err *err)
{
    if (p->scratch_bytes) {
        if (p->scratch_at != d->scratch) {
            TRY_DNN(dnnl_memory_set_data_handle(p->scratch, d->scratch), "scratch memory");
            p->scratch_at = d->scratch;
        }
        arg[n++] = (dnnl_exec_arg_t){ DNNL_ARG_SCRATCHPAD, p->scratch };
    }
    TRY_DNN(dnnl_primitive_execute(p->p, d->stream, (int)n, arg), what);
    TRY_DNN(dnnl_stream_wait(d->stream), what);
    return WINNOW_OK;
}

static enum winnow_status reorder_init(struct wn_dense *d, struct prim *p, const dnnl_memory_desc_t *from,
                                       const dnnl_memory_desc_t *to, struct winnow_err *err)
{
    dnnl_primitive_desc_t pd;
    TRY_DNN(dnnl_reorder_primitive_desc_create(&pd, from, d->engine, to, d->engine, d->attr), "reorder");
    return prim_init(d, p, pd, err);
}

static enum winnow_status reorder(struct wn_dense *d, struct prim *p, struct mem *from, struct mem *to,
                                  struct winnow_err *err)
{
    dnnl_exec_arg_t arg[3] = { { DNNL_ARG_FROM, from->m }, { DNNL_ARG_TO, to->m } };
    return run(d, p, 2, arg, "reorder", err);
}

static dnnl_memory_desc_t desc4(int n, int c, int h, int w, dnnl_format_tag_t tag)
{
    dnnl_memory_desc_t md;
    dnnl_dims_t dims = { n, c, h, w };
    if (dnnl_memory_desc_init_by_tag(&md, 4, dims, dnnl_f32, tag) != dnnl_success)
        memset(&md, 0, sizeof md);
    return md;
}

/** Same memory, however it is described. */
static bool same(const dnnl_memory_desc_t *a, const dnnl_memory_desc_t *b)
{
    return dnnl_memory_desc_equal(a, b) == 1;
}

/* ---- convolution ---- */

/** A tensor outside (layout of the interface) and inside (layout of the pass); one object when they are the same. */
struct port {
    struct mem outer, inner;
    struct prim move;
    bool moves;
};

static void port_done(struct port *p)
{
    mem_done(&p->outer);
    mem_done(&p->inner);
    prim_done(&p->move);
}

static enum winnow_status port_init(struct wn_dense *d, struct port *p, const dnnl_memory_desc_t *outer,
                                    const dnnl_memory_desc_t *inner, bool in, struct winnow_err *err)
{
    WN_TRY(mem_init(d, &p->outer, outer, false, err));
    p->moves = !same(outer, inner);
    if (!p->moves)
        return WINNOW_OK;
    WN_TRY(mem_init(d, &p->inner, inner, true, err));
    return reorder_init(d, &p->move, in ? outer : inner, in ? inner : outer, err);
}

static dnnl_memory_t port_mem(struct port *p)
{
    return p->moves ? p->inner.m : p->outer.m;
}
static enum winnow_status port_in(struct wn_dense *d, struct port *p, const float *at, struct winnow_err *err)
{
    WN_TRY(mem_at(&p->outer, at, err));
    return p->moves ? reorder(d, &p->move, &p->outer, &p->inner, err) : WINNOW_OK;
}
static enum winnow_status port_out(struct wn_dense *d, struct port *p, struct winnow_err *err)
{
    return p->moves ? reorder(d, &p->move, &p->inner, &p->outer, err) : WINNOW_OK;
}

struct pass {
    struct prim prim;
    struct port a, w, b, c; /* a, c: activations in and out; w, b: weights and bias */
};

struct wn_dense_conv {
    struct wn_dense *d;
    struct wn_dense_conv_shape s;
    struct pass fwd, data, weights;
};

static void pass_done(struct pass *p)
{
    prim_done(&p->prim);
    port_done(&p->a);
    port_done(&p->w);
    port_done(&p->b);
    port_done(&p->c);
}

void wn_dense_conv_free(struct wn_dense_conv *cv)
{
    if (!cv)
        return;
    pass_done(&cv->fwd);
    pass_done(&cv->data);
    pass_done(&cv->weights);
    free(cv);
}

static void conv_freep(struct wn_dense_conv **p)
{
    wn_dense_conv_free(*p);
}

struct conv_pds {
    dnnl_primitive_desc_t fwd, data, weights;
};

static void pds_destroy(struct conv_pds *p)
{
    if (p->fwd)
        dnnl_primitive_desc_destroy(p->fwd);
    if (p->data)
        dnnl_primitive_desc_destroy(p->data);
    if (p->weights)
        dnnl_primitive_desc_destroy(p->weights);
    *p = (struct conv_pds){ 0 };
}

static bool is_ref(dnnl_primitive_desc_t pd)
{
    const char *name = "";
    return pd && dnnl_primitive_desc_query(pd, dnnl_query_impl_info_str, 0, &name) == dnnl_success &&
           strncmp(name, "ref", 3) == 0;
}

/** Descriptors of all wanted passes with activations in this layout. */
static dnnl_status_t conv_pds(struct wn_dense *d, const struct wn_dense_conv_shape *s, dnnl_format_tag_t tag,
                              struct conv_pds *ret)
{
    dnnl_memory_desc_t x = desc4(s->n, s->ic, s->ih, s->iw, s->x_plain && tag == dnnl_nChw8c ? dnnl_nchw : tag);
    dnnl_memory_desc_t y = desc4(s->n, s->oc, s->oh, s->ow, tag), w, b;
    dnnl_dims_t wd = { s->oc, s->ic, s->kh, s->kw };
    dnnl_dims_t gd = { s->groups, s->oc / s->groups, s->ic / s->groups, s->kh, s->kw }, bd = { s->oc };
    dnnl_dims_t st = { s->sh, s->sw }, di = { s->dh - 1, s->dw - 1 };
    dnnl_dims_t pl = { s->ph, s->pw }, pr = { s->ph_end, s->pw_end };
    dnnl_convolution_desc_t cd;
    const dnnl_alg_kind_t alg = dnnl_convolution_direct;
    dnnl_status_t r = s->groups > 1 ? dnnl_memory_desc_init_by_tag(&w, 5, gd, dnnl_f32, dnnl_format_tag_any)
                                    : dnnl_memory_desc_init_by_tag(&w, 4, wd, dnnl_f32, dnnl_format_tag_any);
    if (r == dnnl_success)
        r = dnnl_memory_desc_init_by_tag(&b, 1, bd, dnnl_f32, dnnl_x);
    const dnnl_memory_desc_t *bias = s->bias ? &b : NULL;
    if (r == dnnl_success)
        r = dnnl_dilated_convolution_forward_desc_init(&cd, dnnl_forward_training, alg, &x, &w, bias, &y, st, di, pl,
                                                       pr);
    if (r == dnnl_success)
        r = dnnl_primitive_desc_create(&ret->fwd, &cd, d->attr, d->engine, NULL);
    if (r == dnnl_success && s->back_data) {
        r = dnnl_dilated_convolution_backward_data_desc_init(&cd, alg, &x, &w, &y, st, di, pl, pr);
        if (r == dnnl_success)
            r = dnnl_primitive_desc_create(&ret->data, &cd, d->attr, d->engine, ret->fwd);
    }
    if (r == dnnl_success && s->back_weights) {
        r = dnnl_dilated_convolution_backward_weights_desc_init(&cd, alg, &x, &w, bias, &y, st, di, pl, pr);
        if (r == dnnl_success)
            r = dnnl_primitive_desc_create(&ret->weights, &cd, d->attr, d->engine, ret->fwd);
    }
    return r;
}

static enum winnow_status conv_choose(struct wn_dense *d, const struct wn_dense_conv_shape *s, struct conv_pds *ret,
                                      struct winnow_err *err)
{
    static const dnnl_format_tag_t tags[] = { dnnl_nChw8c, dnnl_nhwc, dnnl_nchw, dnnl_nChw8c };
    dnnl_status_t r = dnnl_unimplemented;
    for (unsigned i = 0; i < WN_COUNT(tags); i++) {
        r = conv_pds(d, s, tags[i], ret);
        /* the last round takes what there is: small layers may only have ref */
        if (r == dnnl_success &&
            (i + 1 == WN_COUNT(tags) || !(is_ref(ret->fwd) || is_ref(ret->data) || is_ref(ret->weights))))
            return WINNOW_OK;
        pds_destroy(ret);
    }
    return failed(err, r == dnnl_success ? dnnl_unimplemented : r, "convolution");
}

static enum winnow_status pass_init(struct wn_dense_conv *cv, struct pass *p, dnnl_primitive_desc_t *pd,
                                    dnnl_query_t qa, dnnl_query_t qw, dnnl_query_t qc, bool w_in, bool a_is_x,
                                    bool c_is_y, struct winnow_err *err)
{
    const struct wn_dense_conv_shape *s = &cv->s;
    dnnl_memory_desc_t x = desc4(s->n, s->ic, s->ih, s->iw, s->x_plain ? dnnl_nchw : dnnl_nChw8c);
    dnnl_memory_desc_t y = desc4(s->n, s->oc, s->oh, s->ow, dnnl_nChw8c), w, b;
    dnnl_dims_t wd = { s->oc, s->ic, s->kh, s->kw }, bd = { s->oc };
    dnnl_dims_t gd = { s->groups, s->oc / s->groups, s->ic / s->groups, s->kh, s->kw };
    TRY_DNN(s->groups > 1 ? dnnl_memory_desc_init_by_tag(&w, 5, gd, dnnl_f32, dnnl_goihw)
                          : dnnl_memory_desc_init_by_tag(&w, 4, wd, dnnl_f32, dnnl_oihw),
            "weights");
    TRY_DNN(dnnl_memory_desc_init_by_tag(&b, 1, bd, dnnl_f32, dnnl_x), "bias");
    WN_TRY(port_init(cv->d, &p->a, a_is_x ? &x : &y, dnnl_primitive_desc_query_md(*pd, qa, 0), true, err));
    WN_TRY(port_init(cv->d, &p->w, &w, dnnl_primitive_desc_query_md(*pd, qw, 0), w_in, err));
    /* backward-weights has two activations going in: the second is c */
    WN_TRY(port_init(cv->d, &p->c, c_is_y ? &y : &x, dnnl_primitive_desc_query_md(*pd, qc, 0), !w_in, err));
    WN_TRY(port_init(cv->d, &p->b, &b, &b, true, err));
    return prim_init(cv->d, &p->prim, WN_TAKE(*pd), err);
}

enum winnow_status wn_dense_conv_new(struct wn_dense *d, const struct wn_dense_conv_shape *shape,
                                     struct wn_dense_conv **ret, struct winnow_err *err)
{
    WN_CLEANUP(conv_freep) struct wn_dense_conv *cv = calloc(1, sizeof *cv);
    if (!cv)
        return wn_fail(err, WINNOW_E_NOMEM, "convolution");
    cv->d = d;
    cv->s = *shape;
    WN_CLEANUP(pds_destroy) struct conv_pds pds = { 0 };
    WN_TRY(conv_choose(d, shape, &pds, err));
    WN_TRY(pass_init(cv, &cv->fwd, &pds.fwd, dnnl_query_src_md, dnnl_query_weights_md, dnnl_query_dst_md, true, true,
                     true, err));
    if (shape->back_data)
        WN_TRY(pass_init(cv, &cv->data, &pds.data, dnnl_query_diff_dst_md, dnnl_query_weights_md,
                         dnnl_query_diff_src_md, true, false, false, err));
    if (shape->back_weights)
        WN_TRY(pass_init(cv, &cv->weights, &pds.weights, dnnl_query_src_md, dnnl_query_diff_weights_md,
                         dnnl_query_diff_dst_md, false, true, true, err));
    *ret = WN_TAKE(cv);
    return WINNOW_OK;
}

enum winnow_status wn_dense_conv_forward(struct wn_dense_conv *cv, const float *x, const float *w, const float *bias,
                                         float *y, struct winnow_err *err)
{
    struct pass *p = &cv->fwd;
    WN_TRY(port_in(cv->d, &p->a, x, err));
    WN_TRY(port_in(cv->d, &p->w, w, err));
    WN_TRY(mem_at(&p->c.outer, y, err));
    dnnl_exec_arg_t arg[5] = { { DNNL_ARG_SRC, port_mem(&p->a) },
                               { DNNL_ARG_WEIGHTS, port_mem(&p->w) },
                               { DNNL_ARG_DST, port_mem(&p->c) } };
    unsigned n = 3;
    if (cv->s.bias) {
        WN_TRY(mem_at(&p->b.outer, bias, err));
        arg[n++] = (dnnl_exec_arg_t){ DNNL_ARG_BIAS, p->b.outer.m };
    }
    WN_TRY(run(cv->d, &p->prim, n, arg, "convolution", err));
    return port_out(cv->d, &p->c, err);
}

enum winnow_status wn_dense_conv_back_data(struct wn_dense_conv *cv, const float *dy, const float *w, float *dx,
                                           struct winnow_err *err)
{
    struct pass *p = &cv->data;
    WN_TRY(port_in(cv->d, &p->a, dy, err));
    WN_TRY(port_in(cv->d, &p->w, w, err));
    WN_TRY(mem_at(&p->c.outer, dx, err));
    dnnl_exec_arg_t arg[4] = { { DNNL_ARG_DIFF_DST, port_mem(&p->a) },
                               { DNNL_ARG_WEIGHTS, port_mem(&p->w) },
                               { DNNL_ARG_DIFF_SRC, port_mem(&p->c) } };
    WN_TRY(run(cv->d, &p->prim, 3, arg, "convolution backward data", err));
    return port_out(cv->d, &p->c, err);
}

enum winnow_status wn_dense_conv_back_weights(struct wn_dense_conv *cv, const float *x, const float *dy, float *dw,
                                              float *db, struct winnow_err *err)
{
    struct pass *p = &cv->weights;
    WN_TRY(port_in(cv->d, &p->a, x, err));
    WN_TRY(port_in(cv->d, &p->c, dy, err));
    WN_TRY(mem_at(&p->w.outer, dw, err));
    dnnl_exec_arg_t arg[5] = { { DNNL_ARG_SRC, port_mem(&p->a) },
                               { DNNL_ARG_DIFF_DST, port_mem(&p->c) },
                               { DNNL_ARG_DIFF_WEIGHTS, port_mem(&p->w) } };
    unsigned n = 3;
    if (cv->s.bias) {
        WN_TRY(mem_at(&p->b.outer, db, err));
        arg[n++] = (dnnl_exec_arg_t){ DNNL_ARG_DIFF_BIAS, p->b.outer.m };
    }
    WN_TRY(run(cv->d, &p->prim, n, arg, "convolution backward weights", err));
    return port_out(cv->d, &p->w, err);
}

/* ---- batch norm ---- */

struct wn_dense_bn {
    struct wn_dense *d;
    bool relu, batch;
    struct prim train, back, given, given_back;
    struct mem x, y, dy, dx, scale, shift, dscale, dshift, mean, var, ws;
};

void wn_dense_bn_free(struct wn_dense_bn *bn)
{
    if (!bn)
        return;
    struct prim *prim[] = { &bn->train, &bn->back, &bn->given, &bn->given_back };
    struct mem *mem[] = { &bn->x,      &bn->y,      &bn->dy,   &bn->dx,  &bn->scale, &bn->shift,
                          &bn->dscale, &bn->dshift, &bn->mean, &bn->var, &bn->ws };
    for (unsigned i = 0; i < WN_COUNT(prim); i++)
        prim_done(prim[i]);
    for (unsigned i = 0; i < WN_COUNT(mem); i++)
        mem_done(mem[i]);
    free(bn);
}

static void bn_freep(struct wn_dense_bn **p)
{
    wn_dense_bn_free(*p);
}

static enum winnow_status bn_mode(struct wn_dense_bn *bn, const dnnl_memory_desc_t *md, float eps, unsigned flags,
                                  struct prim *fwd, struct prim *back, struct winnow_err *err)
{
    struct wn_dense *d = bn->d;
    dnnl_batch_normalization_desc_t bd;
    dnnl_primitive_desc_t fpd, bpd;
    TRY_DNN(dnnl_batch_normalization_forward_desc_init(&bd, dnnl_forward_training, md, eps, flags), "batch norm");
    TRY_DNN(dnnl_primitive_desc_create(&fpd, &bd, d->attr, d->engine, NULL), "batch norm");
    dnnl_status_t s = dnnl_batch_normalization_backward_desc_init(&bd, dnnl_backward, md, md, eps, flags);
    if (s == dnnl_success)
        s = dnnl_primitive_desc_create(&bpd, &bd, d->attr, d->engine, fpd);
    if (s != dnnl_success) {
        dnnl_primitive_desc_destroy(fpd);
        return failed(err, s, "batch norm backward");
    }
    enum winnow_status st = WINNOW_OK;
    if (bn->relu && !bn->ws.m)
        st = mem_init(d, &bn->ws, dnnl_primitive_desc_query_md(fpd, dnnl_query_workspace_md, 0), true, err);
    if (st == WINNOW_OK)
        st = prim_init(d, back, bpd, err);
    else
        dnnl_primitive_desc_destroy(bpd);
    if (st != WINNOW_OK) {
        dnnl_primitive_desc_destroy(fpd);
        return st;
    }
    return prim_init(d, fwd, fpd, err);
}

enum winnow_status wn_dense_bn_new(struct wn_dense *d, int n, int c, int h, int w, float eps, bool relu,
                                   struct wn_dense_bn **ret, struct winnow_err *err)
{
    WN_CLEANUP(bn_freep) struct wn_dense_bn *bn = calloc(1, sizeof *bn);
    if (!bn)
        return wn_fail(err, WINNOW_E_NOMEM, "batch norm");
    bn->d = d;
    bn->relu = relu;
    dnnl_memory_desc_t md = desc4(n, c, h, w, dnnl_nChw8c), vd;
    dnnl_dims_t cd = { c };
    TRY_DNN(dnnl_memory_desc_init_by_tag(&vd, 1, cd, dnnl_f32, dnnl_x), "batch norm");
    unsigned flags = dnnl_use_scale | dnnl_use_shift | (relu ? dnnl_fuse_norm_relu : 0u);
    WN_TRY(bn_mode(bn, &md, eps, flags, &bn->train, &bn->back, err));
    WN_TRY(bn_mode(bn, &md, eps, flags | dnnl_use_global_stats, &bn->given, &bn->given_back, err));
    struct mem *big[] = { &bn->x, &bn->y, &bn->dy, &bn->dx };
    struct mem *vec[] = { &bn->scale, &bn->shift, &bn->dscale, &bn->dshift, &bn->mean, &bn->var };
    for (unsigned i = 0; i < WN_COUNT(big); i++)
        WN_TRY(mem_init(d, big[i], &md, false, err));
    for (unsigned i = 0; i < WN_COUNT(vec); i++)
        WN_TRY(mem_init(d, vec[i], &vd, false, err));
    *ret = WN_TAKE(bn);
    return WINNOW_OK;
}

enum winnow_status wn_dense_bn_forward(struct wn_dense_bn *bn, bool batch, const float *x, const float *scale,
                                       const float *shift, float *mean, float *var, float *y, struct winnow_err *err)
{
    bn->batch = batch;
    WN_TRY(mem_at(&bn->x, x, err));
    WN_TRY(mem_at(&bn->y, y, err));
    WN_TRY(mem_at(&bn->scale, scale, err));
    WN_TRY(mem_at(&bn->shift, shift, err));
    WN_TRY(mem_at(&bn->mean, mean, err));
    WN_TRY(mem_at(&bn->var, var, err));
    dnnl_exec_arg_t arg[9] = { { DNNL_ARG_SRC, bn->x.m },       { DNNL_ARG_DST, bn->y.m },
                               { DNNL_ARG_SCALE, bn->scale.m }, { DNNL_ARG_SHIFT, bn->shift.m },
                               { DNNL_ARG_MEAN, bn->mean.m },   { DNNL_ARG_VARIANCE, bn->var.m } };
    unsigned n = 6;
    if (bn->relu)
        arg[n++] = (dnnl_exec_arg_t){ DNNL_ARG_WORKSPACE, bn->ws.m };
    return run(bn->d, batch ? &bn->train : &bn->given, n, arg, "batch norm", err);
}

enum winnow_status wn_dense_bn_backward(struct wn_dense_bn *bn, const float *x, const float *dy, const float *scale,
                                        const float *shift, const float *mean, const float *var, float *dx,
                                        float *dscale, float *dshift, struct winnow_err *err)
{
    WN_TRY(mem_at(&bn->x, x, err));
    WN_TRY(mem_at(&bn->dy, dy, err));
    WN_TRY(mem_at(&bn->dx, dx, err));
    WN_TRY(mem_at(&bn->scale, scale, err));
    WN_TRY(mem_at(&bn->shift, shift, err));
    WN_TRY(mem_at(&bn->mean, mean, err));
    WN_TRY(mem_at(&bn->var, var, err));
    WN_TRY(mem_at(&bn->dscale, dscale, err));
    WN_TRY(mem_at(&bn->dshift, dshift, err));
    dnnl_exec_arg_t arg[12] = {
        { DNNL_ARG_SRC, bn->x.m },        { DNNL_ARG_DIFF_DST, bn->dy.m },       { DNNL_ARG_DIFF_SRC, bn->dx.m },
        { DNNL_ARG_SCALE, bn->scale.m },  { DNNL_ARG_SHIFT, bn->shift.m },       { DNNL_ARG_MEAN, bn->mean.m },
        { DNNL_ARG_VARIANCE, bn->var.m }, { DNNL_ARG_DIFF_SCALE, bn->dscale.m }, { DNNL_ARG_DIFF_SHIFT, bn->dshift.m }
    };
    unsigned n = 9;
    if (bn->relu)
        arg[n++] = (dnnl_exec_arg_t){ DNNL_ARG_WORKSPACE, bn->ws.m };
    return run(bn->d, bn->batch ? &bn->back : &bn->given_back, n, arg, "batch norm backward", err);
}

/* ---- pools ---- */

struct wn_dense_pool {
    struct wn_dense *d;
    struct prim fwd, back;
    struct mem x, y, dx, dy, ws;
    bool max;
};

void wn_dense_pool_free(struct wn_dense_pool *p)
{
    if (!p)
        return;
    prim_done(&p->fwd);
    prim_done(&p->back);
    struct mem *mem[] = { &p->x, &p->y, &p->dx, &p->dy, &p->ws };
    for (unsigned i = 0; i < WN_COUNT(mem); i++)
        mem_done(mem[i]);
    free(p);
}

static void pool_freep(struct wn_dense_pool **p)
{
    wn_dense_pool_free(*p);
}

enum winnow_status wn_dense_pool_new(struct wn_dense *d, const struct wn_dense_pool_shape *s,
                                     struct wn_dense_pool **ret, struct winnow_err *err)
{
    WN_CLEANUP(pool_freep) struct wn_dense_pool *p = calloc(1, sizeof *p);
    if (!p)
        return wn_fail(err, WINNOW_E_NOMEM, "pool");
    p->d = d;
    p->max = s->kind == WN_POOL_MAX;
    dnnl_alg_kind_t alg = p->max                   ? dnnl_pooling_max
                          : s->kind == WN_POOL_AVG ? dnnl_pooling_avg_exclude_padding
                                                   : dnnl_pooling_avg_include_padding;
    dnnl_memory_desc_t x = desc4(s->n, s->c, s->ih, s->iw, dnnl_nChw8c),
                       y = desc4(s->n, s->c, s->oh, s->ow, dnnl_nChw8c);
    dnnl_dims_t st = { s->sh, s->sw }, k = { s->kh, s->kw }, pl = { s->ph, s->pw }, pr = { s->ph_end, s->pw_end };
    dnnl_pooling_desc_t pd;
    dnnl_primitive_desc_t fpd, bpd;
    TRY_DNN(dnnl_pooling_forward_desc_init(&pd, dnnl_forward_training, alg, &x, &y, st, k, pl, pr), "pool");
    TRY_DNN(dnnl_primitive_desc_create(&fpd, &pd, d->attr, d->engine, NULL), "pool");
    dnnl_status_t r = dnnl_pooling_backward_desc_init(&pd, alg, &x, &y, st, k, pl, pr);
    if (r == dnnl_success)
        r = dnnl_primitive_desc_create(&bpd, &pd, d->attr, d->engine, fpd);
    if (r != dnnl_success) {
        dnnl_primitive_desc_destroy(fpd);
        return failed(err, r, "pool backward");
    }
    enum winnow_status st_ = WINNOW_OK;
    if (p->max)
        st_ = mem_init(d, &p->ws, dnnl_primitive_desc_query_md(fpd, dnnl_query_workspace_md, 0), true, err);
    if (st_ == WINNOW_OK)
        st_ = prim_init(d, &p->back, bpd, err);
    else
        dnnl_primitive_desc_destroy(bpd);
    if (st_ == WINNOW_OK)
        st_ = prim_init(d, &p->fwd, fpd, err);
    else
        dnnl_primitive_desc_destroy(fpd);
    WN_TRY(st_);
    WN_TRY(mem_init(d, &p->x, &x, false, err));
    WN_TRY(mem_init(d, &p->y, &y, false, err));
    WN_TRY(mem_init(d, &p->dx, &x, false, err));
    WN_TRY(mem_init(d, &p->dy, &y, false, err));
    *ret = WN_TAKE(p);
    return WINNOW_OK;
}

enum winnow_status wn_dense_pool_forward(struct wn_dense_pool *p, const float *x, float *y, struct winnow_err *err)
{
    WN_TRY(mem_at(&p->x, x, err));
    WN_TRY(mem_at(&p->y, y, err));
    dnnl_exec_arg_t arg[4] = { { DNNL_ARG_SRC, p->x.m }, { DNNL_ARG_DST, p->y.m } };
    unsigned n = 2;
    if (p->max)
        arg[n++] = (dnnl_exec_arg_t){ DNNL_ARG_WORKSPACE, p->ws.m };
    return run(p->d, &p->fwd, n, arg, "pool", err);
}

enum winnow_status wn_dense_pool_backward(struct wn_dense_pool *p, const float *dy, float *dx, struct winnow_err *err)
{
    WN_TRY(mem_at(&p->dy, dy, err));
    WN_TRY(mem_at(&p->dx, dx, err));
    dnnl_exec_arg_t arg[4] = { { DNNL_ARG_DIFF_DST, p->dy.m }, { DNNL_ARG_DIFF_SRC, p->dx.m } };
    unsigned n = 2;
    if (p->max)
        arg[n++] = (dnnl_exec_arg_t){ DNNL_ARG_WORKSPACE, p->ws.m };
    return run(p->d, &p->back, n, arg, "pool backward", err);
}

/* ---- matrices ---- */

enum winnow_status wn_dense_gemm(bool ta, bool tb, int64_t m, int64_t n, int64_t k, const float *a, const float *b,
                                 float beta, float *c, struct winnow_err *err)
{
    TRY_DNN(dnnl_sgemm(ta ? 'T' : 'N', tb ? 'T' : 'N', m, n, k, 1.0f, a, ta ? m : k, b, tb ? k : n, beta, c, n),
            "matrix product");
    return WINNOW_OK;
}
