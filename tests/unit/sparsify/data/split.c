/* split.c: shares are right, order does not matter, no class is emptied. */
#include "sparsify/data/split.h"

#include <criterion/criterion.h>
#include <string.h>

#define N 1000

static uint64_t key[N];
static uint32_t label[N];

static void fill(void)
{
    for (unsigned i = 0; i < N; i++) {
        key[i] = (i + 1) * UINT64_C(0x2545f4914f6cdd1d);
        label[i] = i % 10 == 0 ? 2 : i % 3 == 0;
    }
}

static void count(const uint8_t *eval, size_t ret[3])
{
    memset(ret, 0, 3 * sizeof *ret);
    for (unsigned i = 0; i < N; i++)
        ret[label[i]] += eval[i];
}

Test(split, stratified, .init = fill)
{
    uint8_t eval[N];
    size_t got[3], all[3] = { 0 };
    for (unsigned i = 0; i < N; i++)
        all[label[i]]++;
    cr_assert_eq(wn_split(key, label, N, 3, 200, 1, eval, NULL), WINNOW_OK);
    count(eval, got);
    cr_assert_eq(got[0] + got[1] + got[2], 200);
    for (unsigned c = 0; c < 3; c++)
        cr_assert_lt(got[c] * 1000 > all[c] * 200 ? got[c] * 1000 - all[c] * 200 : all[c] * 200 - got[c] * 1000, 1001);
}

Test(split, order_does_not_matter, .init = fill)
{
    uint8_t a[N], b[N];
    uint64_t key2[N];
    uint32_t label2[N];
    for (unsigned i = 0; i < N; i++) {
        key2[i] = key[N - 1 - i];
        label2[i] = label[N - 1 - i];
    }
    cr_assert_eq(wn_split(key, label, N, 3, 137, 5, a, NULL), WINNOW_OK);
    cr_assert_eq(wn_split(key2, label2, N, 3, 137, 5, b, NULL), WINNOW_OK);
    for (unsigned i = 0; i < N; i++)
        cr_assert_eq(a[i], b[N - 1 - i]);
    cr_assert_eq(wn_split(key, label, N, 3, 137, 6, b, NULL), WINNOW_OK);
    cr_assert_neq(memcmp(a, b, N), 0, "another seed, another choice");
}

Test(split, every_class_keeps_a_row)
{
    const uint64_t k[6] = { 1, 2, 3, 4, 5, 6 };
    const uint32_t l[6] = { 0, 1, 1, 2, 2, 2 };
    uint8_t eval[6];
    cr_assert_eq(wn_split(k, l, 6, 3, 6, 1, eval, NULL), WINNOW_OK);
    cr_assert_eq(eval[0], 0);
    cr_assert_eq(eval[1] + eval[2], 1);
    cr_assert_eq(eval[3] + eval[4] + eval[5], 2);
    cr_assert_eq(wn_split(k, l, 0, 3, 0, 1, eval, NULL), WINNOW_OK);
}

Test(split, size)
{
    cr_assert_eq(wn_split_size(10000, 0.1, 100), 1000);
    cr_assert_eq(wn_split_size(600, 0.1, 100), 100);
    cr_assert_eq(wn_split_size(60, 0.1, 100), 30);
    cr_assert_eq(wn_split_size(0, 0.1, 100), 0);
}
