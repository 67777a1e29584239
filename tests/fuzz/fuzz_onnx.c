/* fuzz_onnx.c: any bytes as an ONNX file. What is read must be consistent, and survive writing, reading and copying;
 * what finds the files that its tensors lie in, without reading it, must find one wherever the reader wants one. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "engine/graph/external.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static volatile unsigned char sink;

/* Everything a graph says may be relied on: touch it all. */
static void check_graph(const struct wn_graph *g)
{
    for (size_t v = 0; v < g->values.n; v++) {
        const struct wn_value *value = &g->values.at[v];
        if (!value->name || (value->producer != WN_NONE && value->producer >= g->nodes.n))
            abort();
        const struct wn_tensor *t = value->constant;
        if (t && t->bytes != (size_t)wn_tensor_count(t) * winnow_dtype_size(t->dtype))
            abort();
        for (size_t i = 0; t && i < t->bytes; i++)
            sink ^= ((const unsigned char *)t->data)[i];
    }
    for (size_t n = 0; n < g->nodes.n; n++) {
        const struct wn_node *node = &g->nodes.at[n];
        if (node->dead || !*node->name || !*node->op_type)
            abort();
        for (unsigned i = 0; i < node->n_in; i++) {
            wn_vid v = node->in[i];
            if (v != WN_NONE &&
                (v >= g->values.n || (g->values.at[v].producer != WN_NONE && g->values.at[v].producer >= n)))
                abort(); /* not in topological order */
        }
        for (unsigned i = 0; i < node->n_out; i++)
            if (node->out[i] != WN_NONE && g->values.at[node->out[i]].producer != n)
                abort();
        for (unsigned a = 0; a < node->n_attr; a++)
            if (node->attr[a].kind == WN_ATTR_GRAPH) {
                if (node->attr[a].g->outer != g)
                    abort();
                check_graph(node->attr[a].g);
            }
    }
}

static void check_names(const uint8_t *data, size_t size, enum winnow_status read, const char *why)
{
    static int fd = -1;
    struct wn_names names = { 0 };
    struct winnow_err err;
    if (fd < 0)
        fd = memfd_create("model", MFD_CLOEXEC);
    if (ftruncate(fd, 0) != 0 || pwrite(fd, data, size, 0) != (ssize_t)size)
        abort();
    wn_arena_init(&names.arena, (size_t)64 << 20);
    enum winnow_status status = wn_external_names(fd, &names, &err);
    if (read == WINNOW_OK && status != WINNOW_OK && status != WINNOW_E_NOMEM)
        abort();
    if (read == WINNOW_E_UNSUPPORTED && strstr(why, "(external data)") && status == WINNOW_OK && !names.list.n)
        abort();
    for (size_t i = 0; i < names.list.n; i++)
        if (!*names.list.at[i])
            abort();
    wn_names_done(&names);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct wn_arena arena;
    struct wn_graph g, copy, again;
    struct winnow_err err;
    struct wn_onnx_limits limits = { .max_skeleton = 16u << 20 };
    wn_arena_init(&arena, (size_t)256 << 20);
    enum winnow_status status = wn_onnx_read(data, size, &limits, &arena, &g, &err);
    check_names(data, size, status, err.msg);
    if (status == WINNOW_OK) {
        check_graph(&g);
        void *bytes;
        size_t n;
        if (wn_onnx_write(&g, &bytes, &n, &err) != WINNOW_OK)
            abort();
        status = wn_onnx_read(bytes, n, NULL, &arena, &again, &err);
        if (status == WINNOW_OK) {
            check_graph(&again);
            wn_graph_done(&again);
        } else if (status != WINNOW_E_NOMEM && status != WINNOW_E_TOO_LARGE) {
            abort();
        }
        free(bytes);
        if (wn_graph_copy(&copy, &arena, &g, &err) == WINNOW_OK) {
            check_graph(&copy);
            wn_graph_done(&copy);
        }
        wn_graph_done(&g);
    }
    wn_arena_done(&arena);
    return 0;
}
