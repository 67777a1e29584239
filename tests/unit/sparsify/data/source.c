/* source.c: names are cleaned or refused, limits hold, a folder is walked in order. */
#include "sparsify/data/source.h"

#include <archive.h>
#include <archive_entry.h>
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

Test(source, names)
{
    char got[WN_SOURCE_MAX_NAME + 1], longest[WN_SOURCE_MAX_NAME + 2];
    static const char *const good[][2] = { { "a/b.png", "a/b.png" },
                                           { "./a//b/", "a/b" },
                                           { ".", "" },
                                           { "a/...", "a/..." },
                                           { "\xc3\xa9/\xf0\x9f\x90\x88", "\xc3\xa9/\xf0\x9f\x90\x88" } };
    static const char *const bad[] = {
        "",     "/a",           "..",           "a/../b",          "a\\b", "a\nb", "\x7f", "\xff", "\xc0\xaf",
        "a/..", "\xe0\x80\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80"
    };
    for (size_t i = 0; i < WN_COUNT(good); i++) {
        cr_assert_eq(wn_source_name(good[i][0], got, NULL), WINNOW_OK, "%s", good[i][0]);
        cr_assert_str_eq(got, good[i][1]);
    }
    for (size_t i = 0; i < WN_COUNT(bad); i++)
        cr_assert_eq(wn_source_name(bad[i], got, NULL), WINNOW_E_MALFORMED, "%zu", i);
    memset(longest, 'a', sizeof longest - 1);
    longest[sizeof longest - 1] = '\0';
    cr_assert_eq(wn_source_name(longest, got, NULL), WINNOW_E_MALFORMED);
    cr_assert_eq(wn_source_name(longest + 1, got, NULL), WINNOW_OK);
}

/* ---- archives ---- */

struct seen {
    char names[512];
    size_t files, refused, bytes;
};

static enum winnow_status on_file(void *arg, const char *name, const void *bytes, size_t n, struct winnow_err *err)
{
    struct seen *s = arg;
    s->files++;
    s->bytes += n;
    snprintf(s->names + strlen(s->names), sizeof s->names - strlen(s->names), "%s ", name);
    return WINNOW_OK;
}

static enum winnow_status on_refused(void *arg, const char *name, const char *reason, struct winnow_err *err)
{
    ((struct seen *)arg)->refused++;
    return WINNOW_OK;
}

static char packed[1 << 20];
static size_t packed_n;

/* A tar.gz (or zip) of `n` files of `bytes` zeros each, and one symbolic link. */
static void pack(unsigned n, size_t bytes, bool zip, bool link)
{
    struct archive *a = archive_write_new();
    char *zeros = calloc(1, bytes + 1);
    if (zip) {
        archive_write_set_format_zip(a);
    } else {
        archive_write_set_format_pax_restricted(a);
        archive_write_add_filter_gzip(a);
    }
    cr_assert_eq(archive_write_open_memory(a, packed, sizeof packed, &packed_n), ARCHIVE_OK);
    for (unsigned i = 0; i < n + link; i++) {
        char name[32];
        struct archive_entry *e = archive_entry_new();
        snprintf(name, sizeof name, "d/%u", i);
        archive_entry_set_pathname(e, name);
        archive_entry_set_filetype(e, i < n ? AE_IFREG : AE_IFLNK);
        archive_entry_set_perm(e, 0644);
        if (i < n)
            archive_entry_set_size(e, (la_int64_t)bytes);
        else
            archive_entry_set_symlink(e, "/etc/passwd");
        cr_assert_eq(archive_write_header(a, e), ARCHIVE_OK);
        if (i < n)
            cr_assert_eq(archive_write_data(a, zeros, bytes), (la_ssize_t)bytes);
        archive_entry_free(e);
    }
    cr_assert_eq(archive_write_close(a), ARCHIVE_OK);
    archive_write_free(a);
    free(zeros);
}

static enum winnow_status walk(const struct wn_source_limits *lim, struct seen *s, struct winnow_err *err)
{
    struct wn_source_sink sink = { .file = on_file, .refused = on_refused, .arg = s };
    *s = (struct seen){ 0 };
    return wn_source_walk_memory(packed, packed_n, lim, &sink, err);
}

Test(source, archives)
{
    struct seen s;
    struct winnow_err err = { 0 };
    for (unsigned zip = 0; zip < 2; zip++) {
        pack(3, 1000, zip, true);
        cr_assert_eq(walk(NULL, &s, &err), WINNOW_OK, "%s", err.msg);
        cr_assert_str_eq(s.names, "d/0 d/1 d/2 ");
        cr_assert(s.bytes == 3000 && s.refused == 1, "%zu %zu", s.bytes, s.refused);
        for (size_t n = packed_n; n > 0; n -= WN_MIN(n, (size_t)37)) { /* cut anywhere: an error, or what was whole */
            packed_n = n;
            (void)(walk(NULL, &s, &err) == WINNOW_OK);
        }
    }
}

Test(source, limits)
{
    struct seen s;
    struct winnow_err err = { 0 };
    struct wn_source_limits lim = { .max_entries = 3 };
    pack(4, 1000, true, false);
    cr_assert_eq(walk(&lim, &s, &err), WINNOW_E_TOO_LARGE);
    cr_assert(strstr(err.msg, "entries"), "%s", err.msg);
    lim = (struct wn_source_limits){ .max_file_bytes = 999 };
    cr_assert_eq(walk(&lim, &s, &err), WINNOW_E_TOO_LARGE);
    lim = (struct wn_source_limits){ .max_bytes = 2500 };
    cr_assert_eq(walk(&lim, &s, &err), WINNOW_E_TOO_LARGE);
    cr_assert_eq(s.files, 2);
    pack(4, 500000, false, false);
    lim = (struct wn_source_limits){ .ratio_floor = 100000 };
    cr_assert_eq(walk(&lim, &s, &err), WINNOW_E_TOO_LARGE);
    cr_assert(strstr(err.msg, "times its size"), "%s", err.msg);
    cr_assert_eq(walk(NULL, &s, &err), WINNOW_OK, "%s", err.msg);
}

Test(source, folder)
{
    char dir[] = "/tmp/wn-source-XXXXXX", path[128];
    struct seen s = { 0 };
    struct winnow_err err = { 0 };
    struct wn_source_sink sink = { .file = on_file, .refused = on_refused, .arg = &s };
    static const char *const files[] = { "b/2", "a/1", "b/1", "a/c/9" };
    cr_assert(mkdtemp(dir));
    static const char *const folders[] = { "a", "b", "a/c" };
    for (size_t i = 0; i < WN_COUNT(folders); i++) {
        snprintf(path, sizeof path, "%s/%s", dir, folders[i]);
        cr_assert_eq(mkdir(path, 0700), 0);
    }
    for (size_t i = 0; i < WN_COUNT(files); i++) {
        snprintf(path, sizeof path, "%s/%s", dir, files[i]);
        FILE *f = fopen(path, "w");
        cr_assert(f && fputs("x", f) >= 0 && fclose(f) == 0);
    }
    snprintf(path, sizeof path, "%s/a/link", dir);
    cr_assert_eq(symlink("/etc", path), 0);
    snprintf(path, sizeof path, "%s/a/fifo", dir);
    cr_assert_eq(mkfifo(path, 0600), 0);
    cr_assert_eq(wn_source_walk(dir, NULL, &sink, &err), WINNOW_OK, "%s", err.msg);
    cr_assert_str_eq(s.names, "a/1 a/c/9 b/1 b/2 ");
    cr_assert_eq(s.refused, 2);
    snprintf(path, sizeof path, "rm -r %s", dir);
    cr_assert_eq(system(path), 0);
    cr_assert_eq(wn_source_walk(dir, NULL, &sink, &err), WINNOW_E_NOT_FOUND);
}
