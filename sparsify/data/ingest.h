/* ingest.h: an upload -> canonical rows, split before anything else sees them.
 *
 * Texts: CSV with a header, or JSONL; the file itself, gzipped, or several in an archive (columns.h).
 *
 * Pictures in folders (the folder's name is the label; train/ beside val/, validation/ or test/ at the top keeps them
 * apart) or pairs of IDX files, in a zip, a tar, a tar.gz or a plain folder. Every picture is decoded and encoded
 * again, so nothing of the upload's own bytes goes on. Runs in a sandbox; one thread. */
#ifndef WN_INGEST_H
#define WN_INGEST_H

#include "pipeline/pipeline.h"
#include "sparsify/data/columns.h"
#include "sparsify/data/source.h"

struct wn_ingest_opts {
    const char *data, *validation;           /* paths; validation may be NULL */
    const char *data_name, *validation_name; /* what they are called; NULL: as the paths are. Texts only */
    const char *out_dir;       /* holds train/ and eval/; rows.npz is written into them, ingest.json beside them */
    const char *input_name;    /* of the rows: the pipeline's BYTES input */
    const char *pair_name;     /* its second one; NULL: it has none */
    bool text;                 /* rows of text, not pictures */
    struct wn_columns columns; /* as the job gives them */
    const char *task;
    const char *const *labels; /* [n_labels] the model's label names, in its order */
    unsigned n_labels;         /* 0: the model has none, the data's names are class numbers */
    unsigned n_classes;        /* of the model; used without label names */
    bool new_labels;           /* the data's names replace the model's */
    unsigned side;             /* larger side of the model's input: pictures over 4 times that are stored at twice it */
    double eval_share;
    uint64_t seed;
    struct wn_image_limits image;
    struct wn_source_limits source;
    size_t max_rows; /* 0: 1 000 000 */
    /** Now and then. May be NULL. */
    void (*progress)(void *arg, size_t rows, size_t rejected);
    void *arg;
};

struct wn_ingest_result {
    size_t rows, train, eval, rejected, duplicates;
    char columns[160]; /* texts: what was taken from which column, of the first file */
};

/** @return WINNOW_OK; E_MALFORMED, E_UNSUPPORTED, E_TOO_LARGE: the data is bad, err says how; E_NOMEM, E_IO, E_NO_SPACE
 */
WINNOW_MUST_USE enum winnow_status wn_ingest(const struct wn_ingest_opts *opts, struct wn_ingest_result *ret,
                                             struct winnow_err *err);

#endif
