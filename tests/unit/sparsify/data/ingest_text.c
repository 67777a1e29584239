/* ingest_text.c, ingest_jsonl.c, columns.c: uploads of text become rows; what cannot be one is named by file and line.
 */
#include "sparsify/data/ingest.h"

#include <criterion/criterion.h>
#include <ftw.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <zlib.h>
#include "base/file.h"
#include "pipeline/rows.h"

static char dir[64], upload[96];
static const char *const labels[] = { "ham", "spam" };

static void setup(void)
{
    char path[96];
    strcpy(dir, "/tmp/wn-texts-XXXXXX");
    cr_assert_not_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/train", dir);
    cr_assert_eq(mkdir(path, 0700), 0);
    snprintf(path, sizeof path, "%s/eval", dir);
    cr_assert_eq(mkdir(path, 0700), 0);
    snprintf(upload, sizeof upload, "%s/upload", dir);
}

static int remove_one(const char *name, const struct stat *st, int kind, struct FTW *at)
{
    return remove(name);
}

static void teardown(void)
{
    nftw(dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

TestSuite(ingest_text, .init = setup, .fini = teardown);

static struct wn_ingest_opts opts(const char *name)
{
    return (struct wn_ingest_opts){ .data = upload,
                                    .data_name = name,
                                    .out_dir = dir,
                                    .input_name = "text",
                                    .pair_name = "text_pair",
                                    .text = true,
                                    .task = "text_classification",
                                    .labels = labels,
                                    .n_labels = 2,
                                    .eval_share = 0.25,
                                    .seed = 1 };
}

static void put_upload(const char *head, const char *row, const char *tail)
{
    char text[20000];
    size_t n = (size_t)snprintf(text, sizeof text, "%s", head);
    for (int i = 0; i < 40; i++) /* %1$d: the row's number, %2$s: its label */
        n += (size_t)snprintf(text + n, sizeof text - n, row, i, labels[i % 2]);
    n += (size_t)snprintf(text + n, sizeof text - n, "%s", tail);
    cr_assert_eq(wn_file_write_durable(upload, text, n, NULL), WINNOW_OK);
}

static json_t *summary(void)
{
    char path[96];
    snprintf(path, sizeof path, "%s/ingest.json", dir);
    json_t *o = json_load_file(path, 0, NULL);
    cr_assert_not_null(o);
    return o;
}

static struct wn_rows *rows_of(const char *part)
{
    char path[96];
    struct wn_rows *rows = NULL;
    struct winnow_err err = { 0 };
    snprintf(path, sizeof path, "%s/%s/rows.npz", dir, part);
    cr_assert_eq(wn_rows_open(path, 0, &rows, &err), WINNOW_OK, "%s", err.msg);
    return rows;
}

static struct wn_ingest_result must(const struct wn_ingest_opts *o)
{
    struct wn_ingest_result r;
    struct winnow_err err = { 0 };
    cr_assert_eq(wn_ingest(o, &r, &err), WINNOW_OK, "%s", err.msg);
    return r;
}

Test(ingest_text, csv_with_guessed_columns)
{
    struct wn_ingest_opts o = opts("mails.csv");
    put_upload("id,Text,Label\n", "%1$d,\"mail, number %1$d\",%2$s\n", "7,\"mail, number 3\",spam\n");
    struct wn_ingest_result r = must(&o);
    cr_expect(r.rows == 40 && r.train + r.eval == 40 && r.eval >= 10, "%zu %zu %zu", r.rows, r.train, r.eval);
    cr_expect_eq(r.duplicates, 1);
    cr_expect_str_eq(r.columns, "text from 'Text', label from 'Label' (guessed)");
    struct wn_rows *rows = rows_of("train");
    cr_expect_eq(wn_rows_n_inputs(rows), 1);
    cr_expect_str_eq(wn_rows_input(rows, 0)->name, "text");
    for (size_t i = 0; i < wn_rows_count(rows); i++) {
        size_t n;
        int number = 0;
        const char *text = wn_rows_item(rows, 0, i, &n);
        cr_expect_eq(sscanf(text, "mail, number %d", &number), 1);
        cr_expect_eq(wn_rows_label(rows, i), number % 2);
    }
    wn_rows_free(rows);
}

Test(ingest_text, the_same_rows_from_every_form)
{
    static const struct {
        const char *name, *head, *row;
    } forms[] = {
        { "a.csv", "text,label\n", "\"mail \"\"%1$d\"\"\",%2$s\n" },
        { "a.tsv", "label\ttext\r\n", "%2$s\t\"mail \"\"%1$d\"\"\"\r\n" },
        { "a.csv", "\xef\xbb\xbftext;label;x\n", "\"mail \"\"%1$d\"\"\";%2$s;1,2,3\n" },
        { "a.jsonl", "", "{\"text\": \"mail \\\"%1$d\\\"\", \"label\": \"%2$s\"}\n" },
        { "a", "\n", "{\"prompt\": \"mail \\\"%1$d\\\"\", \"completion\": \" %2$s\"}\r\n" },
        { "a.jsonl", "",
          "{\"messages\": [{\"role\": \"system\", \"content\": \"x\"}, {\"role\": \"user\", \"content\": \"mail "
          "\\\"%1$d\\\"\"}, {\"role\": \"assistant\", \"content\": \"%2$s\"}]}\n" },
    };
    char want[100] = "";
    for (size_t i = 0; i < WN_COUNT(forms); i++) {
        struct wn_ingest_opts o = opts(forms[i].name);
        put_upload(forms[i].head, forms[i].row, "");
        must(&o);
        json_t *s = summary();
        const char *digest = json_string_value(json_object_get(s, "digest"));
        if (!i)
            snprintf(want, sizeof want, "%s", digest);
        cr_expect_str_eq(digest, want, "form %zu", i);
        json_decref(s);
    }
}

Test(ingest_text, gzip)
{
    struct wn_ingest_opts o = opts("mails.csv.gz");
    char plain[8000];
    size_t n = (size_t)snprintf(plain, sizeof plain, "text,label\n");
    for (int i = 0; i < 40; i++)
        n += (size_t)snprintf(plain + n, sizeof plain - n, "mail %d,%s\n", i, labels[i % 2]);
    gzFile f = gzopen(upload, "wb");
    cr_assert(f && gzwrite(f, plain, (unsigned)n) == (int)n && gzclose(f) == Z_OK);
    cr_expect_eq(must(&o).rows, 40);
}

Test(ingest_text, columns_as_told)
{
    struct wn_ingest_opts o = opts("a.csv");
    o.columns = (struct wn_columns){ .text = { "subject", "words" }, .n_text = 2, .join = " | ", .label = "kind" };
    put_upload("kind,words,subject,text\n", "%2$s,w%1$d,s%1$d,no\n", "");
    must(&o);
    struct wn_rows *rows = rows_of("train");
    size_t n;
    const char *text = wn_rows_item(rows, 0, 0, &n);
    cr_expect(n >= 7 && text[0] == 's' && memmem(text, n, " | w", 4), "%.*s", (int)n, text);
    wn_rows_free(rows);
}

Test(ingest_text, title_and_description_are_one_text)
{
    struct wn_ingest_opts o = opts("a.csv");
    put_upload("\"label\",\"title\",\"description\"\n", "\"%2$s\",\"t%1$d\",\"d\"\n", "");
    struct wn_ingest_result r = must(&o);
    cr_expect_str_eq(r.columns, "text from 'title' and 'description', label from 'label' (guessed)");
    struct wn_rows *rows = rows_of("train");
    size_t n;
    const char *text = wn_rows_item(rows, 0, 0, &n);
    cr_expect(n > 4 && memcmp(text + n - 3, ". d", 3) == 0, "%.*s", (int)n, text);
    wn_rows_free(rows);
}

Test(ingest_text, pairs)
{
    struct wn_ingest_opts o = opts("a.csv");
    put_upload("sentence1,sentence2,label\n", "one %1$d,two %1$d,%2$s\n", "one,,spam\n");
    struct wn_ingest_result r = must(&o);
    cr_expect_eq(r.rejected, 1);
    struct wn_rows *rows = rows_of("train");
    cr_assert_eq(wn_rows_n_inputs(rows), 2);
    cr_expect_str_eq(wn_rows_input(rows, 1)->name, "text_pair");
    size_t n, m;
    const char *a = wn_rows_item(rows, 0, 0, &n), *b = wn_rows_item(rows, 1, 0, &m);
    cr_expect(n == m && memcmp(a, "one ", 4) == 0 && memcmp(b, "two ", 4) == 0 && memcmp(a + 4, b + 4, n - 4) == 0);
    wn_rows_free(rows);
    o.pair_name = NULL;
    struct winnow_err err;
    cr_expect_eq(wn_ingest(&o, &r, &err), WINNOW_E_UNSUPPORTED);
    cr_expect_str_eq(err.msg, "a.csv: column 'sentence2': the model takes no pairs of texts");
}

Test(ingest_text, numbers_are_places_of_names)
{
    struct wn_ingest_opts o = opts("a.jsonl");
    char text[8000];
    size_t n = 0;
    for (int i = 0; i < 40; i++)
        n += (size_t)snprintf(text + n, sizeof text - n, "{\"text\":\"m%d\",\"label\":%d}\n", i, i % 2);
    cr_assert_eq(wn_file_write_durable(upload, text, n, NULL), WINNOW_OK);
    must(&o);
    struct wn_rows *rows = rows_of("eval");
    const char *first = wn_rows_item(rows, 0, 0, &n);
    cr_expect_eq(wn_rows_label(rows, 0), (first[n - 1] - '0') % 2);
    cr_expect_str_eq(wn_rows_label_name(rows, 1), "spam");
    wn_rows_free(rows);
}

Test(ingest_text, rejects_say_file_line_and_reason)
{
    static const struct {
        const char *name, *row, *reason;
    } cases[] = {
        { "a.csv", "only one field\n", "1 fields, the header has 2" },
        { "a.csv", "x,y,z\n", "3 fields, the header has 2" },
        { "a.csv", ",spam\n", "the text is empty" },
        { "a.csv", "\" \n \",spam\n", "the text is empty" },
        { "a.csv", "text,\n", "the label is empty" },
        { "a.csv", "te\"xt,spam\n", "a quote within a field that is not in quotes" },
        { "a.csv", "\"text\" ,spam\n", "text behind a closing quote" },
        { "a.csv", "caf\xe9 here,spam\n", "the text is not UTF-8 at its byte 4" },
        { "a.csv", "\xed\xa0\x80,spam\n", "the text is not UTF-8 at its byte 1" },
        { "a.csv", "text,\"spam\nand eggs\"\n", "the label has more than one line" },
        { "a.jsonl", "{\"text\": \"x\", \"label\": \n", "not JSON: " },
        { "a.jsonl", "[\"x\"]\n", "not a JSON object" },
        { "a.jsonl", "{\"text\": 3, \"label\": \"spam\"}\n", "no text" },
        { "a.jsonl", "{\"text\": \"x\"}\n", "no label" },
        { "a.jsonl", "{\"text\": \"x\", \"label\": \"spam\", \"label\": \"ham\"}\n", "not JSON: duplicate object key" },
        { "a.jsonl", "{\"text\": \"x\\u0000y\", \"label\": \"spam\"}\n", "not JSON: \\u0000 is not allowed" },
    };
    for (size_t i = 0; i < WN_COUNT(cases); i++) {
        bool csv = strstr(cases[i].name, "csv") != NULL;
        struct wn_ingest_opts o = opts(cases[i].name);
        put_upload(csv ? "text,label\n" : "", csv ? "m%1$d,%2$s\n" : "{\"text\":\"m%1$d\",\"label\":\"%2$s\"}\n",
                   cases[i].row);
        struct wn_ingest_result r = must(&o);
        cr_expect(r.rejected == 1 && r.rows == 40, "case %zu: %zu rejected", i, r.rejected);
        json_t *s = summary(), *first = json_array_get(json_object_get(s, "rejects"), 0);
        cr_expect_str_eq(json_string_value(json_object_get(first, "item")), cases[i].name);
        cr_expect_eq(json_integer_value(json_object_get(first, "line")), csv ? 42 : 41, "case %zu", i);
        const char *reason = json_string_value(json_object_get(first, "reason"));
        cr_expect(reason && strncmp(reason, cases[i].reason, strlen(cases[i].reason)) == 0, "case %zu: %s", i, reason);
        json_decref(s);
    }
}

Test(ingest_text, what_ends_a_job)
{
    static const struct {
        const char *name, *head, *row, *tail, *msg;
    } cases[] = {
        { "a.csv", "", "", "", "a.csv: an empty file" },
        { "a.csv", "text,label\n", "", "", "no rows: expected CSV with a header, or JSONL" },
        { "a.csv", "words,label\n", "m%1$d,%2$s\n", "",
          "a.csv:1: no column is known to hold the text among 'words', 'label': name it with columns.text" },
        { "a.csv", "text,kind\n", "m%1$d,%2$s\n", "",
          "a.csv:1: no column is known to hold the label among 'text', 'kind': name it with columns.label" },
        { "a.csv", "text,label\n", "m%1$d,%2$s\n", "\"open,spam\nm,spam\n",
          "a.csv: line 42: a quote is opened here and never closed" },
        { "a.csv", "\xff\xfet\0e\0", "", "", "a.csv: UTF-16; save it as UTF-8" },
        { "a.json", "[{}]", "", "", "a.json: a JSON array; send one object per line (JSONL)" },
        { "a.csv", "text,label\n", "m%1$d,%2$sy\n", "",
          "label 'hamy' is not one of the model's (ham, spam), did you "
          "mean 'ham'?" },
        { "a.csv", "text,label\n", "m%1$d,zebra%2$s\n", "",
          "label 'zebraham' is not one of the model's (ham, spam); data with labels of its own wants new_labels "
          "(--new-labels)" },
        { "a.csv", "text,label\n", "\xff %1$d,%2$s\n", "",
          "40 of 40 rows cannot be read; the first: a.csv:2: the text is not UTF-8 at its byte 1" },
    };
    for (size_t i = 0; i < WN_COUNT(cases); i++) {
        struct wn_ingest_opts o = opts(cases[i].name);
        struct wn_ingest_result r;
        struct winnow_err err = { 0 };
        put_upload(cases[i].head, cases[i].row, cases[i].tail);
        cr_expect_neq(wn_ingest(&o, &r, &err), WINNOW_OK, "case %zu", i);
        cr_expect_str_eq(err.msg, cases[i].msg);
    }
    struct wn_ingest_opts o = opts("a.csv");
    struct wn_ingest_result r;
    struct winnow_err err = { 0 };
    o.columns = (struct wn_columns){ .text = { "words" }, .n_text = 1 };
    put_upload("text,label\n", "m%1$d,%2$s\n", "");
    cr_expect_eq(wn_ingest(&o, &r, &err), WINNOW_E_MALFORMED);
    cr_expect_str_eq(err.msg, "a.csv:1: columns.text: there is no column 'words', but 'text', 'label'");
}

Test(ingest_text, parts_of_a_folder)
{
    char path[160], text[4000];
    struct wn_ingest_opts o = opts(NULL);
    cr_assert_eq(mkdir(upload, 0700), 0);
    for (int k = 0; k < 3; k++) {
        static const char *const names[] = { "train-0.csv", "test.jsonl", "README.txt" };
        size_t n = (size_t)snprintf(text, sizeof text, k ? "" : "text,label\n");
        for (int i = 0; i < 24; i++)
            n += (size_t)snprintf(text + n, sizeof text - n, k ? "{\"text\":\"e%d\",\"label\":\"%s\"}\n" : "t%d,%s\n",
                                  i, labels[i % 2]);
        snprintf(path, sizeof path, "%s/%s", upload, names[k]);
        cr_assert_eq(wn_file_write_durable(path, text, n, NULL), WINNOW_OK);
    }
    struct wn_ingest_result r = must(&o);
    cr_expect(r.train == 24 && r.eval == 24 && r.rejected == 0, "%zu %zu %zu", r.train, r.eval, r.rejected);
    struct wn_rows *rows = rows_of("eval");
    size_t n;
    cr_expect_eq(*(const char *)wn_rows_item(rows, 0, 0, &n), 'e');
    wn_rows_free(rows);
}
