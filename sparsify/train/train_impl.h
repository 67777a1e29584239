/* train_impl.h: the trainer's insides, shared by the files of this folder. */
#ifndef WN_TRAIN_IMPL_H
#define WN_TRAIN_IMPL_H

#include "sparsify/autodiff/net.h"
#include "sparsify/train/train.h"

/** A parameter and where it lies in the graph. */
struct wn_tparam {
    struct wn_param pub; /* first: the two pointers are one */
    wn_vid vid;
    bool rows_last;    /* the constant is stored (I, O) */
    bool stats_frozen; /* of a running mean: its layer's statistics stand still */
};

/** What was done to the graph since it was loaded; a checkpoint repeats it. */
enum wn_surgery_kind { WN_SURGERY_HEAD = 1, WN_SURGERY_INSERT_BN, WN_SURGERY_FOLD_BN, WN_SURGERY_QUANT };
struct wn_surgery {
    uint32_t kind, arg;
};

/** Nets for other lengths of tokens than the present one, kept with their plans; they share memory. */
#define WN_TRAIN_NETS 8

struct wn_trainer {
    unsigned magic;
#define WN_TRAINER_MAGIC 0x7a31c5e9u
    struct wn_train_opts opts;
    struct wn_arena arena; /* the graph and its constants, all ours to write */
    struct wn_graph graph;
    struct wn_net net;
    struct wn_net parked[WN_TRAIN_NETS];
    unsigned n_parked, next_parked;
    struct wn_net_pool pool; /* of all of them */
    struct wn_arena param_arena;
    WN_VEC(struct wn_tparam *) param;
    WN_VEC(struct wn_surgery) surgery;
    WN_VEC(struct wn_modifier *) modifier;
    /* quantization */
    bool quant, quant_observe, quant_simulate;
    struct wn_quant_opts quant_opts; /* ignore[] copied into arena */
    struct wn_observer *observer;    /* in param_arena */
    size_t n_observers;
    /* position and rates */
    uint64_t step;
    float lr, wd;
    bool plan_dirty, started;
    /* data */
    const struct wn_train_data *data;
    uint32_t *order; /* [data->n] of epoch `order_epoch` */
    size_t order_n;
    uint64_t order_epoch;
    uint8_t *augment;         /* [threads][h * w * c] */
    uint32_t *sample, *label; /* [batch] of the present step */
    size_t n_samples;         /* rows of the present batch that are rows of `data`; the rest repeats the last */
    void *ids[WN_TRAIN_MAX_INPUTS];
    size_t ids_bytes[WN_TRAIN_MAX_INPUTS];
    struct wn_trainer *teacher;
};

static inline struct wn_tparam *wn_tparam(struct wn_param *p)
{
    return (struct wn_tparam *)(void *)p;
}

/* prepare.c */
/** Fold constants, copy them, share none between nodes, move biases into their convolutions. */
WINNOW_MUST_USE enum winnow_status wn_graph_prepare(struct wn_graph *g, struct winnow_err *err);
/** Replace every constant by a copy in `arena`. */
WINNOW_MUST_USE enum winnow_status wn_graph_own_constants(struct wn_graph *g, struct wn_arena *arena,
                                                          struct winnow_err *err);

/* params.c */
/** For reading the graph for another length: parameters and observers are the ones that are there. */
WINNOW_MUST_USE enum winnow_status wn_trainer_import_again(struct wn_trainer *tr, struct wn_net *net, int64_t length,
                                                           struct winnow_err *err);
/** Import the graph anew: parameters from its constants; masks, momentum and flags from the ones of the same name. */
WINNOW_MUST_USE enum winnow_status wn_trainer_rebuild(struct wn_trainer *tr, struct winnow_err *err);
/** Write the parameters' values into the graph's constants. */
void wn_trainer_sync(struct wn_trainer *tr);
/** Copy a parameter out in its constant's orientation. */
void wn_tparam_store(const struct wn_tparam *p, float *to);
/** Plan again if something changed. */
WINNOW_MUST_USE enum winnow_status wn_trainer_ready(struct wn_trainer *tr, struct winnow_err *err);
bool wn_trainer_ignores(const struct wn_trainer *tr, const char *layer);

/* length.c */
/** Make the net for this length of tokens the present one; no-op where the model's length is fixed. Modes are kept. */
WINNOW_MUST_USE enum winnow_status wn_trainer_use_length(struct wn_trainer *tr, int64_t length, struct winnow_err *err);
/** Drop the parked nets, or their plans only. */
void wn_trainer_drop_parked(struct wn_trainer *tr, bool plans_only);
/** Rows `sample[0 … n - 1]` of tokens into the net's inputs, the batch filled up with the last of them. */
WINNOW_MUST_USE enum winnow_status wn_trainer_load_tokens(struct wn_trainer *tr, const struct wn_train_tokens *tokens,
                                                          const uint32_t *sample, size_t n, struct winnow_err *err);
/** Whether the tokens fit the model's inputs. */
WINNOW_MUST_USE enum winnow_status wn_trainer_check_tokens(const struct wn_trainer *tr,
                                                           const struct wn_train_tokens *tokens, size_t n,
                                                           struct winnow_err *err);
/** Put rows of like length beside each other within runs of batches, then shuffle the batches. */
WINNOW_MUST_USE enum winnow_status wn_trainer_group(struct wn_trainer *tr, uint64_t epoch, struct winnow_err *err);

/* optim.c */
/** Move every trainable parameter by its gradient. */
void wn_trainer_optimize(struct wn_trainer *tr);

/* surgery.c */
/** Repeat one step of surgery without data (values come from a checkpoint). */
WINNOW_MUST_USE enum winnow_status wn_trainer_repeat(struct wn_trainer *tr, const struct wn_surgery *s,
                                                     struct winnow_err *err);

/* data.c */
WINNOW_MUST_USE enum winnow_status wn_trainer_check_data(const struct wn_trainer *tr, const struct wn_train_data *data,
                                                         bool labels, struct winnow_err *err);
/** Fill the net's input, tr->sample and tr->label with batch `index` of `epoch`, augmented as in training. */
WINNOW_MUST_USE enum winnow_status wn_trainer_load(struct wn_trainer *tr, uint64_t epoch, uint64_t index,
                                                   struct winnow_err *err);
/** Rows from … of `data` as they are; the rest of the batch is filled with zeros. Returns how many rows. */
WINNOW_MUST_USE enum winnow_status wn_trainer_load_plain(struct wn_trainer *tr, const struct wn_train_data *data,
                                                         size_t from, size_t *ret_n, struct winnow_err *err);
/** Epoch number for passes that only measure (calibration): an order of their own. */
#define WN_EPOCH_MEASURE UINT64_MAX

/* loss.c */
/** Softmax cross entropy over rows of k scores. d (may be NULL) = (softmax - target) / rows, target smoothed by
 *  `smoothing`. Returns the mean loss; *ret_right = rows whose best score is the label's. */
double wn_cross_entropy(const float *scores, const uint32_t *label, size_t rows, size_t k, float smoothing, float *d,
                        size_t *ret_right);

/* step.c */
void wn_trainer_mode_train(struct wn_trainer *tr);
void wn_trainer_mode_eval(struct wn_trainer *tr);

#endif
