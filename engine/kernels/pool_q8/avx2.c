/* avx2.c: three ways for a row of outputs.
 *
 * Maxima of stride 1: down the rows into a line with zeros beside it, then across; several lines at a time, for what
 * was just stored is slow to load from elsewhere. Of stride 2, where no tap leaves the input: all taps of 8 quads or 32
 * bytes in one register; the few columns at the edges one by one. Everything else: up to BLOCK columns at a time, each
 * tap of the window contributes a row of bytes, gathered by the stride, with 0 where the tap is outside the input: 0
 * changes neither a maximum nor a sum. */
#include "engine/kernels/pool_q8/pool_q8.h"

#include "engine/kernels/q8_bytes_avx2.h"

#define BLOCK 128u /* output columns */

/* ---- windows ---- */
struct range {
    uint32_t from, to;
};

struct row {
    uint8_t tap[4 * BLOCK], top[4 * BLOCK];
    __m256i sum[4 * BLOCK / 32][4];      /* order of wn_q8_widen() */
    int32_t ox;                          /* first column of the block */
    size_t n;                            /* columns */
    struct range range[16];              /* taps_inside() of the first taps of a row */
    int32_t real[BLOCK], counted[BLOCK]; /* taps of a row of the window, by column */
    struct wn_pool_q8_axis v;            /* rows of the window that mul and zero were made for */
    float mul[BLOCK + 32];               /* by column */
    int32_t zero[BLOCK + 32];            /* real elements times x_zp, by column */
    bool any_empty;                      /* some window has no elements */
};

/* Floor and ceiling of a / b, b > 0. */
static int64_t floor_div(int64_t a, int64_t b)
{
    return a >= 0 ? a / b : -((-a + b - 1) / b);
}

static int64_t ceil_div(int64_t a, int64_t b)
{
    return -floor_div(-a, b);
}

/* Outputs of the block, counted from its first, whose tap kx is inside the row. */
static struct range taps_inside(const struct wn_pool_q8 *p, int32_t kx, int32_t ox, size_t n)
{
    int64_t shift = (int64_t)kx * p->dil_w - p->pad_l, last = ox + (int64_t)n;
    int64_t from = WN_MIN(WN_MAX(ceil_div(-shift, p->stride_w), (int64_t)ox), last);
    int64_t to = WN_MIN(WN_MAX(floor_div(p->in.w - 1 - shift, p->stride_w) + 1, from), last);
    return (struct range){ (uint32_t)(from - ox), (uint32_t)(to - ox) };
}

/* Tap kx of the block's outputs from the input row x into r->tap. */
static void gather_tap(const struct wn_pool_q8 *p, const uint8_t *x, int32_t kx, struct row *r)
{
    size_t lanes = wn_q8_lanes(p->form);
    struct range g = kx < (int32_t)WN_COUNT(r->range) ? r->range[kx] : taps_inside(p, kx, r->ox, r->n);
    int64_t at = ((int64_t)r->ox + g.from) * p->stride_w + (int64_t)kx * p->dil_w - p->pad_l;
    if (g.from)
        memset(r->tap, 0, lanes * g.from);
    if (g.from < g.to)
        wn_q8_every_nth(x + (ptrdiff_t)lanes * at, lanes, (size_t)p->stride_w, g.to - g.from, r->tap + lanes * g.from);
    if (g.to < r->n)
        memset(r->tap + lanes * g.to, 0, lanes * (r->n - g.to));
}

/* Whole vectors; the bytes behind the block's end are garbage that nothing uses. */
static void add_tap(struct row *r, size_t bytes)
{
    for (size_t i = 0; i < bytes; i += 32) {
        __m256i v[4], *sum = r->sum[i / 32];
        wn_q8_widen(_mm256_loadu_si256((const __m256i *)(r->tap + i)), v);
        for (unsigned k = 0; k < 4; k++)
            sum[k] = _mm256_add_epi32(sum[k], v[k]);
    }
}

static void max_tap(struct row *r, size_t bytes)
{
    for (size_t i = 0; i < bytes; i += 32) {
        __m256i top = _mm256_loadu_si256((const __m256i *)(r->top + i));
        top = _mm256_max_epu8(top, _mm256_loadu_si256((const __m256i *)(r->tap + i)));
        _mm256_storeu_si256((__m256i *)(r->top + i), top);
    }
}

/* The columns of a block: the same for all rows and channels. */
static void plan_columns(const struct wn_pool_q8 *p, int32_t ox, struct row *r)
{
    r->ox = ox;
    r->n = WN_MIN((size_t)(p->out.w - ox), (size_t)BLOCK);
    r->v = (struct wn_pool_q8_axis){ -1, -1, -1 };
    for (int32_t kx = 0; kx < WN_MIN(p->kw, (int32_t)WN_COUNT(r->range)); kx++)
        r->range[kx] = taps_inside(p, kx, ox, r->n);
    for (size_t c = 0; c < r->n; c++) {
        struct wn_pool_q8_axis u = wn_pool_q8_axis_at(ox + (int32_t)c, p->kw, p->stride_w, p->dil_w, p->pad_l, p->pad_r,
                                                      p->in.w, p->count_include_pad);
        r->real[c] = u.end - u.first;
        r->counted[c] = u.counted;
    }
}

/* What the columns divide by, and what their zero points amount to, for windows with v's rows. */
static void plan_row(const struct wn_pool_q8 *p, struct wn_pool_q8_axis v, struct row *r)
{
    if (v.end - v.first == r->v.end - r->v.first && v.counted == r->v.counted && r->v.end >= 0)
        return;
    r->v = v;
    r->any_empty = false;
    for (size_t c = 0; c < r->n; c++) {
        int32_t real = (v.end - v.first) * r->real[c];
        r->any_empty |= !real;
        r->zero[c] = real * p->x_zp;
        r->mul[c] = real ? p->mul / (float)(v.counted * r->counted[c]) : 0.0f;
    }
}

/* Dword k of every lane group in the order of wn_q8_widen(), from values by column: byte i is column c. */
WN_Q8_INLINE __m256i by_column(const int32_t *of, enum wn_q8_out form, size_t i, unsigned k)
{
    if (form == WN_OUT_QUAD)
        return _mm256_setr_m128i(_mm_set1_epi32(of[i / 4 + k]), _mm_set1_epi32(of[i / 4 + 4 + k]));
    return _mm256_loadu2_m128i((const __m128i *)(of + i + 4 * k + 16), (const __m128i *)(of + i + 4 * k));
}

static void finish_row(const struct wn_pool_q8 *p, const struct wn_q8_avx2 *e, const struct row *r, size_t c,
                       uint8_t *y)
{
    size_t lanes = wn_q8_lanes(p->form), bytes = r->n * lanes;
    for (size_t i = 0; i < bytes; i += 32) {
        __m256i v = _mm256_loadu_si256((const __m256i *)(r->top + i));
        if (p->kind == WN_POOL_Q8_AVERAGE) {
            __m256 f[4];
            for (unsigned k = 0; k < 4; k++) {
                __m256i sum = _mm256_sub_epi32(r->sum[i / 32][k], by_column(r->zero, p->form, i, k));
                __m256i mul = by_column((const int32_t *)(const void *)r->mul, p->form, i, k);
                f[k] = _mm256_mul_ps(_mm256_cvtepi32_ps(sum), _mm256_castsi256_ps(mul));
            }
            v = wn_q8_narrow(e, f);
        }
        v = wn_q8_padded(e, v, wn_q8_keep32(p->form, c, p->channels, NULL, i, bytes));
        wn_q8_store32(y + i, v, bytes - i);
    }
    for (size_t j = 0; r->any_empty && j < r->n; j++)
        if (!(r->v.end - r->v.first) || !r->real[j])
            memset(y + lanes * j, p->y_zp, lanes);
}

/* ---- maxima in registers ---- */
#define LINES 64 /* rows of outputs whose lines are found at once */

/* One row of outputs: its rows of the input. */
struct line {
    size_t from; /* bytes from a plane's element 0 to the first tap's row */
    int32_t rows;
};

/* Bytes from one tap's row to the next. */
WN_Q8_INLINE size_t row_bytes(const struct wn_pool_q8 *p)
{
    return (size_t)p->in.pitch * wn_q8_lanes(p->form) * (size_t)p->dil_h;
}

/* Every other column of two vectors, from the first or the second on; quads 0, 1, 4, 5, 2, ... (bytes likewise in
 * eights): the lanes' halves are put in order at the end. */
WN_Q8_INLINE __m256i evens(__m256i v, __m256i w, size_t lanes)
{
    const __m256i low = _mm256_set1_epi16(0xff);
    if (lanes == 4)
        return _mm256_castps_si256(_mm256_shuffle_ps(_mm256_castsi256_ps(v), _mm256_castsi256_ps(w), 0x88));
    return _mm256_packus_epi16(_mm256_and_si256(v, low), _mm256_and_si256(w, low));
}

WN_Q8_INLINE __m256i odds(__m256i v, __m256i w, size_t lanes)
{
    if (lanes == 4)
        return _mm256_castps_si256(_mm256_shuffle_ps(_mm256_castsi256_ps(v), _mm256_castsi256_ps(w), 0xdd));
    return _mm256_packus_epi16(_mm256_srli_epi16(v, 8), _mm256_srli_epi16(w, 8));
}

/* 32 bytes of outputs from the windows at x, of stride 2: first down the rows, then across; two taps that are
 * neighbours come out of the same vectors. */
WN_Q8_INLINE __m256i max_vector(const struct wn_pool_q8 *p, const uint8_t *x, int32_t rows, size_t lanes)
{
    const size_t step = lanes * (size_t)p->dil_w, row = row_bytes(p);
    const bool pairs = p->dil_w == 1;
    __m256i top = _mm256_setzero_si256();
    for (int32_t kx = 0; kx < p->kw; kx += pairs ? 2 : 1) {
        const uint8_t *at = x + (size_t)kx * step;
        __m256i v = _mm256_setzero_si256(), w = v;
        for (int32_t ky = 0; ky < rows; ky++, at += row) {
            v = _mm256_max_epu8(v, _mm256_loadu_si256((const __m256i *)at));
            w = _mm256_max_epu8(w, _mm256_loadu_si256((const __m256i *)(at + 32)));
        }
        top = _mm256_max_epu8(top, evens(v, w, lanes));
        if (pairs && kx + 1 < p->kw)
            top = _mm256_max_epu8(top, odds(v, w, lanes));
    }
    return _mm256_permute4x64_epi64(top, 0xd8);
}

/* The largest of `rows` rows of `bytes` (at most 16) that lie `row` apart, those of a lane with each other. */
WN_Q8_INLINE uint32_t max_of_rows(const uint8_t *x, int32_t rows, size_t row, size_t bytes, size_t lanes)
{
    static const int8_t live[32] = { [0 ... 15] = -1 };
    __m128i top = _mm_setzero_si128();
    for (int32_t ky = 0; ky < rows; ky++)
        top = _mm_max_epu8(top, _mm_loadu_si128((const __m128i *)(x + (size_t)ky * row)));
    top = _mm_and_si128(top, _mm_loadu_si128((const __m128i *)(live + 16 - bytes)));
    top = _mm_max_epu8(top, _mm_srli_si128(top, 8));
    top = _mm_max_epu8(top, _mm_srli_si128(top, 4));
    if (lanes == 1) {
        top = _mm_max_epu8(top, _mm_srli_si128(top, 2));
        top = _mm_max_epu8(top, _mm_srli_si128(top, 1));
    }
    return (uint32_t)_mm_cvtsi128_si32(top);
}

/* Column ox of n lines, y that of the first. */
static void max_edge(const struct wn_pool_q8 *p, const uint8_t *x0, const struct line *l, size_t n, int32_t ox,
                     size_t live, uint8_t *y)
{
    size_t lanes = wn_q8_lanes(p->form), row = row_bytes(p), step = lanes * (size_t)p->dil_w;
    struct wn_pool_q8_axis u =
        wn_pool_q8_axis_at(ox, p->kw, p->stride_w, p->dil_w, p->pad_l, p->pad_r, p->in.w, p->count_include_pad);
    ptrdiff_t at = (ptrdiff_t)ox * p->stride_w - p->pad_l + (ptrdiff_t)u.first * p->dil_w;
    const size_t bytes = u.first < u.end ? (size_t)(u.end - u.first) * lanes : 0;
    const bool few = p->dil_w == 1 && bytes && bytes <= 16;
    for (size_t i = 0; i < n; i++, l++, y += lanes * (size_t)p->out.pitch) {
        uint8_t top[4] = { 0 };
        if (few && l->rows) {
            uint32_t all = max_of_rows(x0 + l->from + (ptrdiff_t)lanes * at, l->rows, row, bytes, lanes);
            memcpy(top, &all, sizeof top);
        }
        for (int32_t ky = 0; ky < l->rows && !few; ky++) {
            const uint8_t *x = x0 + l->from + (size_t)ky * row + (ptrdiff_t)lanes * at;
            for (int32_t kx = u.first; kx < u.end; kx++, x += step)
                for (size_t k = 0; k < lanes; k++)
                    top[k] = WN_MAX(top[k], x[k]);
        }
        for (size_t k = 0; k < lanes; k++)
            y[k] = l->rows && u.first < u.end && k < live ? top[k] : (uint8_t)p->y_zp;
    }
}

/* The outputs of a row none of whose taps leave the input; false when max_vector() does not apply or not pay. */
static bool columns_inside(const struct wn_pool_q8 *p, int32_t *lo, int32_t *hi)
{
    int64_t room = (int64_t)p->in.w - 1 + p->pad_l - (int64_t)(p->kw - 1) * p->dil_w;
    int64_t from = ceil_div(p->pad_l, p->stride_w), to = WN_MIN(floor_div(room, p->stride_w) + 1, (int64_t)p->out.w);
    if (p->kind != WN_POOL_Q8_MAX || p->stride_w != 2 || to - from < 32 / (int64_t)wn_q8_lanes(p->form))
        return false;
    *lo = (int32_t)from;
    *hi = (int32_t)to;
    return true;
}

static struct line line_of(const struct wn_pool_q8 *p, int32_t oy)
{
    struct wn_pool_q8_axis v =
        wn_pool_q8_axis_at(oy, p->kh, p->stride_h, p->dil_h, p->pad_t, p->pad_b, p->in.h, p->count_include_pad);
    int64_t y = (int64_t)oy * p->stride_h - p->pad_t + (int64_t)v.first * p->dil_h;
    struct line l = { .rows = v.end - v.first };
    if (l.rows)
        l.from = (size_t)p->in.pitch * wn_q8_lanes(p->form) * (size_t)y;
    return l;
}

/* Outputs [lo, hi) of one row; x: its first tap of output 0, y: output 0. */
WN_Q8_INLINE void max_row(const struct wn_pool_q8 *p, const struct wn_q8_avx2 *e, const uint8_t *x, int32_t rows,
                          __m256i keep, int32_t lo, int32_t hi, uint8_t *y, size_t lanes)
{
    const int32_t width = lanes == 4 ? 8 : 32;
    for (int32_t ox = lo; ox < hi; ox += width) {
        const int32_t at = WN_MIN(ox, hi - width); /* the last vector overlaps the one before it */
        __m256i top = max_vector(p, x + (ptrdiff_t)lanes * at * 2, rows, lanes);
        _mm256_storeu_si256((__m256i *)(y + lanes * (size_t)at), wn_q8_padded(e, top, keep));
    }
}

/* Channels from c on of the lines of rows [oy, oy + n): outputs [lo, hi) by vectors, those beside them one by one. */
static void max_lines(const struct wn_pool_q8 *p, const struct wn_q8_avx2 *e, size_t c, const struct line *line,
                      int32_t oy, size_t n, int32_t lo, int32_t hi)
{
    size_t lanes = wn_q8_lanes(p->form), pitch = lanes * (size_t)p->out.pitch;
    size_t live = WN_MIN(p->channels - c, lanes);
    const uint8_t *x = p->x + wn_q8_plane_of(p->form, c) * p->x_stride;
    uint8_t *y = p->y + wn_q8_plane_of(p->form, c) * p->y_stride + pitch * (size_t)oy;
    __m256i keep = wn_q8_keep32(p->form, c, p->channels, NULL, 0, 32);
    for (size_t i = 0; i < n; i++) {
        const uint8_t *at = x + line[i].from - (ptrdiff_t)lanes * p->pad_l;
        const int32_t rows = line[i].rows;
        uint8_t *to = y + i * pitch;
        if (!rows) /* windows without elements */
            memset(to + lanes * (size_t)lo, p->y_zp, lanes * (size_t)(hi - lo));
        else if (lanes == 4)
            max_row(p, e, at, rows, keep, lo, hi, to, 4);
        else
            max_row(p, e, at, rows, keep, lo, hi, to, 1);
    }
    for (int32_t ox = 0; ox < lo; ox++)
        max_edge(p, x, line, n, ox, live, y + lanes * (size_t)ox);
    for (int32_t ox = hi; ox < p->out.w; ox++)
        max_edge(p, x, line, n, ox, live, y + lanes * (size_t)ox);
}

static void max_in_registers(const struct wn_pool_q8 *p, const struct wn_q8_avx2 *e, size_t c0, size_t c1, int32_t lo,
                             int32_t hi)
{
    struct line line[LINES];
    for (int32_t oy = 0; oy < p->out.h; oy += LINES) {
        size_t n = WN_MIN((size_t)(p->out.h - oy), (size_t)LINES);
        for (size_t i = 0; i < n; i++)
            line[i] = line_of(p, oy + (int32_t)i);
        for (size_t c = c0; c < c1; c += wn_q8_lanes(p->form))
            max_lines(p, e, c, line, oy, n, lo, hi);
    }
}

/* ---- maxima of stride 1 ---- */
#define LINE_BYTES ((size_t)16 << 10) /* of the lines that are in work at a time */

/* Lines as long as the taps of a row of outputs reach, zeros where that is outside the input. */
struct lines {
    size_t before, inside, bytes; /* zeros before, bytes of the input, all of them with room for whole vectors */
    size_t n;                     /* at a time */
    uint8_t at[LINE_BYTES];
};

/* False where some window lies beside the input, or a line is too long. */
static bool lines_fit(const struct wn_pool_q8 *p, struct lines *l)
{
    const size_t lanes = wn_q8_lanes(p->form);
    const int64_t reach = (int64_t)(p->kw - 1) * p->dil_w, span = p->out.w + reach;
    const int64_t inside = WN_MIN((int64_t)p->in.w, span - p->pad_l);
    if (p->kind != WN_POOL_Q8_MAX || p->stride_w != 1 || p->pad_l > reach || p->out.w - 1 - p->pad_l >= p->in.w ||
        span > (int64_t)(LINE_BYTES / lanes) - 64)
        return false;
    l->before = lanes * (size_t)p->pad_l;
    l->inside = lanes * (size_t)inside;
    l->bytes = wn_round_up(lanes * (size_t)span, 32) + 32;
    l->n = LINE_BYTES / l->bytes;
    return true;
}

static void max_down(const struct wn_pool_q8 *p, const struct lines *l, const uint8_t *x, int32_t rows, uint8_t *to)
{
    const size_t row = row_bytes(p);
    for (size_t i = 0; i < l->inside; i += 32) {
        __m256i top = _mm256_setzero_si256();
        for (int32_t ky = 0; ky < rows; ky++)
            top = _mm256_max_epu8(top, _mm256_loadu_si256((const __m256i *)(x + (size_t)ky * row + i)));
        _mm256_storeu_si256((__m256i *)(to + l->before + i), top);
    }
    memset(to + l->before + l->inside, 0, l->bytes - l->before - l->inside);
}

static void max_across(const struct wn_pool_q8 *p, const struct wn_q8_avx2 *e, __m256i keep, const uint8_t *line,
                       uint8_t *y)
{
    const size_t lanes = wn_q8_lanes(p->form), step = lanes * (size_t)p->dil_w, bytes = lanes * (size_t)p->out.w;
    for (size_t i = 0; i < bytes; i += 32) {
        __m256i top = _mm256_loadu_si256((const __m256i *)(line + i));
        for (int32_t kx = 1; kx < p->kw; kx++)
            top = _mm256_max_epu8(top, _mm256_loadu_si256((const __m256i *)(line + i + (size_t)kx * step)));
        wn_q8_store32(y + i, wn_q8_padded(e, top, keep), bytes - i);
    }
}

static void max_by_lines(const struct wn_pool_q8 *p, const struct wn_q8_avx2 *e, size_t c0, size_t c1, struct lines *l)
{
    const size_t lanes = wn_q8_lanes(p->form), pitch = lanes * (size_t)p->out.pitch;
    for (size_t i = 0; i < l->n; i++)
        memset(l->at + i * l->bytes, 0, l->before);
    for (size_t c = c0; c < c1; c += lanes) {
        const uint8_t *x = p->x + wn_q8_plane_of(p->form, c) * p->x_stride;
        uint8_t *y = p->y + wn_q8_plane_of(p->form, c) * p->y_stride;
        const __m256i keep = wn_q8_keep32(p->form, c, p->channels, NULL, 0, 32);
        for (size_t from = 0, n; from < (size_t)p->out.h; from += n) {
            n = WN_MIN((size_t)p->out.h - from, l->n);
            for (size_t i = 0; i < n; i++) {
                const struct line line = line_of(p, (int32_t)(from + i));
                max_down(p, l, x + line.from, line.rows, l->at + i * l->bytes);
            }
            for (size_t i = 0; i < n; i++)
                if (line_of(p, (int32_t)(from + i)).rows)
                    max_across(p, e, keep, l->at + i * l->bytes, y + (from + i) * pitch);
                else /* windows without elements */
                    memset(y + (from + i) * pitch, p->y_zp, lanes * (size_t)p->out.w);
        }
    }
}

/* ---- any window, a block of a row's columns ---- */
/* The block's outputs of row oy. */
static void pool_row(const struct wn_pool_q8 *p, const struct wn_q8_avx2 *e, size_t c, int32_t oy, struct row *r)
{
    size_t lanes = wn_q8_lanes(p->form), bytes = lanes * r->n;
    const uint8_t *x = p->x + wn_q8_plane_of(p->form, c) * p->x_stride;
    uint8_t *y = p->y + wn_q8_plane_of(p->form, c) * p->y_stride + lanes * ((size_t)oy * (size_t)p->out.pitch + (size_t)r->ox);
    struct wn_pool_q8_axis v =
        wn_pool_q8_axis_at(oy, p->kh, p->stride_h, p->dil_h, p->pad_t, p->pad_b, p->in.h, p->count_include_pad);
    plan_row(p, v, r);
    memset(r->top, 0, bytes);
    if (p->kind == WN_POOL_Q8_AVERAGE)
        memset(r->sum, 0, wn_round_up(bytes, 32) * 4);
    for (int32_t ky = v.first; ky < v.end; ky++) {
        int64_t row = (int64_t)oy * p->stride_h - p->pad_t + (int64_t)ky * p->dil_h;
        for (int32_t kx = 0; kx < p->kw; kx++) {
            gather_tap(p, x + (size_t)row * (size_t)p->in.pitch * lanes, kx, r);
            if (p->kind == WN_POOL_Q8_MAX)
                max_tap(r, bytes);
            else
                add_tap(r, bytes);
        }
    }
    finish_row(p, e, r, c, y);
}

void wn_pool_q8_32__avx2(const struct wn_pool_q8 *p, size_t c0, size_t c1)
{
    struct wn_q8_args q = { .y_zp = p->y_zp, .q_lo = p->q_lo, .q_hi = p->q_hi };
    const struct wn_q8_avx2 e = wn_q8_avx2_begin(&q);
    size_t lanes = wn_q8_lanes(p->form), h = (size_t)p->out.h, w = (size_t)p->out.w, pitch = (size_t)p->out.pitch;
    struct row r = { 0 };
    int32_t lo = 0, hi = 0;
    struct lines lines;
    const bool by_lines = lines_fit(p, &lines), in_registers = !by_lines && columns_inside(p, &lo, &hi);
    if (by_lines)
        max_by_lines(p, &e, c0, c1, &lines);
    if (in_registers)
        max_in_registers(p, &e, c0, c1, lo, hi);
    for (int32_t ox = 0; !by_lines && !in_registers && ox < p->out.w; ox += (int32_t)BLOCK) {
        plan_columns(p, ox, &r);
        for (size_t c = c0; c < c1; c += lanes)
            for (int32_t oy = 0; oy < p->out.h; oy++)
                pool_row(p, &e, c, oy, &r);
    }
    for (size_t c = c0; c < c1; c += lanes)
        for (size_t i = 0; i < h; i++) {
            size_t end = i * pitch + w, next = i + 1 < h ? (i + 1) * pitch : p->out.cols;
            uint8_t *pad = p->y + wn_q8_plane_of(p->form, c) * p->y_stride + lanes * end;
            if (next - end == 1 && lanes == 1) /* as a rule */
                *pad = (uint8_t)p->y_zp;
            else
                memset(pad, p->y_zp, lanes * (next - end));
        }
}

/* ---- the mean of a plane ---- */
/* 32 bytes of which n count, the others 0; they may be read. */
WN_Q8_INLINE __m256i first_bytes(const uint8_t *x, size_t n)
{
    static const int8_t live[64] = { [0 ... 31] = -1 };
    __m256i v = _mm256_loadu_si256((const __m256i *)x);
    return n >= 32 ? v : _mm256_and_si256(v, _mm256_loadu_si256((const __m256i *)(live + 32 - n)));
}

/* Sums of the four lanes of a quad. Words hold 256 bytes' sum for certain, then they are widened. */
static void sum_quads(const struct wn_pool_q8_global *p, const uint8_t *x, uint32_t sum[4])
{
    const __m256i low = _mm256_set1_epi16(0xff), word = _mm256_set1_epi32(0xffff);
    __m256i even = _mm256_setzero_si256(), odd = even, total[4] = { even, even, even, even };
    unsigned room = 256;
    for (int32_t y = 0; y < p->in.h; y++) {
        const uint8_t *row = x + 4 * (size_t)y * (size_t)p->in.pitch;
        for (size_t i = 0, bytes = 4 * (size_t)p->in.w; i < bytes; i += 32) {
            __m256i v = first_bytes(row + i, bytes - i);
            even = _mm256_add_epi16(even, _mm256_and_si256(v, low)); /* lanes 0 and 2 */
            odd = _mm256_add_epi16(odd, _mm256_srli_epi16(v, 8));    /* lanes 1 and 3 */
            if (--room && (y + 1 < p->in.h || i + 32 < bytes))
                continue;
            total[0] = _mm256_add_epi32(total[0], _mm256_and_si256(even, word));
            total[1] = _mm256_add_epi32(total[1], _mm256_and_si256(odd, word));
            total[2] = _mm256_add_epi32(total[2], _mm256_srli_epi32(even, 16));
            total[3] = _mm256_add_epi32(total[3], _mm256_srli_epi32(odd, 16));
            even = odd = _mm256_setzero_si256();
            room = 256;
        }
    }
    for (unsigned k = 0; k < 4; k++) {
        uint32_t v[8];
        _mm256_storeu_si256((__m256i *)v, total[k]);
        sum[k] = v[0] + v[1] + v[2] + v[3] + v[4] + v[5] + v[6] + v[7];
    }
}

static void sum_plane(const struct wn_pool_q8_global *p, const uint8_t *x, uint32_t sum[1])
{
    __m256i total = _mm256_setzero_si256();
    for (int32_t y = 0; y < p->in.h; y++)
        for (size_t i = 0, w = (size_t)p->in.w; i < w; i += 32) {
            __m256i v = first_bytes(x + (size_t)y * (size_t)p->in.pitch + i, w - i);
            total = _mm256_add_epi64(total, _mm256_sad_epu8(v, _mm256_setzero_si256()));
        }
    uint64_t v[4];
    _mm256_storeu_si256((__m256i *)v, total);
    sum[0] = (uint32_t)(v[0] + v[1] + v[2] + v[3]);
}

void wn_pool_q8_global_32__avx2(const struct wn_pool_q8_global *p, size_t c0, size_t c1)
{
    size_t lanes = wn_q8_lanes(p->form);
    for (size_t c = c0; c < c1; c += lanes) {
        const uint8_t *x = p->x + wn_q8_plane_of(p->form, c) * p->x_stride;
        uint8_t *y = p->y + wn_q8_plane_of(p->form, c) * p->y_stride;
        uint32_t sum[4];
        (lanes == 4 ? sum_quads : sum_plane)(p, x, sum);
        memset(y, p->y_zp, lanes * p->y_cols);
        for (size_t k = 0; k < lanes && c + k < p->channels; k++) {
            float f = (float)((int32_t)sum[k] - p->in.h * p->in.w * p->x_zp) * p->mul;
            y[k] = wn_q8_byte(f, p->y_zp, p->q_lo, p->q_hi);
        }
    }
}
