/* fault.c: selectors are resolved long after the YAML tree is gone; its text still tells the line. */
#include "sparsify/worker/fault.h"

#include <stdio.h>
#include <string.h>

static unsigned line_at(const char *text, const char *at)
{
    unsigned line = 1;
    for (const char *s = text; s < at; s++)
        line += *s == '\n';
    return line;
}

static unsigned line_of(const char *text, const char *word, size_t n)
{
    char needle[96];
    if (!n || n >= sizeof needle)
        return 0;
    memcpy(needle, word, n);
    needle[n] = '\0';
    const char *at = strstr(text, needle);
    return at ? line_at(text, at) : 0;
}

void wn_recipe_fault(const char *file, const char *text, struct winnow_err *err)
{
    if (strncmp(err->msg, file, strlen(file)) == 0)
        return;
    const char *quote = strchr(err->msg, '\''), *end = quote ? strchr(quote + 1, '\'') : NULL;
    unsigned line = end ? line_of(text, quote + 1, (size_t)(end - quote - 1)) : 0;
    const char *modifier = strstr(err->msg, "Modifier");
    if (!line && modifier) {
        const char *from = modifier;
        while (from > err->msg && from[-1] != ' ' && from[-1] != '\'')
            from--;
        line = line_of(text, from, (size_t)(modifier - from) + strlen("Modifier"));
    }
    wn_fail_at(err, err->status, "%s:%u", file, line ? line : 1);
}
