/* progress.c: whole lines, valid JSON, not too many. */
#include "sparsify/worker/progress.h"

#include <criterion/criterion.h>
#include <math.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/file.h"

Test(progress, lines)
{
    char path[64];
    snprintf(path, sizeof path, "/tmp/wn-progress-%ld.jsonl", (long)getpid());
    struct wn_progress p;
    struct winnow_err err = { 0 };
    struct wn_train_progress step = { .time = { .steps_per_epoch = 100, .epochs = 2 },
                                      .loss = 0.5f,
                                      .label_loss = NAN };
    cr_assert_eq(wn_progress_open(path, &p, &err), WINNOW_OK, "%s", err.msg);
    wn_progress_phase(&p, "train");
    for (unsigned i = 0; i < 200; i++) {
        step.time.step = i;
        wn_progress_step(&p, &step);
    }
    wn_progress_eval(&p, 1, &(struct wn_train_score){ 10, 0.5, 1.0 });
    wn_progress_message(&p, "info", "quotes \" and\nlines and \xff");
    wn_progress_message(&p, "info", "%d %s", 1, "plain");
    wn_progress_close(&p);
    void *bytes;
    size_t n, lines = 0, steps = 0, last = 0;
    cr_assert_eq(wn_file_read(path, 1 << 20, &bytes, &n, &err), WINNOW_OK);
    for (char *s = bytes; *s; lines++) {
        char *end = strchr(s, '\n');
        cr_assert_not_null(end);
        json_t *o = json_loadb(s, (size_t)(end - s), 0, NULL);
        cr_assert(o && json_is_integer(json_object_get(o, "t")), "%.*s", (int)(end - s), s);
        if (strcmp(json_string_value(json_object_get(o, "event")), "step") == 0) {
            steps++;
            last = (size_t)json_integer_value(json_object_get(o, "step"));
        }
        json_decref(o);
        s = end + 1;
    }
    cr_assert_eq(last, 200, "the last step is always told");
    cr_assert_leq(steps, 4, "%zu steps within a few milliseconds", steps);
    cr_assert_eq(lines, steps + 4);
    free(bytes);
    unlink(path);
}
