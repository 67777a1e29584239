/* onnx_write.c: what is written says what the graph says, whatever passes did to names. */
#include <criterion/criterion.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>
#include "tests/unit/engine/graph/build.h"

static struct wn_arena arena;
static struct wn_graph g, back;
static struct winnow_err err;

static void begin(void)
{
    wn_arena_init(&arena, 0);
    wn_graph_init(&g, &arena);
    g.ir_version = 3;
    cr_assert(wn_vec_push(&g.opsets, (struct wn_opset){ "", 13 }));
    cr_assert(wn_vec_push(&g.meta, (struct wn_meta){ "key", "value" }));
}

static void end(void)
{
    wn_graph_done(&g);
    wn_graph_done(&back);
    wn_arena_done(&arena);
}

TestSuite(onnx_write, .init = begin, .fini = end);

static void round_trip(void)
{
    void *bytes;
    size_t n;
    cr_assert_eq(wn_onnx_write(&g, &bytes, &n, &err), WINNOW_OK, "%s", err.msg);
    cr_assert_eq(wn_onnx_read(bytes, n, NULL, &arena, &back, &err), WINNOW_OK, "%s", err.msg);
    free(bytes);
}

static wn_vid input(const char *name, int rank, const int64_t *dim)
{
    wn_vid v = wn_graph_add_value(&g, name, WINNOW_F32, rank, dim);
    cr_assert(wn_vec_push(&g.inputs, v));
    return v;
}

Test(onnx_write, types_attributes_and_constants)
{
    wn_vid x = input("x", 2, pb_n2), y = wn_graph_add_value(&g, "y", WINNOW_F32, -1, NULL);
    g.values.at[x].dim_name[0] = "batch";
    struct winnow_str words[] = { { "a", 1 }, { "b\0c", 3 } };
    wn_vid c = wn_graph_add_const(&g, "c", WINNOW_F16, 1, (int64_t[]){ 3 }, (uint16_t[]){ 1, 2, 3 });
    wn_vid s = wn_graph_add_const(&g, "s", WINNOW_STRING, 1, (int64_t[]){ 2 }, words);
    wn_vid unused = wn_graph_add_const(&g, "unused", WINNOW_F32, 0, NULL, NULL);
    struct wn_node *node = wn_graph_add_node(&g, "com.example", "Op", NULL, (wn_vid[]){ x, WN_NONE, c, s }, 4,
                                             (wn_vid[]){ WN_NONE, y }, 2);
    cr_assert(wn_node_set_int(&g, node, "i", -7));
    cr_assert(wn_node_set_float(&g, node, "f", 0.1f));
    cr_assert(wn_node_set_ints(&g, node, "empty", NULL, 0));
    cr_assert(wn_node_set_ints(&g, node, "ints", (int64_t[]){ INT64_MIN, 0, INT64_MAX }, 3));
    cr_assert(wn_node_set_str(&g, node, "str", "é"));
    cr_assert(wn_vec_push(&g.outputs, y));
    round_trip();
    const struct wn_node *n = &back.nodes.at[0];
    size_t count;
    cr_assert_str_eq(n->domain, "com.example");
    cr_assert_eq(n->n_in, 4);
    cr_assert_eq(n->in[1], WN_NONE);
    cr_assert_eq(n->out[0], WN_NONE);
    cr_assert_eq(wn_node_int(n, "i", 0), -7);
    cr_assert_eq(wn_node_float(n, "f", 0), 0.1f);
    cr_assert_eq(wn_node_attr(n, "empty")->kind, WN_ATTR_INTS);
    cr_assert_eq(wn_node_ints(n, "ints", &count)[0], INT64_MIN);
    cr_assert(wn_node_str_is(n, "str", NULL, "é"));
    const struct wn_value *v = &back.values.at[back.inputs.at[0]];
    cr_assert_str_eq(v->dim_name[0], "batch");
    cr_assert_eq(v->type.dim[1], 2);
    cr_assert_eq(back.values.at[back.outputs.at[0]].type.rank, -1);
    cr_assert(memcmp(back.values.at[n->in[2]].constant->data, (uint16_t[]){ 1, 2, 3 }, 6) == 0);
    const struct winnow_str *str = back.values.at[n->in[3]].constant->data;
    cr_assert(str[1].n == 3 && memcmp(str[1].p, "b\0c", 3) == 0);
    cr_assert_eq(find_value(&back, "unused"), WN_NONE, "%u is not written", unused);
    cr_assert_eq(back.ir_version, 4, "initializers that are no inputs need it");
    cr_assert_eq(back.opsets.at[0].version, 13);
    cr_assert_str_eq(back.meta.at[0].value, "value");
}

Test(onnx_write, equal_names_are_told_apart_and_outputs_keep_theirs)
{
    wn_vid x = input("x", 0, NULL), v = x;
    for (int i = 0; i < 3; i++) {
        wn_vid next = wn_graph_add_value(&g, i == 1 ? "" : "y", WINNOW_F32, 0, NULL);
        cr_assert_not_null(wn_graph_add_node(&g, "", "Neg", NULL, &v, 1, &next, 1));
        v = next;
    }
    cr_assert(wn_vec_push(&g.outputs, v));
    round_trip();
    cr_assert_eq(back.nodes.n, 3);
    cr_assert_str_eq(back.values.at[back.outputs.at[0]].name, "y");
    cr_assert_eq(back.values.at[back.outputs.at[0]].producer, 2);
}

Test(onnx_write, fused_operators_are_not_onnx)
{
    wn_vid x = input("x", 0, NULL), y = wn_graph_add_value(&g, "y", WINNOW_F32, 0, NULL);
    cr_assert_not_null(wn_graph_add_node(&g, "wn", "QConv", "fused", &x, 1, &y, 1));
    cr_assert(wn_vec_push(&g.outputs, y));
    void *bytes;
    size_t n;
    cr_assert_eq(wn_onnx_write(&g, &bytes, &n, &err), WINNOW_E_INTERNAL);
    cr_assert(strstr(err.msg, "'fused'"), "%s", err.msg);
}

Test(onnx_write, an_output_that_is_a_constant)
{
    wn_vid c = wn_graph_add_const(&g, "c", WINNOW_I64, 1, (int64_t[]){ 1 }, (int64_t[]){ 42 });
    cr_assert(wn_vec_push(&g.outputs, c));
    round_trip();
    cr_assert_eq(*(const int64_t *)back.values.at[back.outputs.at[0]].constant->data, 42);
}

/* Weights of u8 and f32, one of them below 1 KiB. */
static void some_weights(float *w, unsigned char *b)
{
    for (int i = 0; i < 600; i++)
        w[i] = (float)i - 17;
    memset(b, 7, 1024);
    wn_vid x = input("x", 1, (int64_t[]){ 600 }), y = wn_graph_add_value(&g, "y", WINNOW_F32, -1, NULL);
    wn_vid in[] = { x, wn_graph_add_const(&g, "large", WINNOW_F32, 1, (int64_t[]){ 600 }, w),
                    wn_graph_add_const(&g, "page", WINNOW_U8, 1, (int64_t[]){ 1024 }, b),
                    wn_graph_add_const(&g, "small", WINNOW_U8, 1, (int64_t[]){ 1023 }, b) };
    cr_assert_not_null(wn_graph_add_node(&g, "com.example", "Op", NULL, in, 4, &y, 1));
    cr_assert(wn_vec_push(&g.outputs, y));
}

Test(onnx_write, large_tensors_go_into_a_file_beside)
{
    char dir[] = "/tmp/wn-onnx-XXXXXX", path[64], data[80];
    float w[600];
    unsigned char b[1024], in_file[1024];
    cr_assert_not_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/m.onnx", dir);
    snprintf(data, sizeof data, "%s.data", path);
    some_weights(w, b);
    cr_assert_eq(wn_onnx_write_file(&g, path, false, &err), WINNOW_OK, "%s", err.msg);
    cr_assert(access(data, F_OK) != 0, "one file that is small enough stays one");
    cr_assert_eq(wn_onnx_write_file(&g, path, true, &err), WINNOW_OK, "%s", err.msg);
    cr_assert_eq(wn_onnx_read_file(path, NULL, &arena, &back, &err), WINNOW_OK, "%s", err.msg);
    cr_assert_eq(back.external.n, 1);
    cr_assert_str_eq(back.external.at[0], "m.onnx.data");
    const wn_vid *in = back.nodes.at[0].in;
    cr_assert(memcmp(back.values.at[in[1]].constant->data, w, sizeof w) == 0);
    cr_assert(memcmp(back.values.at[in[2]].constant->data, b, 1024) == 0);
    cr_assert(memcmp(back.values.at[in[3]].constant->data, b, 1023) == 0);
    FILE *f = fopen(data, "rb");
    cr_assert_not_null(f);
    cr_assert_eq(fseek(f, 4096, SEEK_SET), 0);
    cr_assert_eq(fread(in_file, 1, 1024, f), 1024);
    cr_assert(memcmp(in_file, b, 1024) == 0, "each begins at a multiple of 4096");
    cr_assert_eq(fgetc(f), EOF, "a tensor below 1 KiB stays in the model's file");
    fclose(f);
    unlink(data);
    unlink(path);
    rmdir(dir);
}

Test(onnx_write, the_same_graph_from_one_file_and_from_two)
{
    char dir[] = "/tmp/wn-onnx-XXXXXX", path[64], data[80];
    float w[600];
    unsigned char b[1024];
    void *one, *two;
    size_t n, m;
    cr_assert_not_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/m.onnx", dir);
    snprintf(data, sizeof data, "%s.data", path);
    some_weights(w, b);
    cr_assert_eq(wn_onnx_write_file(&g, path, true, &err), WINNOW_OK, "%s", err.msg);
    cr_assert_eq(wn_onnx_read_file(path, NULL, &arena, &back, &err), WINNOW_OK, "%s", err.msg);
    cr_assert_eq(wn_onnx_write(&g, &one, &n, &err), WINNOW_OK, "%s", err.msg);
    cr_assert_eq(wn_onnx_write(&back, &two, &m, &err), WINNOW_OK, "%s", err.msg);
    /* the reader names a nameless node: all else is the same */
    wn_graph_done(&g);
    cr_assert_eq(wn_onnx_read(one, n, NULL, &arena, &g, &err), WINNOW_OK, "%s", err.msg);
    free(one);
    cr_assert_eq(wn_onnx_write(&g, &one, &n, &err), WINNOW_OK, "%s", err.msg);
    cr_assert(n == m && memcmp(one, two, n) == 0);
    free(one);
    free(two);
    unlink(data);
    unlink(path);
    rmdir(dir);
}

/* Where the disk ends shows which form was chosen, without gigabytes of it. */
Test(onnx_write, what_is_too_large_for_one_file)
{
    char dir[] = "/tmp/wn-onnx-XXXXXX", path[64];
    size_t n = (size_t)INT32_MAX + 1;
    void *zeros = mmap(NULL, n, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    cr_assert_neq(zeros, MAP_FAILED);
    cr_assert_not_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/m.onnx", dir);
    struct wn_tensor t = { .dtype = WINNOW_U8, .rank = 1, .dim = { (int64_t)n }, .bytes = n, .data = zeros };
    wn_vid x = input("x", 0, NULL), y = wn_graph_add_value(&g, "y", WINNOW_F32, 0, NULL);
    wn_vid in[] = { x, wn_graph_add_const(&g, "w", WINNOW_U8, 0, NULL, NULL) };
    g.values.at[in[1]].constant = &t;
    cr_assert_not_null(wn_graph_add_node(&g, "com.example", "Op", NULL, in, 2, &y, 1));
    cr_assert(wn_vec_push(&g.outputs, y));
    void *bytes;
    size_t got;
    cr_expect_eq(wn_onnx_write(&g, &bytes, &got, &err), WINNOW_E_TOO_LARGE);
    signal(SIGXFSZ, SIG_IGN);
    const struct rlimit small = { 1 << 20, 1 << 20 };
    cr_assert_eq(setrlimit(RLIMIT_FSIZE, &small), 0);
    cr_expect_neq(wn_onnx_write_file(&g, path, false, &err), WINNOW_OK);
    cr_expect(strstr(err.msg, "m.onnx.data'"), "%s", err.msg);
    cr_expect_eq(rmdir(dir), 0, "nothing is left");
    munmap(zeros, n);
}

Test(onnx_write, files)
{
    char dir[] = "/tmp/wn-onnx-XXXXXX", path[64];
    cr_assert_not_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/m.onnx", dir);
    wn_vid x = input("x", 0, NULL), y = wn_graph_add_value(&g, "y", WINNOW_F32, 0, NULL);
    cr_assert_not_null(wn_graph_add_node(&g, "", "Neg", NULL, &x, 1, &y, 1));
    cr_assert(wn_vec_push(&g.outputs, y));
    cr_assert_eq(wn_onnx_write_file(&g, path, false, &err), WINNOW_OK, "%s", err.msg);
    cr_assert_eq(wn_onnx_read_file(path, NULL, &arena, &back, &err), WINNOW_OK, "%s", err.msg);
    unlink(path);
    rmdir(dir);
}
