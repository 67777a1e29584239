/* strmap.c: keys are bytes, values are replaced, room may be made beforehand. */
#include "base/strmap.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

Test(strmap, set_get_replace)
{
    struct wn_strmap map = { 0 };
    static char names[1000][8];
    cr_assert_null(wn_strmap_get(&map, "x", 1));
    for (size_t i = 0; i < 1000; i++) {
        snprintf(names[i], sizeof names[i], "n%zu", i);
        cr_assert(wn_strmap_set(&map, names[i], strlen(names[i]), names[i]));
    }
    for (size_t i = 0; i < 1000; i++)
        cr_assert_eq(wn_strmap_get(&map, names[i], strlen(names[i])), names[i]);
    cr_assert_eq(map.n, 1000);
    cr_assert(wn_strmap_set(&map, "n7", 2, names));
    cr_assert_eq(wn_strmap_get(&map, "n7", 2), names);
    cr_assert_eq(map.n, 1000);
    cr_assert(wn_strmap_set(&map, "a\0b", 3, names));
    cr_assert_null(wn_strmap_get(&map, "a", 1));
    cr_assert(wn_strmap_set(&map, "", 0, names));
    cr_assert_eq(wn_strmap_get(&map, "", 0), names);
    wn_strmap_done(&map);
}

Test(strmap, reserve)
{
    struct wn_strmap map = { 0 };
    static char names[1000][8];
    cr_assert(wn_strmap_reserve(&map, 1000));
    size_t cap = map.cap;
    for (size_t i = 0; i < 1000; i++) {
        snprintf(names[i], sizeof names[i], "n%zu", i);
        cr_assert(wn_strmap_set(&map, names[i], strlen(names[i]), names[i]));
    }
    cr_assert_eq(map.cap, cap, "no growth within what was reserved");
    cr_assert(wn_strmap_reserve(&map, 10), "never shrinks");
    cr_assert_eq(map.cap, cap);
    cr_assert_eq(wn_strmap_get(&map, "n999", 4), names[999]);
    cr_assert_not(wn_strmap_reserve(&map, SIZE_MAX));
    cr_assert_eq(wn_strmap_get(&map, "n0", 2), names[0]);
    wn_strmap_done(&map);
}
