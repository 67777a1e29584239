/* columns.c: columns by name, or by what they usually are called. */
#include "sparsify/data/columns.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

static const char *const texts[] = { "text",      "sentence", "sentence1", "text1",  "premise",
                                     "question1", "question", "utterance", "review", "content",
                                     "message",   "body",     "comment",   "tweet",  "document",
                                     "query",     "prompt",   "input",     NULL };
static const char *const pairs[] = { "text_pair", "sentence2", "text2", "hypothesis", "question2", "passage", NULL };
static const char *const labels[] = { "label",     "labels", "category", "class",  "intent",     "target",
                                      "sentiment", "topic",  "tag",      "output", "completion", NULL };
/* Two columns that together are the text. */
static const char *const heads[] = { "title", "headline", "subject", "summary", NULL };
static const char *const bodies[] = { "description", "body", "text", "content", "review", NULL };

static int find_exact(const char *want, const char *const *name, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        if (strcmp(want, name[i]) == 0)
            return (int)i;
    return -1;
}

/* The first of `words` that a column is called, whatever its case. */
static int guess(const char *const *words, const char *const *name, unsigned n)
{
    for (; *words; words++)
        for (unsigned i = 0; i < n; i++)
            if (strcasecmp(*words, name[i]) == 0)
                return (int)i;
    return -1;
}

static enum winnow_status missing(const char *what, const char *said, const char *const *name, unsigned n,
                                  struct winnow_err *err)
{
    char all[120] = "";
    for (unsigned i = 0; i < n; i++) {
        size_t used = strlen(all);
        if (used > sizeof all - 40) {
            snprintf(all + used, sizeof all - used, ", …");
            break;
        }
        snprintf(all + used, sizeof all - used, "%s'%.24s'", i ? ", " : "", name[i]);
    }
    if (said)
        return wn_fail(err, WINNOW_E_MALFORMED, "columns.%s: there is no column '%.40s', but %s", what, said, all);
    return wn_fail(err, WINNOW_E_MALFORMED, "no column is known to hold the %s among %s: name it with columns.%s", what,
                   all, what);
}

static enum winnow_status settle_text(const struct wn_columns *c, const char *const *name, unsigned n,
                                      struct wn_columns_at *at, struct winnow_err *err)
{
    for (unsigned i = 0; i < c->n_text; i++) {
        int k = find_exact(c->text[i], name, n);
        if (k < 0)
            return missing("text", c->text[i], name, n, err);
        at->text[at->n_text++] = (unsigned)k;
    }
    if (c->n_text)
        return WINNOW_OK;
    at->guessed = true;
    int head = guess(heads, name, n), body = guess(bodies, name, n), text = guess(texts, name, n);
    if (head >= 0 && body >= 0) {
        at->text[at->n_text++] = (unsigned)head;
        at->text[at->n_text++] = (unsigned)body;
        return WINNOW_OK;
    }
    text = text >= 0 ? text : body >= 0 ? body : head;
    if (text < 0)
        return missing("text", NULL, name, n, err);
    at->text[at->n_text++] = (unsigned)text;
    return WINNOW_OK;
}

/* A name that two columns have says nothing. */
static enum winnow_status only_one(unsigned at, const char *const *name, unsigned n, struct winnow_err *err)
{
    for (unsigned i = 0; i < n; i++)
        if (i != at && strcmp(name[i], name[at]) == 0)
            return wn_fail(err, WINNOW_E_MALFORMED, "columns %u and %u are both called '%.40s'", WN_MIN(i, at) + 1,
                           WN_MAX(i, at) + 1, name[at]);
    return WINNOW_OK;
}

enum winnow_status wn_columns_settle(const struct wn_columns *c, const char *const *name, unsigned n,
                                     struct wn_columns_at *ret, struct winnow_err *err)
{
    struct wn_columns_at at = { .pair = -1 };
    WN_TRY(settle_text(c, name, n, &at, err));
    int label = c->label ? find_exact(c->label, name, n) : guess(labels, name, n);
    if (label < 0)
        return missing("label", c->label, name, n, err);
    at.guessed |= !c->label;
    at.label = (unsigned)label;
    if (c->pair && (at.pair = find_exact(c->pair, name, n)) < 0)
        return missing("text_pair", c->pair, name, n, err);
    if (!c->pair && !c->n_text) /* who names the text names its pair, too */
        at.pair = guess(pairs, name, n);
    for (unsigned i = 0; i < at.n_text; i++)
        WN_TRY(only_one(at.text[i], name, n, err));
    if (at.pair >= 0)
        WN_TRY(only_one((unsigned)at.pair, name, n, err));
    WN_TRY(only_one(at.label, name, n, err));
    *ret = at;
    return WINNOW_OK;
}
