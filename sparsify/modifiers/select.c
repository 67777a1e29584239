/* select.c: which parameters a recipe's names mean. */
#include <regex.h>
#include <stdlib.h>
#include <string.h>
#include "sparsify/modifiers/modifiers.h"

static bool is_class(const struct wn_param *p, const char *name)
{
    bool conv = p->cls == WN_LAYER_CONV, linear = p->cls == WN_LAYER_LINEAR;
    return (conv && (strcmp(name, "Conv2d") == 0 || strcmp(name, "Conv") == 0 || strcmp(name, "Conv1d") == 0)) ||
           (linear && (strcmp(name, "Linear") == 0 || strcmp(name, "Gemm") == 0 || strcmp(name, "MatMul") == 0));
}

/* -1: the expression is bad. */
static int matches(const struct wn_param *p, const char *name)
{
    if (strcmp(name, "__ALL__") == 0)
        return p->kind != WN_PARAM_MEAN && p->kind != WN_PARAM_VAR;
    if (strcmp(name, "__ALL_PRUNABLE__") == 0)
        return p->prunable;
    if (strncmp(name, "re:", 3) == 0) {
        regex_t re;
        regmatch_t m; /* as Python's re.match: anchored at the start only */
        if (regcomp(&re, name + 3, REG_EXTENDED))
            return -1;
        int hit = regexec(&re, p->name, 1, &m, 0) == 0 && m.rm_so == 0;
        regfree(&re);
        return hit;
    }
    return strcmp(p->name, name) == 0 || (p->kind == WN_PARAM_WEIGHT && strcmp(p->layer, name) == 0) ||
           (p->kind == WN_PARAM_WEIGHT && is_class(p, name));
}

static enum winnow_status nothing(struct wn_trainer *tr, const char *name, const char *modifier, struct winnow_err *err)
{
    unsigned n = wn_trainer_n_params(tr);
    WN_CLEANUP(wn_freep) const char **all = calloc(n + 1, sizeof *all);
    for (unsigned i = 0; all && i < n; i++)
        all[i] = wn_trainer_param(tr, i)->name;
    const char *near = all ? wn_near_name(name, all, n) : NULL;
    if (near)
        return wn_fail(err, WINNOW_E_NOT_FOUND, "%sModifier: '%.80s' matches no parameter, did you mean '%s'?",
                       modifier, name, near);
    return wn_fail(err, WINNOW_E_NOT_FOUND, "%sModifier: '%.80s' matches no parameter (the model's begin with '%s', …)",
                   modifier, name, n ? wn_trainer_param(tr, 0)->name : "none");
}

enum winnow_status wn_select(struct wn_trainer *tr, const struct wn_names *names, const char *modifier,
                             struct wn_param ***ret, size_t *ret_n, struct winnow_err *err)
{
    unsigned n = wn_trainer_n_params(tr);
    WN_CLEANUP(wn_freep) bool *hit = calloc(n + 1u, sizeof *hit);
    struct wn_param **out = calloc(n + 1u, sizeof *out);
    enum winnow_status status = hit && out ? WINNOW_OK : wn_fail(err, WINNOW_E_NOMEM, "%sModifier", modifier);
    for (size_t k = 0; k < names->n && status == WINNOW_OK; k++) {
        bool any = false;
        for (unsigned i = 0; i < n && status == WINNOW_OK; i++) {
            int m = matches(wn_trainer_param(tr, i), names->at[k]);
            if (m < 0)
                status = wn_fail(err, WINNOW_E_MALFORMED, "%sModifier: '%.80s' is no regular expression", modifier,
                                 names->at[k]);
            hit[i] = hit[i] || m > 0;
            any = any || m > 0;
        }
        if (status == WINNOW_OK && !any)
            status = nothing(tr, names->at[k], modifier, err);
    }
    if (status != WINNOW_OK) {
        free(out);
        return status;
    }
    *ret_n = 0;
    for (unsigned i = 0; i < n; i++)
        if (hit[i])
            out[(*ret_n)++] = wn_trainer_param(tr, i);
    *ret = out;
    return WINNOW_OK;
}
