/* sample.c: the sample file and the man page's list of settings, both from settings.def. */
#include "config/config.h"

#include <string.h>

/* Print `text` in lines of at most `width` columns, each behind `prefix`. */
static void wrap(FILE *to, const char *prefix, const char *text, size_t width)
{
    size_t room = width - strlen(prefix);
    while (*text) {
        size_t n = strlen(text);
        if (n > room) {
            for (n = room; n > 0 && text[n] != ' '; n--)
                ;
            if (n == 0)
                n = strcspn(text, " ");
        }
        fprintf(to, "%s%.*s\n", prefix, (int)n, text);
        text += n;
        text += strspn(text, " ");
    }
}

static bool is_list(const struct wn_setting *s)
{
    return s->type == WN_SETTING_PATHS || s->type == WN_SETTING_ADDRESSES;
}

/* The default as YAML. */
static void put_default(FILE *to, const struct wn_setting *s)
{
    if (is_list(s))
        fprintf(to, "[%s]", s->def);
    else if ((s->type == WN_SETTING_STRING || s->type == WN_SETTING_PATH) && !*s->def)
        fputs("\"\"", to);
    else
        fputs(s->def, to);
}

static void put_range(FILE *to, const struct wn_setting *s)
{
    if (s->type == WN_SETTING_ENUM)
        fprintf(to, "one of %s; ", s->min);
    else if (is_list(s))
        fprintf(to, "%s to %s entries; ", s->min, s->max);
    else if (*s->min)
        fprintf(to, "%s to %s; ", s->min, s->max);
    fputs(s->reload ? "on reload" : "at the next start", to);
}

void wn_config_write_sample(FILE *to)
{
    size_t n;
    const struct wn_setting *s = wn_config_settings(&n);
    fputs("# winnowd.yaml: settings of winnowd. What is commented out shows the default.\n"
          "# `winnowd --check --config FILE` checks a file; winnowd.yaml(5) says more.\n"
          "# Sizes: 64MiB. Durations: 2ms. Relative paths start at the folder this file lies in.\n",
          to);
    for (size_t i = 0; i < n; i++) {
        if (i == 0 || strcmp(s[i].section, s[i - 1].section) != 0) {
            fputc('\n', to);
            wrap(to, "# ", wn_config_section_text(s[i].section), 100);
            fprintf(to, "%s:\n", s[i].section);
        }
        wrap(to, "  # ", s[i].text, 100);
        fputs("  # (", to);
        put_range(to, &s[i]);
        fprintf(to, ")\n  #%s: ", s[i].key);
        put_default(to, &s[i]);
        fputc('\n', to);
    }
}

static const char *type_text(const struct wn_setting *s)
{
    static const char *const names[] = {
        [WN_SETTING_BOOL] = "true or false",  [WN_SETTING_INT] = "integer",
        [WN_SETTING_REAL] = "number",         [WN_SETTING_SIZE] = "size",
        [WN_SETTING_DURATION] = "duration",   [WN_SETTING_STRING] = "string",
        [WN_SETTING_PATH] = "path",           [WN_SETTING_ENUM] = "choice",
        [WN_SETTING_PATHS] = "list of paths", [WN_SETTING_ADDRESSES] = "list of addresses",
    };
    return names[s->type];
}

void wn_config_write_man(FILE *to)
{
    size_t n;
    const struct wn_setting *s = wn_config_settings(&n);
    for (size_t i = 0; i < n; i++) {
        if (i == 0 || strcmp(s[i].section, s[i - 1].section) != 0) {
            fprintf(to, "%s## %s\n\n", i ? "\n" : "", s[i].section);
            wrap(to, "", wn_config_section_text(s[i].section), 100);
        }
        fprintf(to, "\n**%s** (%s; default `", s[i].key, type_text(&s[i]));
        put_default(to, &s[i]);
        fputs("`; ", to);
        put_range(to, &s[i]);
        fputs(")\n", to);
        fputs(":   ", to);
        wrap(to, "", s[i].text, 400);
    }
}
