/* conformance.c: ONNX's node tests against the reference runs of engine/ops.
 *
 *     conformance [-v] [FOLDER]      default: /usr/share/libonnx-testdata/data/node (Debian: libonnx-testdata)
 *
 * Every test is a folder with model.onnx and test_data_set_0/{input,output}_N.pb. A test is run when all its operators
 * are in our table; it then must
 *   - infer with its declared input types, and with unknown extents and ranks, without contradicting its outputs,
 *   - compute its outputs: integers exactly, floats within rtol 1e-3 as ONNX's own runner asks (f16, bf16: two places).
 * A model or operator that refuses with E_UNSUPPORTED (a dtype or mode we lack) is counted apart and named with -v.
 * Prints a line per operator and ends with counts; exit 1 when a test of a claimed operator failed. Without the test
 * data it says so and exits 0. */
#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/file.h"
#include "base/half.h"
#include "engine/graph/onnx.h"
#include "engine/ops/ops.h"
#include "engine/passes/passes.h"

#define DEFAULT_FOLDER "/usr/share/libonnx-testdata/data/node"

enum verdict { PASSED, FAILED, UNCLAIMED, UNSUPPORTED };

static struct {
    const char *name;
    unsigned passed, failed, unsupported;
} per_op[1024];
static size_t n_ops;
static bool verbose;

/* ---- .pb files ----
 * A serialized TensorProto is wrapped into the smallest model around it, a Constant node, so that it goes through the
 * same guarded reader as every model. */
struct wire {
    uint8_t *at;
    size_t n;
};

static void put_varint(struct wire *w, uint64_t v)
{
    for (; v > 127; v >>= 7)
        w->at[w->n++] = (uint8_t)(v | 128);
    w->at[w->n++] = (uint8_t)v;
}

static void put_bytes(struct wire *w, unsigned field, const void *p, size_t n)
{
    put_varint(w, field << 3 | 2);
    put_varint(w, n);
    memcpy(w->at + w->n, p, n);
    w->n += n;
}

static void put_int(struct wire *w, unsigned field, uint64_t v)
{
    put_varint(w, field << 3);
    put_varint(w, v);
}

static const struct wn_tensor *read_tensor(const char *path, struct wn_arena *arena, struct winnow_err *err)
{
    void *bytes;
    size_t n;
    if (wn_file_read(path, 0, &bytes, &n, err) != WINNOW_OK)
        return NULL;
    struct wire attr = { malloc(n + 256), 0 }, node = { malloc(n + 256), 0 }, graph = { malloc(n + 256), 0 },
                model = { malloc(n + 256), 0 }, out = { (uint8_t[16]){ 0 }, 0 }, opset = { (uint8_t[16]){ 0 }, 0 };
    put_bytes(&attr, 1, "value", 5); /* AttributeProto: name, t, type */
    put_bytes(&attr, 5, bytes, n);
    put_int(&attr, 20, 4);
    put_bytes(&node, 2, "y", 1); /* NodeProto: output, op_type, attribute */
    put_bytes(&node, 4, "Constant", 8);
    put_bytes(&node, 5, attr.at, attr.n);
    put_bytes(&out, 1, "y", 1);
    put_bytes(&graph, 1, node.at, node.n); /* GraphProto: node, name, output */
    put_bytes(&graph, 2, "g", 1);
    put_bytes(&graph, 12, out.at, out.n);
    put_int(&opset, 2, 13);
    put_int(&model, 1, 8); /* ModelProto: ir_version, graph, opset_import */
    put_bytes(&model, 7, graph.at, graph.n);
    put_bytes(&model, 8, opset.at, opset.n);
    const struct wn_tensor *t = NULL;
    struct wn_graph g;
    if (wn_onnx_read(model.at, model.n, NULL, arena, &g, err) == WINNOW_OK) {
        const struct wn_attr *a = g.nodes.n ? wn_node_attr(&g.nodes.at[0], "value") : NULL;
        t = a ? a->t : g.values.at[g.outputs.at[0]].constant;
        wn_graph_done(&g);
    }
    free(attr.at), free(node.at), free(graph.at), free(model.at), free(bytes);
    return t;
}

/* ---- comparing ---- */
static double value_at(const struct wn_tensor *t, int64_t i)
{
    switch (t->dtype) {
    case WINNOW_F32:
        return (double)((const float *)t->data)[i];
    case WINNOW_F64:
        return ((const double *)t->data)[i];
    case WINNOW_F16:
        return (double)wn_f16_to_f32(((const uint16_t *)t->data)[i]);
    default:
        return (double)wn_bf16_to_f32(((const uint16_t *)t->data)[i]);
    }
}

static bool same_strings(const struct wn_tensor *a, const struct wn_tensor *b)
{
    const struct winnow_str *x = a->data, *y = b->data;
    for (int64_t i = 0, n = wn_tensor_count(a); i < n; i++)
        if (x[i].n != y[i].n || memcmp(x[i].p, y[i].p, x[i].n))
            return false;
    return true;
}

static bool same(const struct wn_tensor *got, const struct wn_tensor *want, struct winnow_err *err)
{
    bool shape = got->rank == want->rank && got->dtype == want->dtype && got->data;
    for (unsigned i = 0; shape && i < got->rank; i++)
        shape = got->dim[i] == want->dim[i];
    if (!shape) {
        wn_fail(err, WINNOW_E_INTERNAL, "output is %s of rank %u (%lld elements), must be %s of rank %u (%lld)",
                winnow_dtype_name(got->dtype), got->rank, (long long)wn_tensor_count(got),
                winnow_dtype_name(want->dtype), want->rank, (long long)wn_tensor_count(want));
        return false;
    }
    if (got->dtype == WINNOW_STRING)
        return same_strings(got, want);
    if (got->dtype != WINNOW_F32 && got->dtype != WINNOW_F64 && got->dtype != WINNOW_F16 && got->dtype != WINNOW_BF16) {
        for (size_t i = 0; i < got->bytes; i++)
            if (((const uint8_t *)got->data)[i] != ((const uint8_t *)want->data)[i]) {
                wn_fail(err, WINNOW_E_INTERNAL, "integers differ at byte %zu: %d, must be %d", i,
                        ((const uint8_t *)got->data)[i], ((const uint8_t *)want->data)[i]);
                return false;
            }
        return true;
    }
    /* two places of bf16 and f16: who rounds between the steps of a function, and how, is not specified */
    double rtol = got->dtype == WINNOW_BF16 ? 0x1p-6 : got->dtype == WINNOW_F16 ? 0x1p-9 : 1e-3;
    for (int64_t i = 0, n = wn_tensor_count(got); i < n; i++) {
        double g = value_at(got, i), w = value_at(want, i);
        if (!(g == w || (isnan(g) && isnan(w)) || fabs(g - w) <= 1e-5 + rtol * fabs(w))) {
            wn_fail(err, WINNOW_E_INTERNAL, "element %lld is %.9g, must be %.9g", (long long)i, g, w);
            return false;
        }
    }
    return true;
}

/* ---- running one test ---- */

/* A test's tensor as the model declares it: ONNX 1.12 stored bf16 data under the number of u16. */
static const struct wn_tensor *read_value(const struct wn_graph *g, wn_vid v, const char *path, struct wn_arena *arena,
                                          struct winnow_err *err)
{
    const struct wn_tensor *t = read_tensor(path, arena, err);
    if (!t || t->dtype != WINNOW_U16 || g->values.at[v].type.dtype != WINNOW_BF16)
        return t;
    struct wn_tensor *as_bf16 = wn_arena_memdup(arena, t, sizeof *t);
    if (as_bf16)
        as_bf16->dtype = WINNOW_BF16;
    return as_bf16;
}

static enum winnow_status run_graph(struct wn_graph *g, const struct wn_tensor **value, struct wn_arena *arena,
                                    struct winnow_err *err)
{
    for (size_t v = 0; v < g->values.n; v++)
        if (g->values.at[v].constant)
            value[v] = g->values.at[v].constant;
    for (size_t i = 0; i < g->nodes.n; i++) {
        const struct wn_node *node = &g->nodes.at[i];
        const struct wn_tensor *in[WN_OP_MAX_IN] = { 0 };
        struct wn_tensor *out = wn_arena_calloc(arena, node->n_out + 1, sizeof *out);
        for (unsigned k = 0; k < node->n_in; k++)
            in[k] = node->in[k] == WN_NONE ? NULL : value[node->in[k]];
        WN_TRY(wn_ops_run_node(node, in, out, arena, arena, err));
        for (unsigned k = 0; k < node->n_out; k++)
            if (node->out[k] != WN_NONE)
                value[node->out[k]] = &out[k];
    }
    return WINNOW_OK;
}

/* What was inferred may be open, but not wrong. */
static enum winnow_status check_inferred(const struct wn_graph *g, const struct wn_tensor **value, const char *how,
                                         struct winnow_err *err)
{
    for (size_t v = 0; v < g->values.n; v++) {
        const struct wn_type *t = &g->values.at[v].type;
        if (!value[v] || g->values.at[v].producer == WN_NONE)
            continue;
        bool ok = (!t->dtype || t->dtype == value[v]->dtype) && (t->rank < 0 || t->rank == (int)value[v]->rank);
        for (int i = 0; ok && i < t->rank; i++)
            ok = t->dim[i] < 0 || t->dim[i] == value[v]->dim[i];
        if (!ok)
            return wn_fail(err, WINNOW_E_INTERNAL, "inference with %s contradicts value '%s'", how,
                           g->values.at[v].name);
    }
    return WINNOW_OK;
}

/* Infer again with the inputs' extents (level 1) or ranks (level 2) forgotten. */
static enum winnow_status check_forgetful(struct wn_graph *g, const struct wn_tensor **value, int level,
                                          struct winnow_err *err)
{
    for (size_t v = 0; v < g->values.n; v++) {
        struct wn_type *t = &g->values.at[v].type;
        bool input = g->values.at[v].producer == WN_NONE;
        for (int i = 0; i < t->rank; i++)
            t->dim[i] = -1;
        if (level == 2 || !input)
            t->rank = -1;
        if (!input)
            t->dtype = WINNOW_UNDEFINED;
    }
    WN_TRY(wn_ops_infer_graph(g, err));
    return check_inferred(g, value, level == 1 ? "unknown extents" : "unknown ranks", err);
}

static enum winnow_status run_test(struct wn_graph *g, const char *folder, struct wn_arena *arena,
                                   struct winnow_err *err)
{
    char path[4096];
    const struct wn_tensor **value = wn_arena_calloc(arena, g->values.n + 1, sizeof *value);
    for (size_t i = 0; i < g->inputs.n; i++) {
        snprintf(path, sizeof path, "%s/test_data_set_0/input_%zu.pb", folder, i);
        if (!(value[g->inputs.at[i]] = read_value(g, g->inputs.at[i], path, arena, err)))
            return err->status;
    }
    WN_TRY(wn_ops_infer_graph(g, err));
    WN_TRY(run_graph(g, value, arena, err));
    WN_TRY(check_inferred(g, value, "declared types", err));
    for (size_t i = 0; i < g->outputs.n; i++) {
        snprintf(path, sizeof path, "%s/test_data_set_0/output_%zu.pb", folder, i);
        const struct wn_tensor *want = read_value(g, g->outputs.at[i], path, arena, err);
        if (!want)
            return err->status;
        if (!value[g->outputs.at[i]] || !same(value[g->outputs.at[i]], want, err))
            return WINNOW_E_INTERNAL;
    }
    WN_TRY(check_forgetful(g, value, 1, err));
    return check_forgetful(g, value, 2, err);
}

/* ---- the list ---- */
static void count(const char *name, enum verdict v)
{
    size_t i = 0;
    while (i < n_ops && strcmp(per_op[i].name, name))
        i++;
    if (i == WN_COUNT(per_op))
        return;
    if (i == n_ops)
        per_op[n_ops++].name = strdup(name);
    per_op[i].passed += v == PASSED;
    per_op[i].failed += v == FAILED;
    per_op[i].unsupported += v == UNSUPPORTED;
}

static bool all_claimed(const struct wn_graph *g)
{
    for (size_t i = 0; i < g->nodes.n; i++) {
        const struct wn_node *node = &g->nodes.at[i];
        if (!wn_ops_find(node->domain, node->op_type, node->opset))
            return false;
        for (unsigned a = 0; a < node->n_attr; a++)
            if (node->attr[a].kind == WN_ATTR_GRAPH && !all_claimed(node->attr[a].g))
                return false;
    }
    return true;
}

static void count_graph(const struct wn_graph *g, enum verdict v)
{
    for (size_t i = 0; i < g->nodes.n; i++) {
        size_t k = 0;
        while (k < i && strcmp(g->nodes.at[k].op_type, g->nodes.at[i].op_type))
            k++;
        if (k == i)
            count(g->nodes.at[i].op_type, v);
    }
}

static enum verdict judge(const char *name, const char *folder)
{
    char path[4096];
    struct wn_arena arena;
    struct wn_graph g;
    struct winnow_err err = { 0 };
    enum verdict v = UNCLAIMED;
    wn_arena_init(&arena, (size_t)1 << 30);
    snprintf(path, sizeof path, "%s/model.onnx", folder);
    enum winnow_status status = wn_onnx_read_file(path, NULL, &arena, &g, &err);
    if (status == WINNOW_OK) {
        status = wn_graph_capture(&g, &err);
        if (status == WINNOW_OK)
            status = wn_pass_expand(&g, &err);
        if (status != WINNOW_OK) {
            v = status == WINNOW_E_UNSUPPORTED ? UNSUPPORTED : FAILED;
        } else if (all_claimed(&g)) {
            status = wn_ops_resolve(&g, &err);
            if (status == WINNOW_OK)
                status = run_test(&g, folder, &arena, &err);
            v = status == WINNOW_OK ? PASSED : status == WINNOW_E_UNSUPPORTED ? UNSUPPORTED : FAILED;
            count_graph(&g, v);
        }
        wn_graph_done(&g);
    } else {
        v = status == WINNOW_E_UNSUPPORTED ? UNCLAIMED : FAILED;
    }
    if (v == FAILED || (verbose && v == UNSUPPORTED))
        printf("%s %s: %s\n", v == FAILED ? "FAILED" : "unsupported", name, err.msg);
    else if (verbose)
        printf("%s %s %s\n", v == PASSED ? "passed" : "not claimed", name, err.msg);
    wn_arena_done(&arena);
    return v;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static void print_claims(void)
{
    const char *names[1024];
    size_t n = 0;
    for (size_t i = 0; wn_ops_at(i) && n < WN_COUNT(names); i++)
        names[n++] = wn_ops_at(i)->type;
    qsort(names, n, sizeof names[0], by_name);
    printf("claimed operators:");
    for (size_t i = 0; i < n; i++)
        if (i == 0 || strcmp(names[i], names[i - 1]))
            printf(" %s", names[i]);
    printf("\n");
}

int main(int argc, char **argv)
{
    verbose = argc > 1 && !strcmp(argv[1], "-v");
    const char *folder = argc > 1 + verbose ? argv[1 + verbose] : DEFAULT_FOLDER;
    struct dirent **list;
    int n = scandir(folder, &list, NULL, alphasort);
    unsigned total[4] = { 0 };
    if (n < 0) {
        printf("conformance: left out, no test data in %s\n", folder);
        return 0;
    }
    for (int i = 0; i < n; i++) {
        if (list[i]->d_name[0] != '.') {
            char path[2048];
            snprintf(path, sizeof path, "%s/%s", folder, list[i]->d_name);
            total[judge(list[i]->d_name, path)]++;
        }
        free(list[i]);
    }
    free(list);
    for (size_t i = 0; i < n_ops; i++) {
        printf("%-24s %3u passed %3u failed", per_op[i].name, per_op[i].passed, per_op[i].failed);
        printf(per_op[i].unsupported ? " %3u unsupported\n" : "\n", per_op[i].unsupported);
        free((char *)per_op[i].name);
    }
    print_claims();
    printf("conformance: %u passed, %u failed, %u refused as unsupported, %u of operators not claimed\n", total[PASSED],
           total[FAILED], total[UNSUPPORTED], total[UNCLAIMED]);
    return total[FAILED] != 0;
}
