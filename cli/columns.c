/* columns.c: --columns of `winnow sparsify` and `winnow jobs create`. */
#include <argp.h>
#include <string.h>
#include "cli/cli.h"

/* "title,body" -> ["title", "body"]; one name stays a string. */
static json_t *names(const char *text)
{
    if (!strchr(text, ','))
        return json_string(text);
    json_t *list = json_array();
    for (const char *s = text; list;) {
        size_t n = strcspn(s, ",");
        if (!n || json_array_append_new(list, json_stringn(s, n)) != 0) {
            json_decref(list);
            return NULL;
        }
        if (!s[n])
            break;
        s += n + 1;
    }
    return list;
}

void wn_cli_add_column(json_t *columns, const char *arg, struct argp_state *state)
{
    static const char *const keys[] = { "text", "text_pair", "label", "join" };
    const char *eq = strchr(arg, '=');
    size_t n = eq ? (size_t)(eq - arg) : 0, k = 0;
    while (k < WN_COUNT(keys) && !(n && strlen(keys[k]) == n && memcmp(arg, keys[k], n) == 0))
        k++;
    if (k == WN_COUNT(keys) || !eq[1])
        argp_error(state, "--columns wants text=NAME, text_pair=NAME, label=NAME or join=TEXT, not '%s'", arg);
    json_t *value = k == 0 ? names(eq + 1) : json_string(eq + 1);
    if (!value || json_object_set_new(columns, keys[k], value) != 0)
        argp_error(state, "--columns %s: not a name", arg);
}
