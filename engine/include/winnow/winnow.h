/* winnow.h: libwinnow's public API: ONNX in, tensors out, on CPUs.
 *
 *     winnow_model *model;  winnow_scratch *scratch;  struct winnow_err err;
 *     winnow_model_load("resnet.onnx", NULL, &model, &err);
 *     winnow_scratch_new(model, NULL, &scratch, &err);
 *     winnow_run(model, scratch, inputs, n_inputs, outputs, n_outputs, &err);
 *
 * Every function is thread-safe on distinct objects; a model is immutable and may be shared by any number of threads,
 * a scratch belongs to one run at a time. Functions that can fail return enum winnow_status and fill `err` on failure
 * only (err may be NULL). The API is versioned by WINNOW_API_VERSION; names not starting with winnow_ are not exported.
 */
#ifndef WINNOW_H
#define WINNOW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "winnow/dtype.h"
#include "winnow/status.h"

#ifdef __cplusplus
extern "C" {
#endif

#define WINNOW_API_VERSION 1
#define WINNOW_MAX_RANK    8

/** One element of a WINNOW_STRING tensor: bytes owned by whoever owns the tensor, not NUL-terminated. */
struct winnow_str {
    const char *p;
    size_t n;
};

/** Bytes of one element (sizeof(struct winnow_str) for strings, 0 for an unknown type). */
WINNOW_API size_t winnow_dtype_size(enum winnow_dtype dtype);
/** "f32", "u8", …; never NULL. */
WINNOW_API const char *winnow_dtype_name(enum winnow_dtype dtype);

/** A view of row-major memory without gaps; owns nothing. Native byte order. */
struct winnow_tensor {
    enum winnow_dtype dtype;
    unsigned rank;                  /* 0 = scalar */
    int64_t shape[WINNOW_MAX_RANK]; /* outermost first; [rank] used */
    void *data;                     /* inputs may point at read-only memory */
    size_t bytes;                   /* size of data in bytes; for outputs with data: room on entry, size on return */
};

/** One ONNX model compiled for this CPU. Immutable. */
typedef struct winnow_model winnow_model;
/** The memory one run needs, and the plan for the shapes it was last used with. One run at a time. */
typedef struct winnow_scratch winnow_scratch;
/** Threads that work on one run together. One run at a time. */
typedef struct winnow_pool winnow_pool;

/** Limits and choices for loading. Zero means the default. */
struct winnow_load_opts {
    size_t max_file_bytes;   /* default 2 GiB */
    size_t max_memory_bytes; /* activations of one run, per scratch; default 4 GiB */
    bool reference;          /* run every operator by its plain-C reference (slow; the oracle `winnow compare` uses) */
    const char *folder;      /* winnow_model_load_memory(): below which tensors may lie in other files (ONNX's external
                                data); NULL: such models are refused. winnow_model_load() takes the file's own folder */
    size_t max_external_bytes; /* of tensors in other files; default 16 GiB */
    const char *cache;         /* folder of compiled forms (winnow_cache_load()); NULL: none */
    size_t max_cache_bytes;    /* that winnow_cache_save() leaves there, the least recently used go; default 8 GiB */
    bool consume;              /* winnow_model_load_memory(): `bytes` come from malloc, and what stands there is lost: a
                                  tensor's memory goes back to the system once it is copied, so peak memory is about
                                  the file once. winnow_model_load() does so with what it read */
};

/** Load and compile the ONNX file at `path`. The file is read once and may be replaced afterwards.
 *  Source: ONNX IR and Operators specifications (onnx/onnx docs/IR.md, docs/Operators.md).
 *  @param opts       may be NULL
 *  @param ret_model  set on success only; one reference, give it back with winnow_model_unref()
 *  @return WINNOW_OK, E_NOT_FOUND (no such file), E_MALFORMED (not ONNX, or breaks the spec), E_UNSUPPORTED (valid, but
 *          an operator or type we lack; err names node, operator and reason), E_TOO_LARGE, E_NOMEM, E_IO */
WINNOW_API WINNOW_MUST_USE enum winnow_status winnow_model_load(const char *path, const struct winnow_load_opts *opts,
                                                                winnow_model **ret_model, struct winnow_err *err);
/** The same from memory; `bytes` is not used after the call returns, and unchanged unless opts->consume. `name` appears
 *  in messages. */
WINNOW_API WINNOW_MUST_USE enum winnow_status winnow_model_load_memory(const void *bytes, size_t n, const char *name,
                                                                       const struct winnow_load_opts *opts,
                                                                       winnow_model **ret_model,
                                                                       struct winnow_err *err);

/** Load the model of the ONNX file `path` from its compiled form in opts->cache: packed weights and all that was found
 *  out about them, mapped read-only and shared by all processes that do. It is taken only where the file and those
 *  beside it are the ones it was made from (device, inode, size, times), by this very engine for this instruction set,
 *  and where its checksum is right; it belongs to this user and nobody else may write it.
 *  winnow_model_load() with opts->cache tries this first.
 *  @return WINNOW_OK; E_NOT_FOUND (there is none), E_PRECONDITION (of another state of a file), E_MALFORMED (damaged),
 *          E_DENIED (others may write it), E_NOMEM, E_IO */
WINNOW_API WINNOW_MUST_USE enum winnow_status winnow_cache_load(const char *path, const struct winnow_load_opts *opts,
                                                                winnow_model **ret_model, struct winnow_err *err);
/** Keep the compiled form of `model`, loaded from the file `path`, in the folder opts->cache, which is made if missing.
 *  Weights are packed when shapes are planned (winnow_scratch_reserve(), winnow_run()): save afterwards. The form is
 *  written under another name and renamed. Forms of files that are gone and of other builds are removed. One thread at
 * a time per model.
 *  @param tag    n_tag (at most WINNOW_TAG_BYTES) bytes of the caller's, which winnow_model_tag() gives again; may be
 *                NULL
 *  @return WINNOW_OK; E_UNAVAILABLE: the file changed since, or so lately (2 s) that its times do not tell;
 *          E_UNSUPPORTED (opts->reference), E_DENIED, E_NO_SPACE, E_IO, E_NOMEM */
#define WINNOW_TAG_BYTES 64
WINNOW_API WINNOW_MUST_USE enum winnow_status winnow_cache_save(winnow_model *model, const char *path,
                                                                const struct winnow_load_opts *opts, const void *tag,
                                                                size_t n_tag, struct winnow_err *err);
/** The tag that the compiled form was saved with; NULL, *ret_n = 0: not loaded from one. */
WINNOW_API const void *winnow_model_tag(const winnow_model *model, size_t *ret_n);
WINNOW_API winnow_model *winnow_model_ref(winnow_model *model);
/** Drop a reference; NULL is fine. Returns NULL. */
WINNOW_API winnow_model *winnow_model_unref(winnow_model *model);

/** A model's input or output as the file declares it. Strings live as long as the model. */
struct winnow_io {
    const char *name;
    enum winnow_dtype dtype;
    unsigned rank;
    int64_t shape[WINNOW_MAX_RANK];        /* -1 = dynamic */
    const char *dim_name[WINNOW_MAX_RANK]; /* name of a dynamic dimension, or NULL */
    int64_t
        table_rows; /* an input of indices (token ids) into a table of the model: its rows; 0: no such table known */
};
WINNOW_API unsigned winnow_model_n_inputs(const winnow_model *model);
WINNOW_API unsigned winnow_model_n_outputs(const winnow_model *model);
/** i below the count. */
WINNOW_API const struct winnow_io *winnow_model_input(const winnow_model *model, unsigned i);
WINNOW_API const struct winnow_io *winnow_model_output(const winnow_model *model, unsigned i);
/** Value of an entry of the file's metadata_props, or NULL. */
WINNOW_API const char *winnow_model_metadata(const winnow_model *model, const char *key);
/** Files beside the model's that its tensors were read from, relative to its folder; NULL past the last. They live as
 *  long as the model. */
WINNOW_API const char *winnow_model_external(const winnow_model *model, unsigned i);
/** Names of the files beside the ONNX file `path` that its tensors lie in, relative to its folder, each once. Of the
 *  file itself only what leads to those names is read, so its size costs neither time nor memory. Each was opened as
 *  loading would open it: it lies below the folder, with no link on the way, and is a regular file with one name.
 *  @param ret_names  malloc'ed in one piece, NULL behind the last: free() it
 *  @param ret_bytes  of all of them together; may be NULL
 *  @return WINNOW_OK, E_NOT_FOUND, E_MALFORMED (no ONNX file; a name that leads out of the folder, a link, no regular
 *          file), E_TOO_LARGE (more than 4096 files), E_DENIED, E_NOMEM, E_IO; err names the file */
WINNOW_API WINNOW_MUST_USE enum winnow_status winnow_external_list(const char *path, char ***ret_names,
                                                                   uint64_t *ret_bytes, struct winnow_err *err);
/** Copy the files that winnow_external_list() names to the folder `to`, under the same names, each durably; folders in
 *  names are made. One that is there already must have the same content, as where two models share it.
 *  @param max_bytes  of all of them together; 0: 16 GiB
 *  @return as winnow_external_list(), E_TOO_LARGE, E_CONFLICT (another file of that name is there), E_NO_SPACE; what
 *          was copied before the failure stays */
WINNOW_API WINNOW_MUST_USE enum winnow_status winnow_external_copy(const char *path, const char *to, uint64_t max_bytes,
                                                                   struct winnow_err *err);
/** True when the first dimension of every input and output is a dynamic batch and it was proved that each output row
 *  depends on its own input row only, so that requests may be merged. `why` (may be NULL) is set to the reason when
 *  false; it lives as long as the model. */
WINNOW_API bool winnow_model_rows_independent(const winnow_model *model, const char **why);
/** Bytes of weights this model keeps in memory: packed, or as the file has them where nothing else holds them. */
WINNOW_API size_t winnow_model_weight_bytes(const winnow_model *model);

/** A pool of `threads` (the caller included); 0 = the CPUs this process may use (affinity, cpusets, CPU quotas of the
 *  cgroups it is in). */
WINNOW_API WINNOW_MUST_USE enum winnow_status winnow_pool_new(unsigned threads, winnow_pool **ret_pool,
                                                              struct winnow_err *err);
WINNOW_API unsigned winnow_pool_threads(const winnow_pool *pool);
/** Stops and joins the threads. NULL is fine. No run may be using it. */
WINNOW_API void winnow_pool_free(winnow_pool *pool);

/** Scratch for runs of `model` (which it keeps a reference to) on `pool` (NULL: the calling thread alone; else it must
 *  outlive the scratch). */
WINNOW_API WINNOW_MUST_USE enum winnow_status winnow_scratch_new(winnow_model *model, winnow_pool *pool,
                                                                 winnow_scratch **ret_scratch, struct winnow_err *err);
WINNOW_API void winnow_scratch_free(winnow_scratch *scratch);
/** Plan and allocate for inputs of these dtypes and shapes (data is not looked at); later runs at these shapes, or at
 *  fewer rows of a model with independent rows, allocate nothing and take no lock.
 *  @return as winnow_run(), plus E_TOO_LARGE when the plan needs more than max_memory_bytes */
WINNOW_API WINNOW_MUST_USE enum winnow_status winnow_scratch_reserve(winnow_scratch *scratch,
                                                                     const struct winnow_tensor *inputs,
                                                                     unsigned n_inputs, struct winnow_err *err);
/** What the runs of this scratch may take from now on, all together, until it is said again. Unless it is said at all,
 *  the loops of each run may take 30 s.
 *  @param loops_ns  CPU time in ONNX's Loop and Scan, nested ones and whatever their bodies hold; 0: 30 s. Past it a run
 *                   returns E_TOO_LARGE; err names node and limit. (2^26 nodes in loops is another limit.)
 *  @param until_ns  CLOCK_MONOTONIC in nanoseconds, 0: no end. A loop, or a node whose shape depends on data, that is
 *                   running or begins then returns E_DEADLINE; layers that were planned are not broken off */
WINNOW_API void winnow_scratch_limit(winnow_scratch *scratch, uint64_t loops_ns, uint64_t until_ns);
/** Bytes this scratch has allocated. */
WINNOW_API size_t winnow_scratch_bytes(const winnow_scratch *scratch);

/** Run once.
 *  @param inputs   [n_inputs] in the model's order, dtypes as declared, shapes matching the declared ones
 *  @param outputs  [n_outputs] in the model's order. dtype, rank and shape are set. Where data is NULL on entry it is
 * set to memory of the scratch, valid until its next run; otherwise `bytes` must be large enough.
 *  @return WINNOW_OK; E_MALFORMED (count, dtype, rank or extent; err names the input), E_UNSUPPORTED (a shape that an
 *          operator cannot take; err names the node), E_TOO_LARGE, E_NOMEM; the outputs are then undefined */
WINNOW_API WINNOW_MUST_USE enum winnow_status winnow_run(const winnow_model *model, winnow_scratch *scratch,
                                                         const struct winnow_tensor *inputs, unsigned n_inputs,
                                                         struct winnow_tensor *outputs, unsigned n_outputs,
                                                         struct winnow_err *err);

/** Run rows of different length at once: texts that were padded to the longest of a request. Row i is computed as if it
 *  stood alone with length[i] elements (axis 1 of the inputs), so padding costs nothing and answers do not depend on
 * it. Where outputs have that axis, what lies behind a row's length is zero. Else as winnow_run(), which it is for a
 * model whose rows are not independent, or whose inputs do not all have one dynamic axis 1 that no output has further
 * in.
 *  @param length  [rows] 1 … the extent of axis 1. Up to 64 different ones are kept planned (winnow_run() likewise)
 *  @return as winnow_run(); E_MALFORMED for a length out of range */
WINNOW_API WINNOW_MUST_USE enum winnow_status winnow_run_ragged(const winnow_model *model, winnow_scratch *scratch,
                                                                const struct winnow_tensor *inputs, unsigned n_inputs,
                                                                const uint32_t *length, struct winnow_tensor *outputs,
                                                                unsigned n_outputs, struct winnow_err *err);

/* ---- looking inside: what `winnow analyze` prints ---- */

/** One step of the plan for the shapes the scratch was last used with. Strings live until its next plan. */
struct winnow_step {
    const char *name;   /* node name in the file (of the last fused node) */
    const char *op;     /* "Conv", "QConv+Add+Relu", … */
    const char *kernel; /* "q8_spmm_b4_4x64__avx2", "ref:Softmax" */
    const char *why;    /* why this kernel: predicted costs of the candidates, one line; "" when there was no choice */
    const char
        *pattern; /* "dense", "unstructured", "1x4", "4x1", "2x1" (outputs x inputs); "" for steps without weights */
    unsigned rank;
    int64_t shape[WINNOW_MAX_RANK]; /* of its first output */
    double sparsity;                /* share of zero weights, 0 … 1; 0 for steps without weights */
    uint64_t macs;                  /* dense multiply-accumulates of one run; 0 where it does not apply */
    size_t weight_bytes;            /* packed weights it reads */
    uint64_t ns;                    /* time spent in it since profiling was switched on, per run; 0 when off */
};
WINNOW_API unsigned winnow_scratch_n_steps(const winnow_scratch *scratch);
WINNOW_API void winnow_scratch_step(const winnow_scratch *scratch, unsigned i, struct winnow_step *ret_step);
/** Switch per-step timing on (counters restart) or off. Costs two clock reads per step. */
WINNOW_API void winnow_scratch_profile(winnow_scratch *scratch, bool on);

/** Time, for inputs of these shapes, every kernel that could run each layer, and take the fastest from here on in all
 *  plans of the scratch's model for layers of these shapes, where the model as a whole gains by it. Some hundred runs.
 * Answers of int8 layers stay what they are; those of f32 layers change by rounding. winnow_cache_save() keeps what was
 * found. Nobody else may use the model meanwhile.
 *  @return as winnow_run() */
WINNOW_API WINNOW_MUST_USE enum winnow_status winnow_scratch_tune(winnow_scratch *scratch,
                                                                  const struct winnow_tensor *inputs, unsigned n_inputs,
                                                                  struct winnow_err *err);
/** 10^9 multiply-accumulates a second that the dense kernel reaches on one thread out of the cache, f32 or int8; takes
 * some milliseconds. */
WINNOW_API double winnow_cpu_peak(bool int8);

/** Instruction set in use: "avx512vnni", "avx2" or "scalar". WINNOW_CPU in the environment lowers it. */
WINNOW_API const char *winnow_cpu_isa(void);
/** Name and relevant flags of this CPU, one line. */
WINNOW_API const char *winnow_cpu_name(void);
/** Library version, e.g. "0.1.0". */
WINNOW_API const char *winnow_version(void);

#ifdef __cplusplus
}
#endif
#endif
