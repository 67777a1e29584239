/* make-example.c: writes the small convolutional model that the example runs. */
#include <stdio.h>
#include "engine/graph/onnx.h"

int main(int argc, char **argv)
{
    struct wn_arena arena;
    struct wn_graph g;
    struct winnow_err err;
    static float w[4 * 1 * 3 * 3], fc[3 * 4];
    if (argc != 2)
        return 2;
    for (size_t i = 0; i < WN_COUNT(w); i++)
        w[i] = (float)(i % 7) / 7 - 0.4f;
    for (size_t i = 0; i < WN_COUNT(fc); i++)
        fc[i] = (float)(i % 5) / 5 - 0.3f;
    wn_arena_init(&arena, 0);
    wn_graph_init(&g, &arena);
    g.ir_version = 8;
    if (!wn_vec_push(&g.opsets, (struct wn_opset){ "", 13 }))
        return 1;
    const int64_t xd[] = { -1, 1, 8, 8 }, yd[] = { -1, 4, 8, 8 }, pd[] = { -1, 4, 1, 1 }, fd[] = { -1, 4 };
    const int64_t sd[] = { -1, 3 }, wd[] = { 4, 1, 3, 3 }, cd[] = { 3, 4 }, pads[] = { 1, 1, 1, 1 };
    wn_vid x = wn_graph_add_value(&g, "x", WINNOW_F32, 4, xd), y = wn_graph_add_value(&g, "conv", WINNOW_F32, 4, yd);
    wn_vid r = wn_graph_add_value(&g, "relu", WINNOW_F32, 4, yd), p = wn_graph_add_value(&g, "pool", WINNOW_F32, 4, pd);
    wn_vid f = wn_graph_add_value(&g, "flat", WINNOW_F32, 2, fd),
           s = wn_graph_add_value(&g, "scores", WINNOW_F32, 2, sd);
    wn_vid wv = wn_graph_add_const(&g, "w", WINNOW_F32, 4, wd, w),
           cv = wn_graph_add_const(&g, "fc", WINNOW_F32, 2, cd, fc);
    wn_vec_push(&g.inputs, x);
    wn_vec_push(&g.outputs, s);
    struct wn_node *n = wn_graph_add_node(&g, "", "Conv", "conv", (wn_vid[]){ x, wv }, 2, &y, 1);
    wn_node_set_ints(&g, n, "pads", pads, 4);
    wn_graph_add_node(&g, "", "Relu", "relu", &y, 1, &r, 1);
    wn_graph_add_node(&g, "", "GlobalAveragePool", "pool", &r, 1, &p, 1);
    wn_graph_add_node(&g, "", "Flatten", "flatten", &p, 1, &f, 1);
    n = wn_graph_add_node(&g, "", "Gemm", "fc", (wn_vid[]){ f, cv }, 2, &s, 1);
    wn_node_set_int(&g, n, "transB", 1);
    if (wn_onnx_write_file(&g, argv[1], false, &err) != WINNOW_OK) {
        fprintf(stderr, "%s\n", err.msg);
        return 1;
    }
    wn_graph_done(&g);
    wn_arena_done(&arena);
    return 0;
}
