/* real.c: published models from ../shared/data, where it is there: load, pipelines, and answers that do not depend on
 * what they were batched with. */
#include <criterion/criterion.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/digest.h"
#include "tests/unit/daemon/serve/rig.h"

#define DATA "../shared/data/models/"

static struct rig rig;

static void setup(void)
{
    rig_init(&rig);
}

static void teardown(void)
{
    rig_done(&rig);
}

TestSuite(serve_real, .init = setup, .fini = teardown, .timeout = 300);

static bool install(const char *file, const char *name, int version)
{
    char path[200];
    snprintf(path, sizeof path, DATA "%s", file);
    if (access(path, R_OK) != 0)
        return false;
    rig_sh("mkdir -p %s/%s/%d && cp %s %s/%s/%d/model.onnx", rig.repo, name, version, path, rig.repo, name, version);
    return true;
}

/* A job of `rows` pictures for `gen` (its reference is taken over), random but the same for the same seed. */
static void picture_job(struct rig_job *j, struct wn_gen *gen, int64_t rows, unsigned seed)
{
    rig_job_init(j, gen, rows, 3 * 32 * 32, 0);
    const struct winnow_io *io = winnow_model_input(wn_gen_model(gen), 0);
    j->in.rank = io->rank;
    memcpy(j->in.shape, io->shape, sizeof j->in.shape);
    j->in.shape[0] = rows;
    float *x = j->in.data;
    for (size_t i = 0; i < j->in.bytes / sizeof *x; i++)
        x[i] = (float)(rand_r(&seed) % 2001 - 1000) / 500.0f;
}

Test(serve_real, an_answer_does_not_depend_on_its_batch)
{
    if (!install("resnet20_cifar10_sparse80_qdq.onnx", "m", 1))
        cr_skip_test("no ../shared/data");
    rig.cfg.engine.threads = 2;
    rig_start(&rig);
    struct wn_gen *gen;
    struct winnow_err err;
    cr_assert_eq(wn_serve_acquire(rig.serve, "m", NULL, &gen, &err), WINNOW_OK, "%s", err.msg);
    bool merges = winnow_model_rows_independent(wn_gen_model(gen), NULL);
    struct rig_job alone[6], together[6];
    for (unsigned i = 0; i < 6; i++) {
        picture_job(&alone[i], wn_gen_ref(gen), merges ? 1 + i % 3 : 1, i);
        cr_assert_eq(wn_serve_submit(rig.serve, &alone[i].job, &err), WINNOW_OK, "%s", err.msg);
        cr_assert_eq(rig_job_wait(&alone[i]), WINNOW_OK, "%s", alone[i].job.err.msg);
    }
    for (unsigned i = 0; i < 6; i++) {
        picture_job(&together[i], wn_gen_ref(gen), merges ? 1 + i % 3 : 1, i);
        cr_assert_eq(wn_serve_submit(rig.serve, &together[i].job, &err), WINNOW_OK, "%s", err.msg);
    }
    for (unsigned i = 0; i < 6; i++) {
        cr_assert_eq(rig_job_wait(&together[i]), WINNOW_OK);
        const struct winnow_tensor *a = alone[i].job.outputs, *b = together[i].job.outputs;
        cr_assert_eq(a->bytes, b->bytes);
        cr_assert_eq(memcmp(a->data, b->data, a->bytes), 0, "job %u", i);
        rig_job_done(&alone[i]);
        rig_job_done(&together[i]);
    }
    wn_gen_unref(gen);
}

Test(serve_real, a_pipeline_comes_from_the_model_or_its_version)
{
    if (!install("resnet20_cifar10_sparse80_fp32.onnx", "m", 1) || !install("resnet20_cifar10_fp32.onnx", "m", 2))
        cr_skip_test("no ../shared/data");
    rig_text(&rig, "repo/m/pipeline.yaml", "task: image_classification\nscale: 1/255\n");
    rig_start(&rig);
    struct wn_gen *gen;
    struct winnow_err err;
    cr_assert_eq(wn_serve_acquire(rig.serve, "m", NULL, &gen, &err), WINNOW_OK, "%s", err.msg);
    cr_assert(wn_gen_pipeline(gen));
    cr_assert_eq(wn_gen_version(gen), 2);
    uint64_t number = wn_gen_number(gen);
    wn_gen_unref(gen);
    cr_assert_eq(rig_promote(&rig, "m", 1, true, &err), WINNOW_OK, "%s", err.msg);
    /* another pipeline is another generation of the same weights */
    rig_text(&rig, "repo/m/1/pipeline.yaml", "task: image_classification\nsoftmax: true\n");
    for (int i = 0; i < 200; i++) {
        cr_assert_eq(wn_serve_acquire(rig.serve, "m", NULL, &gen, &err), WINNOW_OK);
        bool again = wn_gen_number(gen) > number + 1;
        wn_gen_unref(gen);
        if (again)
            break;
        usleep(20000);
    }
    cr_assert_eq(rig_live(&rig, "m"), 1);
    /* a broken one leaves the model as it is */
    rig_text(&rig, "repo/m/1/pipeline.yaml", "task: nonsense\n");
    cr_assert_neq(rig_load(&rig, "m", &err), WINNOW_OK);
    cr_assert(strstr(err.msg, "pipeline.yaml"), "%s", err.msg);
    cr_assert_eq(rig_live(&rig, "m"), 1);
}

Test(serve_real, published_models_load)
{
    static const char *const file[] = { "bert_tiny_agnews_dynint8.onnx", "mnist_cntk.onnx",
                                        "mobilenetv2_1.0_224_qdq.onnx", "squeezenet1.1_fp16.onnx" };
    for (size_t i = 0; i < WN_COUNT(file); i++) {
        char name[8];
        snprintf(name, sizeof name, "m%zu", i);
        if (!install(file[i], name, 1))
            cr_skip_test("no ../shared/data");
    }
    rig_start(&rig);
    for (size_t i = 0; i < WN_COUNT(file); i++) {
        char name[8];
        struct wn_gen *gen;
        struct winnow_err err;
        snprintf(name, sizeof name, "m%zu", i);
        cr_assert_eq(wn_serve_acquire(rig.serve, name, NULL, &gen, &err), WINNOW_OK, "%s: %s", file[i], err.msg);
        wn_gen_unref(gen);
    }
}
