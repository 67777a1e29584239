/* q8_pack.c: what the AVX2 streams promise: no partial sum can leave 16 bits, nothing is lost, limits are refused. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include "engine/kernels/q8_gemm/q8_gemm.h"
#include "engine/kernels/q8_gemv/q8_gemv.h"
#include "engine/kernels/q8_spmm_b4/q8_spmm_b4.h"
#include "engine/kernels/q8_stem/q8_stem.h"

/* Weights with runs of one sign and all of -128, +127 and small ones. */
static void fill(int8_t *w, size_t n, unsigned seed)
{
    static const int8_t some[] = { -128, 127, 127, 100, -100, 90, 64, -64, 3, -1, 0, 0, 0, 0 };
    for (size_t i = 0; i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        w[i] = some[(seed >> 20) % WN_COUNT(some)];
    }
}

/* Add the quad's weights to its four budgets: [lane][sign]. */
static void use(unsigned used[4], int32_t quad)
{
    int8_t w[4];
    memcpy(w, &quad, 4);
    for (unsigned i = 0; i < 4; i++)
        used[i / 2 * 2 + (w[i] < 0)] += (unsigned)abs(w[i]);
}

/* A step of a chain: absolute weights and the mask that gives activations their signs. */
static void add(int *row, unsigned used[2], uint32_t kq, const int32_t step[2], int32_t *shift)
{
    uint8_t size[4], mask[4];
    memcpy(size, &step[0], 4);
    memcpy(mask, &step[1], 4);
    for (unsigned i = 0; i < 4; i++) {
        cr_assert(mask[i] == 0x80 || mask[i] == 0x7f);
        row[4 * kq + i] += mask[i] == 0x80 ? size[i] : -size[i];
        *shift += mask[i] == 0x80 ? 128 * size[i] : -127 * size[i];
        used[i / 2] += size[i];
    }
}

Test(q8_pack, chains_keep_their_budgets)
{
    enum { ROWS = 7, C = 90, TAPS = 3 };
    int8_t w[ROWS * C * TAPS];
    for (unsigned round = 0; round < 2; round++) {
        struct wn_arena arena = { 0 };
        struct wn_q8_spmm_b4 mat;
        size_t quads = wn_q8_quads(C, TAPS);
        fill(w, sizeof w, round);
        cr_assert_eq(wn_q8_spmm_b4_pack(WN_Q8_SPMM_B4_CHAIN, w, ROWS, C, TAPS, &arena, &mat, NULL), WINNOW_OK);
        int8_t *natural = malloc(ROWS * 4 * quads);
        wn_q8_quads_weights(w, ROWS, C, TAPS, natural);
        for (size_t o = 0; o < ROWS; o++) {
            const struct wn_q8_spmm_b4_group *g = &mat.group[o / 4];
            int *sum = calloc(4 * quads, sizeof *sum);
            int32_t shift = 0;
            size_t at = g->at;
            for (size_t r = 0; r < o % 4; r++)
                at += g->chains[r] * g->s;
            for (size_t i = 0; i < g->chains[o % 4]; i++) {
                unsigned used[2] = { 0 };
                unsigned blocks = 0;
                for (unsigned s = 0; s < g->s; s++, at++) {
                    blocks += mat.w[2 * at] != 0;
                    add(sum, used, mat.idx[at], mat.w + 2 * at, &shift);
                }
                for (unsigned b = 0; b < 2; b++)
                    cr_assert_leq(used[b], blocks > 1 ? 255u : 256u); /* -128 twice, alone, is -32768 at least */
            }
            for (size_t k = 0; k < 4 * quads; k++)
                cr_assert_eq(sum[k], natural[o * 4 * quads + k]);
            cr_assert_eq(shift, mat.shift[o]);
            free(sum);
        }
        free(natural);
        wn_arena_done(&arena);
    }
}

Test(q8_pack, pairs_keep_their_budgets)
{
    enum { ROWS = 6, C = 210, TAPS = 3 };
    int8_t w[ROWS * C * TAPS];
    struct wn_arena arena = { 0 };
    struct wn_q8_gemm mat;
    fill(w, sizeof w, 7);
    cr_assert_eq(wn_q8_gemm_pack(WN_Q8_GEMM_PAIR, w, ROWS, C, TAPS, 255, &arena, &mat, NULL), WINNOW_OK);
    cr_assert_eq(2 * mat.pairs + mat.singles, mat.noffs);
    for (size_t g = 0; g < 2; g++) {
        const int32_t *step = mat.w + 8 * (size_t)mat.group[g].at;
        char *seen = calloc(mat.quads, 1);
        for (size_t i = 0; i < mat.group[g].pairs; i++, step += 8)
            for (size_t r = 0; r < 4; r++) {
                unsigned used[4] = { 0 };
                use(used, step[2 * r]);
                use(used, step[2 * r + 1]);
                for (unsigned b = 0; b < 4; b++)
                    cr_assert_leq(used[b], 128u);
            }
        for (size_t i = 0; i < mat.quads; i++)
            seen[mat.idx[g * mat.quads + i]]++;
        for (size_t i = 0; i < mat.quads; i++)
            cr_assert_eq(seen[i], 1);
        free(seen);
    }
    wn_arena_done(&arena);
}

Test(q8_pack, limits_are_refused)
{
    static const int8_t w[WN_Q8_MAX_K + 4];
    struct wn_arena arena = { 0 }, tight = { 0 };
    struct wn_q8_spmm_b4 b4;
    struct wn_q8_gemm gemm;
    struct wn_q8_gemv gemv;
    struct wn_q8_stem stem;
    struct winnow_err err;
    enum winnow_status big = WINNOW_E_TOO_LARGE;
    cr_assert_eq(wn_q8_spmm_b4_pack(WN_Q8_SPMM_B4_CHAIN, w, 1, WN_Q8_MAX_K + 1, 1, &arena, &b4, &err), big);
    cr_assert_eq(wn_q8_gemm_pack(WN_Q8_GEMM_PAIR, w, 1, WN_Q8_MAX_K + 1, 1, 255, &arena, &gemm, &err), big);
    cr_assert_eq(wn_q8_gemm_pack(WN_Q8_GEMM_PAIR, w, 0, 4, 1, 255, &arena, &gemm, &err), big);
    cr_assert_eq(wn_q8_gemm_pack(WN_Q8_GEMM_QUAD, w, SIZE_MAX / 2, 4, 1, 255, &arena, &gemm, &err), big);
    cr_assert_eq(wn_q8_gemv_pack(w, 1, WN_Q8_MAX_K + 1, &arena, &gemv, &err), big);
    cr_assert_eq(wn_q8_stem_pack(WN_Q8_GEMM_PAIR, w, 4, WN_Q8_STEM_MAX_K + 1, 255, &arena, &stem, &err), big);
    wn_arena_init(&tight, 64);
    cr_assert_eq(wn_q8_gemm_pack(WN_Q8_GEMM_PAIR, w, 4, 1024, 1, 255, &tight, &gemm, &err), WINNOW_E_NOMEM);
    cr_assert_eq(wn_q8_spmm_b4_pack(WN_Q8_SPMM_B4_PLAIN, w, 4, 1024, 1, &tight, &b4, &err), WINNOW_E_NOMEM);
    wn_arena_done(&tight);
    wn_arena_done(&arena);
}

Test(q8_pack, all_zero_weights_pack)
{
    static const int8_t w[5 * 64];
    struct wn_arena arena = { 0 };
    struct wn_q8_spmm_b4 mat;
    for (int s = WN_Q8_SPMM_B4_CHAIN; s <= WN_Q8_SPMM_B4_QUAD; s++) {
        cr_assert_eq(wn_q8_spmm_b4_pack((enum wn_q8_spmm_b4_stream)s, w, 5, 64, 1, &arena, &mat, NULL), WINNOW_OK);
        cr_assert_eq(mat.steps, 0);
        cr_assert_eq(mat.noffs, WN_Q8_SPMM_B4_AHEAD);
    }
    wn_arena_done(&arena);
}
