/* labels.c: files of labels as people write them, and what is refused. */
#include "daemon/serve/labels.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct winnow_err err;

static enum winnow_status read_text(const char *text, size_t n, struct wn_labels *l)
{
    char path[] = "/tmp/wn-labels-XXXXXX";
    int fd = mkstemp(path);
    cr_assert(fd >= 0 && write(fd, text, n) == (ssize_t)n);
    close(fd);
    enum winnow_status s = wn_labels_read(path, l, &err);
    unlink(path);
    return s;
}

Test(labels, lines)
{
    struct wn_labels l;
    cr_assert_eq(read_text("ant\nbee \r\n\ncat", 14, &l), WINNOW_OK, "%s", err.msg);
    cr_expect(l.n == 4 && strcmp(l.line[0], "ant") == 0 && strcmp(l.line[1], "bee") == 0 && !*l.line[2] &&
              strcmp(l.line[3], "cat") == 0);
    wn_labels_done(&l);
    cr_assert_eq(read_text("one\n\n\n", 6, &l), WINNOW_OK);
    cr_expect_eq(l.n, 1);
    wn_labels_done(&l);
    cr_assert_eq(read_text("", 0, &l), WINNOW_OK);
    cr_expect_eq(l.n, 0);
    wn_labels_done(&l);
}

Test(labels, refused)
{
    struct wn_labels l;
    cr_expect_eq(read_text("a\0b\n", 4, &l), WINNOW_E_MALFORMED);
    char *many = malloc((size_t)3 << 20);
    cr_assert(many);
    for (size_t i = 0; i < 70000; i++)
        memcpy(many + 2 * i, "a\n", 2);
    cr_expect_eq(read_text(many, 140000, &l), WINNOW_E_MALFORMED);
    memset(many, 'a', (size_t)3 << 20);
    cr_expect_eq(read_text(many, (size_t)3 << 20, &l), WINNOW_E_TOO_LARGE);
    free(many);
    cr_expect_eq(wn_labels_read("/tmp/there/is/none", &l, &err), WINNOW_E_NOT_FOUND);
}
