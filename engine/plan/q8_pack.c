/* q8_pack.c: int8 weights into the form that a kernel of this CPU reads, once per model and content. */
#include "engine/plan/q8_pack.h"

#include "engine/plan/packs.h"

static void pack_free(void *obj)
{
    struct wn_q8_pack *p = obj;
    wn_vec_done(&p->blocks.block);
    wn_arena_done(&p->arena);
    free(p);
}

static enum winnow_status pack_depthwise(struct wn_q8_pack *p, const int8_t *w, const struct wn_q8_pack_arg *a,
                                         struct winnow_err *err)
{
    size_t n = a->groups * a->taps;
    WN_CLEANUP(wn_freep) int16_t *w16 = malloc(n * sizeof *w16 + 1);
    if (!w16)
        return wn_fail(err, WINNOW_E_NOMEM, "packing weights");
    for (size_t i = 0; i < n; i++)
        w16[i] = (int16_t)(w[i] - (a->w_zp ? a->w_zp[i / a->taps] : 0));
    return wn_q8_dw_pack(wn_q8_dw_stream_of(wn_cpu_isa()), w16, a->groups, a->taps, &p->arena, &p->dw, err);
}

static enum winnow_status pack_group(struct wn_q8_pack *p, const int8_t *w, size_t g, const struct wn_q8_pack_arg *a,
                                     struct winnow_err *err)
{
    enum wn_isa isa = wn_cpu_isa();
    w += g * a->rows * a->channels * a->taps;
    switch (a->kind) {
    case WN_Q8_GEMM:
        return wn_q8_gemm_pack(wn_q8_gemm_stream_of(isa), w, a->rows, a->channels, a->taps, 255, &p->arena, &p->gemm[g],
                               err);
    case WN_Q8_CONV:
        return wn_q8_conv_pack(&p->arena, w, a->rows, a->channels, a->taps, &p->conv[g], err);
    case WN_Q8_B4:
        return wn_q8_spmm_b4_pack(wn_q8_spmm_b4_stream_of(isa), w, a->rows, a->channels, a->taps, &p->arena,
                                  &p->b4[g], err);
    case WN_Q8_GEMV:
        return wn_q8_gemv_pack(w, a->rows, a->channels, &p->arena, &p->gemv, err);
    case WN_Q8_STEM:
        return wn_q8_stem_pack(wn_q8_gemm_stream_of(isa), w, a->rows, a->channels * a->taps, 255, &p->arena, &p->stem,
                               err);
    default:
        return wn_q8_spmm_pack(wn_q8_spmm_stream_of(isa), a->block, w, a->rows, a->channels * a->taps, &p->arena,
                               &p->spmm[g], err);
    }
}

static enum winnow_status pack_make(const struct wn_tensor *w, const void *arg, void **ret_obj, size_t *ret_bytes,
                                    struct winnow_err *err)
{
    const struct wn_q8_pack_arg *a = arg;
    struct wn_q8_pack *p = calloc(1, sizeof *p);
    if (!p)
        return wn_fail(err, WINNOW_E_NOMEM, "packing weights");
    wn_arena_init(&p->arena, 0);
    p->arena.huge = true;
    p->arg = *a;
    p->arg.w_zp = NULL;
    p->kind = a->kind;
    p->groups = a->kind == WN_Q8_DW ? 1 : a->groups;
    p->gemm = wn_arena_calloc(&p->arena, p->groups, sizeof *p->gemm);
    p->conv = wn_arena_calloc(&p->arena, p->groups, sizeof *p->conv);
    p->b4 = wn_arena_calloc(&p->arena, p->groups, sizeof *p->b4);
    p->spmm = wn_arena_calloc(&p->arena, p->groups, sizeof *p->spmm);
    enum winnow_status status =
        p->gemm && p->conv && p->b4 && p->spmm ? WINNOW_OK : wn_fail(err, WINNOW_E_NOMEM, "packing weights");
    if (status == WINNOW_OK && a->kind == WN_Q8_DW)
        status = pack_depthwise(p, w->data, a, err);
    for (size_t g = 0; g < p->groups && status == WINNOW_OK && a->kind != WN_Q8_DW; g++)
        status = pack_group(p, w->data, g, a, err);
    if (status == WINNOW_OK && !wn_codec_blocks_of(&p->arena, &p->blocks))
        status = wn_fail(err, WINNOW_E_NOMEM, "packing weights");
    if (status != WINNOW_OK) {
        pack_free(p);
        return status;
    }
    *ret_obj = p;
    *ret_bytes = p->arena.total;
    return WINNOW_OK;
}

static void gemm_image(struct wn_codec *im, const struct wn_codec_blocks *blocks, struct wn_q8_gemm *m)
{
    wn_codec_into(im, blocks, (const void **)&m->w);
    wn_codec_into(im, blocks, (const void **)&m->idx);
    wn_codec_into(im, blocks, (const void **)&m->group);
}

static void groups_image(struct wn_codec *im, const struct wn_codec_blocks *blocks, struct wn_q8_pack *p)
{
    for (size_t g = 0; g < p->groups && !im->bad; g++) {
        struct wn_q8_spmm_b4 *b4 = &p->b4[g];
        struct wn_q8_spmm *s = &p->spmm[g];
        gemm_image(im, blocks, &p->gemm[g]);
        wn_codec_into(im, blocks, (const void **)&p->conv[g].panels);
        wn_codec_into(im, blocks, (const void **)&p->conv[g].sums);
        wn_codec_into(im, blocks, (const void **)&b4->w);
        wn_codec_into(im, blocks, (const void **)&b4->shift);
        wn_codec_into(im, blocks, (const void **)&b4->idx);
        wn_codec_into(im, blocks, (const void **)&b4->group);
        wn_codec_into(im, blocks, (const void **)&s->w);
        wn_codec_into(im, blocks, (const void **)&s->idx);
        wn_codec_into(im, blocks, (const void **)&s->row);
        wn_codec_into(im, blocks, (const void **)&s->dense);
    }
}

/* What is large lies in the pack's arena; the matrices that point into it are copied. */
static void pack_image(struct wn_codec *im, void *obj)
{
    struct wn_q8_pack *p = obj;
    wn_codec_blocks(im, &p->blocks);
    struct wn_arena *outer = im->arena;
    im->arena = &p->arena;
    WN_CODEC(im, p->arg); /* its w_zp is NULL */
    if (im->reading)
        p->arg.w_zp = NULL;
    WN_CODEC(im, p->kind);
    WN_CODEC(im, p->dw);
    WN_CODEC(im, p->stem);
    WN_CODEC(im, p->gemv);
    wn_codec_into(im, &p->blocks, (const void **)&p->dw.tap);
    wn_codec_into(im, &p->blocks, (const void **)&p->dw.w16);
    wn_codec_into(im, &p->blocks, (const void **)&p->dw.w8);
    gemm_image(im, &p->blocks, &p->stem.gemm);
    wn_codec_into(im, &p->blocks, (const void **)&p->gemv.w);
    wn_codec_count(im, &p->groups, (size_t)1 << 20);
    wn_codec_copied(im, (const void **)&p->gemm, p->groups * sizeof *p->gemm);
    wn_codec_copied(im, (const void **)&p->conv, p->groups * sizeof *p->conv);
    wn_codec_copied(im, (const void **)&p->b4, p->groups * sizeof *p->b4);
    wn_codec_copied(im, (const void **)&p->spmm, p->groups * sizeof *p->spmm);
    im->bad |= !p->gemm || !p->conv || !p->b4 || !p->spmm;
    groups_image(im, &p->blocks, p);
    im->arena = outer;
}

const struct wn_pack_class wn_q8_pack_class = { sizeof(struct wn_q8_pack), pack_free, wn_q8_unpack, pack_image };

/* ---- shared by content ---- */

static const char *const kind_names[] = {
    "q8_gemm", "q8_spmm_b4", "q8_spmm", "q8_dw", "q8_stem", "q8_gemv", "q8_conv"
};

/* The kind and, where rows come in blocks, their size. */
static const char *form_name(struct wn_lower *lo, enum wn_q8_kind kind, unsigned block)
{
    if (kind != WN_Q8_SPMM || block == 1)
        return kind_names[kind];
    return wn_arena_printf(&lo->plan->arena, "%s_%ux1", kind_names[kind], block);
}

const char *wn_q8_kernel_name(struct wn_lower *lo, const struct wn_q8_pack *pack)
{
    const char *form = form_name(lo, pack->kind, pack->arg.block);
    return form ? wn_arena_printf(&lo->plan->arena, "%s__%s", form, wn_isa_name(wn_cpu_isa())) : NULL;
}

enum winnow_status wn_q8_pack_get(struct wn_lower *lo, const struct wn_tensor *w, const struct wn_q8_pack_arg *arg,
                                  const struct wn_q8_pack **ret_pack, size_t *ret_bytes)
{
    uint32_t zp_hash = 0; /* depthwise packs hold their zero points */
    for (size_t o = 0; arg->kind == WN_Q8_DW && arg->w_zp && o < arg->groups; o++)
        zp_hash = zp_hash * 31 + (uint32_t)arg->w_zp[o] + 1;
    const char *form = form_name(lo, arg->kind, arg->block);
    const char *kind = form ? wn_arena_printf(&lo->plan->arena, "q8 %s %s g%zu t%zu z%u", form,
                                              wn_isa_name(wn_cpu_isa()), arg->groups, arg->taps, zp_hash)
                            : NULL;
    struct wn_pack_maker maker = { kind, pack_make, &wn_q8_pack_class, arg };
    /* The sums of its rows are found out while w is there. */
    if (!kind || !wn_facts_row_sums(lo->model->facts, w, (size_t)w->dim[0], &lo->plan->arena))
        return wn_fail(lo->err, WINNOW_E_NOMEM, "plan");
    WN_TRY(wn_packs_get(lo->model->packs, w, &maker, (const void **)ret_pack, ret_bytes, lo->err));
    if (wn_q8_can_unpack(arg->kind))
        wn_facts_origin(lo->model->facts, w, *ret_pack, wn_q8_unpack);
    return WINNOW_OK;
}

enum winnow_status wn_q8_pack_link(struct wn_lower *lo, const struct wn_q8_pack *p, size_t g, const int32_t *koff,
                                   const int32_t **ret_off)
{
    size_t n = p->kind == WN_Q8_DW     ? p->dw.noffs
               : p->kind == WN_Q8_GEMM ? p->gemm[g].noffs
               : p->kind == WN_Q8_STEM ? p->stem.noffs
               : p->kind == WN_Q8_B4   ? p->b4[g].noffs
                                       : p->spmm[g].noffs;
    int32_t *off = wn_arena_calloc(&lo->plan->arena, n + 16, sizeof *off);
    if (!off)
        return wn_fail(lo->err, WINNOW_E_NOMEM, "plan");
    if (p->kind == WN_Q8_DW)
        wn_q8_dw_link(&p->dw, koff, off);
    else if (p->kind == WN_Q8_GEMM)
        wn_q8_gemm_link(&p->gemm[g], koff, off);
    else if (p->kind == WN_Q8_STEM)
        wn_q8_stem_link(&p->stem, koff, off);
    else if (p->kind == WN_Q8_B4)
        wn_q8_spmm_b4_link(&p->b4[g], koff, off);
    else
        wn_q8_spmm_link(&p->spmm[g], koff, off);
    *ret_off = off;
    return WINNOW_OK;
}

/* Tiles of the widest kernels, whatever the instruction set. */
struct wn_tiling wn_q8_tiling(enum wn_q8_kind kind, unsigned block, size_t cols, size_t rows)
{
    struct wn_tiling t = { .cols = cols, .tile = 48, .step = WN_COLS, .rows = rows, .unit = 4 };
    switch (kind) {
    case WN_Q8_DW: /* channels know nothing of each other */
        t.tile = t.step = WN_MAX(cols, (size_t)1);
        break;
    case WN_Q8_GEMM:
        t.unit = 8;
        break;
    case WN_Q8_SPMM:
        t.tile = block == 4 ? 64 : 128;
        t.step = 32;
        break;
    case WN_Q8_B4: /* its kernels divide columns evenly themselves; 64 is no faster on two threads */
        t.tile = wn_round_up(cols / ((cols + 127) / 128 + !cols), WN_COLS);
        break;
    default:
        break;
    }
    return t;
}
