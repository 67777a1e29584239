/* h2_mem.c: nghttp2's memory, with a reserve for the moment when malloc fails.
 *
 * nghttp2 1.52 frees an outbound item twice when its priority queue cannot grow (session_ob_data_push), which ends in
 * an abort. So an allocation of its never fails: the loop's reserve serves it, and the connection that needed it is cut
 * at the next turn, which gives the reserve back. The reserve is taken from the front and is whole again when nothing
 * of it is in use. */
#include "daemon/net/h2_mem.h"

#include <malloc.h>
#include <stdlib.h>
#include <string.h>

enum { ALIGN = 16 }; /* also room for the size in front of a piece */

static bool is_reserve(const struct wn_loop *loop, const void *p)
{
    const char *at = p;
    return loop->reserve && at >= loop->reserve && at < loop->reserve + WN_RESERVE_BYTES;
}

static void *take(struct wn_conn *conn, size_t n)
{
    struct wn_loop *loop = conn->loop;
    size_t room = WN_RESERVE_BYTES - loop->reserve_used;
    wn_conn_kill(conn);
    if (!loop->reserve || n > room || wn_round_up(n, ALIGN) + ALIGN > room)
        return NULL;
    char *p = loop->reserve + loop->reserve_used;
    memcpy(p, &n, sizeof n);
    loop->reserve_used += wn_round_up(n, ALIGN) + ALIGN;
    loop->reserve_pieces++;
    return p + ALIGN;
}

static void *mem_malloc(size_t n, void *arg)
{
    void *p = malloc(n);
    return p || !n ? p : take(arg, n);
}

static void mem_free(void *p, void *arg)
{
    struct wn_loop *loop = ((struct wn_conn *)arg)->loop;
    if (!is_reserve(loop, p)) {
        free(p);
        return;
    }
    if (--loop->reserve_pieces == 0)
        loop->reserve_used = 0;
}

static void *mem_calloc(size_t count, size_t size, void *arg)
{
    void *p = calloc(count, size);
    size_t n;
    if (p || !wn_mul_size(count, size, &n) || !n)
        return p;
    p = take(arg, n);
    return p ? memset(p, 0, n) : NULL;
}

static void *mem_realloc(void *old, size_t n, void *arg)
{
    struct wn_conn *conn = arg;
    bool reserved = is_reserve(conn->loop, old);
    void *p = reserved ? NULL : realloc(old, n);
    if (p || !n)
        return p;
    size_t old_n = 0;
    if (reserved)
        memcpy(&old_n, (char *)old - ALIGN, sizeof old_n);
    p = take(conn, n);
    if (!p)
        return NULL;
    /* nobody tells us how long a piece of malloc's is; malloc knows how much of it may be read */
    if (old)
        memcpy(p, old, WN_MIN(n, reserved ? old_n : malloc_usable_size(old)));
    mem_free(old, conn);
    return p;
}

nghttp2_mem wn_h2_mem(struct wn_conn *conn)
{
    return (nghttp2_mem){ conn, mem_malloc, mem_free, mem_calloc, mem_realloc };
}
