/* check.h: what would stop a start, or surprise after it, told beforehand. */
#ifndef WN_CHECK_H
#define WN_CHECK_H

#include "config/config.h"

/** Told of each finding. `fatal`: a start would fail. */
typedef void wn_check_fn(void *arg, bool fatal, const char *text);

/** What the settings alone say: a certificate that is not used. Not fatal. */
void wn_check_settings(const struct wn_config *cfg, wn_check_fn *tell, void *arg);
/** What it means to listen on `address`: tokens and models that anybody may reach. Not fatal. */
void wn_check_address(const struct wn_config *cfg, const char *address, wn_check_fn *tell, void *arg);
/** What the machine has of what the settings name: repositories, what is misplaced there and every pipeline.yaml, the
 *  state folder and its database, programs, addresses. Nothing is made or changed; a port is bound for a moment. */
void wn_check_machine(const struct wn_config *cfg, wn_check_fn *tell, void *arg);

#endif
