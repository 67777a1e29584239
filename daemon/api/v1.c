/* v1.c: errors as OpenAI's clients read them. */
#include <string.h>
#include "daemon/api/internal.h"

static void key(struct wn_buf *b, const char *name, const char *value)
{
    wn_buf_text(b, name);
    if (value)
        wn_buf_json_string(b, value, strlen(value));
    else
        wn_buf_text(b, "null");
}

void wn_reply_v1_error(struct wn_req *req, const struct winnow_err *err, const char *param, const char *code)
{
    if (!req->x)
        return;
    int http = wn_status_http(err->status);
    char shown[sizeof err->msg];
    struct wn_buf b = { 0 };
    key(&b, "{\"error\":{\"message\":", wn_req_error_text(req, err, shown));
    key(&b, ",\"type\":", http == 429 ? "rate_limit_error" : http >= 500 ? "server_error" : "invalid_request_error");
    key(&b, ",\"param\":", param);
    key(&b, ",\"code\":", code);
    wn_buf_text(&b, "}}");
    struct wn_header retry = { "retry-after", 11, "1", 1 };
    wn_reply_buf_with(req, http, "application/json", &retry, http == 429 || http == 503, &b);
}
