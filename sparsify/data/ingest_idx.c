/* ingest_idx.c: IDX pictures meet their labels; each pair becomes rows. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "sparsify/data/idx.h"
#include "sparsify/data/ingest_impl.h"

/* The labels of these pictures: the file of the same name otherwise, or the only other one. */
static const struct wn_ingest_idx *partner(struct wn_ingest *in, const struct wn_ingest_idx *images)
{
    const struct wn_ingest_idx *only = NULL;
    unsigned n_images = 0, n_labels = 0;
    WN_CLEANUP(wn_freep) char *want = wn_data_idx_key(images->name);
    for (size_t i = 0; want && i < in->idx.n; i++) {
        const struct wn_ingest_idx *x = &in->idx.at[i];
        if (x->validation != images->validation)
            continue;
        if (((const uint8_t *)x->bytes)[3] != 1) {
            n_images++;
            continue;
        }
        WN_CLEANUP(wn_freep) char *key = wn_data_idx_key(x->name);
        if (key && strcmp(key, want) == 0)
            return x;
        only = x;
        n_labels++;
    }
    return n_images == 1 && n_labels == 1 ? only : NULL;
}

/* The "folder" of one class of one pair: its label is the number. */
static enum winnow_status class_dir(struct wn_ingest *in, enum wn_part part, unsigned label, uint32_t *ret)
{
    char path[64];
    int n = snprintf(path, sizeof path, "\001idx/%d/%u", (int)part, label); /* no upload's name starts so */
    WN_TRY(wn_ingest_dir_of(in, path, (size_t)n, ret));
    struct wn_ingest_dir *d = in->dir.at[*ret];
    if (!d->settled) {
        d->label = strrchr(d->path, '/') + 1;
        d->part = part;
        d->number = d->settled = true;
    }
    return WINNOW_OK;
}

static enum winnow_status rows_of(struct wn_ingest *in, const struct wn_ingest_idx *images,
                                  const struct wn_ingest_idx *labels)
{
    struct wn_idx x, y;
    WN_TRY(wn_idx_parse(images->bytes, images->n, images->name, &x, in->err));
    WN_TRY(wn_idx_parse(labels->bytes, labels->n, labels->name, &y, in->err));
    if (x.dim[0] != y.dim[0])
        return wn_fail(in->err, WINNOW_E_MALFORMED, "'%.60s' has %u pictures, '%.60s' has %u labels", images->name,
                       x.dim[0], labels->name, y.dim[0]);
    enum wn_part part = wn_data_idx_part(images->name);
    uint32_t channels = x.rank == 4 ? x.dim[3] : 1;
    size_t per = (size_t)x.dim[1] * x.dim[2] * channels;
    in->validation = images->validation;
    for (size_t i = 0; i < x.dim[0]; i++) {
        uint32_t dir;
        struct wn_image im = { x.dim[2], x.dim[1], channels, (uint8_t *)(uintptr_t)(x.data + i * per) };
        WN_TRY(class_dir(in, part, y.data[i], &dir));
        WN_TRY(wn_ingest_picture(in, &im, dir));
    }
    return WINNOW_OK;
}

enum winnow_status wn_ingest_idx_pairs(struct wn_ingest *in)
{
    unsigned used = 0;
    for (size_t i = 0; i < in->idx.n; i++) {
        const struct wn_ingest_idx *x = &in->idx.at[i];
        if (((const uint8_t *)x->bytes)[3] == 1)
            continue;
        const struct wn_ingest_idx *labels = partner(in, x);
        if (!labels)
            return wn_fail(in->err, WINNOW_E_MALFORMED, "'%.80s' has no file of labels beside it", x->name);
        WN_TRY(rows_of(in, x, labels));
        used++;
    }
    if (in->idx.n && !used)
        return wn_fail(in->err, WINNOW_E_MALFORMED, "'%.80s' has no file of pictures beside it", in->idx.at[0].name);
    return WINNOW_OK;
}
