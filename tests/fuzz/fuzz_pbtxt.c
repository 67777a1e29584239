/* fuzz_pbtxt.c: bytes as a model's config.pbtxt. */
#include <stdint.h>
#include "daemon/serve/pbtxt.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct wn_model_config conf;
    struct winnow_err err;
    enum winnow_status status = wn_model_config_parse((const char *)data, size, "fuzz", &conf, &err);
    (void)status;
    return 0;
}
