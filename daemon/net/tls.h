/* tls.h: certificates, and what a connection does with OpenSSL that it does not do in clear text. Of daemon/net only;
 * others see the part of it in net.h. */
#ifndef WN_NET_TLS_H
#define WN_NET_TLS_H

#include "daemon/net/internal.h"

enum {
    /* Bytes handed to SSL_write() at once: one record. libevent retries a blocked write whole, so what the peer has
     * taken shows in steps of this size. */
    WN_TLS_PIECE = 16384,
};

struct wn_tls *wn_tls_ref(struct wn_tls *tls);

/** A server's side of TLS on `conn->fd`, closing it when freed. NULL when out of memory (the descriptor stays open). */
struct bufferevent *wn_tls_transport(struct wn_tls *tls, struct wn_conn *conn);
/** The handshake is over: the protocol that ALPN chose, HTTP/1.1 without. Counts. */
const struct wn_proto *wn_tls_chosen(struct wn_conn *conn);
/** Why the transport failed, for the log: OpenSSL's words. Static. */
const char *wn_tls_error(struct wn_conn *conn);
/** Tell the peer that nothing more comes (close_notify), as far as the socket takes it now. */
void wn_tls_say_end(struct wn_conn *conn);

#endif
