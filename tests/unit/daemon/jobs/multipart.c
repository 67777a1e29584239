/* multipart.c: forms as clients send them, in pieces of every size; and what must be refused. */
#include "daemon/jobs/multipart.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

struct seen {
    char text[4096]; /* "[name|filename]data." per part */
    size_t n;
};

static void add(struct seen *s, const void *p, size_t n)
{
    cr_assert(s->n + n < sizeof s->text);
    memcpy(s->text + s->n, p, n);
    s->n += n;
    s->text[s->n] = '\0';
}

static enum winnow_status begin(void *arg, const struct wn_part *part, struct winnow_err *err)
{
    char head[600];
    int n = snprintf(head, sizeof head, "[%s|%s]", part->name, part->filename ? part->filename : "-");
    add(arg, head, (size_t)n);
    return WINNOW_OK;
}
static enum winnow_status data(void *arg, const void *bytes, size_t n, struct winnow_err *err)
{
    cr_assert(n > 0);
    add(arg, bytes, n);
    return WINNOW_OK;
}
static enum winnow_status end(void *arg, struct winnow_err *err)
{
    add(arg, ".", 1);
    return WINNOW_OK;
}

static enum winnow_status parse(const char *type, const char *body, size_t n, size_t piece, struct seen *ret)
{
    struct wn_multipart m;
    struct winnow_err err;
    struct wn_part_sink sink = { begin, data, end, ret };
    *ret = (struct seen){ 0 };
    WN_TRY(wn_multipart_init(&m, type, strlen(type), &sink, &err));
    for (size_t at = 0; at < n; at += piece)
        WN_TRY(wn_multipart_feed(&m, body + at, WN_MIN(piece, n - at), &err));
    return wn_multipart_finish(&m, &err);
}

#define TYPE       "multipart/form-data; boundary=xyz"
#define FORM(name) "Content-Disposition: form-data; name=\"" name "\"\r\n\r\n"

static void expect(const char *type, const char *body, const char *want)
{
    struct seen s;
    for (size_t piece = 1; piece <= strlen(body) + 1; piece++) {
        cr_assert_eq(parse(type, body, strlen(body), piece, &s), WINNOW_OK, "pieces of %zu: %s", piece, body);
        cr_assert_str_eq(s.text, want, "pieces of %zu", piece);
    }
}

static void refuse(const char *type, const char *body, enum winnow_status want)
{
    struct seen s;
    for (size_t piece = 1; piece <= strlen(body) + 1; piece++)
        cr_assert_eq(parse(type, body, strlen(body), piece, &s), want, "pieces of %zu: %s", piece, body);
}

Test(multipart, forms)
{
    expect(TYPE, "--xyz\r\n" FORM("purpose") "fine-tune\r\n--xyz--\r\n", "[purpose|-]fine-tune.");
    expect(TYPE,
           "--xyz\r\n" FORM(
               "purpose") "fine-tune\r\n--xyz\r\nContent-Disposition: form-data; name=\"file\"; "
                          "filename=\"a.zip\"\r\nContent-Type: application/zip\r\n\r\nPK\r\n--xy\r\n\r\n--xyz--",
           "[purpose|-]fine-tune.[file|a.zip]PK\r\n--xy\r\n.");
    expect(TYPE, "preamble\r\n--xyz  \r\n" FORM("a") "\r\n--xyz--\r\nepilogue\r\n--xyz\r\n", "[a|-].");
    expect(TYPE, "--xyz--", "");
}

Test(multipart, data_that_looks_like_a_boundary)
{
    expect(TYPE, "--xyz\r\n" FORM("a") "\r\r\n\r\n-\r\n--\r\n--x\r\n--xy\r\r\n--xyz--",
           "[a|-]\r\r\n\r\n-\r\n--\r\n--x\r\n--xy\r.");
    expect("multipart/form-data; boundary=--", "----\r\n" FORM("a") "\r\n--\r\n---x\r\n------", "[a|-]\r\n--\r\n---x.");
}

Test(multipart, heads)
{
    expect("MULTIPART/form-data;charset=x;BOUNDARY=\"x.y:z\"",
           "--x.y:z\r\ncontent-disposition:form-data;filename=\"C:\\\\dir\\\\a "
           "\\\"b\\\".zip\";name=file\r\n\r\n1\r\n--x.y:z--",
           "[file|a \"b\".zip]1.");
    expect(TYPE,
           "--xyz\r\nX-Other: a\r\nContent-Disposition: form-data; name=\"f\"; "
           "filename=\"../../etc/p%22w\"\r\n\r\n1\r\n--xyz--",
           "[f|p\"w]1.");
    expect(TYPE, "--xyz\r\nContent-Disposition: form-data; name=\"f\"; filename=\"\"\r\n\r\n\r\n--xyz--", "[f|].");
}

Test(multipart, refused_types)
{
    static const char *const type[] = { "",
                                        "text/plain",
                                        "multipart/mixed; boundary=x",
                                        "multipart/form-data",
                                        "multipart/form-data; boundary=",
                                        "multipart/form-datax; boundary=x",
                                        "multipart/form-data; boundary=a; boundary=b",
                                        "multipart/form-data; boundary=\"a\r\"",
                                        "multipart/form-data; boundary=\"abc" };
    for (size_t i = 0; i < WN_COUNT(type); i++)
        refuse(type[i], "", WINNOW_E_MALFORMED);
    char longer[120] = "multipart/form-data; boundary=";
    memset(longer + strlen(longer), 'x', 71);
    refuse(longer, "", WINNOW_E_MALFORMED);
}

Test(multipart, refused_bodies)
{
    static const char *const body[] = {
        "",
        "no boundary",
        "--xyz\r\n" FORM("a") "1",
        "--xyz\r\n" FORM("a") "1\r\n--xyz",
        "--xyz\r\n" FORM("a") "1\r\n--xyz-",
        "--xyzz\r\n",
        "--xyz\n",
        "--xyz\r\n\r\n1\r\n--xyz--",
        "--xyz\r\nContent-Type: text/plain\r\n\r\n1\r\n--xyz--",
        "--xyz\r\nContent-Disposition: attachment; name=a\r\n\r\n1\r\n--xyz--",
        "--xyz\r\nContent-Disposition: form-data\r\n\r\n1\r\n--xyz--",
        "--xyz\r\nContent-Disposition: form-data; name=a; name=b\r\n\r\n1\r\n--xyz--",
        ("--xyz\r\n"
         "Content-Disposition: form-data; name=a\r\nContent-Disposition: form-data; name=b\r\n\r\n1\r\n--xyz--"),
        "--xyz\r\nContent-Disposition: form-data; name=\"a\r\n\r\n1\r\n--xyz--",
        "--xyz\r\nContent-Disposition: form-data; name=a\n\r\n\r\n1\r\n--xyz--",
        "--xyz\r\n folded\r\n\r\n1\r\n--xyz--",
        "--xyz\r\n: empty\r\n\r\n1\r\n--xyz--",
    };
    for (size_t i = 0; i < WN_COUNT(body); i++)
        refuse(TYPE, body[i], WINNOW_E_MALFORMED);
    refuse(TYPE, "--xyz\r\nContent-Transfer-Encoding: base64\r\n" FORM("a") "1\r\n--xyz--", WINNOW_E_UNSUPPORTED);
}

Test(multipart, limits)
{
    struct seen s;
    static char body[70000];
    size_t n = (size_t)sprintf(body, "--xyz\r\nX: ");
    memset(body + n, 'x', 5000);
    cr_assert_eq(parse(TYPE, body, n + 5000, 100, &s), WINNOW_E_TOO_LARGE);
    n = 0;
    for (int i = 0; i <= WN_MULTIPART_MAX_PARTS; i++)
        n += (size_t)sprintf(body + n, "%s--xyz\r\n" FORM("a"), i ? "\r\n" : "");
    cr_assert_eq(parse(TYPE, body, n, 1000, &s), WINNOW_E_TOO_LARGE);
    n = (size_t)sprintf(body, "--xyz\r\nContent-Disposition: form-data; name=\"");
    memset(body + n, 'n', WN_MULTIPART_MAX_NAME);
    n += WN_MULTIPART_MAX_NAME;
    n += (size_t)sprintf(body + n, "\"\r\n\r\n1\r\n--xyz--");
    cr_assert_eq(parse(TYPE, body, n, 1000, &s), WINNOW_E_MALFORMED);
}
