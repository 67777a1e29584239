/* digest.c: FIPS 180-4 examples, text forms, files. */
#include "base/digest.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/file.h"

static const char abc[] = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

Test(digest, one_shot_streamed_and_file_agree)
{
    struct wn_sha256 a, b, c;
    char text[WN_DIGEST_TEXT];
    cr_assert(wn_sha256("abc", 3, &a));
    cr_expect_str_eq(wn_digest_text(&a, text), abc);
    struct wn_hasher *h = wn_hasher_new();
    for (int again = 0; again < 2; again++) {
        cr_assert(wn_hasher_add(h, "a", 1) && wn_hasher_add(h, "bc", 2) && wn_hasher_finish(h, &b));
        cr_expect(wn_digest_equal(&a, &b));
    }
    wn_hasher_free(h);
    char path[] = "/tmp/wn-digest-XXXXXX";
    close(mkstemp(path));
    struct winnow_err err = { 0 };
    uint64_t n = 0;
    cr_assert_eq(wn_file_write_durable(path, "abc", 3, &err), WINNOW_OK, "%s", err.msg);
    cr_assert_eq(wn_sha256_file(path, &c, &n, &err), WINNOW_OK, "%s", err.msg);
    cr_expect(n == 3 && wn_digest_equal(&a, &c));
    unlink(path);
    cr_expect_eq(wn_sha256_file(path, &c, &n, &err), WINNOW_E_NOT_FOUND);
    cr_expect_eq(wn_sha256_file("/tmp", &c, &n, &err), WINNOW_E_MALFORMED);
}

Test(digest, of_a_model_and_the_files_beside_it)
{
    struct wn_sha256 one, none, all, renamed, changed, want;
    struct winnow_err err = { 0 };
    char dir[] = "/tmp/wn-digest-XXXXXX", path[64], more[64];
    const char *const names[] = { "w.bin", NULL }, *const other[] = { "./w.bin", NULL };
    cr_assert_not_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/m", dir);
    snprintf(more, sizeof more, "%s/w.bin", dir);
    cr_assert_eq(wn_file_write_durable(path, "abc", 3, &err), WINNOW_OK, "%s", err.msg);
    cr_expect_eq(wn_sha256_with(path, names, &all, &err), WINNOW_E_NOT_FOUND);
    cr_expect(strstr(err.msg, "w.bin"), "%s", err.msg);
    cr_assert_eq(wn_file_write_durable(more, "abc", 3, &err), WINNOW_OK, "%s", err.msg);
    cr_assert(wn_sha256("abc", 3, &one));
    cr_assert_eq(wn_sha256_with(path, names + 1, &none, &err), WINNOW_OK, "%s", err.msg);
    cr_expect(wn_digest_equal(&one, &none));
    cr_assert_eq(wn_sha256_with(path, names, &all, &err), WINNOW_OK, "%s", err.msg);
    char text[sizeof one + sizeof "w.bin" + sizeof one];
    memcpy(text, &one, sizeof one);
    memcpy(text + sizeof one, "w.bin", sizeof "w.bin");
    memcpy(text + sizeof one + sizeof "w.bin", &one, sizeof one);
    cr_assert(wn_sha256(text, sizeof text, &want));
    cr_expect(wn_digest_equal(&all, &want), "clients may compute it");
    cr_assert_eq(wn_sha256_with(path, other, &renamed, &err), WINNOW_OK, "%s", err.msg);
    cr_assert_eq(wn_file_write_durable(more, "abd", 3, &err), WINNOW_OK, "%s", err.msg);
    cr_assert_eq(wn_sha256_with(path, names, &changed, &err), WINNOW_OK, "%s", err.msg);
    cr_expect(!wn_digest_equal(&all, &renamed) && !wn_digest_equal(&all, &changed));
    unlink(more);
    unlink(path);
    rmdir(dir);
}

Test(digest, parse)
{
    struct wn_sha256 d;
    char text[WN_DIGEST_TEXT], upper[] = "BA7816BF8F01CFEA414140DE5DAE2223B00361A396177A9CB410FF61F20015AD";
    cr_assert(wn_digest_parse(abc, &d));
    cr_expect_str_eq(wn_digest_text(&d, text), abc);
    cr_assert(wn_digest_parse(upper, &d));
    cr_expect_str_eq(wn_digest_text(&d, text), abc);
    cr_expect_not(wn_digest_parse("sha256:ba", &d));
    cr_expect_not(wn_digest_parse("", &d));
    text[70] = 'g';
    cr_expect_not(wn_digest_parse(text, &d));
}
