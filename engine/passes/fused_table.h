/* fused_table.h: operators of domain "wn" that have a file of their own beside fused.c, whose table lists them. */
#ifndef WN_FUSED_TABLE_H
#define WN_FUSED_TABLE_H

#include "engine/ops/ops.h"
#include "engine/passes/fused.h"

enum winnow_status wn_infer_attention(struct wn_infer *in, struct winnow_err *err);
enum winnow_status wn_run_attention(struct wn_run *run, struct winnow_err *err);
enum winnow_status wn_infer_qattention(struct wn_infer *in, struct winnow_err *err);
enum winnow_status wn_run_qattention(struct wn_run *run, struct winnow_err *err);
enum winnow_status wn_infer_qlayer_norm(struct wn_infer *in, struct winnow_err *err);
enum winnow_status wn_run_qlayer_norm(struct wn_run *run, struct winnow_err *err);

#endif
