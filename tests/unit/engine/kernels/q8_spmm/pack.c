/* pack.c: what the streams of q8_spmm promise: every weight once, half-chains within their budgets, refusals. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include "engine/kernels/q8_spmm/q8_spmm.h"

static uint32_t state;

static unsigned next_random(unsigned n)
{
    state = state * 1664525u + 1013904223u;
    return (state >> 8) % n;
}

/* Every kind of row in turn: dense, sparse, of one sign, of extremes only, empty. */
static void fill(int8_t *w, size_t rows, size_t k)
{
    for (size_t o = 0; o < rows; o++)
        for (size_t i = 0; i < k; i++) {
            int v = (int)next_random(255) - 127;
            switch (o % 6) {
            case 1:
                v = next_random(20) ? 0 : v;
                break;
            case 2:
                v = abs(v);
                break;
            case 3:
                v = next_random(2) ? -128 : 127;
                break;
            case 4:
                v = 0;
                break;
            case 5:
                v /= 32;
                break;
            }
            w[o * k + i] = (int8_t)v;
        }
}

/* Adds a half-chain's weights to `seen` and checks its budgets. */
static void check_half(const uint32_t *w, const uint32_t *idx, unsigned s, int *seen)
{
    int positive = 0, negative = 0;
    for (unsigned i = 0; i < s; i++) {
        cr_assert_eq(w[i] >> 16, w[i] & 0xffff);
        for (unsigned j = 0; j < 2; j++) {
            int v = (int8_t)(w[i] >> 8 * j);
            *(v > 0 ? &positive : &negative) += v;
            seen[idx[2 * i + j]] += v;
        }
    }
    cr_assert_leq(positive, WN_Q8_SPMM_BUDGET);
    cr_assert_geq(negative, -WN_Q8_SPMM_BUDGET);
}

Test(q8_spmm_pack, pair_keeps_its_budgets)
{
    enum { ROWS = 12, K = 301 };
    static int8_t w[ROWS * K];
    struct wn_arena arena = { 0 };
    struct wn_q8_spmm mat;
    state = 7;
    fill(w, ROWS, K);
    cr_assert_eq(wn_q8_spmm_pack(WN_Q8_SPMM_PAIR, 1, w, ROWS, K, &arena, &mat, NULL), WINNOW_OK);
    for (size_t o = 0; o < ROWS; o++) {
        int seen[K] = { 0 };
        const uint32_t *at = mat.w + mat.row[o].at, *idx = mat.idx + 2 * (size_t)mat.row[o].at;
        for (unsigned s = WN_Q8_SPMM_MAX_S; s >= 1; s--)
            for (unsigned i = 0; i < 2u * mat.row[o].steps[s - 1]; i++, at += s, idx += 2 * s)
                check_half(at, idx, s, seen);
        for (size_t i = 0; i < K; i++)
            cr_assert_eq(seen[i], w[o * K + i], "row %zu, weight %zu", o, i);
    }
    wn_arena_done(&arena);
}

Test(q8_spmm_pack, pair_is_tight)
{
    enum { K = 64 };
    int8_t w[K];
    struct wn_arena arena = { 0 };
    struct wn_q8_spmm mat;
    for (size_t i = 0; i < K; i++)
        w[i] = i % 2 ? -60 : 60; /* two of each sign fit a half-chain: eight to a step of kind 2 */
    cr_assert_eq(wn_q8_spmm_pack(WN_Q8_SPMM_PAIR, 1, w, 1, K, &arena, &mat, NULL), WINNOW_OK);
    cr_assert_eq(mat.noffs, K + WN_Q8_SPMM_AHEAD);
    cr_assert_eq(mat.row[0].steps[1], K / 8);
    wn_arena_done(&arena);
}

/* The last block is short of rows. */
static void check_quads(unsigned block)
{
    enum { ROWS = 13, K = 67 };
    static int8_t w[ROWS * K];
    struct wn_arena arena = { 0 };
    struct wn_q8_spmm mat;
    state = 9;
    fill(w, ROWS, K);
    cr_assert_eq(wn_q8_spmm_pack(WN_Q8_SPMM_QUAD, block, w, ROWS, K, &arena, &mat, NULL), WINNOW_OK);
    for (size_t o = 0; o < wn_round_up(ROWS, block); o++) {
        int seen[K] = { 0 };
        const struct wn_q8_spmm_row *row = &mat.row[o / block];
        for (size_t i = 0; i < 4 * (size_t)row->steps[0]; i++)
            seen[mat.idx[4 * (size_t)row->at + i]] +=
                (int8_t)(mat.w[(row->at + i / 4) * block + o % block] >> 8 * (i % 4));
        for (size_t i = 0; i < K; i++)
            cr_assert_eq(seen[i], o < ROWS ? w[o * K + i] : 0, "block %u, row %zu, weight %zu", block, o, i);
    }
    wn_arena_done(&arena);
}

Test(q8_spmm_pack, quads_have_every_weight_once)
{
    check_quads(1);
    check_quads(2);
    check_quads(4);
}

/* Positions are stored once for all rows of a block. */
Test(q8_spmm_pack, quads_of_blocks_share_positions)
{
    static const int8_t w[4][8] = {
        { 0, 1, 0, 0, 2, 0, 0, 3 }, { 0, 4, 0, 0, 5, 0, 0, 6 }, { 0, 7, 0, 0, 0, 0, 0, 8 }, { 0, 9, 0, 0, 9, 0, 0, 9 }
    };
    struct wn_arena arena = { 0 };
    struct wn_q8_spmm mat;
    cr_assert_eq(wn_q8_spmm_pack(WN_Q8_SPMM_QUAD, 4, w[0], 4, 8, &arena, &mat, NULL), WINNOW_OK);
    cr_assert_eq(mat.noffs, 4 + WN_Q8_SPMM_AHEAD); /* three, and one that pads */
    cr_assert_eq(mat.row[0].steps[0], 1);
    wn_arena_done(&arena);
}

Test(q8_spmm_pack, refuses)
{
    struct wn_arena arena, none = { 0 };
    struct wn_q8_spmm mat = { .rows = 77 };
    struct winnow_err err = { 0 };
    int8_t w[8] = { 1, 2, 3, 4, 5, 6, 7, 8 };
    cr_assert_eq(wn_q8_spmm_pack(WN_Q8_SPMM_PAIR, 1, w, 1, 40000, &none, &mat, &err), WINNOW_E_TOO_LARGE);
    cr_assert(strstr(err.msg, "40000"));
    for (unsigned stream = 0; stream < WN_Q8_SPMM_STREAMS; stream++) {
        wn_arena_init(&arena, 1);
        cr_assert_eq(wn_q8_spmm_pack((enum wn_q8_spmm_stream)stream, 1, w, 2, 4, &arena, &mat, &err), WINNOW_E_NOMEM);
        wn_arena_done(&arena);
    }
    cr_assert_eq(mat.rows, 77, "untouched on failure");
}

Test(q8_spmm_pack, link_follows_the_geometry)
{
    int8_t w[6] = { 0, 3, 0, -4, 0, 5 };
    int32_t koff[6] = { 0, -10, 20, 30, 40, 50 }, off[4 + WN_Q8_SPMM_AHEAD];
    struct wn_arena arena = { 0 };
    struct wn_q8_spmm mat;
    cr_assert_eq(wn_q8_spmm_pack(WN_Q8_SPMM_QUAD, 1, w, 1, 6, &arena, &mat, NULL), WINNOW_OK);
    cr_assert_eq(mat.nnz, 3);
    cr_assert_eq(mat.noffs, WN_COUNT(off));
    wn_q8_spmm_link(&mat, koff, off);
    cr_assert_eq(off[0], -10);
    cr_assert_eq(off[1], 30);
    cr_assert_eq(off[2], 50);
    cr_assert_eq(off[3], 50, "padding repeats a neighbour");
    wn_arena_done(&arena);
}
