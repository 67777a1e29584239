/* share.h: shares cover everything once, at tiles and units, and cost about the same. */
#include "engine/plan/share.h"
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

static void check(const struct wn_tiling *t, unsigned n_parts)
{
    char *seen = calloc(t->cols + 1, t->rows + 1);
    size_t most = 0, total = 0;
    cr_assert(seen);
    for (unsigned part = 0; part < n_parts; part++) {
        struct wn_block block[3];
        unsigned n = wn_share_tiles(t, part, n_parts, block);
        size_t cost = 0;
        cr_assert_leq(n, 3);
        for (unsigned i = 0; i < n; i++) {
            const struct wn_block *b = &block[i];
            cr_assert(b->c0 < b->c1 && b->c1 <= t->cols && b->r0 < b->r1 && b->r1 <= t->rows);
            cr_assert(b->c0 % t->tile == 0 && (b->c1 % t->tile == 0 || b->c1 == t->cols), "cut within a tile");
            cr_assert(b->r0 % t->unit == 0 && (b->r1 % t->unit == 0 || b->r1 == t->rows), "cut within a unit");
            cost += (b->r1 - b->r0) * wn_round_up(b->c1 - b->c0, t->step);
            for (size_t r = b->r0; r < b->r1; r++)
                for (size_t c = b->c0; c < b->c1; c++)
                    cr_assert_eq(seen[r * t->cols + c]++, 0, "row %zu, column %zu twice", r, c);
        }
        most = WN_MAX(most, cost);
        total += cost;
    }
    for (size_t i = 0; i < t->rows * t->cols; i++)
        cr_assert_eq(seen[i], 1, "row %zu, column %zu left out", i / t->cols, i % t->cols);
    /* at either end a share is off by less than a unit of rows of a tile */
    cr_expect_leq(most, total / n_parts + 2 * t->unit * t->tile, "%zu x %zu: most %zu of %zu in %u parts", t->rows,
                  t->cols, most, total, n_parts);
    free(seen);
}

Test(share, any_layer_any_number_of_threads)
{
    static const size_t tiles[] = { 16, 48, 64, 112, 128 };
    unsigned seed = 1;
    for (unsigned i = 0; i < 400; i++) {
        const size_t tile = tiles[(unsigned)rand_r(&seed) % WN_COUNT(tiles)];
        struct wn_tiling t = { .cols = 16 * (1 + (unsigned)rand_r(&seed) % 60),
                               .tile = tile,
                               .step = tile % 64 == 0 ? 64 : 16,
                               .rows = 1 + (unsigned)rand_r(&seed) % 80,
                               .unit = 4u << rand_r(&seed) % 2 };
        check(&t, 1 + (unsigned)rand_r(&seed) % 9);
    }
}

Test(share, nothing)
{
    struct wn_block block[3];
    cr_expect_eq(wn_share_tiles(&(struct wn_tiling){ 0, 64, 64, 8, 4 }, 0, 2, block), 0);
    cr_expect_eq(wn_share_tiles(&(struct wn_tiling){ 64, 64, 64, 0, 4 }, 0, 2, block), 0);
}

Test(share, columns_first)
{
    struct wn_block b[3];
    struct wn_tiling t = { .cols = 256, .tile = 64, .step = 64, .rows = 100, .unit = 4 };
    cr_assert_eq(wn_share_tiles(&t, 1, 2, b), 1);
    cr_expect(b[0].c0 == 128 && b[0].c1 == 256 && b[0].r0 == 0 && b[0].r1 == 100, "four tiles for two threads");
    t.cols = 192;
    cr_assert_eq(wn_share_tiles(&t, 0, 2, b), 2);
    cr_expect(b[0].c1 == 64 && b[0].r1 == 100 && b[1].c0 == 64 && b[1].c1 == 128 && b[1].r0 == 0 && b[1].r1 == 48,
              "of three tiles the middle one is cut by rows");
    t.cols = 64;
    cr_assert_eq(wn_share_tiles(&t, 1, 2, b), 1);
    cr_expect(b[0].c0 == 0 && b[0].c1 == 64 && b[0].r0 == 48 && b[0].r1 == 100, "one tile is divided by rows");
}
