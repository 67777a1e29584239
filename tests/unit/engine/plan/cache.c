/* Compiled forms: models that come from one answer as those that come from their files, bit for bit; whatever is wrong
 * with a form, it is not used and the model is loaded all the same. */
#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include "engine/graph/onnx.h"
#include "engine/plan/cache_file.h"
#include "engine/plan/model.h"
#include "tests/unit/engine/plan/net.h"

static char dir[] = "/tmp/winnow-cache-XXXXXX";
static char cache[64];

static struct winnow_load_opts opts(void)
{
    return (struct winnow_load_opts){ .cache = cache };
}

static void begin(void)
{
    cr_assert(mkdtemp(dir));
    snprintf(cache, sizeof cache, "%s/cache", dir);
}

static void empty(const char *folder)
{
    DIR *d = opendir(folder);
    for (struct dirent *e; d && (e = readdir(d)) != NULL;) {
        char path[512];
        snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
        unlink(path);
    }
    if (d)
        closedir(d);
    rmdir(folder);
}

static void end(void)
{
    empty(cache);
    empty(dir);
}

static unsigned count(const char *suffix)
{
    unsigned n = 0;
    DIR *d = opendir(cache);
    for (struct dirent *e; d && (e = readdir(d)) != NULL;)
        n += strstr(e->d_name, suffix) != NULL;
    if (d)
        closedir(d);
    return n;
}

/* The only compiled form there is. */
static const char *form(void)
{
    static char path[512];
    DIR *d = opendir(cache);
    *path = '\0';
    for (struct dirent *e; d && (e = readdir(d)) != NULL;)
        if (strstr(e->d_name, ".plan"))
            snprintf(path, sizeof path, "%s/%s", cache, e->d_name);
    if (d)
        closedir(d);
    cr_assert(*path);
    return path;
}

static void write_net(struct net *n, const char *name, char path[128])
{
    snprintf(path, 128, "%s/%s.onnx", dir, name);
    cr_assert_eq(net_check(n), WINNOW_OK, "%s", n->err.msg);
    cr_assert_eq(wn_onnx_write_file(&n->g, path, false, &n->err), WINNOW_OK, "%s", n->err.msg);
    net_done(n);
}

/* ---- models ---- */

/* Zeros in runs of four, so that sparse forms of every pattern come up. */
static void thin(struct net *n, wn_vid w, size_t size, int64_t count_of, unsigned keep)
{
    for (int64_t i = 0; i < count_of; i += 4)
        if (net_pick(n, 0, 99) >= (int)keep)
            memset((char *)net_data(n, w) + (size_t)i * size, 0, 4 * size);
}

static void linear_f32(char path[128], unsigned keep, const char *name)
{
    struct net n;
    net_init(&n, 21);
    wn_vid x = net_input(&n, "x", WINNOW_F32, 3, NET_DIMS(-1, -1, 256)), w = net_normals(&n, 2, NET_DIMS(256, 320), 1);
    thin(&n, w, 4, 256 * 320, keep);
    wn_vid y = net_op(&n, "Relu", NET_IN(net_op(&n, "MatMul", NET_IN(x, w))));
    net_output(&n, net_op(&n, "Add", NET_IN(y, net_normals(&n, 1, NET_DIMS(320), 1))));
    write_net(&n, name, path);
}

static wn_vid weights(struct net *n, int rank, const int64_t *dim, int64_t count_of, unsigned keep)
{
    wn_vid w = net_const(n, WINNOW_I8, (unsigned)rank, dim, NULL);
    for (int64_t i = 0; i < count_of; i++)
        ((int8_t *)net_data(n, w))[i] = (int8_t)net_pick(n, -128, 127);
    thin(n, w, 1, count_of, keep);
    return w;
}

/* A stem, a depthwise and a dense convolution, pooled: int8. */
static void picture_q8(char path[128], unsigned keep, const char *name)
{
    struct net n;
    net_init(&n, 22);
    wn_vid x = net_input(&n, "x", WINNOW_U8, 4, NET_DIMS(-1, 3, 32, 32)), s = net_f32(&n, 0.02f), z = net_u8(&n, 7);
    wn_vid ws = net_f32(&n, 0.01f), wz = net_i8(&n, 0);
    wn_vid y =
        net_op(&n, "QLinearConv", NET_IN(x, s, z, weights(&n, 4, NET_DIMS(64, 3, 3, 3), 64 * 27, 100), ws, wz, s, z));
    net_ints(&n, "strides", NET_DIMS(2, 2), 2);
    y = net_op(&n, "QLinearConv", NET_IN(y, s, z, weights(&n, 4, NET_DIMS(64, 1, 3, 3), 64 * 9, 100), ws, wz, s, z));
    net_int(&n, "group", 64);
    y = net_op(&n, "QLinearConv",
               NET_IN(y, s, z, weights(&n, 4, NET_DIMS(128, 64, 3, 3), 128 * 576, keep), ws, wz, s, z));
    net_output(&n, net_op(&n, "MaxPool", NET_IN(y)));
    net_ints(&n, "kernel_shape", NET_DIMS(2, 2), 2);
    write_net(&n, name, path);
}

static void linear_q8(char path[128], unsigned keep, const char *name)
{
    struct net n;
    net_init(&n, 23);
    wn_vid x = net_input(&n, "x", WINNOW_U8, 3, NET_DIMS(-1, -1, 256)), s = net_f32(&n, 0.02f), z = net_u8(&n, 7);
    wn_vid w = weights(&n, 2, NET_DIMS(256, 320), 256 * 320, keep);
    net_output(&n, net_op(&n, "QLinearMatMul", NET_IN(x, s, z, w, net_f32(&n, 0.01f), net_i8(&n, 0), s, z)));
    write_net(&n, name, path);
}

/* ---- running ---- */

static struct net_answer answer(winnow_model *model, int64_t a)
{
    winnow_scratch *scratch;
    struct winnow_err err = { 0 };
    const struct winnow_io *io = winnow_model_input(model, 0);
    struct winnow_tensor x = { .dtype = io->dtype, .rank = io->rank };
    size_t elements = 1;
    for (unsigned d = 0; d < io->rank; d++)
        elements *= (size_t)(x.shape[d] = io->shape[d] >= 0 ? io->shape[d] : d ? a : 1);
    x.bytes = elements * winnow_dtype_size(x.dtype);
    x.data = calloc(1, x.bytes + 1);
    for (size_t i = 0; i < elements; i++) {
        const unsigned v = (unsigned)(i * 2654435761u >> 7) & 255;
        if (x.dtype == WINNOW_F32)
            ((float *)x.data)[i] = (float)v / 64 - 2;
        else
            ((uint8_t *)x.data)[i] = (uint8_t)v;
    }
    cr_assert_eq(winnow_scratch_new(model, NULL, &scratch, &err), WINNOW_OK, "%s", err.msg);
    struct net_answer ret = net_run_on(model, scratch, &x, 1, 0);
    winnow_scratch_free(scratch);
    free(x.data);
    return ret;
}

static winnow_model *load(const char *path)
{
    winnow_model *model;
    struct winnow_err err = { 0 };
    const struct winnow_load_opts o = opts();
    cr_assert_eq(winnow_model_load(path, &o, &model, &err), WINNOW_OK, "%s", err.msg);
    return model;
}

static bool came_from_form(const winnow_model *model)
{
    size_t n;
    return winnow_model_tag(model, &n) != NULL;
}

/* Load, run (which packs), keep. */
static void keep(const char *path)
{
    struct winnow_err err = { 0 };
    const struct winnow_load_opts o = opts();
    winnow_model *model = load(path);
    free(answer(model, 48).t.data);
    cr_assert_eq(winnow_cache_save(model, path, &o, "tag", 3, &err), WINNOW_OK, "%s", err.msg);
    winnow_model_unref(model);
}

/* The same from the file and from the form, at shapes that want several packings. */
static void check(const char *path)
{
    winnow_model *plain, *kept = load(path);
    struct winnow_err err = { 0 };
    size_t n;
    cr_assert_eq(winnow_model_load(path, NULL, &plain, &err), WINNOW_OK, "%s", err.msg);
    cr_assert(came_from_form(kept), "%s", path);
    cr_expect(!came_from_form(plain));
    cr_expect_eq(memcmp(winnow_model_tag(kept, &n), "tag", 3), 0);
    cr_expect_eq(n, 3);
    cr_expect_str_eq(winnow_model_input(kept, 0)->name, winnow_model_input(plain, 0)->name);
    cr_expect_eq(winnow_model_rows_independent(kept, NULL), winnow_model_rows_independent(plain, NULL));
    for (int64_t a = 48; a > 0; a /= 3) {
        struct net_answer x = answer(kept, a), y = answer(plain, a);
        cr_expect(x.t.bytes == y.t.bytes && memcmp(x.t.data, y.t.data, x.t.bytes) == 0, "%s at %lld", path,
                  (long long)a);
        free(x.t.data);
        free(y.t.data);
    }
    winnow_model_unref(plain); /* the packs of one may be those of the other */
    free(answer(kept, 48).t.data);
    winnow_model_unref(kept);
}

#define MODELS 6

static void make(char path[MODELS][128])
{
    begin();
    linear_f32(path[0], 100, "f32");
    linear_f32(path[1], 8, "f32-sparse");
    linear_q8(path[2], 100, "q8");
    linear_q8(path[3], 8, "q8-sparse");
    picture_q8(path[4], 100, "picture");
    picture_q8(path[5], 8, "picture-sparse");
    usleep(2100000); /* the files' times tell their states apart only after a while */
}

/* ---- tests ---- */

Test(cache, answers_are_the_same, .timeout = 120)
{
    char path[MODELS][128];
    make(path);
    for (int i = 0; i < MODELS; i++) {
        keep(path[i]);
        check(path[i]);
    }
    cr_expect_eq(count(".plan"), MODELS);
    cr_expect_eq(count(".tmp"), 0);
    /* A form that came from a form is the same form. */
    winnow_model *kept = load(path[2]);
    const struct winnow_load_opts o = opts();
    struct winnow_err err = { 0 };
    cr_expect_eq(winnow_cache_save(kept, path[2], &o, "tag", 3, &err), WINNOW_OK, "%s", err.msg);
    winnow_model_unref(kept);
    check(path[2]);
    end();
}

Test(cache, a_file_that_changed_is_loaded_anew, .timeout = 120)
{
    char path[128];
    struct winnow_err err = { 0 };
    winnow_model *model;
    begin();
    const struct winnow_load_opts o = opts();
    linear_q8(path, 8, "q8");
    model = load(path); /* too soon after it was written */
    cr_expect_eq(winnow_cache_save(model, path, &o, NULL, 0, &err), WINNOW_E_UNAVAILABLE);
    winnow_model_unref(model);
    usleep(2100000);
    keep(path);
    model = load(path);
    cr_expect(came_from_form(model));
    linear_q8(path, 50, "q8"); /* other weights under the same name */
    cr_expect_eq(winnow_cache_load(path, &o, &model, &err), WINNOW_E_PRECONDITION);
    cr_expect(strstr(err.msg, "another state"), "%s", err.msg);
    winnow_model *other = load(path), *plain;
    cr_expect(!came_from_form(other));
    cr_assert_eq(winnow_model_load(path, NULL, &plain, &err), WINNOW_OK);
    struct net_answer x = answer(other, 48), y = answer(plain, 48);
    cr_expect_eq(memcmp(x.t.data, y.t.data, x.t.bytes), 0);
    cr_expect_eq(winnow_cache_save(model, path, &o, NULL, 0, &err), WINNOW_E_UNAVAILABLE);
    free(x.t.data);
    free(y.t.data);
    winnow_model_unref(other);
    winnow_model_unref(plain);
    winnow_model_unref(model);
    end();
}

static void *bytes_of(const char *path, size_t *ret_n)
{
    void *bytes;
    struct winnow_err err;
    cr_assert_eq(wn_file_read(path, 0, &bytes, ret_n, &err), WINNOW_OK);
    return bytes;
}

static void put_bytes(const char *path, const void *bytes, size_t n)
{
    FILE *f = fopen(path, "wb");
    cr_assert(f && fwrite(bytes, 1, n, f) == n);
    fclose(f);
}

static void not_used(const char *path, const char *what, size_t at)
{
    winnow_model *model = NULL;
    struct winnow_err err = { 0 };
    const struct winnow_load_opts o = opts();
    cr_expect_neq(winnow_cache_load(path, &o, &model, &err), WINNOW_OK, "%s at %zu", what, at);
    winnow_model_unref(model);
}

Test(cache, a_damaged_form_is_not_used, .timeout = 240)
{
    char path[128];
    size_t n;
    begin();
    linear_q8(path, 8, "q8");
    usleep(2100000);
    keep(path);
    char *name = strdup(form());
    unsigned char *bytes = bytes_of(name, &n);
    for (size_t i = 0; i < n; i += i < 2048 ? 7 : 97) {
        bytes[i] ^= 0x41;
        put_bytes(name, bytes, n);
        not_used(path, "a byte", i);
        bytes[i] ^= 0x41;
    }
    for (size_t i = 0; i < n; i += i < 2048 ? 61 : 997) {
        put_bytes(name, bytes, i);
        not_used(path, "cut", i);
    }
    winnow_model *model = load(path); /* from the file */
    cr_expect(!came_from_form(model));
    winnow_model_unref(model);
    put_bytes(name, bytes, n);
    check(path);
    free(bytes);
    free(name);
    end();
}

Test(cache, forms_are_of_one_instruction_set_and_one_owner, .timeout = 120)
{
    char path[128];
    const enum wn_isa best = wn_cpu_isa();
    begin();
    linear_q8(path, 8, "q8");
    usleep(2100000);
    keep(path);
    char *name = strdup(form());
    if (best != WN_ISA_scalar) {
        net_force(WN_ISA_scalar);
        not_used(path, "another instruction set", 0);
        net_force(best);
    }
    cr_assert_eq(chmod(name, 0602), 0);
    not_used(path, "writable by others", 0);
    cr_assert_eq(chmod(name, 0600), 0);
    check(path);
    if (geteuid() == 0) { /* others cannot give files away */
        cr_assert_eq(chown(name, 65534, (gid_t)-1), 0);
        not_used(path, "of another owner", 0);
        cr_assert_eq(chown(name, 0, (gid_t)-1), 0);
        check(path);
    }
    char elsewhere[600];
    snprintf(elsewhere, sizeof elsewhere, "%s.moved", name);
    cr_assert_eq(rename(name, elsewhere), 0);
    cr_assert_eq(symlink(elsewhere, name), 0);
    not_used(path, "a link", 0);
    free(name);
    end();
}

Test(cache, what_cannot_be_kept_is_said, .timeout = 120)
{
    char path[128];
    struct winnow_err err = { 0 };
    begin();
    linear_f32(path, 100, "f32");
    usleep(2100000);
    struct winnow_load_opts o = opts();
    winnow_model *model = load(path);
    free(answer(model, 48).t.data);
    o.cache = path; /* a file */
    cr_expect_neq(winnow_cache_save(model, path, &o, NULL, 0, &err), WINNOW_OK);
    cr_expect(strstr(err.msg, path), "%s", err.msg);
    o.cache = NULL;
    cr_expect_eq(winnow_cache_save(model, path, &o, NULL, 0, &err), WINNOW_E_UNSUPPORTED);
    o.cache = cache;
    signal(SIGXFSZ, SIG_IGN); /* the disk is full after 64 KiB */
    struct rlimit was, small = { 64 << 10, 64 << 10 };
    cr_assert_eq(getrlimit(RLIMIT_FSIZE, &was), 0);
    small.rlim_max = was.rlim_max;
    cr_assert_eq(setrlimit(RLIMIT_FSIZE, &small), 0);
    cr_expect_neq(winnow_cache_save(model, path, &o, NULL, 0, &err), WINNOW_OK);
    setrlimit(RLIMIT_FSIZE, &was);
    cr_expect_eq(count(""), 2, "something was left behind"); /* . and .. */
    cr_expect_eq(winnow_cache_save(model, path, &o, NULL, 0, &err), WINNOW_OK, "%s", err.msg);
    winnow_model_unref(model);
    end();
}

Test(cache, forms_of_files_that_are_gone_go_too, .timeout = 120)
{
    char path[MODELS][128];
    make(path);
    for (int i = 0; i < MODELS; i++)
        keep(path[i]);
    cr_expect_eq(count(".plan"), MODELS);
    unlink(path[0]);
    keep(path[1]);
    cr_expect_eq(count(".plan"), MODELS - 1);
    /* No room but for the newest. */
    struct winnow_load_opts o = opts();
    struct winnow_err err = { 0 };
    o.max_cache_bytes = 1;
    winnow_model *model = load(path[3]);
    cr_expect_eq(winnow_cache_save(model, path[3], &o, "tag", 3, &err), WINNOW_OK, "%s", err.msg);
    winnow_model_unref(model);
    cr_expect_eq(count(".plan"), 1);
    check(path[3]);
    end();
}
