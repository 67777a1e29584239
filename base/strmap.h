/* strmap.h: a hash map from byte strings to pointers, keyed with a per-process secret so that a hostile file
 * cannot make it slow (reference: XXH3 with a random seed). */
#ifndef WN_STRMAP_H
#define WN_STRMAP_H

#include "base/base.h"

/** Zero-initialise. Keys are borrowed: they must outlive the map. Not thread-safe. */
struct wn_strmap {
    struct wn_strmap_slot *slot;
    size_t n, cap;
};

/** Value of `key`, or NULL when absent. */
void *wn_strmap_get(const struct wn_strmap *map, const char *key, size_t key_len);
/** Set `key` to `value` (not NULL); false when out of memory. An existing value is replaced. */
bool wn_strmap_set(struct wn_strmap *map, const char *key, size_t key_len, void *value);
/** Make room for `n` entries at once; false when out of memory (the map is unchanged). */
bool wn_strmap_reserve(struct wn_strmap *map, size_t n);
/** Release the table (not the keys, not the values). */
void wn_strmap_done(struct wn_strmap *map);

#endif
