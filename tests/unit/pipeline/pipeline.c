/* pipeline.c, spec.c: what pipeline.yaml may say, geometry and values, top-k. */
#include "pipeline/pipeline.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/file.h"
#include "base/npy.h"

static char dir[64];
static const struct wn_pipe_io in_32 = { "input", WINNOW_F32, 3, { 3, 32, 24 }, 0 };
static const struct wn_pipe_io out_3 = { "logits", WINNOW_F32, 1, { 3 }, 0 };

static void setup(void)
{
    strcpy(dir, "/tmp/wn-pipe-XXXXXX");
    cr_assert_not_null(mkdtemp(dir));
}

static void teardown(void)
{
    char path[128];
    static const char *const names[] = { "pipeline.yaml", "labels.txt" };
    for (size_t i = 0; i < WN_COUNT(names); i++) {
        snprintf(path, sizeof path, "%s/%s", dir, names[i]);
        unlink(path);
    }
    rmdir(dir);
}

TestSuite(pipeline, .init = setup, .fini = teardown);

static void put_file(const char *name, const char *text)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    cr_assert_eq(wn_file_write_durable(path, text, strlen(text), NULL), WINNOW_OK);
}

static struct wn_pipeline *open_with(const char *yaml, const struct wn_pipe_io *in)
{
    struct wn_pipeline *p = NULL;
    struct winnow_err err = { 0 };
    put_file("pipeline.yaml", yaml);
    cr_assert_eq(wn_pipeline_open(dir, in, 1, &out_3, 1, &p, &err), WINNOW_OK, "%s: %s", yaml, err.msg);
    return p;
}

static struct wn_image sample(uint32_t w, uint32_t h, uint32_t channels)
{
    struct wn_image im = { w, h, channels, malloc((size_t)w * h * channels) };
    for (size_t i = 0; i < (size_t)w * h * channels; i++)
        im.px[i] = (uint8_t)(i * 37 + i / 7);
    return im;
}

Test(pipeline, messages)
{
    static const struct {
        const char *yaml, *msg;
    } cases[] = {
        { "{}\n", "1: key 'task' is missing" },
        { "task: image_segmentation\n",
          "1: task: must be one of image_classification, text_classification, embeddings" },
        { "task: image_classification\nresize_too: 3\n", "2: unknown key 'resize_too'; did you mean 'resize_to'?" },
        { "task: image_classification\nsize: 33\n", "2: size: height 33, but the model's 'input' has 32" },
        { "task: image_classification\nsize: [32, 25]\n", "2: size: width 25, but the model's 'input' has 24" },
        { "task: image_classification\nsize: big\n", "2: size: expected an integer, or [height, width]" },
        { "task: image_classification\nlayout: nhwc\n",
          "2: layout: with nhwc the model's 'input' would have 24 channels; 1 or 3 are supported" },
        { "task: image_classification\ncolor: grey\n", "2: color: 'grey' has 1 channels, the model's 'input' has 3" },
        { "task: image_classification\nresize: stretch\n", "2: resize: must be one of squash, crop" },
        { "task: image_classification\nresize_to: 40\n", "2: resize_to: only with 'resize: crop'" },
        { "task: image_classification\nresize: crop\nresize_to: 31\n", "3: resize_to: 31 is not between 32 and 8192" },
        { "task: image_classification\nmean: [1, 2]\n", "2: mean: 2 numbers for 3 channels" },
        { "task: image_classification\nstd: 0\n", "2: std: must not be 0" },
        { "task: image_classification\nscale: 1/0\n", "2: scale: '1/0' is not a fraction" },
        { "task: image_classification\nscale: .inf\n", "2: scale: '.inf' is out of range" },
        { "task: image_classification\nsoftmax: 1\n", "2: softmax: expected true or false, not an integer" },
        { "task: image_classification\nmodel_input: x\n",
          "2: model_input: the model has no tensor 'x', but 'input' [batch,3,32,24]" },
        { "task: image_classification\nlabels: ../labels.txt\n",
          "2: labels: '../labels.txt' must be a file beside pipeline.yaml" },
        { "task: image_classification\nlabels: none.txt\n", "2: labels: there is no file 'none.txt'" },
        { "task: image_classification\nlabels: labels.txt\n",
          "2: labels: 'labels.txt' has 2 lines, the model's 'logits' has 3 classes" },
        { "task: [\n", "2: did not find expected node content while parsing a flow node" },
    };
    put_file("labels.txt", "cat\ndog\n");
    for (size_t i = 0; i < WN_COUNT(cases); i++) {
        struct wn_pipeline *p = NULL;
        struct winnow_err err = { 0 };
        char want[300];
        put_file("pipeline.yaml", cases[i].yaml);
        snprintf(want, sizeof want, "%s/pipeline.yaml:%s", dir, cases[i].msg);
        cr_expect_eq(wn_pipeline_open(dir, &in_32, 1, &out_3, 1, &p, &err), WINNOW_E_MALFORMED, "%s", cases[i].yaml);
        cr_expect_str_eq(err.msg, want);
    }
    put_file("pipeline.yaml", "task: image_classification\nlabels: labels.txt\n");
    put_file("labels.txt", "cat\n\ndog");
    struct winnow_err err = { 0 };
    struct wn_pipeline *p;
    char want[128];
    snprintf(want, sizeof want, "%s/labels.txt:2: an empty label", dir);
    cr_expect_eq(wn_pipeline_open(dir, &in_32, 1, &out_3, 1, &p, &err), WINNOW_E_MALFORMED);
    cr_expect_str_eq(err.msg, want);
}

Test(pipeline, no_file_is_not_found)
{
    struct wn_pipeline *p;
    struct winnow_err err;
    cr_expect_eq(wn_pipeline_open(dir, &in_32, 1, &out_3, 1, &p, &err), WINNOW_E_NOT_FOUND);
}

Test(pipeline, model_shapes_settle_the_rest)
{
    struct wn_pipe_io nhwc = { "x", WINNOW_U8, 3, { -1, -1, 1 }, 0 };
    size_t bytes;
    struct wn_pipeline *p = open_with("task: image_classification\nsize: [5, 7]\ninput: photo\n", &nhwc);
    const struct wn_pipe_io *row = wn_pipeline_row(p, &bytes);
    cr_expect(row->shape[0] == 5 && row->shape[1] == 7 && row->shape[2] == 1 && bytes == 35);
    cr_expect_str_eq(wn_pipeline_raw(p, 0), "photo");
    cr_expect_str_eq(wn_pipeline_task_name(p), "image_classification");
    wn_pipeline_free(p);

    struct wn_pipe_io two_in[2] = { { "mask", WINNOW_F32, 1, { 4 }, 0 }, in_32 };
    struct wn_pipe_io two_out[2] = { { "features", WINNOW_F32, 3, { 64, 7, 7 }, 0 },
                                     { "scores", WINNOW_F32, 3, { 3, 1, 1 }, 0 } };
    struct winnow_err err = { 0 };
    put_file("labels.txt", "a\r\nb\nc");
    put_file("pipeline.yaml", "task: image_classification\nlabels: labels.txt\n");
    cr_assert_eq(wn_pipeline_open(dir, two_in, 2, two_out, 2, &p, &err), WINNOW_OK, "%s", err.msg);
    cr_expect(wn_pipeline_fills(p, 1) && !wn_pipeline_fills(p, 0) && wn_pipeline_model_output(p) == 1);
    cr_expect_eq(wn_pipeline_n_labels(p), 3);
    cr_expect_str_eq(wn_pipeline_label(p, 0), "a");
    cr_expect_str_eq(wn_pipeline_label(p, 2), "c");
    cr_expect_null(wn_pipeline_label(p, 3));
    wn_pipeline_free(p);
}

Test(pipeline, values_and_channel_order)
{
    struct wn_pipe_io in = { "input", WINNOW_F32, 3, { 3, 1, 2 }, 0 };
    struct wn_image im = { 2, 1, 3, (uint8_t[]){ 0, 51, 102, 255, 204, 153 } };
    float row[6];
    struct wn_pipeline *p =
        open_with("task: image_classification\nscale: 1/255\nmean: [0.5, 0, 0]\nstd: [0.5, 1, 2]\n", &in);
    cr_assert_eq(wn_pipeline_encode_image(p, &im, row, NULL), WINNOW_OK);
    static const float want[6] = { -1, 1, 0.2f, 0.8f, 0.2f, 0.3f };
    for (int i = 0; i < 6; i++)
        cr_expect_float_eq(row[i], want[i], 1e-6, "%d: %g", i, (double)row[i]);
    wn_pipeline_free(p);
    p = open_with("task: image_classification\ncolor: bgr\nmean: [102, 51, 0]\n", &in); /* in the model's order */
    cr_assert_eq(wn_pipeline_encode_image(p, &im, row, NULL), WINNOW_OK);
    static const float bgr[6] = { 0, 51, 0, 153, 0, 255 };
    for (int i = 0; i < 6; i++)
        cr_expect_eq(row[i], bgr[i]);
    wn_pipeline_free(p);
    struct wn_pipe_io u8 = { "input", WINNOW_U8, 3, { 1, 2, 3 }, 0 };
    uint8_t bytes[6];
    p = open_with("task: image_classification\nlayout: nhwc\n", &u8);
    cr_assert_eq(wn_pipeline_encode_image(p, &im, bytes, NULL), WINNOW_OK);
    cr_expect_arr_eq(bytes, im.px, 6);
    wn_pipeline_free(p);
}

Test(pipeline, fit_and_normalise_equal_encode)
{
    static const char *const yamls[] = {
        "task: image_classification\nscale: 1/255\nmean: [0.485, 0.456, 0.406]\nstd: [0.229, 0.224, 0.225]\n",
        "task: image_classification\nresize: crop\nresize_to: 37\ncolor: bgr\n",
        "task: image_classification\nresize: crop\n",
    };
    for (size_t k = 0; k < WN_COUNT(yamls); k++)
        for (uint32_t channels = 1; channels <= 3; channels += 2) {
            struct wn_pipeline *p = open_with(yamls[k], &in_32);
            struct wn_image im = sample(61, 47 + (uint32_t)k, channels);
            size_t bytes;
            wn_pipeline_row(p, &bytes);
            cr_assert_eq(bytes, 3 * 32 * 24 * 4);
            float *a = malloc(bytes), *b = malloc(bytes), *c = malloc(bytes);
            uint8_t *px = malloc(3 * 32 * 24);
            void *png;
            size_t n;
            cr_assert_eq(wn_pipeline_encode_image(p, &im, a, NULL), WINNOW_OK);
            cr_assert_eq(wn_pipeline_fit(p, &im, px, NULL), WINNOW_OK);
            wn_pipeline_normalise(p, px, b);
            cr_expect_arr_eq(a, b, bytes);
            cr_assert_eq(wn_image_encode_png(&im, &png, &n, NULL), WINNOW_OK);
            cr_assert_eq(wn_pipeline_encode(p, png, n, c, NULL), WINNOW_OK);
            cr_expect_arr_eq(a, c, bytes);
            free(a), free(b), free(c), free(px), free(png);
            wn_image_done(&im);
            wn_pipeline_free(p);
        }
}

Test(pipeline, crop_takes_the_middle)
{
    struct wn_pipe_io in = { "input", WINNOW_U8, 3, { 4, 4, 1 }, 0 };
    struct wn_pipeline *p = open_with("task: image_classification\nresize: crop\n", &in);
    uint8_t px[8 * 4], out[16];
    for (int i = 0; i < 32; i++)
        px[i] = (uint8_t)(i % 8 >= 2 && i % 8 < 6 ? i : 255); /* the middle 4 x 4 of 8 x 4 */
    struct wn_image im = { 8, 4, 1, px };
    cr_assert_eq(wn_pipeline_encode_image(p, &im, out, NULL), WINNOW_OK);
    for (int i = 0; i < 16; i++)
        cr_expect_eq(out[i], px[i / 4 * 8 + 2 + i % 4]);
    wn_pipeline_free(p);
}

Test(pipeline, top_k)
{
    put_file("labels.txt", "cat\ndog\nemu\n");
    struct wn_pipeline *p = open_with("task: image_classification\nlabels: labels.txt\nsoftmax: true\n", &in_32);
    struct wn_class best[5];
    const float scores[] = { 1, 3, 3 }, odd[] = { NAN, -INFINITY, INFINITY };
    cr_assert_eq(wn_pipeline_top_k(p, scores, 3, 5, best), 3);
    cr_expect(best[0].index == 1 && best[1].index == 2 && best[2].index == 0);
    cr_expect_str_eq(best[0].label, "dog");
    cr_expect_float_eq(best[0].score, 0.46831053f, 1e-6);
    cr_expect_float_eq(best[0].score + best[1].score + best[2].score, 1, 1e-6);
    cr_assert_eq(wn_pipeline_top_k(p, scores, 3, 1, best), 1);
    cr_expect_eq(best[0].index, 1);
    cr_assert_eq(wn_pipeline_top_k(p, odd, 3, 3, best), 3);
    cr_expect(best[0].index == 2 && best[1].index == 1 && best[2].index == 0);
    cr_expect_eq(wn_pipeline_top_k(p, scores, 3, 0, best), 0);
    wn_pipeline_free(p);
}

/* The reference inputs of ../shared/data/MANIFEST.md: photographs squashed to 224 x 224, NCHW, then as each model
 * wants. */
Test(pipeline, real_photographs_as_the_references)
{
    static const struct {
        const char *photo, *npy, *yaml;
    } cases[] = {
        { "zebra.jpeg", "zebra_tf224.npy", "task: image_classification\nscale: 1/127.5\nmean: 1\n" },
        { "golden_retriever.jpeg", "golden_retriever_caffe224.npy",
          "task: image_classification\ncolor: bgr\nmean: [104, 117, 123]\n" },
    };
    for (size_t k = 0; k < WN_COUNT(cases); k++) {
        char path[128];
        struct wn_npy want = { 0 };
        void *jpeg;
        size_t n, bytes;
        struct winnow_err err = { 0 };
        snprintf(path, sizeof path, "../shared/data/reference/%s", cases[k].npy);
        if (wn_npy_read(path, 1 << 22, &want, &err) != WINNOW_OK)
            cr_skip_test("no ../shared/data here");
        snprintf(path, sizeof path, "../shared/data/images/%s", cases[k].photo);
        cr_assert_eq(wn_file_read(path, 1 << 22, &jpeg, &n, &err), WINNOW_OK);
        struct wn_pipe_io in = { "input", WINNOW_F32, 3, { 3, 224, 224 }, 0 };
        struct wn_pipeline *p = open_with(cases[k].yaml, &in);
        wn_pipeline_row(p, &bytes);
        cr_assert_eq(bytes, want.bytes);
        float *row = malloc(bytes);
        cr_assert_eq(wn_pipeline_encode(p, jpeg, n, row, &err), WINNOW_OK, "%s", err.msg);
        double far = 0, least = 1e9, most = -1e9;
        for (size_t i = 0; i < bytes / 4; i++) {
            double v = ((const float *)want.data)[i];
            far += fabs(row[i] - v);
            least = fmin(least, v);
            most = fmax(most, v);
        }
        far /= (double)bytes / 4 * (most - least); /* 0 with libjpeg-turbo 2.1; another decoder may round otherwise */
        cr_expect_lt(far, 0.002, "%s: mean distance %g of the range", cases[k].photo, far);
        cr_log_info("%s: mean distance to the reference %g of the range", cases[k].photo, far);
        free(row);
        free(jpeg);
        wn_npy_done(&want);
        wn_pipeline_free(p);
    }
}
