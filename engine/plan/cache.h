/* cache.h: compiled forms (winnow_cache_load() of winnow.h) out of memory. Internal to engine/plan and its tests. */
#ifndef WN_CACHE_H
#define WN_CACHE_H

#include "engine/plan/cache_file.h"

/** The model of a compiled form in memory, which `map` keeps there; nothing is planned. As winnow_cache_load(). */
enum winnow_status wn_cache_restore(const unsigned char *bytes, size_t n, struct wn_mapping *map, const char *path,
                                    const struct wn_cache_header *want, const struct winnow_load_opts *opts,
                                    winnow_model **ret_model, struct winnow_err *err);

#endif
