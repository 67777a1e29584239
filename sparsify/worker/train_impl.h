/* worker/train_impl.h: a training job under way; what its files share. */
#ifndef WN_WORKER_TRAIN_IMPL_H
#define WN_WORKER_TRAIN_IMPL_H

#include <jansson.h>
#include "sparsify/recipe/recipe.h"
#include "sparsify/worker/train_rows.h"
#include "sparsify/worker/worker.h"

struct wn_train_run {
    struct wn_job *job;
    struct wn_progress *pg;
    struct wn_origin origin;
    struct wn_train_rows rows;
    struct wn_train_data train, val;
    struct wn_train_tokens train_tokens, val_tokens; /* of texts */
    struct wn_recipe *recipe;
    void *recipe_text; /* malloc'ed, NUL behind it */
    size_t recipe_bytes;
    struct wn_trainer *tr;
    struct wn_train_opts opts;
    struct wn_train_ids ids;
    double epochs;
    uint64_t checkpoint_ns; /* when the last one was written */
    bool base_sparse;
    enum wn_end end;           /* why on_step stopped */
    struct winnow_err on_step; /* and if it failed: with what */
    struct winnow_err *err;
    /* what the report tells */
    struct wn_train_score score, score_f32;
    double agreement, master_agreement;
    size_t compared;
    uint64_t started_ns;
};

/** Newest checkpoint that fits, into r->tr; `ret_found` false: none. One that is broken is passed over, with a message;
 *  one of another job, CPU or thread count means to start anew. */
WINNOW_MUST_USE enum winnow_status wn_train_resume(struct wn_train_run *r, bool *ret_found);
/** Write one for `step` and remove all but the last two. */
WINNOW_MUST_USE enum winnow_status wn_train_save(struct wn_train_run *r, uint64_t step);

/** Whether the job is to be left now: a stop, `pause`, `cancel`; r->end says which. */
bool wn_train_leaves(struct wn_train_run *r);

/** work/candidate/: model.onnx, master.onnx, labels.txt, pipeline.yaml; checked by the serving engine against r->tr.
 *  @return E_CANCELLED: left half way (r->end); the checkpoint of the last step is there, and the next start exports */
WINNOW_MUST_USE enum winnow_status wn_train_export(struct wn_train_run *r);

/** report.json, then result.json. */
WINNOW_MUST_USE enum winnow_status wn_train_report(struct wn_train_run *r);

#endif
