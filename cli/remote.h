/* remote.h: talking to a running winnowd, for the commands `models`, `files` and `jobs`. */
#ifndef WN_CLI_REMOTE_H
#define WN_CLI_REMOTE_H

#include <jansson.h>
#include "base/base.h"

/** Which server, and who asks. */
struct wn_remote_opts {
    const char *server;     /* NULL: $WINNOW_SERVER, else http://127.0.0.1:8000 */
    const char *token_file; /* NULL: the token is $WINNOW_TOKEN; none without it */
    const char *cacert;     /* certificates to trust, PEM; NULL: $WINNOW_CACERT, else the system's */
};
/** Options of every command that talks to a server: an argp child whose input is a struct wn_remote_opts. */
struct argp;
extern const struct argp wn_remote_argp;

/** A connection to one server; kept open between calls. One thread. */
struct wn_remote;
WINNOW_MUST_USE enum winnow_status wn_remote_new(const struct wn_remote_opts *opts, struct wn_remote **ret,
                                                 struct winnow_err *err);
/** NULL is fine. */
void wn_remote_free(struct wn_remote *r);

/** A path with names percent-encoded: each %s of `fmt` takes the next of `names` (NULL-terminated). malloc'ed; NULL
 * when out of memory. */
char *wn_remote_path(const char *fmt, const char *const *names);

/** One request with a JSON body (`body` may be NULL: none; the reference is taken).
 *  @param ret  the reply, NULL when it has no body; the caller holds the reference. Set on success only
 *  @return WINNOW_OK for 2xx; else the status that the HTTP code stands for, with the server's own message in err;
 *          E_UNAVAILABLE when nobody answers */
WINNOW_MUST_USE enum winnow_status wn_remote_call(struct wn_remote *r, const char *method, const char *path,
                                                  json_t *body, json_t **ret, struct winnow_err *err);

/** Told while a file is sent; both in bytes. */
typedef void wn_remote_sent_fn(void *arg, uint64_t sent, uint64_t total);
/** Send the regular file `file` as the body of `method` `path`, as it is read; `sent` may be NULL. */
WINNOW_MUST_USE enum winnow_status wn_remote_send_file(struct wn_remote *r, const char *method, const char *path,
                                                       const char *file, wn_remote_sent_fn *sent, void *arg,
                                                       json_t **ret, struct winnow_err *err);

/** One command that talks to a server: connect, act, print what came back (unless JSON takes standard output), write it
 *  as JSON where that was asked for. */
struct wn_remote_command {
    /** Set *ret, the caller's reference, to what is to be printed; NULL: nothing. */
    enum winnow_status (*act)(struct wn_remote *r, const void *args, json_t **ret, struct winnow_err *err);
    void (*print)(const void *args, const json_t *reply);
};
/** @param json       file for the JSON, "-" is standard output; NULL: none
 *  @param ret_reply  what came back, the caller's reference; NULL when there is nothing, and on failure */
WINNOW_MUST_USE enum winnow_status wn_remote_do(const struct wn_remote_command *command,
                                                const struct wn_remote_opts *opts, const char *json, const void *args,
                                                json_t **ret_reply, struct winnow_err *err);

/** String member of an object, "" when it is absent or of another type. */
const char *wn_json_str(const json_t *object, const char *key);
/** Number member (integer, real), `def` otherwise. */
double wn_json_num(const json_t *object, const char *key, double def);

#endif
