/* file.c: reading and durable writing of whole files. */
#include "base/file.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char dir[64];

static void make_dir(void)
{
    strcpy(dir, "/tmp/wn-file-XXXXXX");
    cr_assert_not_null(mkdtemp(dir));
}

static const char *in_dir(char buf[static 128], const char *name)
{
    snprintf(buf, 128, "%s/%s", dir, name);
    return buf;
}

static int count_files(void)
{
    DIR *d = opendir(dir);
    cr_assert_not_null(d);
    int n = 0;
    for (struct dirent *e; (e = readdir(d));)
        n += e->d_name[0] != '.';
    closedir(d);
    return n;
}

static void remove_dir(void)
{
    DIR *d = opendir(dir);
    cr_assert_not_null(d);
    for (struct dirent *e; (e = readdir(d));)
        unlinkat(dirfd(d), e->d_name, 0);
    closedir(d);
    rmdir(dir);
}

TestSuite(file, .init = make_dir, .fini = remove_dir);

Test(file, round_trip_and_replace)
{
    char path[128];
    struct winnow_err err;
    in_dir(path, "a");
    static const size_t sizes[] = { 0, 1, 4095, 4096, 4097, 100000 };
    for (size_t i = 0; i < WN_COUNT(sizes); i++) {
        char *want = malloc(sizes[i] + 1);
        memset(want, (int)('a' + i), sizes[i] + 1);
        cr_assert_eq(wn_file_write_durable(path, want, sizes[i], &err), WINNOW_OK, "%s", err.msg);
        void *got;
        size_t n;
        cr_assert_eq(wn_file_read(path, 0, &got, &n, &err), WINNOW_OK, "%s", err.msg);
        cr_assert_eq(n, sizes[i]);
        cr_assert(memcmp(got, want, n) == 0);
        cr_assert_eq(((char *)got)[n], '\0');
        free(got);
        free(want);
    }
    cr_assert_eq(count_files(), 1, "no temporary file stays");
}

Test(file, limit_is_exact)
{
    char path[128];
    struct winnow_err err;
    void *got;
    size_t n;
    cr_assert_eq(wn_file_write_durable(in_dir(path, "a"), "12345", 5, &err), WINNOW_OK);
    cr_assert_eq(wn_file_read(path, 4, &got, &n, &err), WINNOW_E_TOO_LARGE);
    cr_assert(strstr(err.msg, path));
    cr_assert_eq(wn_file_read(path, 5, &got, &n, &err), WINNOW_OK);
    free(got);
}

Test(file, refuses_what_is_no_regular_file, .timeout = 10)
{
    char path[128];
    struct winnow_err err;
    void *got;
    size_t n;
    cr_assert_eq(wn_file_read(in_dir(path, "none"), 0, &got, &n, &err), WINNOW_E_NOT_FOUND);
    cr_assert_eq(wn_file_read(dir, 0, &got, &n, &err), WINNOW_E_IO);
    cr_assert_eq(wn_file_read("/dev/zero", 0, &got, &n, &err), WINNOW_E_IO);
    cr_assert_eq(mkfifo(in_dir(path, "fifo"), 0600), 0);
    cr_assert_eq(wn_file_read(path, 0, &got, &n, &err), WINNOW_E_IO);
}

Test(file, size_zero_of_proc_is_a_hint_only)
{
    struct winnow_err err;
    void *got;
    size_t n;
    cr_assert_eq(wn_file_read("/proc/self/status", 0, &got, &n, &err), WINNOW_OK, "%s", err.msg);
    cr_assert_gt(n, 0);
    free(got);
    cr_assert_eq(wn_file_read("/proc/self/status", 10, &got, &n, &err), WINNOW_E_TOO_LARGE);
}

Test(file, failed_write_leaves_nothing)
{
    char path[128];
    struct winnow_err err;
    cr_assert_eq(wn_file_write_durable(in_dir(path, "no/such"), "x", 1, &err), WINNOW_E_NOT_FOUND);
    cr_assert_eq(mkdir(in_dir(path, "d"), 0700), 0);
    cr_assert_neq(wn_file_write_durable(path, "x", 1, &err), WINNOW_OK, "a folder is not replaced by a file");
    cr_assert_eq(count_files(), 1);
    rmdir(path);
}

Test(file, dir_sync)
{
    struct winnow_err err;
    cr_assert_eq(wn_dir_sync(dir, &err), WINNOW_OK);
    cr_assert_eq(wn_dir_sync("", &err), WINNOW_OK);
    cr_assert_eq(wn_dir_sync_parent("/etc", &err), WINNOW_OK);
    cr_assert_eq(wn_dir_sync_parent("name", &err), WINNOW_OK);
    cr_assert_eq(wn_dir_sync("/no/such/folder", &err), WINNOW_E_NOT_FOUND);
}
