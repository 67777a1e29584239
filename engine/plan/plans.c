/* plans.c: plans in order of their last use, the newest first; looked through one by one, which for 64 of them costs
 * less than the smallest step. LOCKS  plans->lock is a leaf. */
#include "engine/plan/plans.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

struct wn_plans {
    pthread_mutex_t lock;
    unsigned n;
    size_t bytes;
    struct wn_plan *at[WN_PLANS_MAX + 1];
};

struct wn_plans *wn_plans_new(void)
{
    struct wn_plans *plans = calloc(1, sizeof *plans);
    if (plans)
        pthread_mutex_init(&plans->lock, NULL);
    return plans;
}

void wn_plans_free(struct wn_plans *plans)
{
    if (!plans)
        return;
    for (unsigned i = 0; i < plans->n; i++)
        wn_plan_unref(plans->at[i]);
    pthread_mutex_destroy(&plans->lock);
    free(plans);
}

static bool is_for(const struct wn_plan *plan, const struct wn_type *inputs)
{
    for (size_t i = 0; i < plan->g.inputs.n; i++) {
        const struct wn_type *t = &plan->in_type[i];
        if (memcmp(t->dim, inputs[i].dim, (size_t)t->rank * sizeof t->dim[0]) != 0)
            return false;
    }
    return true;
}

/* Under the lock: the plan, now the newest, with a reference for the caller; NULL: not there. */
static struct wn_plan *find(struct wn_plans *plans, const struct wn_type *inputs)
{
    for (unsigned i = 0; i < plans->n; i++) {
        struct wn_plan *plan = plans->at[i];
        if (!is_for(plan, inputs))
            continue;
        memmove(plans->at + 1, plans->at, i * sizeof(plans->at[0]));
        plans->at[0] = plan;
        return wn_plan_ref(plan);
    }
    return NULL;
}

/* Under the lock: keep `plan`, take out what is too much. Returns how many of `ret_out` the caller has to drop. */
static unsigned keep(struct wn_plans *plans, struct wn_plan *plan, struct wn_plan *ret_out[WN_PLANS_MAX + 1])
{
    unsigned n_out = 0;
    memmove(plans->at + 1, plans->at, plans->n * sizeof(plans->at[0]));
    plans->at[0] = wn_plan_ref(plan);
    plans->n++;
    plans->bytes += wn_plan_bytes(plan);
    while (plans->n > WN_PLANS_MAX || (plans->n > 1 && plans->bytes > WN_PLANS_BYTES)) {
        struct wn_plan *oldest = plans->at[--plans->n];
        plans->bytes -= wn_plan_bytes(oldest);
        ret_out[n_out++] = oldest;
    }
    return n_out;
}

enum winnow_status wn_plans_get(struct wn_plans *plans, struct winnow_model *model, const struct wn_type *inputs,
                                struct wn_plan **ret_plan, struct winnow_err *err)
{
    pthread_mutex_lock(&plans->lock);
    *ret_plan = find(plans, inputs);
    pthread_mutex_unlock(&plans->lock);
    if (*ret_plan)
        return WINNOW_OK;
    struct wn_plan *made, *out[WN_PLANS_MAX + 1];
    WN_TRY(wn_plan_new(model, inputs, &made, err));
    unsigned n_out = 0;
    pthread_mutex_lock(&plans->lock);
    *ret_plan = find(plans, inputs); /* another thread may have been quicker */
    if (!*ret_plan) {
        n_out = keep(plans, made, out);
        *ret_plan = made;
        made = NULL;
    }
    pthread_mutex_unlock(&plans->lock);
    wn_plan_unref(made);
    for (unsigned i = 0; i < n_out; i++)
        wn_plan_unref(out[i]);
    return WINNOW_OK;
}

void wn_plans_clear(struct wn_plans *plans)
{
    struct wn_plan *out[WN_PLANS_MAX + 1];
    pthread_mutex_lock(&plans->lock);
    const unsigned n = plans->n;
    memcpy(out, plans->at, n * sizeof out[0]);
    plans->n = 0;
    plans->bytes = 0;
    pthread_mutex_unlock(&plans->lock);
    for (unsigned i = 0; i < n; i++)
        wn_plan_unref(out[i]);
}

size_t wn_plans_bytes(struct wn_plans *plans)
{
    pthread_mutex_lock(&plans->lock);
    size_t bytes = plans->bytes;
    pthread_mutex_unlock(&plans->lock);
    return bytes;
}
