/* cache.c: compiled forms of models: what is in one, when it may be used. The files: cache_file.c; how things are
 * written: codec.h.
 *
 * DESIGN  A form holds the graph after all passes, the packs, the facts, and of the weights only what no pack has, so a
 *         load is a map, a checksum and some hundred small structs. Plans are made anew: that takes milliseconds and
 *         keeps shapes out of it. The ONNX file is not read: that it is the one is told by device, inode, size and
 *         times, which is safe only where it had stood still for a while when it was loaded (SETTLE). */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "engine/passes/passes.h"
#include "engine/graph/graph.h"
#include "engine/plan/cache.h"
#include "engine/plan/choice.h"
#include "engine/plan/codec.h"
#include "engine/plan/f32_pack.h"
#include "engine/plan/facts.h"
#include "engine/plan/model.h"
#include "engine/plan/packs.h"
#include "engine/plan/plans.h"
#include "engine/plan/q8_pack.h"

#define SETTLE            (INT64_C(2) * 1000000000) /* resolution of the times of the coarsest file systems */
#define MAX_IOS           ((size_t)4096)
#define DEFAULT_MAX_CACHE ((size_t)8 << 30)

/* ---- what is in it ---- */

/* In a file a class is its place in this list. */
static const struct wn_pack_class *const classes[] = { &wn_f32_pack_class, &wn_q8_pack_class };

static void ios_image(struct wn_codec *im, struct winnow_io **ios, unsigned *n)
{
    size_t count = *n;
    wn_codec_count(im, &count, MAX_IOS);
    if (im->reading && !(*ios = wn_arena_calloc(im->arena, count + 1, sizeof **ios)))
        im->bad = true;
    for (size_t i = 0; i < count && !im->bad; i++) {
        struct winnow_io *io = &(*ios)[i];
        wn_codec_text(im, &io->name);
        WN_CODEC(im, io->dtype);
        WN_CODEC(im, io->rank);
        WN_CODEC(im, io->shape);
        WN_CODEC(im, io->table_rows);
        for (unsigned d = 0; d < WINNOW_MAX_RANK; d++)
            wn_codec_text(im, &io->dim_name[d]);
        im->bad |= !io->name || io->rank > WINNOW_MAX_RANK;
    }
    if (im->reading)
        *n = im->bad ? 0 : (unsigned)count;
}

static void model_image(struct wn_codec *im, struct winnow_model *m)
{
    wn_codec_bool(im, &m->rows_independent);
    WN_CODEC(im, m->row_block);
    im->bad |= m->row_block < 1 || m->row_block > WN_ROW_BLOCK;
    wn_codec_text(im, &m->why_not);
    WN_CODEC(im, m->room);
    ios_image(im, &m->inputs, &m->n_inputs);
    ios_image(im, &m->outputs, &m->n_outputs);
    wn_packs_codec(im, m->packs, classes, WN_COUNT(classes));
    wn_codec_graph(im, &m->g, wn_facts_stored, m->facts);
    wn_facts_codec(im, &m->facts);
    wn_tuned_codec(im, m->tuned);
    im->bad |= m->n_inputs != m->g.inputs.n || m->n_outputs != m->g.outputs.n;
}

/* ---- files beside the model's ---- */

static char *beside(const char *path, const char *name)
{
    WN_CLEANUP(wn_freep) char *folder = wn_file_folder(path);
    return folder ? wn_asprintf("%s/%s", folder, name) : NULL;
}

/* Names and ids of the files that tensors were read from. *ret_latest: the last change of any. A reader's image is bad
 * where one is not the same. */
static void external_image(struct wn_codec *im, const struct wn_graph *g, const char *path, int64_t *ret_latest)
{
    size_t n = im->reading ? 0 : g->external.n;
    wn_codec_count(im, &n, (size_t)1 << 16);
    for (size_t i = 0; i < n && !im->bad; i++) {
        bool there = false;
        const char *name = im->reading ? NULL : g->external.at[i];
        wn_codec_text(im, &name);
        WN_CLEANUP(wn_freep) char *file = name ? beside(path, name) : NULL;
        const struct wn_file_id now = file ? wn_file_id_of(file, &there) : (struct wn_file_id){ 0 };
        struct wn_file_id id = now;
        WN_CODEC(im, id);
        im->bad |= !there || !wn_file_id_equal(&id, &now);
        *ret_latest = WN_MAX(*ret_latest, WN_MAX(now.ctime_ns, now.mtime_ns));
    }
}

/* ---- reading ---- */

static void unrefp(winnow_model **m)
{
    *m = winnow_model_unref(*m);
}

static enum winnow_status restore(struct winnow_model *m, const unsigned char *bytes, const struct wn_cache_header *h,
                                  const char *path, struct winnow_err *err)
{
    int64_t latest = 0;
    WN_CLEANUP(wn_codec_done)
    struct wn_codec im = { .reading = true,
                           .map = m->map,
                           .p = bytes + sizeof *h,
                           .end = bytes + sizeof *h + h->stream_bytes,
                           .blob = bytes + h->blobs_at,
                           .blob_bytes = h->blob_bytes,
                           .arena = &m->arena };
    external_image(&im, NULL, path, &latest);
    if (im.bad)
        return wn_fail(err, WINNOW_E_PRECONDITION, "a file beside '%s' is another one now", path);
    m->plans = wn_plans_new();
    m->packs = wn_packs_new(NULL);
    if (!m->plans || !m->packs)
        return wn_fail(err, WINNOW_E_NOMEM, "model '%s'", path);
    model_image(&im, m);
    if (im.bad || im.p != im.end)
        return wn_fail(err, WINNOW_E_MALFORMED, "the compiled form of '%s' is damaged", path);
    wn_packs_set_facts(m->packs, m->facts);
    m->source = h->source;
    m->n_tag = h->n_tag;
    memcpy(m->tag, h->tag, h->n_tag);
    return WINNOW_OK;
}

enum winnow_status wn_cache_restore(const unsigned char *bytes, size_t n, struct wn_mapping *map, const char *path,
                                    const struct wn_cache_header *want, const struct winnow_load_opts *opts,
                                    winnow_model **ret_model, struct winnow_err *err)
{
    const char *why = wn_cache_check(bytes, n, want);
    if (why)
        return wn_fail(err, WINNOW_E_MALFORMED, "the compiled form of '%s' is %s", path, why);
    struct wn_cache_header h;
    memcpy(&h, bytes, sizeof h);
    bool there;
    const struct wn_file_id now = wn_file_id_of(path, &there);
    if (!there || !wn_file_id_equal(&now, &h.source))
        return wn_fail(err, WINNOW_E_PRECONDITION, "the compiled form of '%s' is of another state of the file", path);
    WN_CLEANUP(unrefp) struct winnow_model *m = wn_model_new(opts);
    if (!m)
        return wn_fail(err, WINNOW_E_NOMEM, "model '%s'", path);
    m->map = wn_mapping_ref(map);
    WN_TRY(restore(m, bytes, &h, path, err));
    *ret_model = WN_TAKE(m);
    return WINNOW_OK;
}

static void unmapp(struct wn_mapping **map)
{
    wn_mapping_unref(*map);
}

enum winnow_status winnow_cache_load(const char *path, const struct winnow_load_opts *opts, winnow_model **ret_model,
                                     struct winnow_err *err)
{
    struct wn_cache_header want;
    const unsigned char *bytes;
    size_t n;
    WN_CLEANUP(unmapp) struct wn_mapping *map = NULL;
    if (!opts || !opts->cache || opts->reference)
        return wn_fail(err, WINNOW_E_NOT_FOUND, "no folder of compiled forms");
    WN_TRY(wn_cache_header_init(&want, path, err));
    WN_CLEANUP(wn_freep) char *name = wn_cache_name(opts->cache, &want);
    if (!name)
        return wn_fail(err, WINNOW_E_NOMEM, "model '%s'", path);
    WN_TRY(wn_cache_map(name, &bytes, &n, &map, err));
    WN_CLEANUP(unrefp) struct winnow_model *m = NULL;
    WN_TRY(wn_cache_restore(bytes, n, map, path, &want, opts, &m, err));
    WN_TRY(wn_model_first_plan(m, err));
    *ret_model = WN_TAKE(m);
    return WINNOW_OK;
}

/* ---- writing ---- */

/* The file is still what the model was loaded from, and had stood still when it was. */
static enum winnow_status check_source(const struct winnow_model *m, const char *path, struct wn_codec *im,
                                       struct wn_cache_header *h, struct winnow_err *err)
{
    bool there;
    h->source = wn_file_id_of(path, &there);
    if (!there || (m->source.size && !wn_file_id_equal(&m->source, &h->source)))
        return wn_fail(err, WINNOW_E_UNAVAILABLE, "'%s' changed since it was loaded", path);
    int64_t latest = WN_MAX(h->source.ctime_ns, h->source.mtime_ns);
    external_image(im, &m->g, path, &latest);
    if (latest > m->since_ns - SETTLE)
        return wn_fail(err, WINNOW_E_UNAVAILABLE, "'%s' changed less than 2 s before it was loaded", path);
    return WINNOW_OK;
}

enum winnow_status winnow_cache_save(winnow_model *m, const char *path, const struct winnow_load_opts *opts,
                                     const void *tag, size_t n_tag, struct winnow_err *err)
{
    WN_CLEANUP(wn_codec_done) struct wn_codec im = { 0 };
    struct wn_cache_header h;
    if (!opts || !opts->cache || m->opts.reference || n_tag > sizeof h.tag)
        return wn_fail(err, WINNOW_E_UNSUPPORTED, "no compiled form of '%s' is kept", path);
    WN_TRY(wn_cache_header_init(&h, path, err));
    WN_TRY(check_source(m, path, &im, &h, err));
    h.n_tag = tag ? n_tag : 0;
    if (tag)
        memcpy(h.tag, tag, n_tag);
    if (mkdir(opts->cache, 0700) != 0 && errno != EEXIST)
        return wn_fail_errno(err, errno, "making folder '%s'", opts->cache);
    WN_CLEANUP(wn_freep) char *name = wn_cache_name(opts->cache, &h);
    wn_facts_hold(m->facts);
    model_image(&im, m);
    enum winnow_status status =
        im.bad || !name ? wn_fail(err, WINNOW_E_NOMEM, "compiling '%s'", path) : wn_cache_write(name, &h, &im, err);
    wn_facts_drop(m->facts);
    WN_TRY(status);
    wn_cache_prune(opts->cache, &h, name, opts->max_cache_bytes ? opts->max_cache_bytes : DEFAULT_MAX_CACHE);
    return WINNOW_OK;
}

const void *winnow_model_tag(const winnow_model *model, size_t *ret_n)
{
    *ret_n = model->n_tag;
    return model->map ? model->tag : NULL;
}
