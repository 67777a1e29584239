/* job.c: job.json: every key's rule, and the line of what breaks it. */
#include "sparsify/worker/job.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define HEAD "{\n \"format\": 1,\n \"id\": \"ftjob-1\",\n \"model\": \"m\",\n \"data\": {\n  \"path\": \"/x\"\n }"

static enum winnow_status parse(const char *text, struct wn_job *job, struct winnow_err *err)
{
    return wn_job_parse(text, strlen(text), "job.json", "/jobs/1", job, err);
}

Test(job, defaults)
{
    struct wn_job job;
    struct winnow_err err = { 0 };
    cr_assert_eq(parse(HEAD "}", &job, &err), WINNOW_OK, "%s", err.msg);
    cr_assert_str_eq(job.target, "m");
    cr_assert_str_eq(job.data.path, "/x");
    cr_assert(!job.validation.path && !job.recipe && !job.new_labels && job.seed == 1 && job.threads == 1);
    cr_assert(isnan(job.epochs) && isnan(job.min_accuracy) && job.training.nesterov && !job.training.flip);
    cr_assert_float_eq(job.training.momentum, 0.9, 1e-9);
    cr_assert_str_eq(wn_job_path(&job, "work"), "/jobs/1/work");
    wn_job_done(&job);
}

Test(job, everything)
{
    struct wn_job job;
    struct winnow_err err = { 0 };
    cr_assert_eq(parse(HEAD ", \"target\": \"t\", \"base\": {\"version\": 3, \"digest\": null}, \"validation\": "
                            "{\"path\": \"/v\", \"name\": \"v.zip\"}, \"recipe\": false, \"optim_level\": 0.25, "
                            "\"new_labels\": true, \"eval_share\": 0.2, \"seed\": 9, \"threads\": 2, \"epochs\": 7, "
                            "\"min_accuracy\": 0.5, \"training\": {\"batch\": 32, \"momentum\": 0, \"nesterov\": "
                            "false, \"label_smoothing\": 0.1, \"flip\": true, \"crop_pad\": 4}}",
                       &job, &err),
                 WINNOW_OK, "%s", err.msg);
    cr_assert_str_eq(job.validation.path, "/v");
    cr_assert_str_eq(job.data.path, "/x");
    cr_assert(job.new_labels && job.seed == 9 && job.threads == 2 && job.training.batch == 32 &&
              job.training.crop_pad == 4 && job.training.flip && !job.training.nesterov);
    wn_job_done(&job);
}

Test(job, faults_name_key_and_line)
{
    static const char *const bad[][2] = {
        { "", "job.json:1: " },
        { "[]", "job.json:1: " },
        { "{\"format\": 1}", "'id' is missing" },
        { HEAD ",\n \"seeds\": 1}", "job.json:8: seeds: unknown key, did you mean 'seed'?" },
        { HEAD ",\n \"seed\": 1.5}", "job.json:8: seed: expected an integer" },
        { HEAD ",\n \"threads\": 0}", "job.json:8: threads: 0 is not between" },
        { HEAD ",\n \"recipe\": 1}", "job.json:8: recipe: expected true or false" },
        { HEAD ",\n \"recipe\": true,\n \"optim_level\": 1}", "job.json:9: optim_level: " },
        { HEAD ",\n \"recipe\": true,\n \"epochs\": 1}", "job.json:9: epochs: " },
        { HEAD ",\n \"validation\": {\n  \"name\": \"x\"}}", "validation.validation: 'path' is missing" },
        { HEAD ",\n \"training\": {\n  \"batch\": 1}}", "job.json:9: training.batch: " },
        { HEAD ",\n \"base\": {\n  \"digest\": \"sha256:12\"}}", "job.json:9: base.digest: " },
        { HEAD ",\n \"id\": \"x\"}", "job.json:8: " }, /* twice */
        { HEAD ",\n \"format\": 2}", "job.json:8: " },
        { HEAD ",\n \"seed\": 1", "job.json:" },
    };
    for (size_t i = 0; i < WN_COUNT(bad); i++) {
        struct wn_job job;
        struct winnow_err err = { 0 };
        cr_assert_neq(parse(bad[i][0], &job, &err), WINNOW_OK, "case %zu", i);
        cr_assert(strstr(err.msg, bad[i][1]), "case %zu: %s", i, err.msg);
    }
}
