/* infer_pb.c: the scanner and the encoder against protobuf-c, and what the scanner refuses. */
#include "daemon/api/infer.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include "daemon/api/inference.pb-c.h"
#include "daemon/api/pb.h"

typedef Inference__ModelInferRequest__InferInputTensor input_pb;

static struct wn_arena arena;
static struct winnow_err err;
static struct wn_infer req;

static enum winnow_status scan(const Inference__ModelInferRequest *m)
{
    size_t n = inference__model_infer_request__get_packed_size(m);
    uint8_t *bytes = wn_arena_alloc(&arena, n);
    inference__model_infer_request__pack(m, bytes);
    req = (struct wn_infer){ .arena = &arena };
    return wn_infer_read_pb(bytes, n, &req, &err);
}

static bool is(struct winnow_str s, const char *text)
{
    return s.n == strlen(text) && memcmp(s.p, text, s.n) == 0;
}

/* ---- what protobuf-c writes, the scanner reads ---- */
Test(infer_pb, typed)
{
    Inference__ModelInferRequest m = INFERENCE__MODEL_INFER_REQUEST__INIT;
    Inference__InferTensorContents c[3] = { INFERENCE__INFER_TENSOR_CONTENTS__INIT,
                                            INFERENCE__INFER_TENSOR_CONTENTS__INIT,
                                            INFERENCE__INFER_TENSOR_CONTENTS__INIT };
    input_pb in[3], *list[3] = { &in[0], &in[1], &in[2] };
    float f[] = { 1.5f, -2 };
    int32_t i[] = { -128, 127 };
    ProtobufCBinaryData s[] = { { 1, (uint8_t *)"a" }, { 0, NULL } };
    int64_t shape[] = { 2 };
    static const char *const type[] = { "FP32", "INT8", "BYTES" }, *const name[] = { "f", "i", "s" };
    c[0].n_fp32_contents = c[1].n_int_contents = c[2].n_bytes_contents = 2;
    c[0].fp32_contents = f;
    c[1].int_contents = i;
    c[2].bytes_contents = s;
    for (int k = 0; k < 3; k++) {
        inference__model_infer_request__infer_input_tensor__init(&in[k]);
        in[k].name = (char *)(uintptr_t)name[k];
        in[k].datatype = (char *)(uintptr_t)type[k];
        in[k].shape = shape;
        in[k].n_shape = 1;
        in[k].contents = &c[k];
    }
    m.model_name = (char *)(uintptr_t) "model";
    m.model_version = (char *)(uintptr_t) "3";
    m.id = (char *)(uintptr_t) "id";
    m.inputs = list;
    m.n_inputs = 3;
    cr_assert_eq(scan(&m), WINNOW_OK, "%s", err.msg);
    cr_expect(is(req.model, "model") && is(req.version, "3") && is(req.id, "id") && req.n_in == 3);
    cr_expect(memcmp(req.in[0].data, f, sizeof f) == 0 && req.in[0].dtype == WINNOW_F32);
    cr_expect(((const int8_t *)req.in[1].data)[0] == -128 && ((const int8_t *)req.in[1].data)[1] == 127);
    cr_expect(is(((const struct winnow_str *)req.in[2].data)[0], "a") &&
              ((const struct winnow_str *)req.in[2].data)[1].n == 0);
    i[0] = -129;
    cr_expect_eq(scan(&m), WINNOW_E_MALFORMED);
    i[0] = 0;
    shape[0] = 3;
    cr_expect_eq(scan(&m), WINNOW_E_MALFORMED);
    shape[0] = INT64_C(1) << 62;
    cr_expect_eq(scan(&m), WINNOW_E_MALFORMED);
    wn_arena_done(&arena);
}

Test(infer_pb, raw_is_left_where_it_is)
{
    struct wn_buf b = { 0 }, t = { 0 };
    wn_pb_put_bytes(&b, 1, "m", 1);
    wn_pb_put_bytes(&t, 1, "x", 1);
    wn_pb_put_bytes(&t, 2, "INT32", 5);
    wn_pb_put_varint(&t, 3 << 3); /* not packed */
    wn_pb_put_varint(&t, 2);
    wn_pb_put_bytes(&b, 5, t.at, t.n);
    wn_pb_put_bytes(&b, 7, "\1\0\0\0\2\0\0\0", 8);
    wn_pb_put_varint(&b, 99 << 3 | WN_PB_VARINT); /* unknown field */
    wn_pb_put_varint(&b, UINT64_MAX);
    req = (struct wn_infer){ .arena = &arena };
    cr_assert_eq(wn_infer_read_pb(b.at, b.n, &req, &err), WINNOW_OK, "%s", err.msg);
    cr_expect((const char *)req.in[0].data > b.at && (const char *)req.in[0].data < b.at + b.n && req.in[0].bytes == 8);
    for (size_t n = 0; n < b.n; n++) { /* cut anywhere: refused, or a smaller message that is whole */
        char *cut = malloc(n ? n : 1);
        memcpy(cut, b.at, n);
        req = (struct wn_infer){ .arena = &arena };
        if (wn_infer_read_pb(cut, n, &req, &err) != WINNOW_OK)
            cr_expect_eq(err.status, WINNOW_E_MALFORMED);
        free(cut);
    }
    wn_buf_done(&b);
    wn_buf_done(&t);
    wn_arena_done(&arena);
}

/* ---- what we write, protobuf-c reads ---- */
Test(infer_pb, fields)
{
    static const uint64_t values[] = { 0, 1, 127, 128, 16383, 16384, UINT32_MAX, INT64_MAX, UINT64_MAX };
    for (size_t i = 0; i < WN_COUNT(values); i++) {
        struct wn_buf b = { 0 };
        uint64_t got = 1;
        wn_pb_put_varint(&b, values[i]);
        struct wn_pb pb = wn_pb_init(b.at, b.n);
        cr_expect(b.n == wn_pb_varint_size(values[i]) && wn_pb_varint(&pb, &got) && got == values[i] && pb.p == pb.end);
        wn_buf_done(&b);
    }
    struct wn_pb pb = wn_pb_init("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", 10); /* 65 bits */
    uint64_t v;
    cr_expect(!wn_pb_varint(&pb, &v) && pb.broken);
    static const char *const bad[] = { "\x0b",       "\x0c",         "\x00",
                                       "\x0a\x05zz", "\x0d\x01\x02", "\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01" };
    static const size_t len[] = { 1, 1, 1, 4, 3, 11 };
    for (size_t i = 0; i < WN_COUNT(bad); i++) {
        struct wn_pb_field f;
        pb = wn_pb_init(bad[i], len[i]);
        cr_expect(!wn_pb_next(&pb, &f) && pb.broken, "case %zu", i);
    }
}

Test(infer_pb, guard_counts_fields_and_levels)
{
    struct wn_buf b = { 0 }, in = { 0 };
    for (int i = 0; i < 20; i++) {
        b.n = 0;
        wn_pb_put_bytes(&b, 1, in.at, in.n);
        in.n = 0;
        wn_buf_add(&in, b.at, b.n);
    }
    cr_expect_not(wn_pb_is_small(in.at, in.n, 8, 512));
    cr_expect(wn_pb_is_small(in.at, in.n, 30, 512));
    cr_expect_not(wn_pb_is_small(in.at, in.n, 30, 10));
    wn_buf_done(&b);
    wn_buf_done(&in);
}
