/* choice.c: see choice.h. LOCKS  lock is a leaf. */
#include "engine/plan/choice.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "engine/plan/codec.h"

struct measured {
    struct wn_hash weights;
    uint32_t cols;
    enum wn_family family;     /* to be taken */
    float us[WN_FAMILY_COUNT]; /* 0: not measured */
};

struct wn_tuned {
    pthread_mutex_t lock;
    WN_VEC(struct measured) at;
    enum wn_choosing how;
    enum wn_family forced;
};

struct wn_tuned *wn_tuned_new(void)
{
    struct wn_tuned *t = calloc(1, sizeof *t);
    if (t)
        pthread_mutex_init(&t->lock, NULL);
    return t;
}

void wn_tuned_free(struct wn_tuned *t)
{
    if (!t)
        return;
    wn_vec_done(&t->at);
    pthread_mutex_destroy(&t->lock);
    free(t);
}

void wn_choosing_set(struct wn_tuned *t, enum wn_choosing how, enum wn_family family)
{
    pthread_mutex_lock(&t->lock);
    t->how = how;
    t->forced = family;
    pthread_mutex_unlock(&t->lock);
}

/* Under the lock; NULL: nothing was measured for it. */
static struct measured *find(struct wn_tuned *t, struct wn_hash weights, uint32_t cols)
{
    for (size_t i = 0; i < t->at.n; i++) {
        struct measured *m = &t->at.at[i];
        if (m->weights.low == weights.low && m->weights.high == weights.high && m->cols == cols)
            return m;
    }
    return NULL;
}

static bool possible(const struct wn_choice *choice, enum wn_family family)
{
    for (unsigned i = 0; i < choice->n; i++)
        if (choice->c[i].family == family && !isinf(choice->c[i].cycles))
            return true;
    return false;
}

/* "predicted kcycles: …; measured us: …". */
static const char *line(struct wn_arena *arena, const struct wn_choice *choice, const struct measured *m)
{
    const char *predicted = wn_cost_line(arena, choice->c, choice->n);
    char text[256] = "; measured us:";
    size_t at = strlen(text);
    const char *comma = "";
    for (unsigned i = 0; m && i < choice->n && at < sizeof text; i++) {
        const enum wn_family f = choice->c[i].family;
        if (m->us[f] <= 0)
            continue;
        at += (size_t)snprintf(text + at, sizeof text - at, "%s %s %.1f", comma, wn_family_name(f), (double)m->us[f]);
        comma = ",";
    }
    const char *both = m ? wn_arena_printf(arena, "%s%s", predicted, text) : predicted;
    return both ? both : "";
}

const struct wn_choice *wn_choose(struct wn_tuned *t, struct wn_facts *facts, struct wn_arena *arena,
                                  const struct wn_tensor *w, double cols, const struct wn_candidate *c, size_t n)
{
    struct wn_choice *choice = wn_arena_calloc(arena, 1, sizeof *choice);
    if (!choice)
        return NULL;
    choice->weights = wn_facts_hash(facts, w);
    choice->cols = (uint32_t)cols;
    choice->n = (unsigned)WN_MIN(n, (size_t)WN_CHOICE_MAX);
    memcpy(choice->c, c, choice->n * sizeof *c);
    choice->family = wn_cost_cheapest(c, n);
    pthread_mutex_lock(&t->lock);
    const struct measured *m = find(t, choice->weights, choice->cols);
    const struct measured copy = m ? *m : (struct measured){ 0 };
    if (t->how == WN_CHOOSE_FORCED && possible(choice, t->forced))
        choice->family = t->forced;
    else if (t->how == WN_CHOOSE_TUNED && m && possible(choice, m->family))
        choice->family = m->family;
    pthread_mutex_unlock(&t->lock);
    choice->why = line(arena, choice, m ? &copy : NULL);
    return choice;
}

bool wn_tuned_note(struct wn_tuned *t, const struct wn_choice *choice, enum wn_family family, double us)
{
    bool ok = true;
    pthread_mutex_lock(&t->lock);
    struct measured *m = find(t, choice->weights, choice->cols);
    if (!m && (ok = wn_vec_push(&t->at, (struct measured){ choice->weights, choice->cols, choice->family, { 0 } })))
        m = &t->at.at[t->at.n - 1];
    if (m && (m->us[family] <= 0 || us < (double)m->us[family]))
        m->us[family] = (float)us;
    pthread_mutex_unlock(&t->lock);
    return ok;
}

void wn_tuned_settle(struct wn_tuned *t, const struct wn_choice *choice, bool fastest)
{
    pthread_mutex_lock(&t->lock);
    struct measured *m = find(t, choice->weights, choice->cols);
    if (m)
        m->family = choice->family;
    for (unsigned i = 0; m && fastest && i < choice->n; i++) {
        const enum wn_family f = choice->c[i].family;
        if (m->us[f] > 0 && (m->us[m->family] <= 0 || m->us[f] < m->us[m->family]))
            m->family = f;
    }
    pthread_mutex_unlock(&t->lock);
}

void wn_tuned_codec(struct wn_codec *im, struct wn_tuned *t)
{
    pthread_mutex_lock(&t->lock);
    size_t n = t->at.n;
    wn_codec_count(im, &n, (size_t)1 << 20);
    for (size_t i = 0; i < n && !im->bad; i++) {
        struct measured m = im->reading ? (struct measured){ 0 } : t->at.at[i];
        WN_CODEC(im, m);
        im->bad |= im->reading && ((unsigned)m.family >= WN_FAMILY_COUNT || !wn_vec_push(&t->at, m));
    }
    pthread_mutex_unlock(&t->lock);
}
