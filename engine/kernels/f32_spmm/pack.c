/* pack.c: dense weights -> chunked row streams.
 *
 * CHUNKS  A tile of T columns reads k * T * 4 bytes again and again, once per row. Past the size of L1 that is bound by
 *         L2, so the matrix is cut along k; but a chunk costs one more pass over the sums, which only rows with enough
 *         non-zeros per chunk repay. Measured on Zen 3 (768x768 to 3072x768, 3x3 of 64 to 512 channels): best chunks
 *         128 ks at density 0.2, 192 at 0.1, 256-400 at 0.05, none at 0.025; with 3x3 taps, which overlap, three times
 *         that. Up to 1.6x faster than no chunks, and within 5 % of the best everywhere. */
#include "engine/kernels/f32_spmm/f32_spmm.h"

#include "winnow/winnow.h"

#define CHUNK_PLANES 128 /* a chunk's input planes, at least (a third of it when taps overlap) */
#define CHUNK_NNZ    18  /* a row's mean non-zeros in a chunk, at least */

static size_t count_nonzeros(const float *w, size_t n)
{
    size_t nnz = 0;
    for (size_t i = 0; i < n; i++)
        nnz += w[i] != 0.0f; /* NaN counts */
    return nnz;
}

/* ks per chunk: whole planes. `stored` positions of all blocks. */
static size_t choose_chunk(size_t blocks, size_t k, size_t taps, size_t stored)
{
    const double per_k = blocks && k ? (double)stored / (double)blocks / (double)k : 0;
    size_t planes = taps > 1 ? CHUNK_PLANES * 3 / 8 : CHUNK_PLANES;
    while (planes * taps < k && per_k * (double)(planes * taps) < CHUNK_NNZ)
        planes += planes / 2;
    return WN_MAX(WN_MIN(planes * taps, k), (size_t)1);
}

struct packer {
    const float *w;
    size_t rows, k;
    unsigned block;
    float *val; /* NULL: only count */
    uint32_t *idx;
};

/* The positions k0 .. k1 - 1 of the block that begins with row o, from position n on; returns their end. */
static uint32_t put_block(const struct packer *p, size_t o, size_t k0, size_t k1, uint32_t n)
{
    const size_t nrows = WN_MIN(p->rows - o, p->block);
    for (size_t j = k0; j < k1; j++) {
        const float *w = p->w + o * p->k + j;
        bool any = false;
        for (size_t r = 0; r < nrows; r++)
            any |= w[r * p->k] != 0.0f; /* NaN counts */
        if (!any)
            continue;
        for (size_t r = 0; p->val && r < nrows; r++)
            p->val[(size_t)n * p->block + r] = w[r * p->k];
        if (p->idx)
            p->idx[n] = (uint32_t)j;
        n++;
    }
    return n;
}

static size_t count_positions(const struct packer *p)
{
    size_t n = 0;
    for (size_t o = 0; o < p->rows; o += p->block)
        n += put_block(p, o, 0, p->k, 0);
    return n;
}

enum winnow_status wn_f32_spmm_pack(struct wn_arena *arena, const float *w, size_t rows, size_t k, size_t taps,
                                    unsigned block, struct wn_f32_spmm *ret_mat, struct winnow_err *err)
{
    size_t total;
    struct packer p = { .w = w, .rows = rows, .k = k, .block = block };
    if (!wn_mul_size(rows, k, &total) || total > UINT32_MAX - 1)
        return wn_fail(err, WINNOW_E_TOO_LARGE, "sparse weights (%zu, %zu): 2^32 or more", rows, k);
    const size_t nnz = count_nonzeros(w, total), stored = count_positions(&p);
    const size_t blocks = (rows + block - 1) / block, kc = choose_chunk(blocks, k, taps, stored);
    const size_t chunks = k ? (k + kc - 1) / kc : 1;
    uint32_t *at = wn_arena_calloc(arena, chunks * (blocks + 1), sizeof *at), n = 0;
    p.val = wn_arena_calloc(arena, stored, block * sizeof *p.val);
    p.idx = wn_arena_calloc(arena, stored, sizeof *p.idx);
    if (!at || !p.val || !p.idx)
        return wn_fail(err, WINNOW_E_NOMEM, "sparse weights (%zu, %zu), %zu non-zeros", rows, k, nnz);
    for (size_t c = 0; c < chunks; c++) {
        uint32_t *to = at + c * (blocks + 1);
        for (size_t b = 0; b < blocks; b++) {
            to[b] = n;
            n = put_block(&p, b * block, c * kc, WN_MIN((c + 1) * kc, k), n);
        }
        to[blocks] = n;
    }
    *ret_mat = (struct wn_f32_spmm){ .block = block,
                                     .rows = rows,
                                     .k = k,
                                     .chunks = chunks,
                                     .nnz = nnz,
                                     .stored = stored,
                                     .at = at,
                                     .val = p.val,
                                     .idx = p.idx };
    return WINNOW_OK;
}

void wn_f32_spmm_link(const struct wn_f32_spmm *mat, const int32_t *koff, int32_t *off)
{
    for (size_t i = 0; i < mat->stored; i++)
        off[i] = koff[mat->idx[i]];
    for (size_t i = 0; i < WN_F32_SPMM_AHEAD; i++)
        off[mat->stored + i] = 0;
}
