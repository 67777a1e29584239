/* pbtxt.h: what a model's config.pbtxt says about batching. */
#ifndef WN_PBTXT_H
#define WN_PBTXT_H

#include "base/base.h"

/** Outputs with labels; further ones are passed over. */
#define WN_CONFIG_LABELS 4
/** Each number -1 where the file does not say. */
struct wn_model_config {
    int64_t max_batch; /* rows; 0: requests are not merged */
    int64_t max_wait_us;
    int64_t max_queue;  /* requests; 0: as the settings say */
    int64_t timeout_us; /* 0: as the settings say */
    struct wn_config_label {
        char output[128], file[128];
    } label[WN_CONFIG_LABELS]; /* output { name label_filename }, those that have both */
    unsigned n_labels;
};

/** Parse `n` bytes of protobuf text format. E_MALFORMED names file and line. */
WINNOW_MUST_USE enum winnow_status wn_model_config_parse(const char *text, size_t n, const char *file,
                                                         struct wn_model_config *ret, struct winnow_err *err);
/** The four numbers of a ModelConfig in protobuf's JSON form, {"max_batch_size": 8, "dynamic_batching": {…}};
 * 64-bit numbers may be strings. What else is there is passed over. E_MALFORMED: no JSON object, or a value out of
 * range. */
WINNOW_MUST_USE enum winnow_status wn_model_config_parse_json(const char *text, size_t n, struct wn_model_config *ret,
                                                              struct winnow_err *err);
/** The same from a file; one that is not there says nothing, and is no failure. */
WINNOW_MUST_USE enum winnow_status wn_model_config_read(const char *path, struct wn_model_config *ret,
                                                        struct winnow_err *err);

#endif
