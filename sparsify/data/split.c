/* split.c: a stratified split that the same data always meets with the same answer, in whatever order it comes. */
#include "sparsify/data/split.h"

#include <math.h>
#include <stdlib.h>

size_t wn_split_size(size_t n, double share, size_t least)
{
    size_t want = (size_t)llround((double)n * share);
    return WN_MIN(WN_MAX(want, least), n / 2);
}

/* Source: SplitMix64's finalizer (Steele, Lea, Flood 2014). */
static uint64_t mix(uint64_t x)
{
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

struct ranked {
    uint64_t rank, key;
    size_t row;
    uint32_t label;
};

static int by_class_and_rank(const void *a, const void *b)
{
    const struct ranked *x = a, *y = b;
    if (x->label != y->label)
        return x->label < y->label ? -1 : 1;
    if (x->rank != y->rank)
        return x->rank < y->rank ? -1 : 1;
    return x->key < y->key ? -1 : x->key > y->key;
}

struct share {
    size_t rows, take;
    double rest;
    unsigned label;
};

static int by_rest(const void *a, const void *b)
{
    const struct share *x = a, *y = b;
    if (x->rest > y->rest || x->rest < y->rest)
        return x->rest > y->rest ? -1 : 1;
    return x->label < y->label ? -1 : x->label > y->label;
}

/* Rows that each class gives: its part of `want`, rounded so that the sum is right; one row always stays. */
static void settle_shares(struct share *s, unsigned n_labels, size_t n, size_t want)
{
    size_t given = 0;
    for (unsigned c = 0; c < n_labels; c++) {
        double part = (double)want * (double)s[c].rows / (double)n;
        s[c].take = WN_MIN((size_t)part, s[c].rows ? s[c].rows - 1 : 0);
        s[c].rest = part - floor(part);
        given += s[c].take;
    }
    qsort(s, n_labels, sizeof *s, by_rest);
    for (bool any = true; given < want && any;) {
        any = false;
        for (unsigned i = 0; i < n_labels && given < want; i++) {
            if (s[i].take + 1 >= s[i].rows)
                continue;
            s[i].take++;
            given++;
            any = true;
        }
    }
}

enum winnow_status wn_split(const uint64_t *key, const uint32_t *label, size_t n, unsigned n_labels, size_t want,
                            uint64_t seed, uint8_t *ret_eval, struct winnow_err *err)
{
    WN_CLEANUP(wn_freep) struct ranked *r = calloc(n + 1, sizeof *r);
    WN_CLEANUP(wn_freep) struct share *s = calloc((size_t)n_labels + 1, sizeof *s);
    WN_CLEANUP(wn_freep) size_t *take = calloc((size_t)n_labels + 1, sizeof *take);
    if (!r || !s || !take)
        return wn_fail(err, WINNOW_E_NOMEM, "split of %zu rows", n);
    for (unsigned c = 0; c < n_labels; c++)
        s[c].label = c;
    for (size_t i = 0; i < n; i++) {
        r[i] = (struct ranked){ mix(key[i] ^ mix(seed)), key[i], i, label[i] };
        s[label[i]].rows++;
        ret_eval[i] = 0;
    }
    if (n)
        settle_shares(s, n_labels, n, want);
    for (unsigned c = 0; c < n_labels; c++)
        take[s[c].label] = s[c].take;
    qsort(r, n, sizeof *r, by_class_and_rank);
    for (size_t i = 0; i < n; i++)
        if (take[r[i].label]) {
            take[r[i].label]--;
            ret_eval[r[i].row] = 1;
        }
    return WINNOW_OK;
}
