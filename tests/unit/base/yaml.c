/* yaml.c: scalars by the core schema, exact messages for bad files, bounds. */
#include "base/yaml.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct wn_yaml parse(const char *text, unsigned flags)
{
    struct wn_yaml doc = { 0 };
    struct winnow_err err = { 0 };
    cr_assert_eq(wn_yaml_parse(text, strlen(text), "f", 1, flags, &doc, &err), WINNOW_OK, "%s: %s", text, err.msg);
    return doc;
}

Test(yaml, scalars)
{
    static const struct {
        const char *text;
        enum wn_yaml_kind kind;
        double number;
    } cases[] = {
        { "~", WN_YAML_NULL, 0 },          { "", WN_YAML_NULL, 0 },           { "Null", WN_YAML_NULL, 0 },
        { "true", WN_YAML_BOOL, 1 },       { "FALSE", WN_YAML_BOOL, 0 },      { "yes", WN_YAML_STRING, 0 },
        { "0", WN_YAML_INT, 0 },           { "-12", WN_YAML_INT, -12 },       { "0x1F", WN_YAML_INT, 31 },
        { "0o17", WN_YAML_INT, 15 },       { "+7", WN_YAML_INT, 7 },          { "007", WN_YAML_INT, 7 },
        { "1.5", WN_YAML_FLOAT, 1.5 },     { ".5", WN_YAML_FLOAT, 0.5 },      { "1e-4", WN_YAML_FLOAT, 1e-4 },
        { "2.", WN_YAML_FLOAT, 2 },        { "2x", WN_YAML_STRING, 0 },       { "1e", WN_YAML_STRING, 0 },
        { "'12'", WN_YAML_STRING, 0 },     { "\"true\"", WN_YAML_STRING, 0 }, { "0x", WN_YAML_STRING, 0 },
        { "!!str 12", WN_YAML_STRING, 0 }, { "1_000", WN_YAML_STRING, 0 },
    };
    for (size_t i = 0; i < WN_COUNT(cases); i++) {
        struct wn_yaml doc = parse(cases[i].text, 0);
        cr_expect_eq(doc.root->kind, cases[i].kind, "'%s' is %s", cases[i].text, wn_yaml_kind_name(doc.root->kind));
        double v = NAN;
        if (wn_yaml_number(doc.root, &v))
            cr_expect_eq(v, cases[i].number, "'%s' is %g", cases[i].text, v);
        wn_yaml_done(&doc);
    }
    struct wn_yaml doc = parse("-.inf", 0);
    cr_expect(isinf(doc.root->as.f) && doc.root->as.f < 0);
    wn_yaml_done(&doc);
}

Test(yaml, lines_and_keys)
{
    struct wn_yaml doc = parse("# head\na: 1\nb:\n  - x\n  - {c: 2.5}\n", 0);
    const struct wn_yaml_node *b = wn_yaml_get(doc.root, "b");
    cr_assert(b && b->kind == WN_YAML_SEQ && b->n == 2);
    cr_expect_eq(wn_yaml_get(doc.root, "a")->line, 2);
    cr_expect_eq(b->item[1]->line, 5);
    cr_expect_eq(wn_yaml_get(b->item[1], "c")->as.f, 2.5);
    cr_expect_null(wn_yaml_get(doc.root, "zz"));
    struct winnow_err err;
    cr_expect_eq(wn_yaml_fail(&doc, b->item[0], &err, WINNOW_E_MALFORMED, "no '%s'", "x"), WINNOW_E_MALFORMED);
    cr_expect_str_eq(err.msg, "f:4: no 'x'");
    json_t *json = NULL;
    cr_assert_eq(wn_yaml_to_json(&doc, doc.root, &json, &err), WINNOW_OK);
    char *text = json_dumps(json, JSON_COMPACT | JSON_SORT_KEYS);
    cr_expect_str_eq(text, "{\"a\":1,\"b\":[\"x\",{\"c\":2.5}]}");
    free(text);
    json_decref(json);
    wn_yaml_done(&doc);
}

Test(yaml, tags_and_aliases_when_asked)
{
    struct wn_yaml doc =
        parse("end: &e 3.0\nmodifiers:\n  - !EpochRangeModifier\n    end_epoch: *e\n", WN_YAML_TAGS | WN_YAML_ALIASES);
    const struct wn_yaml_node *m = wn_yaml_get(doc.root, "modifiers")->item[0];
    cr_expect_str_eq(m->tag, "!EpochRangeModifier");
    cr_expect_eq(m->line, 3);
    cr_expect_eq(wn_yaml_get(m, "end_epoch"), wn_yaml_get(doc.root, "end"));
    wn_yaml_done(&doc);
}

Test(yaml, messages)
{
    static const struct {
        const char *text, *msg;
        enum winnow_status status;
    } cases[] = {
        { "a: 1\nb: 2\na: 3\n", "f:3: key 'a' is given twice (first on line 1)", WINNOW_E_MALFORMED },
        { "a: !X 1\n", "f:1: tag '!X' is not allowed here", WINNOW_E_UNSUPPORTED },
        { "a: &x 1\n", "f:1: anchors and aliases are not allowed here", WINNOW_E_UNSUPPORTED },
        { "a: 1\n---\nb: 2\n", "f:2: a second document", WINNOW_E_UNSUPPORTED },
        { "[a]: 1\n", "f:1: a key must be a word, not a list or mapping", WINNOW_E_UNSUPPORTED },
        { "a: 99999999999999999999\n", "f:1: integer '99999999999999999999' does not fit 64 bits", WINNOW_E_MALFORMED },
        { "x:\n  a: \"q\\0q\"\n", "f:2: a string with a NUL character", WINNOW_E_MALFORMED },
        { "a: !!python/object:os.system x\n",
          "f:1: tag 'tag:yaml.org,2002:python/object:os.system' is not allowed here", WINNOW_E_UNSUPPORTED },
        { "a: [1, 2\n", "f:2: did not find expected ',' or ']' while parsing a flow sequence", WINNOW_E_MALFORMED },
        { "<<: 1\n", "f:1: merge keys (<<) are not supported", WINNOW_E_UNSUPPORTED },
        { "a: \xff\n", "f:1: invalid leading UTF-8 octet", WINNOW_E_MALFORMED },
    };
    for (size_t i = 0; i < WN_COUNT(cases); i++) {
        struct wn_yaml doc = { 0 };
        struct winnow_err err = { 0 };
        cr_expect_eq(wn_yaml_parse(cases[i].text, strlen(cases[i].text), "f", 1, 0, &doc, &err), cases[i].status);
        cr_expect_str_eq(err.msg, cases[i].msg);
    }
    struct wn_yaml doc = { 0 };
    struct winnow_err err = { 0 };
    const char *loop = "a: &x [*x]\n";
    cr_expect_eq(wn_yaml_parse(loop, strlen(loop), "f", 10, WN_YAML_ALIASES, &doc, &err), WINNOW_E_MALFORMED);
    cr_expect_str_eq(err.msg, "f:10: alias '*x' names nothing above it");
}

Test(yaml, bounds)
{
    struct wn_yaml doc = { 0 };
    struct winnow_err err = { 0 };
    size_t n = WN_YAML_MAX_BYTES + 1;
    char *big = malloc(n);
    memset(big, ' ', n);
    cr_expect_eq(wn_yaml_parse(big, n, "f", 1, 0, &doc, &err), WINNOW_E_TOO_LARGE);
    memset(big, '[', 100000);
    cr_expect_eq(wn_yaml_parse(big, 100000, "f", 1, 0, &doc, &err), WINNOW_E_TOO_LARGE);
    cr_expect_str_eq(err.msg, "f:1: nested deeper than 32 levels");
    big[0] = '[';
    for (size_t i = 1; i + 1 < 400000; i += 2)
        memcpy(big + i, "1,", 2);
    cr_expect_eq(wn_yaml_parse(big, 400000, "f", 1, 0, &doc, &err), WINNOW_E_TOO_LARGE);
    cr_expect_str_eq(err.msg, "f:1: more than 100000 values");
    free(big);
    const char *laughs = "a: &a [1,1,1,1,1,1,1,1,1,1]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a]\n"
                         "c: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c,*c]\n"
                         "e: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d,*d]\n";
    cr_expect_eq(wn_yaml_parse(laughs, strlen(laughs), "f", 1, WN_YAML_ALIASES, &doc, &err), WINNOW_E_TOO_LARGE);
    cr_expect_str_eq(err.msg, "f:5: more than 100000 values");
    /* depth by way of aliases */
    char chain[4096];
    size_t at = (size_t)snprintf(chain, sizeof chain, "- &a0 [1]\n");
    for (int i = 1; i < 60; i++)
        at += (size_t)snprintf(chain + at, sizeof chain - at, "- &a%d [*a%d]\n", i, i - 1);
    cr_expect_eq(wn_yaml_parse(chain, at, "f", 1, WN_YAML_ALIASES, &doc, &err), WINNOW_E_TOO_LARGE);
}

Test(yaml, many_keys_and_duplicates)
{
    char *text = malloc(1 << 20);
    size_t n = 0;
    for (int i = 0; i < 20000; i++)
        n += (size_t)sprintf(text + n, "k%d: %d\n", i, i);
    struct wn_yaml doc = { 0 };
    struct winnow_err err = { 0 };
    cr_assert_eq(wn_yaml_parse(text, n, "f", 1, 0, &doc, &err), WINNOW_OK, "%s", err.msg);
    cr_expect_eq(wn_yaml_get(doc.root, "k19999")->as.i, 19999);
    wn_yaml_done(&doc);
    n += (size_t)sprintf(text + n, "k3: 1\n");
    cr_expect_eq(wn_yaml_parse(text, n, "f", 1, 0, &doc, &err), WINNOW_E_MALFORMED);
    cr_expect_str_eq(err.msg, "f:20001: key 'k3' is given twice (first on line 4)");
    free(text);
}

Test(yaml, near_names)
{
    static const char *const names[] = { "max_wait", "max_batch", "listen" };
    cr_expect_str_eq(wn_near_name("max_wiat", names, 3), "max_wait");
    cr_expect_str_eq(wn_near_name("max_batches", names, 3), "max_batch");
    cr_expect_null(wn_near_name("colour", names, 3));
}
