/* resize.c: stb_image_resize, compiled here alone.
 *
 * DESIGN  Float arithmetic in a fixed order (this file, like all others, without contraction), so the same picture
 * gives the same bytes on every machine. stb checks its own filter tables with assertions before it writes them; sizes
 *         come from pictures that strangers send, so a failed assertion ends the one call with E_UNSUPPORTED, never the
 *         process: it jumps out, and the one block stb allocates is released here. */
#include <math.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include "pipeline/decode.h"

struct resize_call {
    jmp_buf out;
    void *block; /* stb's working memory */
};

_Noreturn static void assertion_failed(struct resize_call *call)
{
    longjmp(call->out, 1);
}

static _Thread_local struct resize_call *current;

static void *take_block(size_t n)
{
    return current->block = malloc(n);
}

static void give_block(void *p)
{
    current->block = NULL;
    free(p);
}

#define STBIR_ASSERT(x)             ((x) ? (void)0 : assertion_failed(current))
#define STBIR_MALLOC(size, context) ((void)(context), take_block(size))
#define STBIR_FREE(p, context)      ((void)(context), give_block(p))
#define STB_IMAGE_RESIZE_STATIC
#define STB_IMAGE_RESIZE_IMPLEMENTATION
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-function"
#include <stb/stb_image_resize.h>
#pragma GCC diagnostic pop

/* part[4]: left, top, right, bottom of the source, 0 … 1. */
static int guarded_resize(const struct wn_image *image, const float part[4], uint32_t w, uint32_t h, uint8_t *px)
{
    struct resize_call call = { .block = NULL };
    current = &call;
    if (setjmp(call.out)) {
        free(call.block);
        return -1;
    }
    return stbir_resize_region(image->px, (int)image->w, (int)image->h, 0, px, (int)w, (int)h, 0, STBIR_TYPE_UINT8,
                               (int)image->channels, STBIR_ALPHA_CHANNEL_NONE, 0, STBIR_EDGE_CLAMP, STBIR_EDGE_CLAMP,
                               STBIR_FILTER_TRIANGLE, STBIR_FILTER_TRIANGLE, STBIR_COLORSPACE_LINEAR, NULL, part[0],
                               part[1], part[2], part[3]);
}

enum winnow_status wn_image_resize(const struct wn_image *image, double part_w, double part_h, uint32_t w, uint32_t h,
                                   uint8_t *px, struct winnow_err *err)
{
    if (part_w == 1 && part_h == 1 && w == image->w && h == image->h) {
        memcpy(px, image->px, (size_t)w * h * image->channels);
        return WINNOW_OK;
    }
    const float part[4] = { (float)((1 - part_w) / 2), (float)((1 - part_h) / 2), (float)((1 + part_w) / 2),
                            (float)((1 + part_h) / 2) };
    int rc = guarded_resize(image, part, w, h, px);
    if (rc < 0)
        return wn_fail(err, WINNOW_E_UNSUPPORTED, "a picture of %u x %u pixels cannot be resized to %u x %u", image->w,
                       image->h, w, h);
    if (rc == 0)
        return wn_fail(err, WINNOW_E_NOMEM, "resizing a picture of %u x %u pixels to %u x %u", image->w, image->h, w,
                       h);
    return WINNOW_OK;
}
