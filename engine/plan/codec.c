/* codec.c: see codec.h. */
#include "engine/plan/codec.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include "base/strmap.h"
#include "engine/graph/graph.h"

#define ALIGN     ((size_t)64)
#define TEXT_MAX  ((size_t)1 << 20)
#define COUNT_MAX ((size_t)1 << 28)

/* Numbers of tensors by address. */
struct wn_codec_ids {
    struct wn_strmap map;
    WN_VEC(const struct wn_tensor **) key; /* what the map's keys are bytes of */
};

struct wn_mapping {
    atomic_uint refs;
    void *base;
    size_t n;
};

struct wn_mapping *wn_mapping_new(void *base, size_t n)
{
    struct wn_mapping *map = malloc(sizeof *map);
    if (!map)
        return NULL;
    *map = (struct wn_mapping){ .base = base, .n = n };
    atomic_init(&map->refs, 1);
    return map;
}

struct wn_mapping *wn_mapping_ref(struct wn_mapping *map)
{
    atomic_fetch_add_explicit(&map->refs, 1, memory_order_relaxed);
    return map;
}

void wn_mapping_unref(struct wn_mapping *map)
{
    if (!map || atomic_fetch_sub_explicit(&map->refs, 1, memory_order_acq_rel) != 1)
        return;
    munmap(map->base, map->n);
    free(map);
}

void wn_codec_done(struct wn_codec *im)
{
    wn_vec_done(&im->stream);
    wn_vec_done(&im->blobs);
    wn_vec_done(&im->tensors);
    wn_vec_done(&im->objects);
    if (im->ids) {
        for (size_t i = 0; i < im->ids->key.n; i++)
            free(im->ids->key.at[i]);
        wn_vec_done(&im->ids->key);
        wn_strmap_done(&im->ids->map);
    }
    free(im->ids);
    im->ids = NULL;
}

void wn_codec_bytes(struct wn_codec *im, void *p, size_t n)
{
    if (im->bad || !n)
        return;
    if (im->reading) {
        if ((size_t)(im->end - im->p) < n) {
            im->bad = true;
            memset(p, 0, n);
            return;
        }
        memcpy(p, im->p, n);
        im->p += n;
        return;
    }
    if (!wn_vec_reserve(&im->stream, im->stream.n + n)) {
        im->bad = true;
        return;
    }
    memcpy(im->stream.at + im->stream.n, p, n);
    im->stream.n += n;
}

void wn_codec_bool(struct wn_codec *im, bool *b)
{
    unsigned char byte = im->reading ? 0 : *b;
    WN_CODEC(im, byte);
    if (im->reading)
        *b = byte != 0;
}

void wn_codec_count(struct wn_codec *im, size_t *n, size_t max)
{
    WN_CODEC(im, *n);
    const size_t left = im->reading && !im->bad ? (size_t)(im->end - im->p) : COUNT_MAX;
    if (im->bad || *n > WN_MIN(max, left)) {
        im->bad = true;
        if (im->reading)
            *n = 0;
    }
}

void wn_codec_copied(struct wn_codec *im, const void **p, size_t n)
{
    bool there = *p != NULL && n > 0;
    wn_codec_bool(im, &there);
    if (!im->reading) {
        if (there)
            wn_codec_bytes(im, (void *)(uintptr_t)*p, n);
        return;
    }
    *p = NULL;
    im->bad |= there && !n;
    if (im->bad || !there)
        return;
    if ((size_t)(im->end - im->p) < n || !(*p = wn_arena_memdup(im->arena, im->p, n)))
        im->bad = true;
    else
        im->p += n;
}

void wn_codec_text(struct wn_codec *im, const char **s)
{
    size_t n = !im->reading && *s ? strlen(*s) + 1 : 0;
    wn_codec_count(im, &n, TEXT_MAX);
    wn_codec_copied(im, (const void **)s, n);
    if (im->reading && *s && (*s)[n - 1]) {
        im->bad = true;
        *s = NULL;
    }
}

/* Where among the blobs n bytes go. */
static size_t add_blob(struct wn_codec *im, const void *p, size_t n)
{
    const size_t at = im->blob_bytes;
    if (!wn_vec_push(&im->blobs, (struct wn_codec_blob){ p, n, at }))
        im->bad = true;
    im->blob_bytes = wn_round_up(at + n, ALIGN);
    return at;
}

void wn_codec_blob(struct wn_codec *im, const void **p, size_t n)
{
    bool there = *p != NULL && n > 0;
    wn_codec_bool(im, &there);
    size_t at = !im->reading && there ? add_blob(im, *p, n) : 0;
    if (there)
        WN_CODEC(im, at);
    if (!im->reading)
        return;
    *p = NULL;
    im->bad |= there && !n;
    if (!there || im->bad)
        return;
    if (at > im->blob_bytes || n > im->blob_bytes - at || at % ALIGN)
        im->bad = true;
    else
        *p = im->blob + at;
}

bool wn_codec_blocks_of(const struct wn_arena *arena, struct wn_codec_blocks *ret)
{
    struct wn_codec_blob one = { 0 };
    *ret = (struct wn_codec_blocks){ 0 };
    for (const struct wn_arena_block *b = arena->head; b;) {
        b = wn_arena_next(b, &one.p, &one.n);
        if (!wn_vec_push(&ret->block, one)) {
            wn_vec_done(&ret->block);
            return false;
        }
    }
    return true;
}

void wn_codec_blocks(struct wn_codec *im, struct wn_codec_blocks *blocks)
{
    size_t n = blocks->block.n;
    wn_codec_count(im, &n, COUNT_MAX);
    for (size_t i = 0; i < n && !im->bad; i++) {
        struct wn_codec_blob one = { 0 };
        if (!im->reading)
            one = blocks->block.at[i];
        WN_CODEC(im, one.n);
        wn_codec_blob(im, &one.p, one.n);
        if (im->reading && !wn_vec_push(&blocks->block, one))
            im->bad = true;
    }
}

/* A pointer to the end of a block is one into it: what has no elements lies there. */
void wn_codec_into(struct wn_codec *im, const struct wn_codec_blocks *blocks, const void **p)
{
    uint32_t in = 0; /* 1 + the number of the block; 0: NULL */
    size_t off = 0;
    for (size_t i = 0; !im->reading && *p && !in && i < blocks->block.n; i++) {
        const struct wn_codec_blob *b = &blocks->block.at[i];
        if ((uintptr_t)*p < (uintptr_t)b->p || (uintptr_t)*p > (uintptr_t)b->p + b->n)
            continue;
        in = (uint32_t)i + 1;
        off = (size_t)((uintptr_t)*p - (uintptr_t)b->p);
    }
    im->bad |= !im->reading && *p && !in;
    WN_CODEC(im, in);
    WN_CODEC(im, off);
    if (!im->reading)
        return;
    *p = NULL;
    if (im->bad || !in)
        return;
    if (in > blocks->block.n || off > blocks->block.at[in - 1].n || !blocks->block.at[in - 1].p)
        im->bad = true;
    else
        *p = (const char *)blocks->block.at[in - 1].p + off;
}

bool wn_codec_object(struct wn_codec *im, const void *p, const struct wn_pack_class *class)
{
    return wn_vec_push(&im->objects, (struct wn_codec_obj){ p, class });
}

size_t wn_codec_object_number(const struct wn_codec *im, const void *p)
{
    for (size_t i = 0; i < im->objects.n; i++)
        if (im->objects.at[i].p == p)
            return i;
    return SIZE_MAX;
}

const struct wn_codec_obj *wn_codec_object_at(const struct wn_codec *im, size_t number)
{
    return number < im->objects.n ? &im->objects.at[number] : NULL;
}

/* ---- tensors ---- */

/* The number of `t`, from 1; *ret_new: it had none. 0: out of memory. */
static size_t id_of(struct wn_codec *im, const struct wn_tensor *t, bool *ret_new)
{
    *ret_new = false;
    if (!im->ids && !(im->ids = calloc(1, sizeof *im->ids)))
        return 0;
    void *known = wn_strmap_get(&im->ids->map, (const char *)&t, sizeof t);
    if (known)
        return (size_t)(uintptr_t)known;
    const struct wn_tensor **key = malloc(sizeof *key);
    if (!key)
        return 0;
    *key = t;
    const size_t id = im->ids->key.n + 1;
    if (!wn_vec_push(&im->ids->key, key)) {
        free(key);
        return 0;
    }
    *ret_new = true;
    return wn_strmap_set(&im->ids->map, (const char *)key, sizeof t, (void *)(uintptr_t)id) ? id : 0;
}

static void strings(struct wn_codec *im, struct wn_tensor *t)
{
    const size_t n = (size_t)wn_tensor_count(t);
    struct winnow_str *s = t->data;
    if (im->reading && !(t->data = s = wn_arena_calloc(im->arena, n + 1, sizeof *s)))
        im->bad = true;
    for (size_t i = 0; i < n && !im->bad; i++) {
        wn_codec_count(im, &s[i].n, TEXT_MAX);
        wn_codec_copied(im, (const void **)&s[i].p, s[i].n);
    }
}

static void tensor_content(struct wn_codec *im, struct wn_tensor *t, const void *data)
{
    size_t bytes;
    bool with_data = data != NULL;
    t->data = (void *)(uintptr_t)data;
    WN_CODEC(im, t->dtype);
    WN_CODEC(im, t->rank);
    WN_CODEC(im, t->dim);
    WN_CODEC(im, t->bytes);
    wn_codec_bool(im, &with_data);
    if (im->reading && (t->rank > WINNOW_MAX_RANK || !winnow_dtype_size(t->dtype) ||
                        !wn_shape_bytes(t->dim, t->rank, winnow_dtype_size(t->dtype), &bytes) || bytes != t->bytes))
        im->bad = true;
    if (im->bad || !with_data)
        return;
    if (t->dtype == WINNOW_STRING)
        strings(im, t);
    else
        wn_codec_blob(im, (const void **)&t->data, t->bytes);
    if (im->reading && !t->data && !t->bytes)
        t->data = (void *)(uintptr_t)im->blob;
}

void wn_codec_tensor(struct wn_codec *im, const struct wn_tensor **t, const void *data)
{
    bool is_new = false;
    size_t id = !im->reading && *t ? id_of(im, *t, &is_new) : 0;
    im->bad |= !im->reading && *t && !id;
    WN_CODEC(im, id);
    if (!im->reading) {
        struct wn_tensor copy;
        if (is_new)
            tensor_content(im, (copy = **t, &copy), data);
        return;
    }
    *t = NULL;
    if (im->bad || !id)
        return;
    if (id > im->tensors.n + 1) {
        im->bad = true;
    } else if (id <= im->tensors.n) {
        *t = im->tensors.at[id - 1];
    } else {
        struct wn_tensor *made = wn_arena_calloc(im->arena, 1, sizeof *made);
        if (!made || !wn_vec_push(&im->tensors, made)) {
            im->bad = true;
            return;
        }
        tensor_content(im, made, NULL);
        *t = made;
    }
}
