/* train.h: fine-tuning an ONNX graph on the CPU: parameters by name, a step loop with hooks, masks that make it faster.
 *
 *     wn_trainer_new(&graph, &opts, &tr, err)          the graph is copied; BatchNormalization is kept and trained
 *     wn_trainer_add_modifier(tr, &gmp->mod)           hooks: learning rate, pruning, quantization (modifiers/)
 *     wn_trainer_fit(tr, &data, epochs, …)             or wn_trainer_step() by hand
 *     wn_trainer_evaluate(tr, &data, &score, err)
 *     wn_trainer_export_graph(tr, &arena, &out, err)   f32 graph, masks = zeros
 *
 * UNITS     t is progress in epochs: step / steps per epoch, fractional.
 * THREADS   One thread may use a trainer; it computes on opts.threads threads of its own (fixed for its life).
 * EXACT     Seed, data, thread count and CPU kind given, every weight is the same bit for bit, also across a resume.
 * Source of the formulas: PyTorch's conventions for SGD, batch norm and cross entropy; notes beside each. */
#ifndef WN_TRAIN_H
#define WN_TRAIN_H

#include "base/base.h"
#include "engine/graph/graph.h"

struct wn_trainer;

/* ---- options ---- */

enum wn_optimizer { WN_OPT_SGD, WN_OPT_ADAMW };

struct wn_train_opts {
    unsigned batch;   /* rows per step; 16-row blocks make the sparse path possible. Default 128 */
    unsigned threads; /* default 1; results depend on it (oneDNN's reductions), so it is kept in checkpoints */
    uint64_t seed;    /* shuffling, augmentation, dropout, new heads */
    float momentum;   /* SGD momentum; 0 = plain SGD */
    bool nesterov;    /* d + momentum * v instead of v */
    enum wn_optimizer optimizer;
    float beta1, beta2, eps; /* AdamW; 0 means the defaults 0.9, 0.999, 1e-8. Weight decay is decoupled: w -= lr * wd *
                                w. Rows of embeddings that a step does not touch do not move, nor do their moments */
    float clip_norm;         /* above 0: gradients are scaled so that their norm over all parameters is at most this */
    float label_smoothing;   /* 0 … 1 */
    float bn_momentum;       /* share of the new batch in running statistics; 0 means the default 0.1 */
    size_t max_memory_bytes; /* refuse plans that need more; default 4 GiB */
    bool no_sparse;          /* compute masked layers densely (tests and benchmarks) */
    bool all_sparse;         /* the sparse kernels wherever they can, whatever the cost (tests and benchmarks) */
    bool no_fuse;            /* encoders: layer norm and GELU node by node, as the file spells them (tests) */
    bool forward_only;       /* nothing is trained: no gradients, no moments (a teacher) */
};

/* ---- data ---- */

#define WN_TRAIN_MAX_INPUTS 8

/** Rows of integers of different length, for models whose inputs are (B, L): token ids, attention mask, token types. A
 *  batch is as long as its longest row, rounded up to `multiple` (and to the model's own L where that is fixed);
 * shorter rows are filled with `pad`, which the mask must make neutral. Rows of similar length share batches: an
 * epoch's order is sorted by length within runs of 16 batches, then the batches are shuffled; all from the seed alone.
 *  Borrowed: everything stays the caller's and must outlive the trainer's use. */
struct wn_train_tokens {
    unsigned n_inputs;        /* 1 … WN_TRAIN_MAX_INPUTS, every input of the model once */
    const char *const *name;  /* [n_inputs] of the model's inputs, any order */
    const int64_t *const *id; /* [n_inputs] all rows one after another */
    const int64_t *pad;       /* [n_inputs] */
    const size_t *start; /* [n + 1]: row i is elements start[i] … start[i + 1] - 1 of every id[k]; at least one */
    unsigned multiple;   /* 0: 16 */
};

/** A data set in memory (mapped or malloc'ed by the caller, who keeps it): 8-bit pictures and a function that makes the
 *  model's input row from one, or ready f32 rows, or tokens. */
struct wn_train_data {
    size_t n;
    const uint32_t *label; /* [n], below the number of classes */
    const uint8_t *px;     /* (n, h, w, c) or NULL */
    unsigned h, w, c;
    /** (h, w, c) pixels -> the model's input row (f32, without the batch axis); thread-safe, same bytes same row.
     *  wn_pipeline_normalise() fits. NULL with px: x / 255 in (c, h, w) order. */
    void (*normalise)(const void *arg, const uint8_t *px, void *row);
    const void *normalise_arg;
    const float *row; /* (n, row elements), when px and tokens are NULL */
    const struct wn_train_tokens *tokens;
    /* augmentation of px, in training only; randomness depends on (seed, epoch, sample) alone */
    bool flip;         /* left-right, half of the time */
    unsigned crop_pad; /* shift by up to this many pixels both ways, edges filled with 0 */
};

/* ---- parameters ---- */

enum wn_layer_class { WN_LAYER_CONV, WN_LAYER_LINEAR, WN_LAYER_BN, WN_LAYER_EMBEDDING, WN_LAYER_OTHER };
enum wn_param_kind { WN_PARAM_WEIGHT, WN_PARAM_BIAS, WN_PARAM_SCALE, WN_PARAM_SHIFT, WN_PARAM_MEAN, WN_PARAM_VAR };

/** One parameter. Weights: (O, I / groups, kh, kw) or (O, I), dense row-major, whatever the file's orientation.
 * Pointers stay valid until the graph changes (quantization on, BN folded or inserted, head replaced); write `w`
 * through wn_trainer_param_changed() only, the rest is read-only here. */
struct wn_param {
    const char *name;  /* "layer1.0.conv1.weight": the initializer's name where it looks like one, else from the node */
    const char *layer; /* name without its last part: "layer1.0.conv1" */
    const char *node;  /* name of the ONNX node */
    enum wn_layer_class cls;
    enum wn_param_kind kind;
    unsigned rank;
    int64_t dim[4];
    size_t n;       /* elements */
    unsigned order; /* position of its layer in the graph: 0 = first */
    bool prunable;  /* Conv or Linear weight, not the first conv, not the classifier, not depthwise */
    bool can_prune; /* any Conv or Linear weight: masks are accepted */
    bool trainable; /* false: frozen */
    bool decay;     /* weight decay applies (weights only) */
    float lr_scale; /* multiplies the step's learning rate; default 1 */
    float *w;       /* [n] */
    float *g;       /* [n] gradient of the last step; 0 at pruned positions, NULL for running statistics */
    float *v;       /* [n] momentum (AdamW: first moment); NULL for running statistics */
    float *v2;      /* [n] AdamW: second moment; NULL otherwise */
    uint64_t moves; /* AdamW: steps that moved it */
    uint32_t *row; /* a table of embeddings: rows that the last step touched, in order; only they have a gradient and */
    size_t n_rows; /* only they move. NULL: every element */
    uint8_t *mask; /* [n] 1 keeps, 0 prunes; NULL = never masked */
    size_t kept;   /* ones in mask; n without a mask */
    double macs;   /* multiply-accumulates per row that the whole weight takes (0 for others) */
};

unsigned wn_trainer_n_params(const struct wn_trainer *tr);
/** i below the count; in graph order. */
struct wn_param *wn_trainer_param(struct wn_trainer *tr, unsigned i);
/** By exact name, or NULL. */
struct wn_param *wn_trainer_find_param(struct wn_trainer *tr, const char *name);
/** Tell the trainer that `p->w` was written. Values at masked positions are set to 0 again. */
void wn_trainer_param_changed(struct wn_trainer *tr, struct wn_param *p);
/** Set the mask ([n] bytes of 0 or 1; NULL removes it). Weights and momentum at pruned positions become 0; kernels and
 *  layouts are chosen again before the next step (a few ms), so change all masks of one update before stepping.
 *  @return E_UNSUPPORTED where masks do not apply (p->can_prune), E_NOMEM */
WINNOW_MUST_USE enum winnow_status wn_trainer_set_mask(struct wn_trainer *tr, struct wn_param *p, const uint8_t *mask,
                                                       struct winnow_err *err);
/** Freeze or thaw; layers before the first trainable one skip their backward pass from the next step on. */
void wn_trainer_set_trainable(struct wn_trainer *tr, struct wn_param *p, bool trainable);
/** A frozen BatchNormalization layer (or all, layer = NULL) uses its running statistics and does not move them. */
void wn_trainer_freeze_bn_stats(struct wn_trainer *tr, const char *layer, bool frozen);

/* ---- hooks ---- */

struct wn_train_time {
    uint64_t step;            /* steps done before this one, since the start of training */
    uint64_t steps_per_epoch; /* whole batches only */
    double t;                 /* step / steps_per_epoch */
    double t_next;            /* t of the next step */
    double epochs;            /* where training ends */
};

struct wn_modifier;

/** What a modifier does; every entry may be NULL. Called in the order the modifiers were added. A failure ends
 * training. */
struct wn_modifier_ops {
    const char *name; /* "GMPruningModifier" */
    /** Before the first step, also of a resumed run (now->step > 0, state already restored). */
    enum winnow_status (*on_start)(struct wn_modifier *m, struct wn_trainer *tr, const struct wn_train_time *now,
                                   struct winnow_err *err);
    /** Before the forward pass: set the learning rate, masks, quantization, what is frozen. */
    enum winnow_status (*before_step)(struct wn_modifier *m, struct wn_trainer *tr, const struct wn_train_time *now,
                                      struct winnow_err *err);
    /** After the loss: logits (rows, classes) and its gradient, already divided by rows; may change the gradient and
     *  *loss (distillation). sample[rows] = indices into the data. */
    enum winnow_status (*after_loss)(struct wn_modifier *m, struct wn_trainer *tr, const float *logits, float *dlogits,
                                     const uint32_t *sample, float *loss, struct winnow_err *err);
    /** Gradients are there (param->g), the optimizer has not run. */
    enum winnow_status (*after_backward)(struct wn_modifier *m, struct wn_trainer *tr, const struct wn_train_time *now,
                                         struct winnow_err *err);
    /** The weights have moved. */
    enum winnow_status (*after_step)(struct wn_modifier *m, struct wn_trainer *tr, const struct wn_train_time *now,
                                     struct winnow_err *err);
    /** After the last step. */
    enum winnow_status (*on_end)(struct wn_modifier *m, struct wn_trainer *tr, const struct wn_train_time *now,
                                 struct winnow_err *err);
    void (*free)(struct wn_modifier *m);
};

/** Embed at the start of the modifier's own struct. */
struct wn_modifier {
    const struct wn_modifier_ops *ops;
    void *state;        /* what a checkpoint keeps, verbatim (no pointers in it); NULL = nothing */
    size_t state_bytes; /* a checkpoint with another size is refused */
};

/** The batch of the present step: rows of the model's input, augmented as they are trained on (rows, row elements).
 * NULL for tokens. Inside after_loss only. */
const float *wn_trainer_batch(struct wn_trainer *tr, unsigned *ret_rows);
/** The model that distillation asks: copied, run in inference mode on the batches that `tr` trains on. Replaces an
 * earlier one. Before the first step. @return as wn_trainer_new(); E_CONFLICT: it takes other inputs */
WINNOW_MUST_USE enum winnow_status wn_trainer_set_teacher(struct wn_trainer *tr, const struct wn_graph *graph,
                                                          struct winnow_err *err);
/** Number of classes the teacher scores; 0: there is none. */
unsigned wn_trainer_teacher_classes(const struct wn_trainer *tr);
/** The teacher's scores (rows, classes) for the present batch, valid until the next step. Inside after_loss only. */
WINNOW_MUST_USE enum winnow_status wn_trainer_teach(struct wn_trainer *tr, const float **ret_scores,
                                                    struct winnow_err *err);
/** The trainer takes ownership (ops->free). Before the first step only. */
WINNOW_MUST_USE enum winnow_status wn_trainer_add_modifier(struct wn_trainer *tr, struct wn_modifier *m,
                                                           struct winnow_err *err);
/** For this and later steps. */
void wn_trainer_set_lr(struct wn_trainer *tr, float lr);
float wn_trainer_lr(const struct wn_trainer *tr);
/** Applies to parameters with `decay` (default 0). */
void wn_trainer_set_weight_decay(struct wn_trainer *tr, float wd);
float wn_trainer_weight_decay(const struct wn_trainer *tr);
void wn_trainer_set_momentum(struct wn_trainer *tr, float momentum, bool nesterov);

/* ---- quantization-aware training ---- */

struct wn_quant_opts {
    int weight_max; /* weights lie in -weight_max … weight_max: 127, 64 (exact on CPUs without VNNI), 7. Default 64 */
    float observer_average;    /* share of the new batch in moving min/max; default 0.01 */
    const char *const *ignore; /* layer names ("fc") whose weights and inputs stay float */
    unsigned n_ignore;
    bool tables;   /* encoders: tables of embeddings too, one scale each */
    bool products; /* encoders: both sides of products of two activations (attention) too */
    /* encoders: what GELU, sums of a layer and its residual, and layer norms of such sums read too. With all of them and
     * `products` activations stay bytes between layers in the engine. One of them that shares an input with an operator
     * that reads f32 stays f32 itself */
    bool gelu, sums, norms;
};

/** Fold batch norm into the weights, put fake-quantizers on the graph input, every Conv/Linear input and output after
 * its activation, residual sums and pooled features (not the last layer's output), and observers on. In encoders only
 * what products with weights read is quantized: sums, layer norm, GELU and softmax stay f32 unless asked for. Values and
 * masks are kept, momentum restarts at 0 for what was folded. Call before a step; scales come from
 * wn_trainer_quant_calibrate().
 *  @return E_UNSUPPORTED, E_NOMEM */
WINNOW_MUST_USE enum winnow_status wn_trainer_quant_enable(struct wn_trainer *tr, const struct wn_quant_opts *opts,
                                                           struct winnow_err *err);
bool wn_trainer_quant_enabled(const struct wn_trainer *tr);
/** Set the observers from the first `batches` batches of the fit's data (fake-quantizers off meanwhile). Inside a hook
 * of wn_trainer_fit(), or after wn_trainer_bind_data(). */
WINNOW_MUST_USE enum winnow_status wn_trainer_quant_calibrate(struct wn_trainer *tr, unsigned batches,
                                                              struct winnow_err *err);
/** Observers on or off (frozen scales). */
void wn_trainer_quant_observe(struct wn_trainer *tr, bool on);
/** Fake-quantizers of activations and weights on or off, e.g. to compare. */
void wn_trainer_quant_simulate(struct wn_trainer *tr, bool on);

/** A quantized activation: value of the exported graph, u8, q = clamp(rne(x / scale) + zero, 0, 255). */
struct wn_quant_point {
    const char *value; /* name of the value in wn_trainer_export_graph()'s result */
    float scale;
    uint8_t zero;
    float lo, hi;     /* observed, 0 included */
    bool layers_only; /* read by quantized layers (and products, opts.products); other users read the f32 value. Else
                       * everything reads it */
};
unsigned wn_trainer_n_quant_points(const struct wn_trainer *tr);
void wn_trainer_quant_point(const struct wn_trainer *tr, unsigned i, struct wn_quant_point *ret);
/** Per-output-channel scales max|w| / weight_max of a Conv or Linear weight ([O]; 1 for an empty channel); false when
 * the layer is not quantized. q = rne(w / scale): what the fake-quantizer computes and an exporter must write. */
bool wn_trainer_weight_scales(const struct wn_trainer *tr, const struct wn_param *p, float *ret_scale);
/** The one scale max|w| / 127 of a table of embeddings; false when it is not quantized. */
bool wn_trainer_table_scale(const struct wn_trainer *tr, const struct wn_param *p, float *ret_scale);
/** Whether products of two activations are quantized. */
bool wn_trainer_quant_products(const struct wn_trainer *tr);

/* ---- graph surgery; between steps, parameter pointers change ---- */

/** Number of BatchNormalization layers left. */
unsigned wn_trainer_n_bn(const struct wn_trainer *tr);
/** Measure every bare Conv's output (not the classifier's) over `batches` batches and put a BatchNormalization behind
 *  it that leaves the function unchanged: scale = sqrt(var + eps), shift = mean, running statistics as measured.
 *  Needs data (fit or bind). */
WINNOW_MUST_USE enum winnow_status wn_trainer_insert_bn(struct wn_trainer *tr, unsigned batches,
                                                        struct winnow_err *err);
/** Fold every BatchNormalization that follows a Conv into it. */
WINNOW_MUST_USE enum winnow_status wn_trainer_fold_bn(struct wn_trainer *tr, struct winnow_err *err);
/** Replace running statistics by averages over `batches` training batches (after pruning).  Needs data (fit or bind).
 */
WINNOW_MUST_USE enum winnow_status wn_trainer_reestimate_bn(struct wn_trainer *tr, unsigned batches,
                                                            struct winnow_err *err);
/** Give the classifier (the last Gemm or MatMul (+Add), or a 1x1 Conv before global pooling) `classes` outputs and new
 *  weights, uniform in +-1/sqrt(I) from the seed; bias 0. */
WINNOW_MUST_USE enum winnow_status wn_trainer_replace_head(struct wn_trainer *tr, unsigned classes,
                                                           struct winnow_err *err);
unsigned wn_trainer_n_classes(const struct wn_trainer *tr);

/* ---- life ---- */

/** Copy `graph` and prepare to train it. One f32 input with a batch axis, or inputs (B, L) of integers (encoders: ids,
 *  mask, types); the first output is scores (N, classes). A Softmax at the end is left out of training and put back by
 *  the export. Exported encoders have no dropout left, and none is put back. `graph` may go away afterwards.
 *  @param opts  NULL or zero fields: defaults
 *  @return E_UNSUPPORTED naming the node without a gradient rule, E_MALFORMED, E_TOO_LARGE (plan over the limit),
 * E_NOMEM */
WINNOW_MUST_USE enum winnow_status wn_trainer_new(const struct wn_graph *graph, const struct wn_train_opts *opts,
                                                  struct wn_trainer **ret_trainer, struct winnow_err *err);
/** NULL is fine. */
void wn_trainer_free(struct wn_trainer *tr);

/** Elements of one input row, and its shape without the batch axis. */
size_t wn_trainer_row_elements(const struct wn_trainer *tr);
/** Data for the calls above outside a fit; borrowed. @return E_MALFORMED when it does not fit the model */
WINNOW_MUST_USE enum winnow_status wn_trainer_bind_data(struct wn_trainer *tr, const struct wn_train_data *data,
                                                        struct winnow_err *err);

/** What a fit reports after every step. */
struct wn_train_progress {
    struct wn_train_time time;
    float loss;       /* of this step's batch, before the step; with what modifiers add (the teacher's) */
    float label_loss; /* of the labels alone; NAN where that is all there is */
    float accuracy;   /* of this step's batch */
    float lr;
    double param_sparsity; /* share of zeros over all prunable weights */
    double flop_sparsity;  /* the same, weighted with multiply-accumulates */
    double step_ms, step_cpu_ms;
};

struct wn_fit_opts {
    double epochs; /* where to stop, counted from the start of training (not of this call) */
    /** After every step; returning false stops (cancel, pause) with everything consistent: checkpoint and return
     *  E_CANCELLED. May call wn_trainer_checkpoint(). May be NULL. */
    bool (*on_step)(void *arg, struct wn_trainer *tr, const struct wn_train_progress *progress);
    void *arg;
};

/** Train from where the trainer stands (step 0, or a restored checkpoint) to fit->epochs. The last partial batch of an
 *  epoch is dropped, every epoch has its own order.
 *  @return WINNOW_OK, E_CANCELLED (on_step said so), E_MALFORMED (data does not fit; loss not finite, naming the step),
 *          or what a hook returned */
WINNOW_MUST_USE enum winnow_status wn_trainer_fit(struct wn_trainer *tr, const struct wn_train_data *data,
                                                  const struct wn_fit_opts *fit, struct winnow_err *err);
/** One step on given rows (batch rows of inputs, labels), no modifiers; for tests and benchmarks. `rows` NULL: the
 * first batch of the bound data with its labels, in the data's order.
 *  @param ret_loss  may be NULL */
WINNOW_MUST_USE enum winnow_status wn_trainer_step(struct wn_trainer *tr, const float *rows, const uint32_t *label,
                                                   float *ret_loss, struct winnow_err *err);
/** Forward and backward without the optimizer: gradients in param->g. BN in training mode, running statistics move. */
WINNOW_MUST_USE enum winnow_status wn_trainer_gradients(struct wn_trainer *tr, const float *rows, const uint32_t *label,
                                                        float *ret_loss, struct winnow_err *err);

struct wn_train_score {
    size_t n;
    double accuracy, loss; /* loss: mean cross entropy without smoothing */
};
/** Score all rows with running statistics. `ret_pred` ([data->n], may be NULL) gets the best class of every row. */
WINNOW_MUST_USE enum winnow_status wn_trainer_evaluate(struct wn_trainer *tr, const struct wn_train_data *data,
                                                       struct wn_train_score *ret_score, uint32_t *ret_pred,
                                                       struct winnow_err *err);
/** Scores (n, classes) of n rows in inference mode; n may be anything. */
WINNOW_MUST_USE enum winnow_status wn_trainer_predict(struct wn_trainer *tr, const float *rows, size_t n, float *scores,
                                                      struct winnow_err *err);

/** No step follows: the memory of gradients and of the optimizer's sums, two or three times the weights, goes back to
 * the system. */
void wn_trainer_end_steps(struct wn_trainer *tr);

/** The graph with the present weights: f32, BatchNormalization as it stands, zeros at pruned positions, the file's own
 *  value names, node names and orientation. Lives in `arena`; release with wn_graph_done().
 *  Quantized training exports its float weights; see wn_quant_point and wn_trainer_weight_scales() for the rest. */
WINNOW_MUST_USE enum winnow_status wn_trainer_export_graph(const struct wn_trainer *tr, struct wn_arena *arena,
                                                           struct wn_graph *ret_graph, struct winnow_err *err);

/** What the trainer will do, for a check before training: bytes of the plan, multiply-accumulates per row. */
struct wn_train_cost {
    size_t plan_bytes, param_bytes;
    double macs_dense, macs_kept; /* forward, per row */
    unsigned n_layers, n_sparse;  /* Conv and Linear layers; those computed by the sparse kernels now */
    double step_ms;               /* predicted by the cost table, one thread */
};
WINNOW_MUST_USE enum winnow_status wn_trainer_cost(struct wn_trainer *tr, struct wn_train_cost *ret,
                                                   struct winnow_err *err);

/* ---- checkpoints ---- */

/** Digests (32 bytes, SHA-256) that a checkpoint is bound to; the caller knows them. */
struct wn_train_ids {
    uint8_t recipe[32], model[32], data[32];
};

/** Write everything a resume needs (weights, masks, momentum, statistics, observers, cursor, modifiers' state) into one
 *  file, durably (temporary name, fsync, rename). Between steps. */
WINNOW_MUST_USE enum winnow_status wn_trainer_checkpoint(struct wn_trainer *tr, const char *path,
                                                         const struct wn_train_ids *ids, struct winnow_err *err);
/** Restore into a fresh trainer made from the same graph and options with the same modifiers added (a head that was
 *  replaced must have been replaced again; folded and inserted BN are repeated from the file). The rest of the training
 * is bit-identical to an uninterrupted one.
 *  @return E_NOT_FOUND, E_MALFORMED (CRC, length, format), E_CONFLICT (another recipe, model, data,
 *          thread count or CPU kind; named) */
WINNOW_MUST_USE enum winnow_status wn_trainer_restore(struct wn_trainer *tr, const char *path,
                                                      const struct wn_train_ids *ids, struct winnow_err *err);

#endif
