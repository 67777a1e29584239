/* fuzz_yaml.c: any bytes as YAML, with and without tags and aliases, on to JSON. */
#include "base/yaml.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    for (unsigned flags = 0; flags <= (WN_YAML_TAGS | WN_YAML_ALIASES); flags += WN_YAML_TAGS | WN_YAML_ALIASES) {
        struct wn_yaml doc = { 0 };
        struct winnow_err err;
        if (wn_yaml_parse(bytes, n, "fuzz", 1, flags, &doc, &err) != WINNOW_OK)
            continue;
        json_t *json = NULL;
        if (wn_yaml_to_json(&doc, doc.root, &json, &err) == WINNOW_OK)
            json_decref(json);
        wn_yaml_done(&doc);
    }
    return 0;
}
