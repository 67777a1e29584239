/* plan.h: a graph made concrete: steps, buffers, packed weights. Internal to engine/plan.
 *
 * A plan belongs to one set of input shapes. It is made by
 *   specialize  copy of the model's graph with concrete shapes; what becomes constant is folded     (specialize.c)
 *   lower       nodes in order -> steps; every value gets a place: a buffer in one or more forms     (lower*.c)
 *   memplan     buffers -> offsets in one allocation, by liveness                                    (memplan.c)
 * and run by run.c: with several threads either the rows of a batch are dealt out, each thread running whole rows, or
 * all threads work on each step together with a barrier between steps. */
#ifndef WN_PLAN_H
#define WN_PLAN_H

#include <stdatomic.h>
#include "base/vec.h"
#include "engine/graph/graph.h"
#include "engine/kernels/kernels.h"
#include "engine/plan/pool.h"

/** Where a step finds its data at run time. */
enum wn_loc_kind { WN_LOC_NONE, WN_LOC_BUF, WN_LOC_CONST, WN_LOC_INPUT, WN_LOC_OUTPUT };
struct wn_loc {
    enum wn_loc_kind kind;
    uint32_t index;  /* buffer, input or output */
    size_t offset;   /* bytes into it */
    size_t image;    /* bytes from one image of a batch to the next, for steps that run image by image */
    const void *ptr; /* WN_LOC_CONST */
};

/** A piece of scratch memory, alive from step `first` to step `last`. */
struct wn_buf {
    size_t bytes, offset;
    uint32_t first, last;
    uint32_t over; /* 1 + the buffer whose place this may take, should the step that writes this be its last reader */
};

/** The forms an activation may be in (kernels.h). COLS: a f32 matrix of features, each a row of tokens (cols.h);
 *  COLS_QUAD, COLS_U8: the same for u8, four features side by side or each a row of bytes (cols_q8.h). */
enum wn_form {
    WN_FORM_PLAIN,
    WN_FORM_F32,
    WN_FORM_QUAD,
    WN_FORM_PLANE8,
    WN_FORM_COLS,
    WN_FORM_COLS_QUAD,
    WN_FORM_COLS_U8,
    WN_FORM_COUNT
};

/** Where a value is, and its plane geometry (rank-4 values only). */
struct wn_place {
    struct wn_loc form[WN_FORM_COUNT]; /* kind NONE: not there (yet) */
    size_t cols_k;                     /* features of the COLS forms */
    uint32_t shape_class;              /* geometry class (geometry.c) */
    bool pad_wanted;                   /* some consumer reads its padding */
    wn_vid view_of;                    /* 1 + the value in planes that this is a view of, until somebody wants it plain; or 0 */
};

/** What a worker runs a plan with. One per thread when rows are dealt out, else one for all. */
struct wn_exec {
    const struct wn_plan *plan;
    char *act;       /* the buffers */
    const char **in; /* [n_inputs] of this row */
    char **out;      /* [n_outputs] of this row */
    size_t image;    /* that the step works on; 0 for steps that take the whole batch at once */
    struct wn_arena tmp;
    struct wn_allowance *loops; /* what they may spend in this run; the scratch's */
    struct wn_tensor *late;    /* [n_outputs] outputs whose shapes depend on data (late.h), in late_mem */
    struct wn_arena late_mem;  /* until the next run */
    enum winnow_status status; /* of the first step that failed */
    struct winnow_err err;
};

struct wn_step {
    const char *name, *op, *kernel, *why, *pattern;
    wn_vid out; /* first output, for shape */
    /** Do share `part` of `n_parts`. Kernels cannot fail; reference operators set exec->status. */
    void (*run)(const struct wn_step *step, struct wn_exec *exec, unsigned part, unsigned n_parts);
    const void *arg; /* in the plan's arena */
    bool serial;     /* part 0 does it all */
    size_t images;   /* run is called for each; kernels on planes know single pictures only */
    double sparsity;
    uint64_t macs;
    size_t weight_bytes;
    const struct wn_choice *choice; /* choice.h; NULL where there was none */
};

struct wn_plan {
    struct wn_arena arena;
    struct wn_graph g; /* specialized; constants shared with the model's graph */
    WN_VEC(struct wn_step) steps;
    WN_VEC(struct wn_buf) bufs;
    struct wn_place *place;               /* [g.values.n] */
    size_t act_bytes;                     /* all buffers */
    struct wn_type *in_type, *out_type;   /* [inputs], [outputs], concrete but for late outputs */
    int64_t rows;                         /* that a run takes; 1 for models without independent rows */
    size_t *in_row_bytes, *out_row_bytes; /* of each of them; 0 for late outputs */
    struct wn_late *late;                 /* nodes whose shapes depend on data (late.h), or NULL */
    atomic_uint refs;
};

static inline void *wn_at(const struct wn_exec *exec, struct wn_loc loc)
{
    size_t at = loc.offset + exec->image * loc.image;
    switch (loc.kind) {
    case WN_LOC_BUF:
        return exec->act + exec->plan->bufs.at[loc.index].offset + at;
    case WN_LOC_CONST:
        return (char *)(uintptr_t)loc.ptr + at;
    case WN_LOC_INPUT:
        return (char *)(uintptr_t)exec->in[loc.index] + at;
    case WN_LOC_OUTPUT:
        return exec->out[loc.index] + at;
    default:
        return NULL;
    }
}

struct winnow_model; /* winnow_model of winnow.h */

/** Bytes that a plan takes, without activations and packed weights. */
size_t wn_plan_bytes(const struct wn_plan *plan);

/** Make the plan of `model` for these concrete input types (1 ... row_block rows when the model's rows are
 *  independent).
 *  @return E_MALFORMED / E_UNSUPPORTED naming the node, E_TOO_LARGE, E_NOMEM */
enum winnow_status wn_plan_new(struct winnow_model *model, const struct wn_type *inputs, struct wn_plan **ret_plan,
                               struct winnow_err *err);
/** References are counted, plans immutable: scratches share them (plans.h). */
struct wn_plan *wn_plan_ref(struct wn_plan *plan);
void wn_plan_unref(struct wn_plan *plan); /* NULL is fine */

/* ---- between the stages ---- */
enum winnow_status wn_plan_specialize(struct wn_plan *plan, const struct wn_graph *from, const struct wn_type *inputs,
                                      struct winnow_err *err);
enum winnow_status wn_plan_lower(struct wn_plan *plan, struct winnow_model *model, struct winnow_err *err);
/** Offsets by liveness, larger buffers first, each at the lowest place free during its life.
 *  @return E_TOO_LARGE when the total exceeds `limit` */
enum winnow_status wn_plan_memory(struct wn_plan *plan, size_t limit, struct winnow_err *err);

#endif
