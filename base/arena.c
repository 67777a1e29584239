/* arena.c: bump allocation in blocks that double up to 1 MiB; large requests get a block of their own. */
#include "base/arena.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ALIGN       64u
#define FIRST_BLOCK (4u << 10)
#define MAX_BLOCK   (1u << 20)

struct wn_arena_block {
    struct wn_arena_block *next;
    size_t size, used; /* of data */
    _Alignas(ALIGN) unsigned char data[];
};

void wn_arena_init(struct wn_arena *arena, size_t limit)
{
    *arena = (struct wn_arena){ .limit = limit };
}

static struct wn_arena_block *add_block(struct wn_arena *arena, size_t need)
{
    size_t size = arena->head ? WN_MIN(arena->head->size * 2, (size_t)MAX_BLOCK) : FIRST_BLOCK;
    size = WN_MAX(size, need);
    size_t bytes;
    if (!wn_add_size(size, sizeof(struct wn_arena_block) + ALIGN, &bytes))
        return NULL;
    bytes = bytes / ALIGN * ALIGN;
    if (arena->limit && (bytes > arena->limit || arena->total > arena->limit - bytes))
        return NULL;
    struct wn_arena_block *block = aligned_alloc(ALIGN, bytes);
    if (!block)
        return NULL;
    if (arena->huge)
        wn_advise_huge(block, bytes);
    arena->total += bytes;
    block->size = bytes - sizeof *block;
    block->used = 0;
    /* A large block goes behind the head, so that the head's free room stays in use. */
    if (arena->head && need > MAX_BLOCK / 4) {
        block->next = arena->head->next;
        arena->head->next = block;
    } else {
        block->next = arena->head;
        arena->head = block;
    }
    return block;
}

void *wn_arena_alloc(struct wn_arena *arena, size_t n)
{
    size_t need;
    if (!wn_add_size(n, ALIGN - 1, &need))
        return NULL;
    need = need / ALIGN * ALIGN;
    struct wn_arena_block *block = arena->head;
    if (!block || block->size - block->used < need)
        block = add_block(arena, need);
    if (!block)
        return NULL;
    void *p = block->data + block->used;
    block->used += need;
    return memset(p, 0, n);
}

void *wn_arena_calloc(struct wn_arena *arena, size_t count, size_t size)
{
    size_t n;
    return wn_mul_size(count, size, &n) ? wn_arena_alloc(arena, n) : NULL;
}

char *wn_arena_strndup(struct wn_arena *arena, const char *s, size_t n)
{
    char *copy = n < SIZE_MAX ? wn_arena_alloc(arena, n + 1) : NULL;
    if (copy && n)
        memcpy(copy, s, n);
    return copy;
}

void *wn_arena_memdup(struct wn_arena *arena, const void *p, size_t n)
{
    void *copy = wn_arena_alloc(arena, n);
    if (copy && n)
        memcpy(copy, p, n);
    return copy;
}

char *wn_arena_printf(struct wn_arena *arena, const char *fmt, ...)
{
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    char *s = n < 0 ? NULL : wn_arena_alloc(arena, (size_t)n + 1);
    if (s)
        vsnprintf(s, (size_t)n + 1, fmt, again);
    va_end(again);
    return s;
}

const struct wn_arena_block *wn_arena_next(const struct wn_arena_block *b, const void **ret_data, size_t *ret_used)
{
    *ret_data = b->data;
    *ret_used = b->used;
    return b->next;
}

void wn_arena_done(struct wn_arena *arena)
{
    for (struct wn_arena_block *b = arena->head, *next; b; b = next) {
        next = b->next;
        free(b);
    }
    arena->head = NULL;
    arena->total = 0;
}

void wn_arena_reset(struct wn_arena *arena)
{
    struct wn_arena_block *head = arena->head;
    if (head && head->next) {
        size_t want = 0;
        for (struct wn_arena_block *b = head; b; b = b->next)
            want += b->used;
        wn_arena_done(arena);
        head = add_block(arena, want);
    }
    if (head)
        head->used = 0;
}
