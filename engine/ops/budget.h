/* budget.h: what the loops of a model may cost: a file of a hundred bytes can ask for any number of iterations.
 *
 * An allowance is shared by all loops of a run, nested ones too, and by the threads of the run; each thread keeps an
 * account of it. What is counted is CPU time, so that a busy machine refuses nothing that an idle one runs; the end of
 * a request's time is the clock's. */
#ifndef WN_BUDGET_H
#define WN_BUDGET_H

#include <stdatomic.h>
#include "base/base.h"

/** What is left of it. */
struct wn_allowance {
    atomic_int_least64_t nodes; /* executed in loops, and iterations */
    atomic_int_least64_t ns;    /* CPU time in loops */
    uint64_t given_ns;          /* for messages */
    uint64_t until_ns;          /* wn_now_ns(); 0: no end */
};
#define WN_LOOP_NODES (INT64_C(1) << 26)
#define WN_LOOP_NS    (UINT64_C(30) * 1000000000u) /* where nobody says otherwise */

/** `ns` of CPU time (0: WN_LOOP_NS) and WN_LOOP_NODES nodes. */
void wn_allowance_init(struct wn_allowance *all, uint64_t ns, uint64_t until_ns);

/** One thread's account while it runs a node. */
struct wn_budget {
    struct wn_allowance *all;
    bool counting;    /* inside of a loop */
    uint64_t cpu_ns;  /* this thread's CPU clock when it last paid */
    uint64_t look_ns; /* when the CPU clock, which costs a system call, is due again */
    uint64_t work;    /* since the last look */
};

void wn_budget_init(struct wn_budget *budget, struct wn_allowance *all);
/** Into a loop: from here on CPU time is paid for. False: already in one; then nothing is to be left. */
WINNOW_MUST_USE bool wn_budget_enter(struct wn_budget *budget);
/** Out of the outermost loop. */
void wn_budget_leave(struct wn_budget *budget);
/** Before a node that runs by its reference, and before an iteration.
 *  @return E_TOO_LARGE: the allowance is used up; E_DEADLINE: its time is over; neither names the node */
enum winnow_status wn_budget_node(struct wn_budget *budget, struct winnow_err *err);
/** Inside of a long node: `work` steps of a nanosecond or so are to come. Looks at the clock once in a million.
 *  @return as wn_budget_node() */
enum winnow_status wn_budget_work(struct wn_budget *budget, uint64_t work, struct winnow_err *err);

#endif
