/* strmap.c: open addressing, linear probing, at most 3/4 full, no removal (nobody needs it). */
#include "base/strmap.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

struct wn_strmap_slot {
    const char *key;
    size_t len;
    uint64_t hash;
    void *value; /* NULL = empty */
};

static uint64_t secret;
static pthread_once_t secret_once = PTHREAD_ONCE_INIT;

static void make_secret(void)
{
    if (getrandom(&secret, sizeof secret, 0) != sizeof secret)
        secret = wn_now_ns() ^ (uint64_t)(uintptr_t)&secret;
}

static uint64_t hash_of(const char *key, size_t len)
{
    pthread_once(&secret_once, make_secret);
    return XXH3_64bits_withSeed(key, len, secret);
}

static struct wn_strmap_slot *find(const struct wn_strmap *map, const char *key, size_t len, uint64_t hash)
{
    size_t mask = map->cap - 1, i = hash & mask;
    while (map->slot[i].value &&
           !(map->slot[i].hash == hash && map->slot[i].len == len && memcmp(map->slot[i].key, key, len) == 0))
        i = (i + 1) & mask;
    return &map->slot[i];
}

void *wn_strmap_get(const struct wn_strmap *map, const char *key, size_t key_len)
{
    return map->n ? find(map, key, key_len, hash_of(key, key_len))->value : NULL;
}

static bool resize(struct wn_strmap *map, size_t cap)
{
    struct wn_strmap bigger = { calloc(cap, sizeof *map->slot), map->n, cap };
    if (!bigger.slot)
        return false;
    for (size_t i = 0; i < map->cap; i++)
        if (map->slot[i].value)
            *find(&bigger, map->slot[i].key, map->slot[i].len, map->slot[i].hash) = map->slot[i];
    free(map->slot);
    *map = bigger;
    return true;
}

bool wn_strmap_reserve(struct wn_strmap *map, size_t n)
{
    size_t cap = 16;
    while (cap / 4 * 3 < n)
        if (!wn_mul_size(cap, 2, &cap))
            return false;
    return cap <= map->cap || resize(map, cap);
}

bool wn_strmap_set(struct wn_strmap *map, const char *key, size_t key_len, void *value)
{
    if ((map->n + 1) * 4 > map->cap * 3 && !resize(map, map->cap ? map->cap * 2 : 16))
        return false;
    uint64_t hash = hash_of(key, key_len);
    struct wn_strmap_slot *slot = find(map, key, key_len, hash);
    if (!slot->value)
        map->n++;
    *slot = (struct wn_strmap_slot){ key, key_len, hash, value };
    return true;
}

void wn_strmap_done(struct wn_strmap *map)
{
    free(map->slot);
    *map = (struct wn_strmap){ 0 };
}
