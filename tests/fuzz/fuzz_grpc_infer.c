/* fuzz_grpc_infer.c: any bytes as a ModelInferRequest. What the scanner takes, protobuf-c must take too and mean the
 * same; the guard before protobuf-c must hold on anything. */
#include <stdlib.h>
#include <string.h>
#include "daemon/api/infer.h"
#include "daemon/api/inference.pb-c.h"
#include "daemon/api/pb.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

static volatile uint8_t sink;

static void touch(const void *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        sink ^= ((const uint8_t *)p)[i];
}

static void touch_inputs(const struct wn_infer *req)
{
    for (unsigned i = 0; i < req->n_in; i++) {
        const struct wn_infer_in *in = &req->in[i];
        touch(in->name.p, in->name.n);
        if (in->dtype != WINNOW_STRING) {
            touch(in->data, in->bytes);
            continue;
        }
        const struct winnow_str *s = in->data;
        for (size_t k = 0; k < in->bytes / sizeof *s; k++)
            touch(s[k].p, s[k].n);
    }
}

/** protobuf-c fails on a wrong wire type and cuts at a NUL, so it may refuse what we take, never mean another thing. */
static void cross_check(const struct wn_infer *req, const uint8_t *bytes, size_t n)
{
    Inference__ModelInferRequest *m = inference__model_infer_request__unpack(NULL, n, bytes);
    if (!m)
        return;
    if (m->n_inputs != req->n_in || m->n_outputs != req->n_want)
        abort();
    for (unsigned i = 0; i < req->n_in; i++) {
        const struct wn_infer_in *in = &req->in[i];
        if (strncmp(m->inputs[i]->name, in->name.p ? in->name.p : "", in->name.n) != 0 ||
            m->inputs[i]->n_shape != in->rank)
            abort();
        for (unsigned k = 0; k < in->rank; k++)
            if (m->inputs[i]->shape[k] != in->shape[k])
                abort();
    }
    inference__model_infer_request__free_unpacked(m, NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    struct wn_arena arena;
    struct winnow_err err;
    wn_arena_init(&arena, (size_t)64 << 20);
    struct wn_infer req = { .arena = &arena };
    if (wn_infer_read_pb(bytes, n, &req, &err) == WINNOW_OK) {
        touch_inputs(&req);
        if (n < 65536)
            cross_check(&req, bytes, n);
    }
    wn_arena_done(&arena);
    if (wn_pb_is_small(bytes, n, 8, 512)) {
        Inference__RepositoryModelLoadRequest *m = inference__repository_model_load_request__unpack(NULL, n, bytes);
        if (m)
            inference__repository_model_load_request__free_unpacked(m, NULL);
    }
    return 0;
}
