/* budget.c: an allowance is looked at when the clock says so: reading a thread's CPU time costs a system call. */
#include "engine/ops/budget.h"

#define LOOK_NS    (UINT64_C(2) * 1000000u)
#define LOOK_WORK  (UINT64_C(1) << 20)
#define SECONDS(x) ((double)(x) / 1e9)

void wn_allowance_init(struct wn_allowance *all, uint64_t ns, uint64_t until_ns)
{
    all->given_ns = ns ? WN_MIN(ns, (uint64_t)INT64_MAX) : WN_LOOP_NS;
    all->until_ns = until_ns;
    atomic_init(&all->nodes, WN_LOOP_NODES);
    atomic_init(&all->ns, (int64_t)all->given_ns);
}

void wn_budget_init(struct wn_budget *budget, struct wn_allowance *all)
{
    *budget = (struct wn_budget){ .all = all };
}

bool wn_budget_enter(struct wn_budget *budget)
{
    if (budget->counting)
        return false;
    budget->counting = true;
    budget->cpu_ns = wn_thread_cpu_ns();
    budget->look_ns = wn_now_ns() + LOOK_NS;
    return true;
}

/* What is left after paying. */
static int64_t pay(struct wn_budget *budget)
{
    const uint64_t now = wn_thread_cpu_ns();
    const int64_t used = (int64_t)(now - budget->cpu_ns);
    budget->cpu_ns = now;
    return atomic_fetch_sub_explicit(&budget->all->ns, used, memory_order_relaxed) - used;
}

void wn_budget_leave(struct wn_budget *budget)
{
    pay(budget);
    budget->counting = false;
}

static enum winnow_status look(struct wn_budget *budget, struct winnow_err *err)
{
    const struct wn_allowance *all = budget->all;
    const uint64_t now = wn_now_ns();
    budget->work = 0;
    if (all->until_ns && now >= all->until_ns)
        return wn_fail(err, WINNOW_E_DEADLINE, "the deadline passed while it ran");
    if (!budget->counting || now < budget->look_ns)
        return WINNOW_OK;
    budget->look_ns = now + LOOK_NS;
    if (pay(budget) > 0)
        return WINNOW_OK;
    return wn_fail(err, WINNOW_E_TOO_LARGE, "the limit of %g s of CPU time in loops was reached",
                   SECONDS(all->given_ns));
}

enum winnow_status wn_budget_node(struct wn_budget *budget, struct winnow_err *err)
{
    if (atomic_fetch_sub_explicit(&budget->all->nodes, 1, memory_order_relaxed) <= 0)
        return wn_fail(err, WINNOW_E_TOO_LARGE, "the limit of %lld nodes in loops was reached",
                       (long long)WN_LOOP_NODES);
    return look(budget, err);
}

enum winnow_status wn_budget_work(struct wn_budget *budget, uint64_t work, struct winnow_err *err)
{
    budget->work += work;
    return budget->work < LOOK_WORK ? WINNOW_OK : look(budget, err);
}
