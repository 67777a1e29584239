/* registry.c: loading, pins, swaps, the live file. */
#include <criterion/criterion.h>

#include <stdio.h>
#include <string.h>
#include "base/file.h"
#include "tests/unit/daemon/serve/rig.h"

Test(serve_registry, loads_the_highest_version_and_answers)
{
    struct rig rig;
    rig_init(&rig);
    rig_put(&rig, "m", 1, RIG_ROWS, 4, 10);
    rig_put(&rig, "m", 2, RIG_ROWS, 4, 20);
    rig_start(&rig);
    cr_assert_eq(rig_live(&rig, "m"), 2);
    cr_assert_float_eq(rig_ask(&rig, "m", 4), 20, 0);
    rig_done(&rig);
}
