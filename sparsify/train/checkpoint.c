/* checkpoint.c: everything a resume needs, in one file.
 *
 * FORMAT   little-endian (the CPUs we run on). "WNCK", u32 version, then sections: u32 kind, u32 CRC-32 of the payload,
 *          u64 payload bytes, payload. HEAD comes first, END last; one PARAM per parameter, by name.
 * RESUME   Random numbers and the order of samples go by counter, so the cursor is the step. What was done to the graph
 *          (new head, batch norm inserted or folded, quantization) is repeated from the log in HEAD before values are
 *          read. The plan follows from masks and flags.
 * HOSTILE  A checkpoint is a file like any other: every length is checked against what is there and what is expected.
 */
#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#include "base/file.h"
#include "engine/kernels/kernels.h"
#include "sparsify/train/train_impl.h"

#define MAGIC     "WNCK"
#define VERSION   3u
#define MAX_BYTES ((size_t)16 << 30)

enum { SEC_HEAD = 1, SEC_QUANT, SEC_PARAM, SEC_OBSERVER, SEC_MODIFIER, SEC_END };
enum {
    PARAM_TRAINABLE = 1,
    PARAM_DECAY = 2,
    PARAM_MASK = 4,
    PARAM_MOMENTUM = 8,
    PARAM_STATS_FROZEN = 16,
    PARAM_SECOND = 32
};

/* ---- writing ---- */

/* Some of the file: bytes that lie elsewhere until it is written, or with p NULL those of `b` from `at`. */
struct run {
    const void *p;
    size_t at, n;
};

struct out {
    WN_VEC(uint8_t) b;
    WN_VEC(struct run) runs;
    bool failed;
    size_t section, payload; /* being written: the end of its head in b, its first run */
};

static void put(struct out *o, const void *p, size_t n)
{
    if (o->failed || !wn_vec_reserve(&o->b, o->b.n + n)) {
        o->failed = true;
        return;
    }
    if (!o->runs.n || o->runs.at[o->runs.n - 1].p)
        o->failed = !wn_vec_push(&o->runs, (struct run){ NULL, o->b.n, 0 });
    if (n && !o->failed) {
        memcpy(o->b.at + o->b.n, p, n);
        o->b.n += n;
        o->runs.at[o->runs.n - 1].n += n;
    }
}
/* What is large and stays where it is: a model's weights are not copied. */
static void put_large(struct out *o, const void *p, size_t n)
{
    o->failed = o->failed || !wn_vec_push(&o->runs, (struct run){ p, 0, n });
}
static void put_u32(struct out *o, uint32_t v)
{
    put(o, &v, sizeof v);
}
static void put_u64(struct out *o, uint64_t v)
{
    put(o, &v, sizeof v);
}
static void put_f32(struct out *o, float v)
{
    put(o, &v, sizeof v);
}
static void put_str(struct out *o, const char *s)
{
    put_u32(o, (uint32_t)strlen(s));
    put(o, s, strlen(s));
}

static void begin(struct out *o, uint32_t kind)
{
    put_u32(o, kind);
    put_u32(o, 0);
    put_u64(o, 0);
    o->section = o->b.n;
    o->payload = o->runs.n;
    o->failed = o->failed || !wn_vec_push(&o->runs, (struct run){ NULL, o->b.n, 0 });
}

static uint32_t crc_more(uint32_t crc, const uint8_t *p, size_t n)
{
    while (n > 0) {
        uInt m = (uInt)WN_MIN(n, (size_t)1 << 30);
        crc = (uint32_t)crc32(crc, p, m);
        p += m;
        n -= m;
    }
    return crc;
}

static const uint8_t *bytes_of(const struct out *o, const struct run *r)
{
    return r->p ? r->p : o->b.at + r->at;
}

static void end(struct out *o)
{
    uint64_t n = 0;
    uint32_t crc = 0;
    if (o->failed)
        return;
    for (const struct run *r = o->runs.at + o->payload; r < o->runs.at + o->runs.n; r++) {
        n += r->n;
        crc = crc_more(crc, bytes_of(o, r), r->n);
    }
    memcpy(o->b.at + o->section - 12, &crc, 4);
    memcpy(o->b.at + o->section - 8, &n, 8);
}

static void put_head(struct out *o, const struct wn_trainer *tr, const struct wn_train_ids *ids)
{
    begin(o, SEC_HEAD);
    put(o, ids, sizeof *ids);
    put_u32(o, tr->opts.threads);
    put_u32(o, tr->opts.batch);
    put_u64(o, tr->opts.seed);
    put_u32(o, (uint32_t)wn_cpu_isa());
    put_u64(o, tr->step);
    put_f32(o, tr->lr);
    put_f32(o, tr->wd);
    put_f32(o, tr->opts.momentum);
    put_u32(o, tr->opts.nesterov);
    put_u32(o, (uint32_t)tr->surgery.n);
    for (size_t i = 0; i < tr->surgery.n; i++) {
        put_u32(o, tr->surgery.at[i].kind);
        put_u32(o, tr->surgery.at[i].arg);
    }
    end(o);
    begin(o, SEC_QUANT);
    put_u32(o, (uint32_t)tr->quant_opts.weight_max);
    put_f32(o, tr->quant_opts.observer_average);
    put_u32(o, tr->quant_observe);
    put_u32(o, tr->quant_simulate);
    put_u32(o, tr->quant_opts.tables);
    put_u32(o, tr->quant_opts.products);
    put_u32(o, tr->quant_opts.gelu);
    put_u32(o, tr->quant_opts.sums);
    put_u32(o, tr->quant_opts.norms);
    put_u32(o, tr->quant_opts.n_ignore);
    for (unsigned i = 0; i < tr->quant_opts.n_ignore; i++)
        put_str(o, tr->quant_opts.ignore[i]);
    end(o);
}

static void put_param(struct out *o, const struct wn_tparam *t)
{
    const struct wn_param *p = &t->pub;
    begin(o, SEC_PARAM);
    put_str(o, p->name);
    put_u64(o, p->n);
    put_u32(o, (p->trainable ? PARAM_TRAINABLE : 0u) | (p->decay ? PARAM_DECAY : 0u) | (p->mask ? PARAM_MASK : 0u) |
                   (p->v ? PARAM_MOMENTUM : 0u) | (t->stats_frozen ? PARAM_STATS_FROZEN : 0u) |
                   (p->v2 ? PARAM_SECOND : 0u));
    put_f32(o, p->lr_scale);
    put_large(o, p->w, p->n * sizeof(float));
    if (p->v)
        put_large(o, p->v, p->n * sizeof(float));
    if (p->v2) {
        put_large(o, p->v2, p->n * sizeof(float));
        put_u64(o, p->moves);
    }
    for (size_t k = 0; p->mask && k < p->n; k += 8) {
        uint8_t bits = 0;
        for (size_t j = 0; j < 8 && k + j < p->n; j++)
            bits |= (uint8_t)((p->mask[k + j] != 0) << j);
        put(o, &bits, 1);
    }
    end(o);
}

static void out_done(struct out *o)
{
    wn_vec_done(&o->b);
    wn_vec_done(&o->runs);
}

static enum winnow_status write_out(const struct out *o, const char *path, struct winnow_err *err)
{
    WN_CLEANUP(wn_freep) struct wn_piece *piece = o->failed ? NULL : calloc(o->runs.n, sizeof *piece);
    if (!piece)
        return wn_fail(err, WINNOW_E_NOMEM, "checkpoint '%s'", path);
    for (size_t i = 0; i < o->runs.n; i++)
        piece[i] = (struct wn_piece){ bytes_of(o, &o->runs.at[i]), o->runs.at[i].n };
    return wn_file_write_pieces(path, piece, o->runs.n, err);
}

enum winnow_status wn_trainer_checkpoint(struct wn_trainer *tr, const char *path, const struct wn_train_ids *ids,
                                         struct winnow_err *err)
{
    WN_CHECK_MAGIC(tr, WN_TRAINER_MAGIC);
    WN_CLEANUP(out_done) struct out o = { 0 };
    put(&o, MAGIC, 4);
    put_u32(&o, VERSION);
    put_head(&o, tr, ids);
    for (size_t i = 0; i < tr->param.n; i++)
        put_param(&o, tr->param.at[i]);
    for (size_t i = 0; i < tr->n_observers; i++) {
        const struct wn_observer *ob = &tr->observer[i];
        begin(&o, SEC_OBSERVER);
        put_str(&o, ob->value);
        put_f32(&o, ob->lo);
        put_f32(&o, ob->hi);
        put_u32(&o, ob->seen);
        end(&o);
    }
    for (size_t i = 0; i < tr->modifier.n; i++) {
        const struct wn_modifier *m = tr->modifier.at[i];
        begin(&o, SEC_MODIFIER);
        put_str(&o, m->ops->name);
        put(&o, m->state, m->state ? m->state_bytes : 0);
        end(&o);
    }
    begin(&o, SEC_END);
    end(&o);
    return write_out(&o, path, err);
}

/* ---- reading ---- */

struct in {
    const uint8_t *p;
    size_t n;
    bool failed; /* ran past the end */
};

static void take(struct in *i, void *to, size_t n)
{
    if (i->failed || n > i->n) {
        i->failed = true;
        memset(to, 0, n);
        return;
    }
    memcpy(to, i->p, n);
    i->p += n;
    i->n -= n;
}
static uint32_t take_u32(struct in *i)
{
    uint32_t v;
    take(i, &v, sizeof v);
    return v;
}
static uint64_t take_u64(struct in *i)
{
    uint64_t v;
    take(i, &v, sizeof v);
    return v;
}
static float take_f32(struct in *i)
{
    float v;
    take(i, &v, sizeof v);
    return v;
}
/** A string of at most 4096 bytes into `arena`; NULL for a broken one. */
static char *take_str(struct in *i, struct wn_arena *arena)
{
    uint32_t n = take_u32(i);
    if (i->failed || n > 4096 || n > i->n) {
        i->failed = true;
        return NULL;
    }
    char *s = wn_arena_strndup(arena, (const char *)i->p, n);
    i->p += n;
    i->n -= n;
    return s;
}

struct reader {
    struct wn_trainer *tr;
    const char *path;
    struct wn_arena tmp;
    size_t n_params, n_modifiers;
    struct winnow_err *err;
};

#define BROKEN(r, what) wn_fail((r)->err, WINNOW_E_MALFORMED, "checkpoint '%s': %s", (r)->path, what)
#define OTHER(r, ...)                                                                                                  \
    wn_fail_at((r)->err, wn_fail((r)->err, WINNOW_E_CONFLICT, __VA_ARGS__), "checkpoint '%s'", (r)->path)

static enum winnow_status read_head(struct reader *r, struct in *s, const struct wn_train_ids *ids)
{
    struct wn_trainer *tr = r->tr;
    struct wn_train_ids got;
    take(s, &got, sizeof got);
    uint32_t threads = take_u32(s), batch = take_u32(s);
    uint64_t seed = take_u64(s);
    uint32_t isa = take_u32(s);
    if (s->failed)
        return BROKEN(r, "cut short");
    if (memcmp(got.recipe, ids->recipe, 32) != 0)
        return OTHER(r, "made with another recipe");
    if (memcmp(got.model, ids->model, 32) != 0)
        return OTHER(r, "made from another model");
    if (memcmp(got.data, ids->data, 32) != 0)
        return OTHER(r, "made with other data");
    if (threads != tr->opts.threads || batch != tr->opts.batch || seed != tr->opts.seed)
        return OTHER(r, "made with %u threads, batch %u, seed %llu", threads, batch, (unsigned long long)seed);
    if (isa != (uint32_t)wn_cpu_isa())
        return OTHER(r, "made on another kind of CPU (%s)", isa < WN_ISA_COUNT ? wn_isa_name((enum wn_isa)isa) : "?");
    uint64_t step = take_u64(s);
    tr->lr = take_f32(s);
    tr->wd = take_f32(s);
    tr->opts.momentum = take_f32(s);
    tr->opts.nesterov = take_u32(s) != 0;
    uint32_t n = take_u32(s);
    if (s->failed || n > 64 || n < tr->surgery.n)
        return BROKEN(r, "changes to the graph do not fit");
    for (uint32_t i = 0; i < n; i++) {
        struct wn_surgery op;
        op.kind = take_u32(s);
        op.arg = take_u32(s);
        if (s->failed)
            return BROKEN(r, "cut short");
        if (i < tr->surgery.n) {
            if (tr->surgery.at[i].kind != op.kind || tr->surgery.at[i].arg != op.arg)
                return OTHER(r, "the graph was changed in another way");
        } else {
            WN_TRY(wn_trainer_repeat(tr, &op, r->err));
        }
    }
    tr->step = step;
    return WINNOW_OK;
}

/** Comes before HEAD's log is repeated: quantization wants its options. */
static enum winnow_status read_quant(struct reader *r, struct in *s, bool flags_only)
{
    struct wn_trainer *tr = r->tr;
    struct wn_quant_opts q = { 0 };
    q.weight_max = (int)take_u32(s);
    q.observer_average = take_f32(s);
    bool observe = take_u32(s) != 0, simulate = take_u32(s) != 0;
    q.tables = take_u32(s) != 0;
    q.products = take_u32(s) != 0;
    q.gelu = take_u32(s) != 0;
    q.sums = take_u32(s) != 0;
    q.norms = take_u32(s) != 0;
    q.n_ignore = take_u32(s);
    if (s->failed || q.n_ignore > 65536)
        return BROKEN(r, "quantization options");
    const char **names = wn_arena_calloc(&tr->arena, q.n_ignore + 1, sizeof *names);
    for (unsigned i = 0; names && i < q.n_ignore; i++)
        if (!(names[i] = take_str(s, &tr->arena)))
            return BROKEN(r, "quantization options");
    if (!names)
        return wn_fail(r->err, WINNOW_E_NOMEM, "checkpoint '%s'", r->path);
    q.ignore = names;
    if (!flags_only && !tr->quant)
        tr->quant_opts = q;
    tr->quant_observe = observe;
    tr->quant_simulate = simulate;
    return WINNOW_OK;
}

static enum winnow_status read_param(struct reader *r, struct in *s)
{
    char *name = take_str(s, &r->tmp);
    struct wn_param *p = name ? wn_trainer_find_param(r->tr, name) : NULL;
    uint64_t n = take_u64(s);
    uint32_t flags = take_u32(s);
    float lr_scale = take_f32(s);
    if (s->failed || !p || n != p->n || !(flags & PARAM_MOMENTUM) != !p->v || !(flags & PARAM_SECOND) != !p->v2 ||
        ((flags & PARAM_MASK) && !p->can_prune))
        return BROKEN(r, "a parameter that the model does not have");
    take(s, p->w, p->n * sizeof(float));
    if (p->v)
        take(s, p->v, p->n * sizeof(float));
    if (p->v2) {
        take(s, p->v2, p->n * sizeof(float));
        p->moves = take_u64(s);
    }
    uint8_t *mask = flags & PARAM_MASK ? wn_arena_alloc(&r->tmp, p->n) : NULL;
    if ((flags & PARAM_MASK) && !mask)
        return wn_fail(r->err, WINNOW_E_NOMEM, "checkpoint '%s'", r->path);
    for (size_t k = 0; mask && k < p->n; k += 8) {
        uint8_t bits = 0;
        take(s, &bits, 1);
        for (size_t j = 0; j < 8 && k + j < p->n; j++)
            mask[k + j] = bits >> j & 1;
    }
    if (s->failed || s->n)
        return BROKEN(r, "a parameter of another length");
    if (p->can_prune)
        WN_TRY(wn_trainer_set_mask(r->tr, p, mask, r->err));
    wn_trainer_set_trainable(r->tr, p, flags & PARAM_TRAINABLE);
    p->decay = flags & PARAM_DECAY;
    p->lr_scale = lr_scale;
    if (p->kind == WN_PARAM_MEAN)
        wn_trainer_freeze_bn_stats(r->tr, p->layer, flags & PARAM_STATS_FROZEN);
    r->n_params++;
    return WINNOW_OK;
}

static enum winnow_status read_observer(struct reader *r, struct in *s)
{
    char *name = take_str(s, &r->tmp);
    float lo = take_f32(s), hi = take_f32(s);
    bool seen = take_u32(s) != 0;
    for (size_t i = 0; name && !s->failed && i < r->tr->n_observers; i++) {
        struct wn_observer *ob = &r->tr->observer[i];
        if (strcmp(ob->value, name) != 0)
            continue;
        ob->lo = lo;
        ob->hi = hi;
        ob->seen = seen;
        return WINNOW_OK;
    }
    return BROKEN(r, "an observer that the model does not have");
}

static enum winnow_status read_modifier(struct reader *r, struct in *s)
{
    struct wn_modifier *m = r->n_modifiers < r->tr->modifier.n ? r->tr->modifier.at[r->n_modifiers++] : NULL;
    char *name = take_str(s, &r->tmp);
    if (!m || !name || strcmp(m->ops->name, name) != 0 || s->n != (m->state ? m->state_bytes : 0))
        return OTHER(r, "made with other modifiers");
    if (s->n)
        take(s, m->state, m->state_bytes);
    return WINNOW_OK;
}

/** Next section of the file, its CRC checked. */
static enum winnow_status next(struct reader *r, struct in *file, uint32_t *ret_kind, struct in *ret_section)
{
    uint32_t kind = take_u32(file), crc = take_u32(file);
    uint64_t n = take_u64(file);
    if (file->failed || n > file->n)
        return BROKEN(r, "cut short");
    *ret_kind = kind;
    *ret_section = (struct in){ file->p, (size_t)n, false };
    if (crc_more(0, file->p, (size_t)n) != crc)
        return BROKEN(r, "wrong checksum");
    file->p += n;
    file->n -= n;
    return WINNOW_OK;
}

static enum winnow_status read_all(struct reader *r, struct in file, const struct wn_train_ids *ids)
{
    char magic[4];
    take(&file, magic, 4);
    if (memcmp(magic, MAGIC, 4) != 0 || take_u32(&file) != VERSION)
        return BROKEN(r, "not a checkpoint of this version");
    uint32_t kind;
    struct in head, quant, s;
    WN_TRY(next(r, &file, &kind, &head));
    if (kind != SEC_HEAD)
        return BROKEN(r, "no header");
    WN_TRY(next(r, &file, &kind, &quant));
    if (kind != SEC_QUANT)
        return BROKEN(r, "no quantization options");
    struct in again = quant;
    WN_TRY(read_quant(r, &quant, false));
    WN_TRY(read_head(r, &head, ids));
    WN_TRY(read_quant(r, &again, true));
    for (kind = 0; kind != SEC_END;) {
        WN_TRY(next(r, &file, &kind, &s));
        if (kind == SEC_PARAM)
            WN_TRY(read_param(r, &s));
        else if (kind == SEC_OBSERVER)
            WN_TRY(read_observer(r, &s));
        else if (kind == SEC_MODIFIER)
            WN_TRY(read_modifier(r, &s));
        else if (kind != SEC_END)
            return BROKEN(r, "a section of unknown kind");
    }
    if (file.n || r->n_params != r->tr->param.n || r->n_modifiers != r->tr->modifier.n)
        return BROKEN(r, "parameters or modifiers are missing");
    return WINNOW_OK;
}

enum winnow_status wn_trainer_restore(struct wn_trainer *tr, const char *path, const struct wn_train_ids *ids,
                                      struct winnow_err *err)
{
    WN_CHECK_MAGIC(tr, WN_TRAINER_MAGIC);
    WN_CLEANUP(wn_freep) void *bytes = NULL;
    size_t n = 0;
    WN_TRY(wn_file_read(path, MAX_BYTES, &bytes, &n, err));
    struct winnow_err local;
    struct reader r = { .tr = tr, .path = path, .err = err ? err : &local };
    wn_arena_init(&r.tmp, 0);
    struct in file = { bytes, n, false };
    enum winnow_status s = read_all(&r, file, ids);
    wn_arena_done(&r.tmp);
    return s;
}
