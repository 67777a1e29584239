/* params.c: keys of a modifier -> its parameters, by table. */
#include <math.h>
#include <string.h>
#include "sparsify/modifiers/modifiers.h"

static const struct {
    const char *name;
    const struct wn_mod_kind *kind;
} kinds[] = {
    { "EpochRange", &wn_mod_EpochRange },
    { "SetLearningRate", &wn_mod_SetLearningRate },
    { "LearningRateFunction", &wn_mod_LearningRateFunction },
    { "SetWeightDecay", &wn_mod_SetWeightDecay },
    { "GMPruning", &wn_mod_GMPruning },
    { "MagnitudePruning", &wn_mod_GMPruning },
    { "GlobalMagnitudePruning", &wn_mod_GMPruning },
    { "ConstantPruning", &wn_mod_ConstantPruning },
    { "Quantization", &wn_mod_Quantization },
    { "LegacyQuantization", &wn_mod_Quantization },
    { "TrainableParams", &wn_mod_TrainableParams },
    { "Distillation", &wn_mod_Distillation },
};

static bool name_is(const char *given, const char *name)
{
    size_t n = strlen(name);
    return strncmp(given, name, n) == 0 && (given[n] == '\0' || strcmp(given + n, "Modifier") == 0);
}

const struct wn_mod_kind *wn_mod_find(const char *name)
{
    for (size_t i = 0; i < WN_COUNT(kinds); i++)
        if (name_is(name, kinds[i].name))
            return kinds[i].kind;
    return NULL;
}

const char *const *wn_mod_names(size_t *n)
{
    static const char *names[WN_COUNT(kinds)];
    for (size_t i = 0; i < WN_COUNT(kinds); i++)
        names[i] = kinds[i].name;
    *n = WN_COUNT(kinds);
    return names;
}

/* The expression inside eval(…) or calc(…), or NULL. */
static const char *expression(struct wn_arena *arena, const char *text)
{
    size_t n = strlen(text);
    if (n < 6 || (strncmp(text, "eval(", 5) && strncmp(text, "calc(", 5)) || text[n - 1] != ')')
        return NULL;
    return wn_arena_strndup(arena, text + 5, n - 6);
}

enum winnow_status wn_mod_number(struct wn_mod_read *read, const struct wn_yaml_node *node, double *ret)
{
    if (wn_yaml_number(node, ret)) {
        if (!isfinite(*ret))
            return wn_yaml_fail(read->doc, node, read->err, WINNOW_E_MALFORMED, "a finite number is wanted");
        return WINNOW_OK;
    }
    const char *expr = node->kind == WN_YAML_STRING ? expression(read->arena, node->text) : NULL;
    if (!expr)
        return wn_yaml_fail(read->doc, node, read->err, WINNOW_E_MALFORMED, "a number or eval(…) is wanted, not %s",
                            wn_yaml_kind_name(node->kind));
    struct winnow_err why;
    enum winnow_status status = wn_eval(expr, read->vars, read->n_vars, ret, &why);
    return status == WINNOW_OK ? status : wn_yaml_fail(read->doc, node, read->err, status, "%s", why.msg);
}

static enum winnow_status read_names(struct wn_mod_read *read, const struct wn_yaml_node *node, struct wn_names *ret)
{
    size_t n = node->kind == WN_YAML_SEQ ? node->n : 1;
    ret->at = wn_arena_calloc(read->arena, n + 1, sizeof *ret->at);
    ret->n = n;
    if (!ret->at)
        return wn_fail(read->err, WINNOW_E_NOMEM, "recipe");
    for (size_t i = 0; i < n; i++) {
        const struct wn_yaml_node *item = node->kind == WN_YAML_SEQ ? node->item[i] : node;
        if (item->kind == WN_YAML_SEQ || item->kind == WN_YAML_MAP || item->kind == WN_YAML_NULL || !*item->text)
            return wn_yaml_fail(read->doc, item, read->err, WINNOW_E_MALFORMED, "a name or a list of names is wanted");
        ret->at[i] = wn_arena_strndup(read->arena, item->text, strlen(item->text));
    }
    return WINNOW_OK;
}

/* true, false, or a number (recipes compute switches too: eval(quantize_embeddings)): 0 is false. */
static enum winnow_status read_bool(struct wn_mod_read *read, const struct wn_field *f, const struct wn_yaml_node *node,
                                    bool *ret)
{
    double v;
    struct winnow_err ignored;
    struct wn_mod_read quiet = *read;
    quiet.err = &ignored;
    if (node->kind == WN_YAML_BOOL) {
        *ret = node->as.b;
        return WINNOW_OK;
    }
    if (wn_mod_number(&quiet, node, &v) != WINNOW_OK)
        return wn_yaml_fail(read->doc, node, read->err, WINNOW_E_MALFORMED, "'%s' is true or false", f->key);
    *ret = fabs(v) > 0;
    return WINNOW_OK;
}

static enum winnow_status read_field(struct wn_mod_read *read, const struct wn_field *f,
                                     const struct wn_yaml_node *node, void *params)
{
    void *at = (char *)params + f->offset;
    switch (f->kind) {
    case WN_FIELD_NUM:
        return wn_mod_number(read, node, at);
    case WN_FIELD_BOOL:
        return read_bool(read, f, node, at);
    case WN_FIELD_STR:
        if (node->kind == WN_YAML_SEQ || node->kind == WN_YAML_MAP || node->kind == WN_YAML_NULL)
            return wn_yaml_fail(read->doc, node, read->err, WINNOW_E_MALFORMED, "'%s' is a word", f->key);
        *(const char **)at = node->text;
        return WINNOW_OK;
    case WN_FIELD_NAMES:
        return read_names(read, node, at);
    case WN_FIELD_NODE:
        *(const struct wn_yaml_node **)at = node;
        return WINNOW_OK;
    case WN_FIELD_NONE:
        return WINNOW_OK;
    }
    return WINNOW_OK;
}

static enum winnow_status unknown_key(struct wn_mod_read *read, const struct wn_mod_kind *kind,
                                      const struct wn_yaml_node *key)
{
    const char *names[64];
    size_t n = 0;
    for (size_t i = 0; i < kind->n_fields && n < WN_COUNT(names); i++)
        names[n++] = kind->fields[i].key;
    const char *near = wn_near_name(key->text, names, n);
    return wn_yaml_fail(read->doc, key, read->err, WINNOW_E_UNSUPPORTED, "%sModifier has no '%.60s'%s%s%s", kind->name,
                        key->text, near ? ", did you mean '" : "", near ? near : "", near ? "'?" : "");
}

enum winnow_status wn_mod_read(struct wn_mod_read *read, const struct wn_mod_kind *kind,
                               const struct wn_yaml_node *node, const struct wn_yaml_node *map, void *params)
{
    struct wn_mod_common *common = params;
    kind->defaults(params);
    bool start = false, end = false;
    for (size_t i = 0; i < map->n; i++) {
        const struct wn_field *f = NULL;
        for (size_t k = 0; k < kind->n_fields && !f; k++)
            if (strcmp(kind->fields[k].key, map->key[i]->text) == 0)
                f = &kind->fields[k];
        if (!f)
            return unknown_key(read, kind, map->key[i]);
        WN_TRY(read_field(read, f, map->item[i], params));
        start = start || strncmp(f->key, "start", 5) == 0;
        end = end || strncmp(f->key, "end", 3) == 0;
    }
    if (start && common->start < 0)
        common->start = 0; /* -1: from the beginning */
    common->start += read->offset;
    common->has_end = end && common->end >= 0;
    if (common->has_end)
        common->end += read->offset;
    if (common->has_end && common->end < common->start)
        return wn_yaml_fail(read->doc, node, read->err, WINNOW_E_MALFORMED,
                            "%sModifier ends (%g) before it starts (%g)", kind->name, common->end, common->start);
    return kind->check ? kind->check(read, node, params) : WINNOW_OK;
}
