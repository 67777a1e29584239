/* onnx_scan.c: hostile files are refused in bounded time and memory, and no byte can crash the reader. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <sys/resource.h>
#include "tests/unit/engine/graph/build.h"

static struct winnow_err err;

/* Read, release everything, return the status. */
static enum winnow_status try_read(const void *bytes, size_t n, const struct wn_onnx_limits *limits)
{
    struct wn_arena arena;
    struct wn_graph g;
    wn_arena_init(&arena, 0);
    err.msg[0] = '\0';
    enum winnow_status status = wn_onnx_read(bytes, n, limits, &arena, &g, &err);
    if (status == WINNOW_OK)
        wn_graph_done(&g);
    wn_arena_done(&arena);
    return status;
}

static enum winnow_status try_pb(struct pb m)
{
    enum winnow_status status = try_read(m.p, m.n, NULL);
    free(m.p);
    return status;
}

/* `depth` messages in each other: graph, node, attribute, graph, … Built from the inside out. */
static uint8_t *nested(size_t depth, size_t *ret_n)
{
    static const uint8_t tag[] = { GRAPH_NODE << 3 | 2, NODE_ATTR << 3 | 2, ATTR_G << 3 | 2 };
    size_t cap = depth * 6 + 16, at = cap;
    uint8_t *p = malloc(cap);
    cr_assert_not_null(p);
    for (size_t level = depth; level-- > 0;) {
        uint8_t len[10];
        size_t n = 0;
        for (uint64_t v = cap - at; n == 0 || v; v >>= 7)
            len[n++] = (uint8_t)((v & 0x7f) | (v >> 7 ? 0x80 : 0));
        at -= n;
        memcpy(p + at, len, n);
        p[--at] = level == 0 ? MODEL_GRAPH << 3 | 2 : tag[(level - 1) % 3];
    }
    *ret_n = cap - at;
    memmove(p, p + at, *ret_n);
    return p;
}

Test(onnx_scan, nesting_is_bounded, .timeout = 30)
{
    static const size_t depths[] = { 1, 2, 3, 10, 62, 63, 64, 65, 100, 1000, 3000, 9000, 100000, 1000000 };
    for (size_t i = 0; i < WN_COUNT(depths); i++) {
        size_t n;
        uint8_t *p = nested(depths[i], &n);
        enum winnow_status want = depths[i] + 1 > 64 ? WINNOW_E_TOO_LARGE : WINNOW_E_MALFORMED;
        uint64_t t = wn_now_ns();
        cr_expect_eq(try_read(p, n, NULL), want, "depth %zu: %s", depths[i], err.msg);
        cr_log_info("depth %zu: %.2f ms, %s", depths[i], (double)(wn_now_ns() - t) / 1e6, err.msg);
        struct wn_onnx_limits deep = { .max_depth = 1000000 }; /* what a caller may ask for has a cap too */
        cr_expect_neq(try_read(p, n, &deep), WINNOW_OK);
        free(p);
    }
}

static long peak_kb(void)
{
    struct rusage ru;
    getrusage(RUSAGE_SELF, &ru);
    return ru.ru_maxrss;
}

Test(onnx_scan, ten_million_empty_messages, .timeout = 30)
{
    enum { N = 10000000 };
    struct pb graph = { 0 };
    uint8_t *pairs = malloc(2 * (size_t)N);
    cr_assert_not_null(pairs);
    for (size_t i = 0; i < N; i++) {
        pairs[2 * i] = GRAPH_NODE << 3 | 2;
        pairs[2 * i + 1] = 0;
    }
    pb_raw(&graph, pairs, 2 * (size_t)N);
    free(pairs);
    struct pb m = pb_model(graph);
    long before = peak_kb();
    cr_assert_eq(try_read(m.p, m.n, NULL), WINNOW_E_TOO_LARGE);
    cr_assert(strstr(err.msg, "messages"), "%s", err.msg);
    cr_log_info("peak memory grew by %ld KiB", peak_kb() - before);
    cr_assert_lt(peak_kb() - before, 64 << 10);
    struct wn_onnx_limits lim = { .max_messages = 2 * N, .max_skeleton = 16u << 20 };
    cr_assert_eq(try_read(m.p, m.n, &lim), WINNOW_E_TOO_LARGE);
    lim.max_skeleton = 128u << 20; /* enough for the skeleton, too little for what is unpacked from it */
    cr_assert_eq(try_read(m.p, m.n, &lim), WINNOW_E_TOO_LARGE);
    free(m.p);
}

Test(onnx_scan, many_empty_strings_meet_the_budget, .timeout = 30)
{
    enum { N = 10000000 };
    struct pb node = { 0 }, graph = { 0 };
    uint8_t *pairs = malloc(2 * (size_t)N);
    cr_assert_not_null(pairs);
    for (size_t i = 0; i < N; i++) {
        pairs[2 * i] = NODE_IN << 3 | 2;
        pairs[2 * i + 1] = 0;
    }
    pb_raw(&node, pairs, 2 * (size_t)N);
    free(pairs);
    pb_msg(&graph, GRAPH_NODE, node);
    cr_assert_eq(try_pb(pb_model(graph)), WINNOW_E_TOO_LARGE);
}

Test(onnx_scan, values_taken_through_many_graphs, .timeout = 30)
{
    enum { N = 200000, LEVELS = 19 };
    struct pb many = { 0 }, inner = { 0 }, graph = { 0 };
    char name[16];
    for (int i = 0; i < N; i++) {
        snprintf(name, sizeof name, "%x", i);
        pb_str(&many, NODE_OUT, name);
        pb_str(&inner, NODE_IN, name);
    }
    pb_str(&many, NODE_OP, "Split");
    pb_str(&inner, NODE_OP, "Sum");
    pb_str(&inner, NODE_OUT, "r");
    for (int i = 0; i < LEVELS; i++) {
        struct pb sub = { 0 };
        pb_msg(&sub, GRAPH_NODE, inner);
        pb_msg(&sub, GRAPH_OUT, pb_info("r", 1, 0, NULL));
        inner = pb_node("If", NULL, NULL, "r");
        pb_msg(&inner, NODE_ATTR, pb_attr_graph("then_branch", sub));
    }
    pb_msg(&graph, GRAPH_NODE, many);
    pb_msg(&graph, GRAPH_NODE, inner);
    pb_msg(&graph, GRAPH_OUT, pb_info("r", 1, 0, NULL));
    struct pb m = pb_model(graph);
    long before = peak_kb();
    cr_assert_eq(try_pb(m), WINNOW_E_TOO_LARGE, "%s", err.msg);
    cr_assert(strstr(err.msg, "too many values"), "%s", err.msg);
    cr_log_info("peak memory grew by %ld KiB", peak_kb() - before);
}

Test(onnx_scan, file_limit)
{
    struct pb m = pb_model(pb_small_graph());
    struct wn_onnx_limits lim = { .max_file_bytes = m.n - 1 };
    cr_assert_eq(try_read(m.p, m.n, &lim), WINNOW_E_TOO_LARGE);
    lim.max_file_bytes = m.n;
    cr_assert_eq(try_read(m.p, m.n, &lim), WINNOW_OK);
    free(m.p);
}

Test(onnx_scan, wire_that_is_no_wire)
{
    static const struct {
        const char *bytes;
        size_t n;
    } cases[] = {
        { "\x00", 1 },                                              /* field 0 */
        { "\x08", 1 },                                              /* no value */
        { "\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", 11 },     /* more than 64 bits */
        { "\x08\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01", 12 }, /* eleven bytes */
        { "\x0b\x0c", 2 },                                          /* a group */
        { "\x0f", 1 },                                              /* wire type 7 */
        { "\x3a\x05\x01", 3 },                                      /* longer than the file */
        { "\x3a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 11 },     /* length 2^64 - 1 */
        { "\x0d\x01\x02\x03", 4 },                                  /* four bytes, three there */
        { "\x09\x01\x02\x03\x04\x05\x06\x07\x08", 9 },              /* ir_version as eight bytes */
        { "\x38\x01", 2 },                                          /* graph as a number */
        { "\x12\x02\xc3\x28", 4 },                                  /* producer is not UTF-8 */
        { "\x12\x03\x61\x00\x62", 5 },                              /* producer with a NUL */
        { "\x12\x03\xed\xa0\x80", 5 },                              /* a surrogate */
        { "\x12\x02\xc0\x80", 4 },                                  /* an over-long NUL */
        { "\x12\x04\xf4\x90\x80\x80", 6 },                          /* beyond Unicode */
        { "\x3a\x00\x3a\x00", 4 },                                  /* two graphs */
    };
    for (size_t i = 0; i < WN_COUNT(cases); i++) {
        uint8_t *exact = malloc(cases[i].n);
        memcpy(exact, cases[i].bytes, cases[i].n);
        cr_expect_eq(try_read(exact, cases[i].n, NULL), WINNOW_E_MALFORMED, "case %zu: %s", i, err.msg);
        free(exact);
    }
}

Test(onnx_scan, unknown_fields_and_doc_strings_are_passed_over)
{
    struct pb graph = pb_small_graph();
    pb_bytes(&graph, GRAPH_DOC, "\xff not UTF-8 \0", 13);
    struct pb m = pb_model(graph);
    pb_int(&m, 1000, 7);
    pb_str(&m, 536870911, "the highest field number");
    pb_float(&m, 77, 1);
    cr_assert_eq(try_pb(m), WINNOW_OK, "%s", err.msg);
}

static struct pb small_with_everything(void)
{
    struct pb graph = pb_if_graph();
    struct pb t = pb_tensor("ids", 7, 1, (int64_t[]){ 2 }), s = pb_tensor("words", 8, 1, (int64_t[]){ 2 });
    pb_bytes(&t, TENSOR_INT64S, "\x01\x7f", 2);
    pb_str(&s, TENSOR_STRINGS, "a");
    pb_str(&s, TENSOR_STRINGS, "b");
    pb_msg(&graph, GRAPH_INIT, t);
    pb_msg(&graph, GRAPH_INIT, s);
    struct pb node = pb_node("Gather", "g", "words,ids", "z");
    pb_msg(&node, NODE_ATTR, pb_attr_int("axis", 0));
    pb_msg(&graph, GRAPH_NODE, node);
    pb_msg(&graph, GRAPH_OUT, pb_info("z", 8, 1, (int64_t[]){ 2 }));
    return pb_model(graph);
}

Test(onnx_scan, truncated_everywhere, .timeout = 30)
{
    struct pb m = small_with_everything();
    cr_assert_eq(try_read(m.p, m.n, NULL), WINNOW_OK, "%s", err.msg);
    unsigned read = 0;
    for (size_t n = 0; n < m.n; n++) {
        uint8_t *exact = malloc(n ? n : 1); /* so that a read past the end is seen */
        memcpy(exact, m.p, n);
        read += try_read(exact, n, NULL) == WINNOW_OK;
        free(exact);
    }
    free(m.p);
    cr_assert_eq(read, 0, "the version of the operators comes last: nothing shorter is a model");
}

Test(onnx_scan, every_bit_flipped, .timeout = 60)
{
    struct pb m = small_with_everything();
    uint8_t *exact = malloc(m.n);
    unsigned refused = 0;
    for (size_t bit = 0; bit < m.n * 8; bit++) {
        memcpy(exact, m.p, m.n);
        exact[bit / 8] ^= (uint8_t)(1u << bit % 8);
        enum winnow_status status = try_read(exact, m.n, NULL);
        refused += status != WINNOW_OK;
        cr_expect(status == WINNOW_OK || err.msg[0], "bit %zu: no message", bit);
        cr_expect_neq(status, WINNOW_E_INTERNAL, "bit %zu: %s", bit, err.msg);
    }
    cr_log_info("%u of %zu flips refused", refused, m.n * 8);
    free(exact);
    free(m.p);
}

Test(onnx_scan, long_names_and_many_names, .timeout = 30)
{
    enum { N = 100000 };
    char *name = malloc((1u << 20) + 1);
    memset(name, 'n', 1u << 20);
    name[1u << 20] = '\0';
    struct pb graph = { 0 };
    pb_msg(&graph, GRAPH_IN, pb_info("x", 1, 2, pb_n2));
    pb_msg(&graph, GRAPH_NODE, pb_node("Relu", name, "x", name));
    char last[32] = "x", next[32];
    for (int i = 0; i < N; i++) {
        snprintf(next, sizeof next, "v%d", i);
        struct pb node = { 0 };
        pb_str(&node, NODE_IN, last);
        pb_str(&node, NODE_OUT, next);
        pb_str(&node, NODE_OP, "Neg");
        pb_msg(&graph, GRAPH_NODE, node);
        strcpy(last, next);
    }
    pb_msg(&graph, GRAPH_OUT, pb_info(last, 1, 2, pb_n2));
    uint64_t t = wn_now_ns();
    cr_assert_eq(try_pb(pb_model(graph)), WINNOW_OK, "%s", err.msg);
    cr_log_info("%d nodes: %.0f ms", N, (double)(wn_now_ns() - t) / 1e6);
    struct pb bad = { 0 };
    pb_msg(&bad, GRAPH_NODE, pb_node("Relu", name, name, "y"));
    pb_msg(&bad, GRAPH_OUT, pb_info("y", 1, 2, pb_n2));
    cr_assert_eq(try_pb(pb_model(bad)), WINNOW_E_MALFORMED);
    cr_assert(strstr(err.msg, "nothing makes its input"), "a long name does not push the reason out: %s", err.msg);
    free(name);
}
