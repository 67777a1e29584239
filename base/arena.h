/* arena.h: many allocations, one lifetime, one release. */
#ifndef WN_ARENA_H
#define WN_ARENA_H

#include <stddef.h>
#include "base/base.h"

/** Blocks of memory that are released together. Not thread-safe. Zero-initialise or call wn_arena_init(). */
struct wn_arena {
    struct wn_arena_block *head;
    size_t limit; /* refuse to grow past this many bytes; 0 = no limit */
    size_t total; /* bytes taken from malloc so far */
    bool huge;    /* blocks from now on are advised to lie in huge pages (wn_advise_huge()) */
};

/** Start an empty arena that refuses (returns NULL) past `limit` bytes; 0 = no limit. */
void wn_arena_init(struct wn_arena *arena, size_t limit);
/** `n` zeroed bytes aligned to 64; NULL when out of memory or over the limit. n = 0 gives a valid pointer. */
void *wn_arena_alloc(struct wn_arena *arena, size_t n);
/** `count` zeroed elements of `size` bytes; NULL also on overflow. */
void *wn_arena_calloc(struct wn_arena *arena, size_t count, size_t size);
/** Copy of `n` bytes, followed by a NUL. */
char *wn_arena_strndup(struct wn_arena *arena, const char *s, size_t n);
/** Copy of `n` bytes. */
void *wn_arena_memdup(struct wn_arena *arena, const void *p, size_t n);
__attribute__((format(printf, 2, 3))) char *wn_arena_printf(struct wn_arena *arena, const char *fmt, ...);
/** Forget all allocations but keep one block as large as all of them were, so that the same work again needs no malloc.
 */
void wn_arena_reset(struct wn_arena *arena);
/** The memory handed out of one block, and the block after it (NULL: the last); for (b = arena->head; b; b = ...). */
const struct wn_arena_block *wn_arena_next(const struct wn_arena_block *b, const void **ret_data, size_t *ret_used);
/** Release everything; the arena is empty and usable again. */
void wn_arena_done(struct wn_arena *arena);

#endif
