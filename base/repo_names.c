/* repo_names.c: names of models and versions. */
#include "base/repo_names.h"

#include <stdlib.h>
#include <string.h>

bool wn_model_name_valid(const char *name)
{
    size_t n = strlen(name);
    if (n == 0 || n > WN_NAME_MAX || name[0] == '.')
        return false;
    return strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-") == n;
}

int64_t wn_version_parse(const char *name)
{
    size_t n = strlen(name);
    if (n == 0 || n > 18 || name[0] == '0' || strspn(name, "0123456789") != n)
        return 0;
    return strtoll(name, NULL, 10);
}
