/* encoder.h: a small encoder and rows of tokens for the checks. */
#ifndef WN_TEST_ENCODER_H
#define WN_TEST_ENCODER_H

#include "tests/grad/grad.h"

enum { B = 4, L = 16, H = 8, VOCAB = 23, CLASSES = 3, MASK_FROM = 11 };

/** Rows of ids below VOCAB, with a mask of ones; random labels. */
struct tokens {
    struct wn_train_tokens t;
    struct wn_train_data d;
    int64_t *id[2];
    size_t *start;
    uint32_t *label;
};
void tokens_init(struct tokens *s, size_t n, size_t shortest, size_t longest);
void tokens_done(struct tokens *s);

struct net {
    struct build b;
    wn_vid ids, mask, x; /* x (B, L, H) */
};
/** Two heads, one layer, the first token's state to CLASSES; as exporters write it at opset 13. */
void build_encoder(struct net *n);

#endif
