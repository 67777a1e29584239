/* teacher.c: the model that distillation asks: a trainer of its own that only runs forward, on the same batches. */
#include <string.h>
#include "sparsify/train/train_impl.h"

static bool same_inputs(const struct wn_trainer *a, const struct wn_trainer *b)
{
    if (a->net.feed.n != b->net.feed.n || a->net.pictures != b->net.pictures ||
        (a->net.pictures && wn_trainer_row_elements(a) != wn_trainer_row_elements(b)))
        return false;
    for (size_t i = 0; i < a->net.feed.n; i++) {
        bool found = false;
        for (size_t k = 0; k < b->net.feed.n; k++)
            found |= strcmp(a->net.feed.at[i].name, b->net.feed.at[k].name) == 0;
        if (!found)
            return false;
    }
    return true;
}

enum winnow_status wn_trainer_set_teacher(struct wn_trainer *tr, const struct wn_graph *graph, struct winnow_err *err)
{
    WN_CHECK_MAGIC(tr, WN_TRAINER_MAGIC);
    struct wn_trainer *teacher;
    const struct wn_train_opts o = { .batch = tr->opts.batch,
                                     .threads = tr->opts.threads,
                                     .max_memory_bytes = tr->opts.max_memory_bytes,
                                     .forward_only = true };
    enum winnow_status s = wn_trainer_new(graph, &o, &teacher, err);
    if (s != WINNOW_OK)
        return wn_fail_at(err, s, "teacher");
    if (!same_inputs(tr, teacher)) {
        wn_trainer_free(teacher);
        return wn_fail(err, WINNOW_E_CONFLICT, "teacher: it takes other inputs than the model that is trained");
    }
    wn_trainer_free(tr->teacher);
    tr->teacher = teacher;
    return WINNOW_OK;
}

unsigned wn_trainer_teacher_classes(const struct wn_trainer *tr)
{
    return tr->teacher ? wn_trainer_n_classes(tr->teacher) : 0;
}

enum winnow_status wn_trainer_teach(struct wn_trainer *tr, const float **ret_scores, struct winnow_err *err)
{
    struct wn_trainer *te = tr->teacher;
    if (!te)
        return wn_fail(err, WINNOW_E_CONFLICT, "there is no teacher");
    WN_TRY(wn_trainer_ready(te, err));
    wn_trainer_mode_eval(te);
    if (tr->net.pictures)
        memcpy(wn_net_input(&te->net), wn_net_input(&tr->net),
               tr->opts.batch * wn_trainer_row_elements(tr) * sizeof(float));
    else
        WN_TRY(wn_trainer_load_tokens(te, tr->data->tokens, tr->sample, tr->n_samples, err));
    WN_TRY(wn_net_forward(&te->net, err));
    *ret_scores = wn_net_output(&te->net);
    return WINNOW_OK;
}
