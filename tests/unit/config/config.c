/* config.c: good files, every kind of bad file with its exact message, reload, the sample file and the man page. */
#include "config/config.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include "base/log.h"

static enum winnow_status parse(const char *text, struct wn_config *cfg, struct winnow_err *err)
{
    return wn_config_parse(text, strlen(text), "/etc/winnow/w.yaml", cfg, err);
}

Test(config, defaults)
{
    struct wn_config cfg;
    struct winnow_err err = { 0 };
    cr_assert_eq(wn_config_defaults(&cfg, &err), WINNOW_OK, "%s", err.msg);
    cr_expect_eq(cfg.server.listen.n, 2);
    cr_expect_str_eq(cfg.server.listen.at[1], "127.0.0.1:8001");
    cr_expect_eq(cfg.server.auth, WN_AUTH_LOOPBACK);
    cr_expect_eq(cfg.server.max_header, 16384);
    cr_expect_eq(cfg.batch.max_wait, 2000);
    cr_expect_eq(cfg.gate.margin, -1.0);
    cr_expect_eq(cfg.gate.without_anchor, WN_ANCHOR_REFUSE);
    cr_expect_eq(cfg.gate.min_rows, 100);
    cr_expect(cfg.jobs.enabled);
    cr_expect_str_eq(cfg.models.state, "/var/lib/winnow");
    cr_expect_eq(WN_LOG_ERROR + cfg.log.level, WN_LOG_INFO);
    wn_config_done(&cfg);
}

Test(config, a_file_over_the_defaults)
{
    struct wn_config cfg, def;
    struct winnow_err err = { 0 };
    const char *text = "server:\n  listen: [\"0.0.0.0:9000\", \"[::1]:0\"]\n  auth: none\n  max_body: 1.5 GiB\n"
                       "models:\n  repositories:\n    - models\n    - /srv/m\n  state: var/state\n"
                       "batch:\n  max_wait: 500us\n  max_batch: 0x10\njobs:\n  enabled: false\n"
                       "gate: {margin: -2, without_anchor: eval_rows}\nlog:\n  format: json\nengine:\n";
    cr_assert_eq(parse(text, &cfg, &err), WINNOW_OK, "%s", err.msg);
    cr_expect_str_eq(cfg.server.listen.at[0], "0.0.0.0:9000");
    cr_expect_eq(cfg.server.max_body, UINT64_C(3) << 29);
    cr_expect_str_eq(cfg.models.repositories.at[0], "/etc/winnow/models");
    cr_expect_str_eq(cfg.models.repositories.at[1], "/srv/m");
    cr_expect_str_eq(cfg.models.state, "/etc/winnow/var/state");
    cr_expect_eq(cfg.batch.max_wait, 500);
    cr_expect_eq(cfg.batch.max_batch, 16);
    cr_expect_not(cfg.jobs.enabled);
    cr_expect_eq(cfg.gate.margin, -2.0);
    cr_expect_eq(cfg.gate.without_anchor, WN_ANCHOR_EVAL_ROWS);
    cr_expect_eq(cfg.log.format, (int)WN_LOG_JSON);

    cr_assert_eq(wn_config_defaults(&def, &err), WINNOW_OK);
    const struct wn_setting *changed[32];
    size_t n = wn_config_diff(&cfg, &def, changed, WN_COUNT(changed)), restart = 0;
    cr_expect_eq(n, 11);
    cr_expect_str_eq(changed[0]->key, "listen");
    for (size_t i = 0; i < n; i++)
        restart += !changed[i]->reload;
    cr_expect_eq(restart, 5, "%zu", restart); /* listen, auth, repositories, state, jobs.enabled */
    wn_config_done(&cfg);
    wn_config_done(&def);
}

Test(config, bad_files_and_their_messages)
{
    static const struct {
        const char *text, *msg;
    } cases[] = {
        { "bacth:\n  max_wait: 1ms\n", "1: unknown section 'bacth'; did you mean 'batch'?" },
        { "colour: red\n", "1: unknown section 'colour'" },
        { "batch:\n  max_wiat: 1ms\n", "2: unknown key 'max_wiat' in section 'batch'; did you mean 'max_wait'?" },
        { "batch:\n  listen: x\n", "2: unknown key 'listen' in section 'batch'; it belongs to 'server'" },
        { "batch:\n  flavour: x\n", "2: unknown key 'flavour' in section 'batch'" },
        { "batch:\n  max_batch: 8\n  max_batch: 9\n", "3: key 'max_batch' is given twice (first on line 2)" },
        { "batch: 7\n", "1: section 'batch' must hold keys, not an integer" },
        { "- batch\n", "1: expected sections, not a list" },
        { "batch:\n  max_batch: 2x\n", "2: batch.max_batch: expected an integer, not '2x'" },
        { "batch:\n  max_batch: 2.5\n", "2: batch.max_batch: expected an integer, not '2.5'" },
        { "batch:\n  max_batch: [2]\n", "2: batch.max_batch: expected an integer, not a list" },
        { "batch:\n  max_batch:\n", "2: batch.max_batch: expected an integer, not nothing" },
        { "batch:\n  max_batch: 0\n", "2: batch.max_batch: 0 is below the least value, 1" },
        { "batch:\n  max_batch: 5000\n", "2: batch.max_batch: 5000 is above the largest value, 4096" },
        { "batch:\n  max_batch: 99999999999999999999\n", "2: integer '99999999999999999999' does not fit 64 bits" },
        { "batch:\n  max_wait: 2\n",
          "2: batch.max_wait: '2' is not a duration: it needs a unit, one of us ms s m h d" },
        { "batch:\n  max_wait: 2 weeks\n",
          "2: batch.max_wait: '2 weeks' is not a duration: it needs a unit, one of us ms s m h d" },
        { "batch:\n  max_wait: fast\n", "2: batch.max_wait: 'fast' is not a duration: it must start with a number" },
        { "batch:\n  max_wait: 2s\n", "2: batch.max_wait: 2s is above the largest value, 1s" },
        { "batch:\n  max_wait: true\n", "2: batch.max_wait: expected a duration such as 2ms, not 'true'" },
        { "batch:\n  max_wait: -1ms\n", "2: batch.max_wait: '-1ms' is not a duration: it must start with a number" },
        { "batch:\n  max_wait: 0.1us\n",
          "2: batch.max_wait: '0.1us' is not a duration: too large, or not a whole number of its smallest unit" },
        { "server:\n  max_body: 64Mb\n",
          "2: server.max_body: '64Mb' is not a size: its unit must be one of B KiB MiB GiB TiB PiB" },
        { "server:\n  max_body: 99999999999PiB\n",
          "2: server.max_body: '99999999999PiB' is not a size: too large, or not a whole number of its smallest unit" },
        { "server:\n  listen: []\n", "2: server.listen: 0 entries where 1 to 16 are allowed" },
        { "server:\n  listen: [8000]\n", "2: server.listen: entry 1: expected a string, not an integer" },
        { "server:\n  listen: ['localhost']\n",
          "2: server.listen: 'localhost' is not an address: it must read HOST:PORT or [IPV6]:PORT" },
        { "server:\n  listen: ['::1:8000']\n",
          "2: server.listen: '::1:8000' is not an address: it must read HOST:PORT or [IPV6]:PORT" },
        { "server:\n  listen: ['[::x]:8000']\n",
          "2: server.listen: '[::x]:8000' is not an address: no IPv6 address between the brackets" },
        { "server:\n  listen: ['a:70000']\n",
          "2: server.listen: 'a:70000' is not an address: the port must be a number from 0 to 65535" },
        { "server:\n  listen: ['127.0.0.1:1', '0.0.0.0:8000']\n",
          "2: server.listen: '0.0.0.0:8000' is not a loopback address; 'auth: tokens' (or 'auth: none') allows it" },
        { "server:\n  listen:\n    - '127.0.0.1:1'\n    - 'example.org:8000'\n",
          "4: server.listen: 'example.org:8000' is not a loopback address; 'auth: tokens' (or 'auth: none') allows "
          "it" },
        { "server:\n  auth: tokens\n", "2: server.auth: tokens, but there is no auth.tokens_file" },
        { "auth:\n  tokens_file: t\n",
          "2: auth.tokens_file: nobody is asked for a token without 'server.auth: tokens'" },
        { "server:\n  tls: required\n", "2: server.tls: required, but there is no tls.certificate" },
        { "tls:\n  key: k\n", "2: tls.key: there is no tls.certificate" },
        { "server:\n  auth: never\n", "2: server.auth: 'never' is not one of loopback|tokens|none" },
        { "jobs:\n  enabled: maybe\n", "2: jobs.enabled: expected true or false, not 'maybe'" },
        { "jobs:\n  worker: 5\n", "2: jobs.worker: expected a string, not '5'" },
        { "jobs:\n  worker: \"a\\nb\"\n", "2: jobs.worker: a control character" },
        { "models:\n  state: ''\n", "2: models.state: an empty path" },
        { "models:\n  repositories: {a: b}\n", "2: models.repositories: expected a list, not a mapping" },
        { "gate:\n  margin: low\n", "2: gate.margin: expected a number, not 'low'" },
        { "gate:\n  margin: .nan\n", "2: gate.margin: '.nan' is not a finite number" },
        { "gate:\n  max_cpu_ratio: 0\n", "2: gate.max_cpu_ratio: 0 is below the least value, 0.01" },
        { "log:\n  level: [info]\n", "2: log.level: expected error|warning|notice|info|debug, not a list" },
        { "log: {level: info\n", "2: did not find expected ',' or '}' while parsing a flow mapping" },
        { "log: *x\n", "1: anchors and aliases are not allowed here" },
    };
    for (size_t i = 0; i < WN_COUNT(cases); i++) {
        struct wn_config cfg;
        struct winnow_err err = { 0 };
        char want[256];
        snprintf(want, sizeof want, "/etc/winnow/w.yaml:%s", cases[i].msg);
        cr_expect_neq(parse(cases[i].text, &cfg, &err), WINNOW_OK, "%s", cases[i].text);
        cr_expect_str_eq(err.msg, want);
    }
}

/* What one of the writers prints, malloc'ed into `*ret`. */
static void print_to(void (*write)(FILE *), char **ret)
{
    size_t n;
    FILE *f = open_memstream(ret, &n);
    write(f);
    fclose(f);
}

Test(config, sample_is_the_defaults)
{
    char *text = NULL;
    print_to(wn_config_write_sample, &text);
    struct wn_config cfg, def;
    struct winnow_err err = { 0 };
    cr_assert_eq(parse(text, &cfg, &err), WINNOW_OK, "%s", err.msg);
    wn_config_done(&cfg);
    size_t keys = 0, n;
    for (char *p = strstr(text, "\n  #"); p; p = strstr(p + 1, "\n  #"))
        if (p[4] != ' ') { /* a setting, not a remark: take the comment sign away */
            p[3] = ' ';
            keys++;
        }
    for (char *p = text; (p = strstr(p, "\n   ")); p++) /* and the two spaces of the key's own level */
        memmove(p + 3, p + 4, strlen(p + 4) + 1);
    cr_assert_eq(parse(text, &cfg, &err), WINNOW_OK, "%s", err.msg);
    cr_assert_eq(wn_config_defaults(&def, &err), WINNOW_OK);
    wn_config_settings(&n);
    cr_expect_eq(keys, n);
    cr_expect_eq(wn_config_diff(&cfg, &def, NULL, 0), 0);
    wn_config_done(&cfg);
    wn_config_done(&def);
    free(text);
}

Test(config, formatted_values_are_read_back)
{
    struct wn_config def, cfg;
    struct winnow_err err = { 0 };
    cr_assert_eq(wn_config_defaults(&def, &err), WINNOW_OK);
    size_t n, at = 0;
    const struct wn_setting *s = wn_config_settings(&n);
    char text[8192];
    for (size_t i = 0; i < n; i++) {
        char value[512];
        cr_assert(wn_config_format(&def, &s[i], value, sizeof value) < (int)sizeof value);
        if (i == 0 || strcmp(s[i].section, s[i - 1].section) != 0)
            at += (size_t)snprintf(text + at, sizeof text - at, "%s:\n", s[i].section);
        at += (size_t)snprintf(text + at, sizeof text - at, "  %s: %s\n", s[i].key, value);
    }
    cr_assert_eq(parse(text, &cfg, &err), WINNOW_OK, "%s", err.msg);
    cr_expect_eq(wn_config_diff(&cfg, &def, NULL, 0), 0);
    wn_config_done(&cfg);
    wn_config_done(&def);
}

/* docs/man/winnowd.yaml.5.md holds the list as printed. WINNOW_UPDATE=1 writes it anew. Run from the project's root. */
Test(config, man_page_is_up_to_date)
{
    const char *path = "docs/man/winnowd.yaml.5.md", *mark = "<!-- settings -->\n";
    char *want = NULL;
    print_to(wn_config_write_man, &want);
    FILE *f = fopen(path, "r");
    if (!f)
        cr_skip_test("not run from the project's root");
    char *have = calloc(1, 1 << 20);
    size_t n = fread(have, 1, (1 << 20) - 1, f);
    fclose(f);
    have[n] = '\0';
    char *list = strstr(have, mark);
    cr_assert_not_null(list);
    list += strlen(mark);
    if (getenv("WINNOW_UPDATE")) {
        f = fopen(path, "w");
        fprintf(f, "%.*s%s", (int)(list - have), have, want);
        fclose(f);
    } else {
        cr_expect(strcmp(list, want) == 0, "run this test with WINNOW_UPDATE=1");
    }
    free(have);
    free(want);
}
