/* net.h: a graph made ready to train: operators with a gradient rule each, and a plan for one batch size.
 *
 *     wn_graph --import.c--> logical operators --quant.c--> with fake-quantizers --plan.c--> the plan's operators
 *
 * IMPORT   One reading per ONNX operator (table in import.c) makes struct wn_net_op's; Identity and Dropout in
 * inference vanish, BN+Relu, Add+Relu, MatMul+Add and Conv+Add(constant) become one. PLAN     Every operator gets a
 * side: dense (oneDNN; C8 or plain layouts) or lanes (sparse kernels, 16 samples side by side), by the cost table in
 * plan_cost.c; Convert operators are put where sides meet. Then two lists of steps, forward and backward, and one arena
 * with an offset per buffer. A step allocates nothing. GRADIENTS  flow in reverse order of the plan; where a value has
 * several users their contributions are added in that order, always into a fresh buffer, so that a gradient may be
 * shared (Add hands the same one to both inputs). EXACT    The plan depends on shapes, masks and what is frozen, never
 * on measured time. */
#ifndef WN_NET_H
#define WN_NET_H

#include "engine/graph/graph.h"
#include "sparsify/kernels/dense.h"
#include "sparsify/kernels/lanes.h"
#include "sparsify/kernels/rows.h"
#include "sparsify/train/train.h"

enum wn_layout { WN_LAYOUT_PLAIN, WN_LAYOUT_C8, WN_LAYOUT_LANES };
enum wn_side { WN_SIDE_DENSE, WN_SIDE_LANES };

/** A tensor: rank 4 (N, C, H, W), 2 (N, F) or other, batch first. */
struct wn_net_val {
    const char *name;
    wn_vid vid; /* in the graph; WN_NONE for what exists only here */
    unsigned rank;
    int64_t dim[WINNOW_MAX_RANK];
    int maker; /* operator, or -1 for the input, a constant, or what a step computes before the operators */
    bool needs_grad;
    const float *fixed;            /* a constant's data, plain */
    const struct wn_tensor *given; /* where a step finds it, before the operators run (any number type) */
    /* plan */
    int logical; /* index of the logical value it holds */
    enum wn_layout layout;
    struct wn_lanes_geom geom; /* LANES */
    size_t floats;
    int buf;
    float *data;
};

struct wn_conv_args {
    int groups, kh, kw, sh, sw, ph, pw, ph_end, pw_end, dh, dw;
};
struct wn_pool_args {
    enum wn_pool_kind kind;
    bool global;
    int kh, kw, sh, sw, ph, pw, ph_end, pw_end;
};
enum wn_act_kind {
    WN_ACT_CLAMP,
    WN_ACT_LEAKY,
    WN_ACT_SIGMOID,
    WN_ACT_TANH,
    WN_ACT_HARDSIGMOID,
    WN_ACT_HARDSWISH,
    WN_ACT_AFFINE,
    WN_ACT_POW,
    WN_ACT_SQRT,
    WN_ACT_EXP,
    WN_ACT_LOG,
    WN_ACT_ERF,
    WN_ACT_ABS,
};
struct wn_act_args {
    enum wn_act_kind kind;
    float a, b; /* clamp: bounds; leaky: slope; hard sigmoid: alpha, beta; affine: a * x + b; pow: x^a */
};
struct wn_bn_args {
    float eps;
    bool relu;
    bool frozen; /* running statistics, not moved */
};
/** y[n][c][h][w] = x[n][c - c0][h * sh + h0][w * sw + w0] where that exists, else 0: Pad and strided Slice. */
struct wn_window_args {
    int64_t c0, h0, w0, sh, sw; /* c0: channels put in front (negative: dropped) */
};

enum wn_bin_kind { WN_BIN_ADD, WN_BIN_SUB, WN_BIN_MUL, WN_BIN_DIV };
struct wn_bin_args {
    enum wn_bin_kind kind;
    bool param_first; /* with a parameter: which side it stands on */
    unsigned rank;    /* of the parameter as the file has it */
    int64_t dim[WINNOW_MAX_RANK];
};
/** y = x along `axis` at index[0 … n - 1], whatever their order. */
struct wn_take_args {
    int axis;
    int64_t n;
    const int64_t *index;
};
struct wn_reduce_args {
    unsigned axes; /* bits */
    bool mean;
};

/** Where an activation is fake-quantized, and what was seen there. Owned by the trainer, kept in checkpoints. */
struct wn_observer {
    const char *value;
    wn_vid vid;
    float lo, hi;
    bool seen;
};

struct wn_net;
struct wn_net_op;

enum { WN_SAVES_X = 1, WN_SAVES_Y = 2 };                    /* what backward reads */
enum { WN_ALIAS_DX = 1, WN_SHARED_DX = 2, WN_ADDS_DX = 4 }; /* how backward hands gradients on; see wn_rule.dx */

/** The gradient rule of one operator: forward and backward in every layout it knows. */
struct wn_rule {
    const char *name;
    /** False when the operator can only run on plain tensors (dense side); NULL: both sides. */
    bool (*any_layout)(const struct wn_net *net, const struct wn_net_op *op);
    bool view; /* the output is the input's memory under another shape */
    /** Estimated ns of forward and backward together, for the choice of a side. */
    double (*cost)(const struct wn_net *net, const struct wn_net_op *op, enum wn_side side);
    unsigned (*saves)(const struct wn_net_op *op);
    /** ALIAS: every dx is dy itself. SHARED: all dx are one buffer. ADDS: backward adds op->add[0] to dx[0] by itself.
     */
    unsigned (*dx)(const struct wn_net_op *op);
    /** Layout of input i on the dense side where it is not the usual one (C8 for rank 4, plain otherwise); NULL: usual.
     */
    enum wn_layout (*dense_in)(const struct wn_net *net, const struct wn_net_op *op, unsigned i);
    enum winnow_status (*prepare)(struct wn_net *net, struct wn_net_op *op, struct winnow_err *err);
    void (*release)(struct wn_net_op *op);
    enum winnow_status (*forward)(struct wn_net *net, struct wn_net_op *op, struct winnow_err *err);
    /** Reads op->dy and what it saves, writes op->dx[i] where not NULL, and the gradients of trainable parameters. */
    enum winnow_status (*backward)(struct wn_net *net, struct wn_net_op *op, struct winnow_err *err);
};

#define WN_OP_MAX_PARAMS 4
struct wn_net_op {
    const struct wn_rule *rule;
    const char *name; /* of the ONNX node */
    unsigned n_in;
    int *in;
    int out;
    union {
        struct wn_conv_args conv;
        struct wn_pool_args pool;
        struct wn_act_args act;
        struct wn_bn_args bn;
        struct wn_window_args window;
        struct wn_bin_args bin;
        struct wn_take_args take;
        struct wn_reduce_args reduce;
        int perm[WINNOW_MAX_RANK];   /* Transpose */
        int axis;                    /* Join */
        float eps;                   /* LayerNorm */
        bool by_tanh;                /* Gelu */
        const struct wn_tensor *ids; /* Embed: I64 or I32, shape of the output without its last axis */
        bool relu;                   /* Add */
        struct wn_observer *observer;
        float drop; /* Dropout's rate */
    } u;
    /* Conv, Linear: weight, bias or NULL. BN: scale, shift, mean, var */
    struct wn_param *param[WN_OP_MAX_PARAMS];
    bool quant;  /* Conv, Linear: weights and input are fake-quantized; Embed: the table is; others: the inputs are */
    unsigned id; /* position in the logical list; part of dropout's random key */
    /* plan */
    enum wn_side side;
    void *state;
    bool back; /* has a backward step */
    const float *dy;
    float **dx;          /* [n_in] */
    const float **add;   /* [n_in] */
    int dy_buf, *dx_buf; /* buffers behind them; -1 none */
    int *add_buf;
};

struct wn_net_list {
    WN_VEC(struct wn_net_val) val;
    WN_VEC(struct wn_net_op) op;
    int input, output; /* input -1: the model takes integers */
};

/** A model input of a step: the caller points `t.data` at it (WINNOW_I64, or F32 where the file says so). */
struct wn_net_feed {
    const char *name;
    wn_vid vid;
    struct wn_tensor t;
};

/** A node that a step runs by the engine's reference before the operators: attention masks, positions, one-hots. */
struct wn_net_pre {
    const struct wn_node *node;
    const struct wn_tensor **in; /* [node->n_in] feeds, constants, outputs of earlier ones */
    struct wn_tensor *out;       /* [node->n_out] filled by the run */
};

/** Memory that several nets share, one at a time. */
struct wn_net_pool {
    float *memory;
    size_t floats;
};

/** A run of floats with a life from one step to another. */
struct wn_net_buf {
    size_t floats, offset;
    int first, last; /* steps */
    uint64_t zeroed; /* not 0: keeps a halo of zeros; only buffers of the same key share memory */
};

enum wn_net_step_kind { WN_STEP_FORWARD, WN_STEP_BACKWARD, WN_STEP_SUM };
struct wn_net_step {
    enum wn_net_step_kind kind;
    int op;
    int y_buf, a_buf, b_buf; /* SUM: y = a + b */
    float *y;
    const float *a, *b;
    size_t n;
};

struct wn_net {
    struct wn_arena arena; /* logical operators, names */
    int64_t batch, length; /* length: of inputs (B, L) whose L is not fixed in the file; 0 for pictures */
    bool pictures; /* one f32 input: four-axis values are (N, C, H, W); else any axes, lanes over all but the last */
    bool no_fuse;  /* read layer norm and GELU node by node (tests) */
    WN_VEC(struct wn_net_feed) feed;
    WN_VEC(struct wn_net_pre) pre;
    struct wn_arena step_arena, step_tmp; /* of pre */
    unsigned threads;
    const struct wn_lanes_kernels *kern;
    const struct wn_rows_kernels *rows;
    struct wn_dense *dense;
    struct wn_net_list logical;
    struct wn_net_list plan;
    struct wn_arena plan_arena;
    WN_VEC(struct wn_net_buf) buf;
    WN_VEC(struct wn_net_step) step;
    size_t n_forward; /* steps before the first backward one */
    float *memory;
    struct wn_net_pool *pool; /* where memory is shared; NULL: it is this net's own */
    size_t memory_floats, max_floats;
    int dlogits_buf;
    float *dlogits;
    bool no_sparse, all_sparse, planned;
    double predicted_ns;
    unsigned n_lanes_layers;
    int weight_max; /* fake-quantized weights */
    /* mode of the present pass */
    bool training;  /* dropout, saved state for backward */
    bool bn_batch;  /* batch norm uses the batch's statistics … */
    float bn_share; /* … and moves the running ones by this share of them */
    bool simulate;  /* fake-quantizers on */
    bool observe;
    float observe_share;
    uint64_t seed, step_key; /* dropout */
};

/* ---- import.c ---- */

/** What import makes parameters with: the trainer allocates them, keyed by the constant. `rows_last`: stored (I, O). */
struct wn_net_maker {
    void *arg;
    struct wn_param *(*param)(void *arg, wn_vid vid, const struct wn_node *node, const struct wn_node *bias_node,
                              enum wn_layer_class cls, enum wn_param_kind kind, unsigned rank, const int64_t *dim,
                              bool rows_last);
};

/** Read graph `g` (inputs' batch axis taken as `batch`, other dynamic axes of integer inputs as `length`) into
 *  net->logical. The net points into g's nodes and constants until wn_net_done(). */
WINNOW_MUST_USE enum winnow_status wn_net_import(struct wn_net *net, struct wn_graph *g, int64_t batch, int64_t length,
                                                 const struct wn_net_maker *maker, struct winnow_err *err);
void wn_net_done(struct wn_net *net);
/** For rules_*.c and import.c: a new logical value or operator; -1 / NULL when out of memory. */
int wn_net_add_val(struct wn_net *net, struct wn_net_list *list, const char *name, wn_vid vid, unsigned rank,
                   const int64_t *dim);
struct wn_net_op *wn_net_add_op(struct wn_arena *arena, struct wn_net_list *list, const struct wn_rule *rule,
                                const char *name, const int *in, unsigned n_in, int out);

/* ---- quant.c ---- */

/** Value (logical index) that wants a fake-quantizer behind it ( graph input, inputs and
 * outputs after activation of weighted layers, sums, averages; not the last output). */
bool wn_net_wants_observer(const struct wn_net *net, int val);
/** Whether everything that reads logical value `val` reads it quantized (or reads what is behind a fake-quantizer). */
bool wn_net_all_read_quantized(const struct wn_net *net, int val);
/** Put a fake-quantizer behind logical value `val`, before the plan is made. */
WINNOW_MUST_USE enum winnow_status wn_net_insert_fq(struct wn_net *net, int val, struct wn_observer *ob,
                                                    struct winnow_err *err);
/** Scale and zero point of [lo, hi], 0 included. */
void wn_observer_scale(const struct wn_observer *ob, float *ret_scale, int *ret_zero);
#define WN_TABLE_MAX 127 /* fake-quantized tables of embeddings: they meet no other integers that could overflow */
/** Fake-quantized weights: per row of `per_row` elements, scale max|w| / max (1 for an empty row). */
void wn_quant_weights(const float *w, size_t rows, size_t per_row, int max, float *ret_w, float *ret_scale);

/* ---- plan.c ---- */

/** Choose sides, lay out memory, make the kernels' objects. Called again when masks or frozen parameters change.
 *  @return E_TOO_LARGE when it needs more than net->max_floats */
WINNOW_MUST_USE enum winnow_status wn_net_plan(struct wn_net *net, struct winnow_err *err);
/** Drop the plan's objects and memory. */
void wn_net_unplan(struct wn_net *net);
/** Where to put the batch's rows (plain) before a pass, and where the scores are after it. */
float *wn_net_input(struct wn_net *net);
const float *wn_net_output(struct wn_net *net);
WINNOW_MUST_USE enum winnow_status wn_net_forward(struct wn_net *net, struct winnow_err *err);
/** After forward with net->dlogits filled. */
WINNOW_MUST_USE enum winnow_status wn_net_backward(struct wn_net *net, struct winnow_err *err);
/** wn_net_forward() with a call after every operator. */
WINNOW_MUST_USE enum winnow_status
wn_net_forward_probe(struct wn_net *net, void (*probe)(void *arg, struct wn_net *net, const struct wn_net_op *op),
                     void *arg, struct winnow_err *err);

/* ---- view.c ---- */

/** Offset in floats of element (n, c, h, w) of a value in its layout; rank 2 has h = w = 0. */
size_t wn_val_at(const struct wn_net_val *v, int64_t n, int64_t c, int64_t h, int64_t w);
/** Copy all elements of `from` into `to`, whatever their layouts; same shape. Pad lanes of C8 become 0. */
void wn_val_convert(struct wn_net *net, const struct wn_net_val *from, const float *x, const struct wn_net_val *to,
                    float *y);
static inline int64_t wn_val_h(const struct wn_net_val *v)
{
    return v->rank == 4 ? v->dim[2] : 1;
}
static inline int64_t wn_val_w(const struct wn_net_val *v)
{
    return v->rank == 4 ? v->dim[3] : 1;
}
static inline int64_t wn_val_count(const struct wn_net_val *v)
{
    int64_t n = 1;
    for (unsigned i = 0; i < v->rank; i++)
        n *= v->dim[i];
    return n;
}
/** Rows of a value seen as a matrix: all axes but the last. */
static inline int64_t wn_val_rows(const struct wn_net_val *v)
{
    return v->rank ? wn_val_count(v) / v->dim[v->rank - 1] : 1;
}

/* ---- the rules; rules.def lists them with the ONNX operators they serve ---- */
#define RULE(id) extern const struct wn_rule wn_rule_##id;
#include "sparsify/autodiff/rules.def"
#undef RULE
/** i-th rule, or NULL past the end. */
const struct wn_rule *wn_rule_table(size_t i);

static inline struct wn_net_val *wn_op_in(struct wn_net *net, const struct wn_net_op *op, unsigned i)
{
    return &net->plan.val.at[op->in[i]];
}
static inline struct wn_net_val *wn_op_out(struct wn_net *net, const struct wn_net_op *op)
{
    return &net->plan.val.at[op->out];
}
static inline bool wn_param_on(const struct wn_param *p)
{
    return p && p->trainable;
}

#endif
