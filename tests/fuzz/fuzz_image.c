/* fuzz_image.c: any bytes as a picture; what decodes is resized and written as PNG, which must decode to the same. */
#include <stdlib.h>
#include <string.h>
#include "pipeline/decode.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    static const struct wn_image_limits limits = { .max_side = 512, .max_pixels = 1 << 16 };
    struct wn_image image, again;
    struct winnow_err err;
    uint8_t px[16 * 9 * 3];
    void *png;
    if (wn_image_decode(bytes, n, &limits, &image, &err) != WINNOW_OK)
        return 0;
    if (wn_image_resize(&image, 1, 1, 16, 9, px, &err) != WINNOW_OK ||
        wn_image_resize(&image, 0.3, 0.7, 9, 16, px, &err) != WINNOW_OK ||
        wn_image_encode_png(&image, &png, &n, &err) != WINNOW_OK ||
        wn_image_decode(png, n, &limits, &again, &err) != WINNOW_OK ||
        memcmp(image.px, again.px, (size_t)image.w * image.h * image.channels) != 0)
        abort();
    free(png);
    wn_image_done(&image);
    wn_image_done(&again);
    return 0;
}
