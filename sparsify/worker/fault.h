/* fault.h: a place for a complaint about a recipe that was found only when it met a model. */
#ifndef WN_WORKER_FAULT_H
#define WN_WORKER_FAULT_H

#include "base/base.h"

/** Put "FILE:LINE: " before err's message unless it starts with `file`: the line that holds the first name in quotes,
 * or that names the modifier; 1 when neither is found.
 *  @param text  the recipe, NUL-terminated */
void wn_recipe_fault(const char *file, const char *text, struct winnow_err *err);

#endif
