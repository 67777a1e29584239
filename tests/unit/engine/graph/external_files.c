/* external_files.c: every file that a model names is told and copied; places outside, links and what is no ONNX are
 * refused; a file that another model shares is copied once. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>
#include "tests/unit/engine/graph/build.h"
#include "winnow/winnow.h"

static char dir[] = "/tmp/wn-external-XXXXXX";
static struct winnow_err err;

static const char *at(const char *name)
{
    static char path[4][256];
    static unsigned next;
    next = (next + 1) % 4;
    snprintf(path[next], sizeof path[next], "%s/%s", dir, name);
    return path[next];
}

static void put(const char *name, const void *bytes, size_t n)
{
    FILE *f = fopen(at(name), "wb");
    cr_assert_not_null(f);
    cr_assert_eq(fwrite(bytes, 1, n, f), n);
    fclose(f);
}

static bool holds(const char *name, const char *text)
{
    char got[64] = "";
    FILE *f = fopen(at(name), "rb");
    if (!f)
        return false;
    size_t n = fread(got, 1, sizeof got, f);
    fclose(f);
    return n == strlen(text) && memcmp(got, text, n) == 0;
}

static void begin(void)
{
    cr_assert_not_null(mkdtemp(dir));
    cr_assert_eq(mkdir(at("to"), 0777), 0);
    cr_assert_eq(mkdir(at("sub"), 0777), 0);
    put("a.bin", "aaaa", 4);
    put("sub/b.bin", "bbbbbbbb", 8);
}

static void end(void)
{
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", dir);
    cr_assert_eq(system(command), 0);
}

TestSuite(external_files, .init = begin, .fini = end);

static void entry(struct pb *tensor, const char *key, const char *value)
{
    struct pb e = { 0 };
    if (key)
        pb_str(&e, 1, key);
    if (value)
        pb_str(&e, 2, value);
    pb_msg(tensor, TENSOR_EXTERNAL, e);
}

static struct pb tensor(const char *location)
{
    struct pb t = { 0 };
    pb_int(&t, TENSOR_DIMS, 1);
    pb_int(&t, TENSOR_TYPE, WINNOW_F32);
    pb_str(&t, TENSOR_NAME, "t");
    entry(&t, "location", location);
    entry(&t, "offset", "0");
    pb_int(&t, TENSOR_LOCATION, 1);
    return t;
}

/* PATH: a model with `graph` in it. */
static void put_model(const char *name, struct pb graph)
{
    struct pb model = { 0 };
    pb_int(&model, MODEL_IR, 8);
    pb_msg(&model, MODEL_GRAPH, graph);
    put(name, model.p, model.n);
    free(model.p);
}

static void put_one(const char *name, struct pb t)
{
    struct pb graph = { 0 };
    pb_msg(&graph, GRAPH_INIT, t);
    put_model(name, graph);
}

/* What the list says, names joined by commas. */
static const char *list(const char *name)
{
    static char all[256];
    char **names;
    all[0] = '\0';
    if (winnow_external_list(at(name), &names, NULL, &err) != WINNOW_OK)
        return NULL;
    for (char **n = names; *n; n++) {
        strcat(all, n == names ? "" : ",");
        strcat(all, *n);
    }
    free(names);
    return all;
}

static void refused(const char *name, enum winnow_status want, const char *part)
{
    char **names;
    cr_expect_eq(winnow_external_list(at(name), &names, NULL, &err), want, "%s: %s", part, err.msg);
    cr_expect(strstr(err.msg, part) && strstr(err.msg, name), "%s", err.msg);
    cr_expect_eq(winnow_external_copy(at(name), at("to"), 0, &err), want, "%s: %s", part, err.msg);
}

Test(external_files, names_wherever_tensors_are)
{
    struct pb graph = { 0 }, node = { 0 }, attr = { 0 }, sub = { 0 }, sub_attr = { 0 }, sparse = { 0 };
    struct pb inside = { 0 };
    unsigned char zeros[200000] = { 0 }; /* longer than the window */
    put("c.bin", "cc", 2);
    put("d.bin", "dd", 2);
    pb_bytes(&inside, TENSOR_RAW, zeros, sizeof zeros);
    pb_msg(&graph, GRAPH_INIT, inside);
    pb_msg(&graph, GRAPH_INIT, tensor("a.bin"));
    pb_msg(&graph, GRAPH_INIT, tensor("a.bin"));
    pb_msg(&sub_attr, ATTR_G, (pb_msg(&sub, GRAPH_INIT, tensor("sub/b.bin")), sub));
    pb_msg(&node, NODE_ATTR, sub_attr);
    pb_msg(&attr, ATTR_T, tensor("c.bin"));
    pb_msg(&node, NODE_ATTR, attr);
    pb_msg(&graph, GRAPH_NODE, node);
    pb_msg(&sparse, 1, tensor("d.bin"));
    pb_msg(&graph, GRAPH_SPARSE, sparse);
    put_model("m.onnx", graph);
    cr_assert_str_eq(list("m.onnx"), "a.bin,sub/b.bin,c.bin,d.bin");
    cr_assert_eq(winnow_external_copy(at("m.onnx"), at("to"), 16, &err), WINNOW_OK, "%s", err.msg);
    cr_expect(holds("to/a.bin", "aaaa") && holds("to/sub/b.bin", "bbbbbbbb") && holds("to/c.bin", "cc"));
    cr_expect(holds("to/d.bin", "dd"));
    cr_assert_eq(winnow_external_copy(at("m.onnx"), at("to"), 15, &err), WINNOW_E_TOO_LARGE);
    cr_expect(strstr(err.msg, "16 bytes, the limit is 15"), "%s", err.msg);
}

Test(external_files, a_model_in_one_file_has_none)
{
    struct pb graph = { 0 }, t = { 0 };
    pb_bytes(&t, TENSOR_RAW, "1234", 4);
    pb_str(&t, TENSOR_NAME, "location");
    pb_msg(&graph, GRAPH_INIT, t);
    put_model("m.onnx", graph);
    cr_assert_str_eq(list("m.onnx"), "");
    put("empty.onnx", "", 0);
    cr_assert_str_eq(list("empty.onnx"), "");
}

Test(external_files, entries_as_the_reader_takes_them)
{
    struct pb t = { 0 }, e = { 0 }, meta = { 0 }, graph = { 0 };
    static char longer[5000];
    memset(longer, 'x', sizeof longer - 1);
    put("c.bin", "cc", 2);
    pb_str(&e, 2, "nowhere");
    pb_str(&e, 2, "a.bin"); /* the last value counts, the key behind it too */
    pb_str(&e, 1, "offset");
    pb_str(&e, 1, "location");
    pb_msg(&t, TENSOR_EXTERNAL, e);
    entry(&t, "location", NULL); /* says nothing */
    entry(&t, "checksum", longer);
    entry(&t, "locations", "elsewhere");
    pb_str(&meta, 1, "location");
    pb_str(&meta, 2, "metadata");
    pb_msg(&t, 16, meta); /* metadata_props */
    pb_msg(&graph, GRAPH_INIT, t);
    t = (struct pb){ 0 };
    entry(&t, "location", "nowhere");
    entry(&t, "location", "c.bin");
    pb_msg(&graph, GRAPH_INIT, t);
    put_model("m.onnx", graph);
    cr_assert_str_eq(list("m.onnx"), "a.bin,c.bin", "%s", err.msg);
    put_one("m.onnx", tensor(longer));
    refused("m.onnx", WINNOW_E_MALFORMED, "name of more than");
}

Test(external_files, places_that_loading_refuses)
{
    static const struct {
        const char *location, *part;
        enum winnow_status want;
    } cases[] = { { "/etc/passwd", "'/etc/passwd' does not lie below", WINNOW_E_MALFORMED },
                  { "../a.bin", "'../a.bin' does not lie below", WINNOW_E_MALFORMED },
                  { "sub/../a.bin", "does not lie below", WINNOW_E_MALFORMED },
                  { "sub/..", "does not lie below", WINNOW_E_MALFORMED },
                  { "link.bin", "'link.bin' is a link", WINNOW_E_MALFORMED },
                  { "away/passwd", "folder 'away'", WINNOW_E_NOT_FOUND },
                  { "two.bin", "one name", WINNOW_E_MALFORMED },
                  { "fifo", "not a regular file", WINNOW_E_MALFORMED },
                  { "absent.bin", "'absent.bin'", WINNOW_E_NOT_FOUND } };
    cr_assert_eq(symlink("a.bin", at("link.bin")), 0);
    cr_assert_eq(symlink("/etc", at("away")), 0);
    cr_assert_eq(link(at("a.bin"), at("two.bin")), 0);
    cr_assert_eq(mkfifo(at("fifo"), 0600), 0);
    for (size_t i = 0; i < WN_COUNT(cases); i++) {
        put_one("m.onnx", tensor(cases[i].location));
        struct wn_arena arena;
        struct wn_graph g;
        wn_arena_init(&arena, 0);
        cr_expect_neq(wn_onnx_read_file(at("m.onnx"), NULL, &arena, &g, &err), WINNOW_OK, "%s", cases[i].location);
        wn_arena_done(&arena);
        refused("m.onnx", cases[i].want, cases[i].part);
    }
    cr_expect_eq(rmdir(at("to")), 0, "nothing was copied");
}

Test(external_files, what_is_no_onnx)
{
    struct pb nested = { 0 };
    put("text.onnx", "no model\n", 9);
    refused("text.onnx", WINNOW_E_MALFORMED, "not an ONNX file");
    put("cut.onnx", "\x3a\x05\x2a", 3);
    refused("cut.onnx", WINNOW_E_MALFORMED, "broken");
    put("longer.onnx", "\x3a\x04\x2a\x03\x01\x01", 6);
    refused("longer.onnx", WINNOW_E_MALFORMED, "broken");
    for (int i = 0; i < 200; i++) {
        struct pb attr = { 0 }, node = { 0 }, graph = { 0 };
        pb_msg(&attr, ATTR_G, nested);
        pb_msg(&node, NODE_ATTR, attr);
        pb_msg(&graph, GRAPH_NODE, node);
        nested = graph;
    }
    put_model("deep.onnx", nested);
    refused("deep.onnx", WINNOW_E_TOO_LARGE, "deeper");
    cr_expect_eq(winnow_external_list(at("none.onnx"), &(char **){ NULL }, NULL, &err), WINNOW_E_NOT_FOUND);
    cr_expect_eq(winnow_external_list(at("sub"), &(char **){ NULL }, NULL, &err), WINNOW_E_MALFORMED);
}

Test(external_files, a_shared_file_is_copied_once_and_no_other_is_replaced)
{
    put_one("m.onnx", tensor("a.bin"));
    put_one("n.onnx", tensor("./a.bin"));
    cr_assert_eq(winnow_external_copy(at("m.onnx"), at("to"), 0, &err), WINNOW_OK, "%s", err.msg);
    cr_assert_eq(winnow_external_copy(at("n.onnx"), at("to"), 0, &err), WINNOW_OK, "%s", err.msg);
    put("a.bin", "aaab", 4);
    cr_assert_eq(winnow_external_copy(at("m.onnx"), at("to"), 0, &err), WINNOW_E_CONFLICT);
    cr_expect(strstr(err.msg, "'a.bin'"), "%s", err.msg);
    put("a.bin", "aaaaa", 5);
    cr_assert_eq(winnow_external_copy(at("m.onnx"), at("to"), 0, &err), WINNOW_E_CONFLICT);
    cr_expect(holds("to/a.bin", "aaaa"));
}
