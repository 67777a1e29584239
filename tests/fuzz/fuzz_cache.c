/* fuzz_cache.c: any bytes as a compiled form of a model, with a checksum that is right: nothing is read past its end,
 * and what comes out can be looked at and released. The first byte says how much of the rest is stream, in 256ths; the
 * blobs follow. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include "engine/plan/cache.h"
#include "engine/plan/model.h"

#define PAGE ((size_t)4096)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static volatile unsigned char sink;

static void look(const struct wn_graph *g)
{
    for (size_t v = 0; v < g->values.n; v++) {
        const struct wn_tensor *t = g->values.at[v].constant;
        if (t && t->bytes != (size_t)wn_tensor_count(t) * winnow_dtype_size(t->dtype))
            abort();
        for (size_t i = 0; t && t->data && i < t->bytes; i++)
            sink ^= ((const unsigned char *)t->data)[i];
    }
    for (size_t n = 0; n < g->nodes.n; n++)
        for (unsigned i = 0; i < g->nodes.at[n].n_in; i++)
            if (g->nodes.at[n].in[i] != WN_NONE && g->nodes.at[n].in[i] >= g->values.n)
                abort();
}

static void try(const uint8_t *data, size_t size, size_t stream, struct wn_cache_header h)
{
    const struct wn_cache_header want = h;
    const size_t blobs_at = wn_round_up(sizeof h + stream, PAGE), blobs = size - stream;
    const size_t total = blobs_at + blobs + PAGE;
    unsigned char *p = mmap(NULL, total, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        return;
    struct wn_mapping *map = wn_mapping_new(p, total);
    h.stream_bytes = stream;
    h.blobs_at = blobs_at;
    h.blob_bytes = blobs;
    h.total = total;
    memcpy(p + sizeof h, data, stream);
    memcpy(p + blobs_at, data + stream, blobs);
    const struct wn_piece rest = { p + sizeof h, total - sizeof h };
    wn_cache_checksum(&h, &rest, 1, h.check);
    memcpy(p, &h, sizeof h);
    winnow_model *model = NULL;
    struct winnow_err err;
    if (wn_cache_restore(p, total, map, h.path, &want, NULL, &model, &err) == WINNOW_OK) {
        look(&model->g);
        winnow_model_weight_bytes(model);
    }
    winnow_model_unref(model);
    p[total - 1] = 1; /* still mapped: the last reference is ours */
    wn_mapping_unref(map);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct wn_cache_header h;
    static bool ready;
    bool there;
    if (!ready) {
        if (wn_cache_header_init(&h, "/proc/self/exe", NULL) != WINNOW_OK)
            abort();
        h.source = wn_file_id_of(h.path, &there);
        ready = true;
    }
    if (!size)
        return 0;
    try(data + 1, size - 1, (size - 1) * data[0] / 255, h);
    wn_cache_check(data, size, &h);
    return 0;
}
