/* scratch.h: what a run works with, and the parts that the two ways to run share (run.c, ragged.c). Internal to
 * engine/plan. */
#ifndef WN_SCRATCH_H
#define WN_SCRATCH_H

#include "engine/ops/budget.h"
#include "engine/plan/model.h"
#include "engine/plan/plans.h"

struct winnow_scratch {
    unsigned magic;
#define WN_SCRATCH_MAGIC 0x5c7a7c40u
    winnow_model *model;
    winnow_pool *pool;
    struct wn_plan *plan;
    struct wn_type *in_type; /* [n_inputs] the plan's */
    struct wn_exec *exec;    /* [n_exec] */
    unsigned n_exec;
    size_t act_bytes; /* of each exec */
    struct wn_allowance loops;
    bool limited; /* by winnow_scratch_limit(): runs share `loops`; else each run has its own */
    void **out_mem;   /* [n_outputs] for outputs the caller gives no memory for */
    size_t *out_cap;
    bool profile;
    uint64_t *ns; /* [plan->steps] while profiled */
};

/** Rows of the request (1 for models without independent rows); what is wrong with its inputs is said.
 *  @param with_data  whether their bytes are looked at */
enum winnow_status wn_scratch_check(const winnow_scratch *s, const struct winnow_tensor *inputs, unsigned n,
                                    bool with_data, int64_t *ret_rows, struct winnow_err *err);
/** Plan and memory for these shapes: s->plan, as many execs as the threads will use, room for outputs. */
enum winnow_status wn_scratch_ready(winnow_scratch *s, const struct winnow_tensor *inputs, int64_t rows,
                                    struct winnow_err *err);
/** Activations of every exec for `plan` too. */
enum winnow_status wn_scratch_fit(winnow_scratch *s, const struct wn_plan *plan, struct winnow_err *err);
/** Shapes of the outputs by s->plan, and memory where the caller gives none. */
enum winnow_status wn_scratch_outputs(const winnow_scratch *s, int64_t rows, struct winnow_tensor *outputs, unsigned n,
                                      struct winnow_err *err);
/** Before a run: what its loops may spend, unless the caller has said it. */
void wn_scratch_begin(winnow_scratch *s);
/** Every step of exec->plan, alone or with the whole pool; `ns` [steps] or NULL. */
void wn_exec_run(struct wn_exec *exec, winnow_pool *pool, uint64_t *ns);
/** The outcome of the first `n` execs, which is then forgotten. */
enum winnow_status wn_scratch_outcome(winnow_scratch *s, unsigned n, struct winnow_err *err);

#endif
