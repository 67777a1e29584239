/* recurrent.h: what RNN, GRU and LSTM nodes ask for, read once; and their runs where the products with X were made
 * before ("wn.Recurrent" of passes/fused.h). */
#ifndef WN_OPS_RECURRENT_H
#define WN_OPS_RECURRENT_H

#include "engine/ops/ops.h"

enum wn_recurrent_kind { WN_RNN, WN_GRU, WN_LSTM };

/** Activations by ONNX's names. */
enum wn_recurrent_fn {
    WN_RECURRENT_TANH,
    WN_RECURRENT_SIGMOID,
    WN_RECURRENT_RELU,
    WN_RECURRENT_AFFINE,
    WN_RECURRENT_LEAKY_RELU,
    WN_RECURRENT_THRESHOLDED_RELU,
    WN_RECURRENT_SCALED_TANH,
    WN_RECURRENT_HARD_SIGMOID,
    WN_RECURRENT_ELU,
    WN_RECURRENT_SOFTSIGN,
    WN_RECURRENT_SOFTPLUS,
    WN_RECURRENT_FNS
};

struct wn_recurrent_act {
    enum wn_recurrent_fn f;
    float a, b; /* alpha, beta */
};

#define WN_RECURRENT_ACTS 3u /* activations of a direction, at most */

/** The attributes of a node. Source: ONNX RNN, GRU, LSTM. */
struct wn_recurrent {
    enum wn_recurrent_kind kind;
    uint32_t dirs;                                       /* 1 or 2 */
    bool backward;                                       /* the only direction is backward */
    bool batch_first;                                    /* layout 1 */
    bool late_reset;                                     /* GRU: linear_before_reset */
    bool coupled;                                        /* LSTM: input_forget */
    float clip;                                          /* of what goes into the activations; 0: none */
    struct wn_recurrent_act acts[2 * WN_RECURRENT_ACTS]; /* wn_recurrent_acts() of each direction, one after another */
};

/** Rows of W and R per unit: 1, 3 or 4. */
int64_t wn_recurrent_gates(enum wn_recurrent_kind kind);
/** Activations of a direction. */
unsigned wn_recurrent_acts(enum wn_recurrent_kind kind);
/** @return E_MALFORMED for an attribute that the specification forbids */
enum winnow_status wn_recurrent_read(const struct wn_node *node, struct wn_recurrent *ret, struct winnow_err *err);

/** Shape rule and run of "wn.Recurrent". */
enum winnow_status wn_infer_recurrent_products(struct wn_infer *in, struct winnow_err *err);
enum winnow_status wn_run_recurrent_products(struct wn_run *run, struct winnow_err *err);

#endif
