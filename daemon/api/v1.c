/* v1.c: errors as OpenAI's clients read them. */
#include <stdlib.h>
#include <string.h>
#include "daemon/api/api.h"

static json_t *error_json(const struct winnow_err *err, int http, const char *param, const char *code)
{
    const char *type = http == 429 ? "rate_limit_error" : http >= 500 ? "server_error" : "invalid_request_error";
    return json_pack("{s:{s:s,s:s,s:s?,s:s?}}", "error", "message", err->msg, "type", type, "param", param, "code",
                     code);
}

static void free_bytes(void *arg)
{
    free(arg);
}

void wn_reply_v1_error(struct wn_req *req, const struct winnow_err *err, const char *param, const char *code)
{
    if (!req->x)
        return;
    int http = wn_status_http(err->status);
    struct winnow_err shown = *err;
    wn_req_error_text(req, err, shown.msg);
    json_t *o = error_json(&shown, http, param, code);
    char *text = o ? json_dumps(o, JSON_COMPACT | JSON_REAL_PRECISION(WN_JSON_DIGITS)) : NULL;
    json_decref(o);
    if (!text) { /* out of memory, or a message that is not UTF-8 */
        wn_reply_err(req, err);
        return;
    }
    struct wn_header h[2] = { { "content-type", 12, "application/json", 16 }, { "retry-after", 11, "1", 1 } };
    wn_exchange_reply(req->x, http, h, http == 429 || http == 503 ? 2 : 1,
                      (struct wn_bytes){ text, strlen(text), free_bytes, text });
}
