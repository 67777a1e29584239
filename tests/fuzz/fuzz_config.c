/* fuzz_config.c: any bytes as winnowd.yaml; what is accepted must be printable and equal to itself. */
#include "config/config.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    struct wn_config cfg;
    struct winnow_err err;
    if (wn_config_parse(bytes, n, "/etc/fuzz.yaml", &cfg, &err) != WINNOW_OK)
        return 0;
    size_t count;
    const struct wn_setting *s = wn_config_settings(&count);
    char value[64];
    for (size_t i = 0; i < count; i++)
        if (wn_config_format(&cfg, &s[i], value, sizeof value) < 0)
            abort();
    if (wn_config_diff(&cfg, &cfg, NULL, 0) != 0)
        abort();
    wn_config_done(&cfg);
    return 0;
}
