/* repo_names.h: how a repository's folders are named: MODEL/VERSION/model.onnx. */
#ifndef WN_REPO_NAMES_H
#define WN_REPO_NAMES_H

#include "base/base.h"

#define WN_NAME_MAX 128 /* bytes of a model's name */

/** Whether `name` may name a model: [A-Za-z0-9._-]{1,128}, not starting with a dot. */
bool wn_model_name_valid(const char *name);
/** "17" as 17; 0 for anything but a positive decimal number without leading zero, of at most 18 digits. */
int64_t wn_version_parse(const char *name);

#endif
