/* signal.c: DFT, STFT, windows and the mel matrix (onnx/defs/math/defs.cc). Transforms are computed in f64: by halving
 * where the length is a power of two, as a convolution of such a length (Bluestein) where it is not. */
#include <math.h>
#include <string.h>
#include "engine/ops/impl.h"

#define MAX_LENGTH ((int64_t)1 << 26) /* of a transform or window */

/* ---- transforms ---- */

struct cpx {
    double re, im;
};

static struct cpx mul(struct cpx a, struct cpx b)
{
    return (struct cpx){ a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re };
}

static struct cpx unit(double turns)
{
    return (struct cpx){ cos(2 * M_PI * turns), sin(2 * M_PI * turns) };
}

/* In place; n is a power of two. `sign` -1: forward. */
static void fft_halving(struct cpx *x, int64_t n, double sign)
{
    for (int64_t i = 1, j = 0; i < n; i++) {
        int64_t bit = n >> 1;
        for (; j & bit; bit >>= 1)
            j ^= bit;
        j ^= bit;
        if (i < j) {
            struct cpx t = x[i];
            x[i] = x[j];
            x[j] = t;
        }
    }
    for (int64_t len = 2; len <= n; len *= 2)
        for (int64_t k = 0; k < len / 2; k++) {
            struct cpx w = unit(sign * (double)k / (double)len);
            for (int64_t i = k; i < n; i += len) {
                struct cpx a = x[i], b = mul(x[i + len / 2], w);
                x[i] = (struct cpx){ a.re + b.re, a.im + b.im };
                x[i + len / 2] = (struct cpx){ a.re - b.re, a.im - b.im };
            }
        }
}

/* Work memory of a transform of n elements: 0 when it needs none, else the length of two buffers. */
static int64_t work_of(int64_t n)
{
    int64_t m = 1;
    if ((n & (n - 1)) == 0)
        return 0;
    while (m < 2 * n - 1)
        m *= 2;
    return m;
}

/* x [n] in place; `work` [2 * work_of(n)]. */
static void transform(struct cpx *x, int64_t n, double sign, struct cpx *work)
{
    int64_t m = work_of(n);
    if (!m) {
        fft_halving(x, n, sign);
        return;
    }
    struct cpx *a = work, *b = work + m;
    memset(work, 0, (size_t)(2 * m) * sizeof *work);
    for (int64_t k = 0; k < n; k++) {
        struct cpx c = unit(sign * (double)(k * k % (2 * n)) / (double)(2 * n));
        a[k] = mul(x[k], c);
        b[k] = b[k ? m - k : 0] = (struct cpx){ c.re, -c.im };
    }
    fft_halving(a, m, -1);
    fft_halving(b, m, -1);
    for (int64_t k = 0; k < m; k++)
        a[k] = mul(a[k], b[k]);
    fft_halving(a, m, 1);
    for (int64_t k = 0; k < n; k++) {
        struct cpx c = unit(sign * (double)(k * k % (2 * n)) / (double)(2 * n));
        x[k] = mul((struct cpx){ a[k].re / (double)m, a[k].im / (double)m }, c);
    }
}

static enum winnow_status check_length(int64_t n, const char *what, struct winnow_err *err)
{
    return n >= 1 && n <= MAX_LENGTH ? WINNOW_OK : wn_bad(err, "%s is %lld", what, (long long)n);
}

static enum winnow_status scalar_of(const struct wn_tensor *t, const char *what, int64_t *ret, struct winnow_err *err)
{
    if (wn_tensor_count(t) != 1)
        return wn_bad(err, "%s has %lld elements, must have 1", what, (long long)wn_tensor_count(t));
    *ret = wn_scalar_int(t, 0);
    return WINNOW_OK;
}

/* ---- DFT ---- */

struct dft {
    int axis;
    int64_t n; /* length; -1 = unknown */
    bool inverse, onesided;
};

/* False in *ret_known where the axis is not known. */
static enum winnow_status read_dft(const struct wn_node *node, const struct wn_type *x, const struct wn_tensor *length,
                                   bool length_given, const struct wn_tensor *axis, bool axis_given, struct dft *d,
                                   bool *ret_known, struct winnow_err *err)
{
    int64_t at = node->opset < 20 ? wn_node_int(node, "axis", 1) : -2;
    *d = (struct dft){ .inverse = wn_node_int(node, "inverse", 0) != 0,
                       .onesided = wn_node_int(node, "onesided", 0) != 0 };
    *ret_known = x->rank >= 0 && (axis || !axis_given);
    if (!*ret_known)
        return WINNOW_OK;
    if (axis)
        WN_TRY(scalar_of(axis, "axis", &at, err));
    WN_TRY(wn_axis(at, x->rank, "axis", &d->axis, err));
    if (d->axis == x->rank - 1)
        return wn_bad(err, "the last axis holds real and imaginary part");
    d->n = x->dim[d->axis];
    if (d->inverse && d->onesided && d->n >= 0)
        d->n = 2 * (d->n - 1);
    if (length)
        WN_TRY(scalar_of(length, "dft_length", &d->n, err));
    else if (length_given)
        d->n = -1;
    return d->n == -1 && !length ? WINNOW_OK : check_length(d->n, "dft_length", err);
}

enum winnow_status wn_infer_dft(struct wn_infer *in, struct winnow_err *err)
{
    const struct wn_type *x = &in->in[0];
    struct dft d;
    bool known;
    WN_TRY(wn_want(in, 0, WN_FLOATS, err));
    WN_TRY(wn_want(in, 1, WN_INDEX, err));
    WN_TRY(wn_want(in, 2, WN_INDEX, err));
    WN_TRY(wn_want_rank(in, 0, 2, WINNOW_MAX_RANK, err));
    WN_TRY(read_dft(in->node, x, in->n_in > 1 ? in->value[1] : NULL, in->n_in > 1 && in->given[1],
                    in->n_in > 2 ? in->value[2] : NULL, in->n_in > 2 && in->given[2], &d, &known, err));
    in->out[0].dtype = x->dtype;
    if (x->rank < 0)
        return WINNOW_OK;
    int64_t parts = x->dim[x->rank - 1];
    if (parts > 2 || parts == 0)
        return wn_bad(err, "the last axis has extent %lld, must have 1 or 2", (long long)parts);
    wn_type_set_rank(&in->out[0], x->rank);
    if (!known)
        return WINNOW_OK;
    in->out[0] = *x;
    in->out[0].dim[d.axis] = d.n < 0 ? -1 : d.onesided && !d.inverse ? d.n / 2 + 1 : d.n;
    in->out[0].dim[x->rank - 1] = d.inverse && d.onesided ? 1 : 2;
    return WINNOW_OK;
}

/* Element k of a line read from a tensor; what is missing is zero, or the mirror of a one-sided half. */
static struct cpx line_at(const struct wn_tensor *x, int64_t base, int64_t stride, int64_t extent, int64_t k, int64_t n,
                          bool half)
{
    int64_t parts = x->dim[x->rank - 1];
    bool mirrored = half && k > n / 2;
    if (mirrored)
        k = n - k;
    if (k >= extent)
        return (struct cpx){ 0, 0 };
    struct cpx c = { wn_scalar(x, base + k * stride), parts == 2 ? wn_scalar(x, base + k * stride + 1) : 0 };
    if (half && (k == 0 || 2 * k == n)) /* as numpy: these have no imaginary part in a real signal */
        c.im = 0;
    return (struct cpx){ c.re, mirrored ? -c.im : c.im };
}

enum winnow_status wn_run_dft(struct wn_run *run, struct winnow_err *err)
{
    const struct wn_tensor *x = run->in[0], *length = run->n_in > 1 ? run->in[1] : NULL;
    struct wn_tensor *y = &run->out[0];
    struct wn_type t = wn_type_of(x);
    struct dft d;
    bool known;
    WN_TRY(read_dft(run->node, &t, length, length != NULL, run->n_in > 2 ? run->in[2] : NULL,
                    run->n_in > 2 && run->in[2], &d, &known, err));
    WN_TRY(check_length(d.n, "dft_length", err));
    struct cpx *line = wn_arena_calloc(run->tmp, (size_t)d.n, sizeof *line);
    struct cpx *work = wn_arena_calloc(run->tmp, (size_t)(2 * work_of(d.n)), sizeof *work);
    if (!line || !work)
        return wn_nomem(err);
    int64_t outer = 1, inner = 1, extent = x->dim[d.axis], parts = x->dim[x->rank - 1];
    int64_t made = y->dim[d.axis], out_parts = y->dim[y->rank - 1];
    for (int a = 0; a < (int)x->rank - 1; a++) {
        outer *= a < d.axis ? x->dim[a] : 1;
        inner *= a > d.axis ? x->dim[a] : 1;
    }
    for (int64_t o = 0; o < outer; o++)
        for (int64_t i = 0; i < inner; i++) {
            int64_t from = (o * extent * inner + i) * parts, to = (o * made * inner + i) * out_parts;
            for (int64_t k = 0; k < d.n; k++)
                line[k] = line_at(x, from, inner * parts, extent, k, d.n, d.inverse && d.onesided);
            transform(line, d.n, d.inverse ? 1 : -1, work);
            double scale = d.inverse ? 1 / (double)d.n : 1;
            for (int64_t k = 0; k < made; k++) {
                double v[2] = { line[k].re * scale, line[k].im * scale };
                wn_store(y->dtype, y->data, to + k * inner * out_parts, (size_t)out_parts, WN_CLS_F64, v);
            }
        }
    return WINNOW_OK;
}

/* ---- STFT: signal [N, L, 1 or 2], frame_step, window, frame_length -> [N, frames, bins, 2] ---- */

enum winnow_status wn_infer_stft(struct wn_infer *in, struct winnow_err *err)
{
    const struct wn_type *x = &in->in[0];
    int64_t step = -1, length = -1, given;
    WN_TRY(wn_want(in, 0, WN_FLOATS, err));
    WN_TRY(wn_want_same(in, 0, 2, err));
    WN_TRY(wn_want(in, 1, WN_INDEX, err));
    WN_TRY(wn_want(in, 3, WN_INDEX, err));
    WN_TRY(wn_want_rank(in, 0, 3, 3, err));
    WN_TRY(wn_want_rank(in, 2, 1, 1, err));
    bool window = in->n_in > 2 && in->given[2], said = in->n_in > 3 && in->given[3];
    if (!window && !said)
        return wn_bad(err, "neither window nor frame_length is given");
    if (in->value[1]) {
        WN_TRY(scalar_of(in->value[1], "frame_step", &step, err));
        WN_TRY(check_length(step, "frame_step", err));
    }
    if (window && in->in[2].rank == 1)
        length = in->in[2].dim[0];
    if (said && in->value[3]) {
        WN_TRY(scalar_of(in->value[3], "frame_length", &given, err));
        WN_TRY(check_length(given, "frame_length", err));
        WN_TRY(wn_dim_same(length, given, "window and frame_length", &length, err));
    }
    if (length == 0)
        return wn_bad(err, "a window of extent 0");
    in->out[0] = (struct wn_type){ .dtype = x->dtype, .rank = 4, .dim = { -1, -1, -1, 2 } };
    if (x->rank == 3) {
        if (x->dim[2] > 2 || x->dim[2] == 0)
            return wn_bad(err, "the last axis has extent %lld, must have 1 or 2", (long long)x->dim[2]);
        in->out[0].dim[0] = x->dim[0];
        if (x->dim[1] >= 0 && length > x->dim[1])
            return wn_bad(err, "frames of %lld in a signal of %lld", (long long)length, (long long)x->dim[1]);
        if (step > 0 && length > 0 && x->dim[1] >= 0)
            in->out[0].dim[1] = (x->dim[1] - length) / step + 1;
    }
    if (length > 0)
        in->out[0].dim[2] = wn_node_int(in->node, "onesided", 1) ? length / 2 + 1 : length;
    return WINNOW_OK;
}

enum winnow_status wn_run_stft(struct wn_run *run, struct winnow_err *err)
{
    const struct wn_tensor *x = run->in[0], *window = run->n_in > 2 ? run->in[2] : NULL;
    struct wn_tensor *y = &run->out[0];
    int64_t step = wn_scalar_int(run->in[1], 0), n = window ? window->dim[0] : wn_scalar_int(run->in[3], 0);
    struct cpx *line = wn_arena_calloc(run->tmp, (size_t)n, sizeof *line);
    struct cpx *work = wn_arena_calloc(run->tmp, (size_t)(2 * work_of(n)), sizeof *work);
    if (!line || !work)
        return wn_nomem(err);
    int64_t parts = x->dim[2], frames = y->dim[1], bins = y->dim[2];
    for (int64_t f = 0; f < y->dim[0] * frames; f++) {
        int64_t from = f / frames * x->dim[1] + f % frames * step;
        for (int64_t k = 0; k < n; k++) {
            double w = window ? wn_scalar(window, k) : 1;
            line[k].re = w * wn_scalar(x, (from + k) * parts);
            line[k].im = parts == 2 ? w * wn_scalar(x, (from + k) * parts + 1) : 0;
        }
        transform(line, n, -1, work);
        for (int64_t k = 0; k < bins; k++)
            wn_store(y->dtype, y->data, (f * bins + k) * 2, 2, WN_CLS_F64, &line[k]);
    }
    return WINNOW_OK;
}

/* ---- windows ---- */

static enum winnow_status infer_made(struct wn_infer *in, uint32_t mask, struct winnow_err *err)
{
    int64_t to = wn_node_int(in->node, "output_datatype", WINNOW_F32);
    if (to <= 0 || to > 31 || !(mask >> to & 1))
        return wn_lack(err, "attribute output_datatype: %lld", (long long)to);
    in->out[0].dtype = (enum winnow_dtype)to;
    return WINNOW_OK;
}

enum winnow_status wn_infer_window(struct wn_infer *in, struct winnow_err *err)
{
    int64_t n;
    WN_TRY(wn_want(in, 0, WN_INDEX, err));
    WN_TRY(infer_made(in, WN_NUMBERS, err));
    wn_type_set_rank(&in->out[0], 1);
    if (!in->value[0])
        return WINNOW_OK;
    WN_TRY(scalar_of(in->value[0], "size", &n, err));
    if (n < 0 || n > MAX_LENGTH)
        return wn_bad(err, "size is %lld", (long long)n);
    in->out[0].dim[0] = n;
    return WINNOW_OK;
}

/* a0 - a1 cos + a2 cos of twice the angle */
static enum winnow_status run_window(struct wn_run *run, double a0, double a1, double a2)
{
    struct wn_tensor *y = &run->out[0];
    int64_t n = y->dim[0], around = wn_node_int(run->node, "periodic", 1) ? n : n - 1;
    for (int64_t k = 0; k < n; k++) {
        double turn = around ? 2 * M_PI * (double)k / (double)around : 0;
        double v = a0 - a1 * cos(turn) + a2 * cos(2 * turn);
        wn_store(y->dtype, y->data, k, 1, WN_CLS_F64, &v);
    }
    return WINNOW_OK;
}

enum winnow_status wn_run_hann_window(struct wn_run *run, struct winnow_err *err)
{
    return run_window(run, 0.5, 0.5, 0);
}

enum winnow_status wn_run_hamming_window(struct wn_run *run, struct winnow_err *err)
{
    return run_window(run, 25.0 / 46, 21.0 / 46, 0);
}

enum winnow_status wn_run_blackman_window(struct wn_run *run, struct winnow_err *err)
{
    return run_window(run, 0.42, 0.5, 0.08);
}

/* ---- MelWeightMatrix: num_mel_bins, dft_length, sample_rate, lower and upper edge ---- */

enum winnow_status wn_infer_mel(struct wn_infer *in, struct winnow_err *err)
{
    int64_t bins, n;
    for (unsigned i = 0; i < 3; i++)
        WN_TRY(wn_want(in, i, WN_INDEX, err));
    WN_TRY(wn_want(in, 3, WN_FLOATS, err));
    WN_TRY(wn_want(in, 4, WN_FLOATS, err));
    WN_TRY(infer_made(in, WN_NUMBERS, err));
    wn_type_set_rank(&in->out[0], 2);
    if (!in->value[0] || !in->value[1])
        return WINNOW_OK;
    WN_TRY(scalar_of(in->value[0], "num_mel_bins", &bins, err));
    WN_TRY(scalar_of(in->value[1], "dft_length", &n, err));
    WN_TRY(check_length(bins, "num_mel_bins", err));
    WN_TRY(check_length(n, "dft_length", err));
    in->out[0].dim[0] = n / 2 + 1;
    in->out[0].dim[1] = bins;
    return WINNOW_OK;
}

static double mel_of(double hz)
{
    return 2595 * log10(1 + hz / 700);
}

/* The spectrogram's bin in which edge i of bins + 2 lies. */
static int64_t edge_bin(const struct wn_run *run, int64_t i, int64_t bins)
{
    double rate = wn_scalar(run->in[2], 0), lo = mel_of(wn_scalar(run->in[3], 0)),
           hi = mel_of(wn_scalar(run->in[4], 0));
    double hz = 700 * (pow(10, (lo + (double)i * (hi - lo) / (double)(bins + 2)) / 2595) - 1);
    return wn_i64_of_f64(floor((double)(wn_scalar_int(run->in[1], 0) + 1) * hz / rate));
}

enum winnow_status wn_run_mel(struct wn_run *run, struct winnow_err *err)
{
    struct wn_tensor *y = &run->out[0];
    int64_t rows = y->dim[0], bins = y->dim[1];
    memset(y->data, 0, y->bytes);
    for (int64_t b = 0; b < bins; b++) {
        int64_t low = edge_bin(run, b, bins), middle = edge_bin(run, b + 1, bins), high = edge_bin(run, b + 2, bins);
        if (low < 0 || high > rows || low > middle || middle > high)
            return wn_bad(err, "edges %g and %g do not lie in a spectrum of %lld bins", wn_scalar(run->in[3], 0),
                          wn_scalar(run->in[4], 0), (long long)rows);
        for (int64_t k = low; k < WN_MIN(WN_MAX(high, middle + 1), rows); k++) {
            double v = k == middle  ? 1
                       : k < middle ? (double)(k - low) / (double)(middle - low)
                                    : (double)(high - k) / (double)(high - middle);
            wn_store(y->dtype, y->data, k * bins + b, 1, WN_CLS_F64, &v);
        }
    }
    return WINNOW_OK;
}
