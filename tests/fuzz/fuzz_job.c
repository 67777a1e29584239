/* fuzz_job.c: any bytes as job.json; an accepted one keeps its promises. */
#include <stdlib.h>
#include <string.h>
#include "sparsify/worker/job.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    struct wn_job job;
    struct winnow_err err = { 0 };
    enum winnow_status status = wn_job_parse(bytes, n, "job.json", "/jobs/1", &job, &err);
    if (status != WINNOW_OK) {
        if (strncmp(err.msg, "job.json:", 9) != 0 && status != WINNOW_E_NOMEM)
            abort();
        return 0;
    }
    if (!job.id || !job.model || !job.target || !job.data.path || job.threads < 1 || job.threads > 256 ||
        !(job.eval_share > 0 && job.eval_share <= 0.5) || (job.recipe && job.optim_level >= 0))
        abort();
    wn_job_done(&job);
    return 0;
}
