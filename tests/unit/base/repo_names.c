/* What may name a model and a version in a repository. */
#include "base/repo_names.h"

#include <criterion/criterion.h>
#include <string.h>

Test(base_repo_names, models)
{
    char longest[WN_NAME_MAX + 2];
    memset(longest, 'a', sizeof longest);
    longest[WN_NAME_MAX + 1] = '\0';
    cr_expect(wn_model_name_valid("letters") && wn_model_name_valid("a.B_c-9"));
    cr_expect(!wn_model_name_valid("") && !wn_model_name_valid(".hidden") && !wn_model_name_valid("a b") &&
              !wn_model_name_valid("a/b") && !wn_model_name_valid("é"));
    cr_expect(!wn_model_name_valid(longest) && wn_model_name_valid(longest + 1));
}

Test(base_repo_names, versions)
{
    cr_expect_eq(wn_version_parse("17"), 17);
    cr_expect_eq(wn_version_parse("999999999999999999"), 999999999999999999);
    const char *const none[] = { "", "0", "01", "-1", "+1", "1a", "v1", "1000000000000000000" };
    for (size_t i = 0; i < WN_COUNT(none); i++)
        cr_expect_eq(wn_version_parse(none[i]), 0, "%s", none[i]);
}
