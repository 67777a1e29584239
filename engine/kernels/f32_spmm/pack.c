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

/* ks per chunk: whole planes. */
static size_t choose_chunk(size_t rows, size_t k, size_t taps, size_t nnz)
{
    const double per_k = rows && k ? (double)nnz / (double)rows / (double)k : 0;
    size_t planes = taps > 1 ? CHUNK_PLANES * 3 / 8 : CHUNK_PLANES;
    while (planes * taps < k && per_k * (double)(planes * taps) < CHUNK_NNZ)
        planes += planes / 2;
    return WN_MAX(WN_MIN(planes * taps, k), (size_t)1);
}

enum winnow_status wn_f32_spmm_pack(struct wn_arena *arena, const float *w, size_t rows, size_t k, size_t taps,
                                    struct wn_f32_spmm *ret_mat, struct winnow_err *err)
{
    size_t total;
    if (!wn_mul_size(rows, k, &total) || total > UINT32_MAX - 1)
        return wn_fail(err, WINNOW_E_TOO_LARGE, "sparse weights (%zu, %zu): 2^32 or more", rows, k);
    const size_t nnz = count_nonzeros(w, total), kc = choose_chunk(rows, k, taps, nnz);
    const size_t chunks = k ? (k + kc - 1) / kc : 1;
    uint32_t *at = wn_arena_calloc(arena, chunks * (rows + 1), sizeof *at);
    float *val = wn_arena_calloc(arena, nnz, sizeof *val);
    uint32_t *idx = wn_arena_calloc(arena, nnz, sizeof *idx);
    if (!at || !val || !idx)
        return wn_fail(err, WINNOW_E_NOMEM, "sparse weights (%zu, %zu), %zu non-zeros", rows, k, nnz);
    uint32_t n = 0;
    for (size_t c = 0; c < chunks; c++) {
        const size_t end = WN_MIN((c + 1) * kc, k);
        for (size_t o = 0; o < rows; o++) {
            at[c * (rows + 1) + o] = n;
            for (size_t j = c * kc; j < end; j++)
                if (w[o * k + j] != 0.0f) {
                    val[n] = w[o * k + j];
                    idx[n++] = (uint32_t)j;
                }
        }
        at[c * (rows + 1) + rows] = n;
    }
    *ret_mat =
        (struct wn_f32_spmm){ .rows = rows, .k = k, .chunks = chunks, .nnz = nnz, .at = at, .val = val, .idx = idx };
    return WINNOW_OK;
}

void wn_f32_spmm_link(const struct wn_f32_spmm *mat, const int32_t *koff, int32_t *off)
{
    for (size_t i = 0; i < mat->nnz; i++)
        off[i] = koff[mat->idx[i]];
}
