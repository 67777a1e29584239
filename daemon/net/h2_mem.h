/* h2_mem.h: the allocator that nghttp2 gets. */
#ifndef WN_NET_H2_MEM_H
#define WN_NET_H2_MEM_H

#include <nghttp2/nghttp2.h>
#include "daemon/net/internal.h"

/** Allocator of a connection's session: does not fail while the loop's reserve lasts, but ends the connection when it
 *  had to use it. On the loop. */
nghttp2_mem wn_h2_mem(struct wn_conn *conn);

#endif
