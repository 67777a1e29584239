/* fuzz_infer_json.c: any bytes as an inference request in JSON, with blobs behind it (fuzz_infer.c is the pipeline's).
 *
 * The first byte chooses how the body is split. What was read is touched and written back as a response's text. */
#include <stdlib.h>
#include "daemon/api/infer.h"
#include "daemon/api/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

static volatile uint8_t sink;

static void touch(const void *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        sink ^= ((const uint8_t *)p)[i];
}

static void touch_request(const struct wn_infer *req)
{
    touch(req->id.p, req->id.n);
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
    for (unsigned i = 0; i < req->n_want; i++)
        touch(req->want[i].name.p, req->want[i].name.n);
}

static void numbers(const char *text, size_t n)
{
    struct winnow_err err;
    struct wn_json j;
    float f;
    char out[40];
    wn_json_init(&j, text, n, 100, &err);
    if (wn_json_f32(&j, &f)) {
        size_t len = wn_json_print_f32(out, f);
        float again;
        wn_json_init(&j, out, len, 100, &err);
        if (!wn_json_f32(&j, &again) || (again != f && f == f))
            abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    struct wn_arena arena;
    struct winnow_err err;
    if (!n)
        return 0;
    size_t json = (n - 1) * (bytes[0] ? bytes[0] : 256) / 256;
    wn_arena_init(&arena, (size_t)64 << 20);
    struct wn_infer req = { .arena = &arena };
    if (wn_infer_read_json(bytes + 1, n - 1, json, &req, &err) == WINNOW_OK)
        touch_request(&req);
    wn_arena_done(&arena);
    numbers((const char *)bytes + 1, n - 1);
    return 0;
}
