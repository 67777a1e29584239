/* f32_pack.c: packing f32 weights into the form of the family that was chosen for them. */
#include "engine/plan/f32_pack.h"

#include <stdlib.h>
#include "engine/plan/packs.h"

static void pack_free(void *obj)
{
    struct wn_f32_pack *p = obj;
    wn_vec_done(&p->blocks.block);
    wn_arena_done(&p->arena);
    free(p);
}

static enum winnow_status pack_group(struct wn_f32_pack *p, const float *w, size_t g, const struct wn_f32_pack_arg *a,
                                     struct winnow_err *err)
{
    const float *from = w + g * a->rows * a->k;
    if (a->family == WN_FAMILY_f32_conv)
        return wn_f32_conv_pack(&p->arena, from, a->rows, a->k / a->taps, a->taps, &p->conv[g], err);
    if (a->family != WN_FAMILY_f32_gemm)
        return wn_f32_spmm_pack(&p->arena, from, a->rows, a->k, a->taps, wn_family_block(a->family), &p->spmm[g], err);
    return wn_f32_gemm_pack(&p->arena, from, a->rows, a->k, &p->gemm[g], err);
}

static enum winnow_status pack_make(const struct wn_tensor *w, const void *arg, void **ret_obj, size_t *ret_bytes,
                                    struct winnow_err *err)
{
    const struct wn_f32_pack_arg *a = arg;
    struct wn_f32_pack *p = calloc(1, sizeof *p);
    if (!p)
        return wn_fail(err, WINNOW_E_NOMEM, "packing weights");
    wn_arena_init(&p->arena, 0);
    p->arena.huge = true;
    p->family = a->family;
    p->groups = a->groups;
    p->rows = a->rows;
    p->k = a->k;
    p->gemm = wn_arena_calloc(&p->arena, a->groups, sizeof *p->gemm);
    p->conv = wn_arena_calloc(&p->arena, a->groups, sizeof *p->conv);
    p->spmm = wn_arena_calloc(&p->arena, a->groups, sizeof *p->spmm);
    enum winnow_status status =
        p->gemm && p->conv && p->spmm ? WINNOW_OK : wn_fail(err, WINNOW_E_NOMEM, "packing weights");
    for (size_t g = 0; g < a->groups && status == WINNOW_OK; g++)
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

/* What is large lies in the pack's arena; the matrices that point into it are copied. */
static void pack_image(struct wn_codec *im, void *obj)
{
    struct wn_f32_pack *p = obj;
    wn_codec_blocks(im, &p->blocks);
    struct wn_arena *outer = im->arena;
    im->arena = &p->arena;
    WN_CODEC(im, p->family);
    WN_CODEC(im, p->rows);
    WN_CODEC(im, p->k);
    wn_codec_count(im, &p->groups, (size_t)1 << 20);
    wn_codec_copied(im, (const void **)&p->gemm, p->groups * sizeof *p->gemm);
    wn_codec_copied(im, (const void **)&p->conv, p->groups * sizeof *p->conv);
    wn_codec_copied(im, (const void **)&p->spmm, p->groups * sizeof *p->spmm);
    im->bad |= !p->gemm || !p->conv || !p->spmm;
    for (size_t g = 0; g < p->groups && !im->bad; g++) {
        wn_codec_into(im, &p->blocks, (const void **)&p->gemm[g].panels);
        wn_codec_into(im, &p->blocks, (const void **)&p->conv[g].panels);
        wn_codec_into(im, &p->blocks, (const void **)&p->spmm[g].at);
        wn_codec_into(im, &p->blocks, (const void **)&p->spmm[g].val);
        wn_codec_into(im, &p->blocks, (const void **)&p->spmm[g].idx);
    }
    im->arena = outer;
}

const struct wn_pack_class wn_f32_pack_class = { sizeof(struct wn_f32_pack), pack_free, wn_f32_unpack, pack_image };

const char *wn_f32_kernel_name(struct wn_lower *lo, enum wn_family family)
{
    const char *s = wn_arena_printf(&lo->plan->arena, "%s__%s", wn_family_name(family), wn_isa_name(wn_cpu_isa()));
    return s ? s : "";
}

enum winnow_status wn_f32_pack_get(struct wn_lower *lo, const struct wn_tensor *w, const struct wn_f32_pack_arg *arg,
                                   const struct wn_f32_pack **ret_pack, size_t *ret_bytes)
{
    const char *kind = wn_arena_printf(&lo->plan->arena, "f32conv %s g%zu t%zu", wn_f32_kernel_name(lo, arg->family),
                                       arg->groups, arg->taps);
    struct wn_pack_maker maker = { kind, pack_make, &wn_f32_pack_class, arg };
    if (!kind)
        return wn_fail(lo->err, WINNOW_E_NOMEM, "plan");
    WN_TRY(wn_packs_get(lo->model->packs, w, &maker, (const void **)ret_pack, ret_bytes, lo->err));
    wn_facts_origin(lo->model->facts, w, *ret_pack, wn_f32_unpack);
    return WINNOW_OK;
}

enum winnow_status wn_f32_pack_link(struct wn_lower *lo, const struct wn_f32_pack *pack, size_t g, const int32_t *koff,
                                    const int32_t **ret_off)
{
    *ret_off = koff;
    if (pack->family == WN_FAMILY_f32_gemm || pack->family == WN_FAMILY_f32_conv)
        return WINNOW_OK;
    int32_t *off = wn_arena_calloc(&lo->plan->arena, pack->spmm[g].stored + WN_F32_SPMM_AHEAD, sizeof *off);
    if (!off)
        return wn_fail(lo->err, WINNOW_E_NOMEM, "plan");
    wn_f32_spmm_link(&pack->spmm[g], koff, off);
    *ret_off = off;
    return WINNOW_OK;
}

struct wn_tiling wn_f32_tiling(enum wn_family family, size_t cols, size_t rows)
{
    const bool wide = wn_cpu_is_wide();
    struct wn_tiling t = { .cols = cols, .step = WN_COLS, .rows = rows, .unit = WN_F32_PACK_ROWS };
    t.tile = family == WN_FAMILY_f32_spmm       ? (wide ? 128 : 48)
             : family == WN_FAMILY_f32_spmm_2x1 ? (wide ? 96 : 32)
             : family == WN_FAMILY_f32_spmm_4x1 ? (wide ? 64 : 48)
                                                : 64; /* f32_gemm: 64 columns or 16 */
    return t;
}
