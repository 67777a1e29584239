/* registry.c: loading, pins, swaps, the live file, the rules of the scan. */
#include <criterion/criterion.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/digest.h"
#include "base/file.h"
#include "tests/unit/daemon/serve/rig.h"

static struct rig rig;

static void setup(void)
{
    rig_init(&rig);
}

static void teardown(void)
{
    rig_done(&rig);
}

TestSuite(serve_registry, .init = setup, .fini = teardown, .timeout = 120);

Test(serve_registry, loads_the_highest_version_and_answers)
{
    rig_put(&rig, "m", 1, RIG_ROWS, 4, 10);
    rig_put(&rig, "m", 2, RIG_ROWS, 4, 20);
    rig_start(&rig);
    cr_assert_eq(rig_live(&rig, "m"), 2);
    cr_assert_float_eq(rig_ask(&rig, "m", 4), 20, 0);
}

Test(serve_registry, an_empty_repository_is_ready)
{
    rig_start(&rig);
    struct wn_index_entry *at;
    size_t n;
    cr_assert_eq(wn_serve_index(rig.serve, NULL, &at, &n, NULL), WINNOW_OK);
    cr_assert_eq(n, 0);
    wn_index_free(at, n);
    cr_assert_eq(rig_unload(&rig, "never"), WINNOW_OK);
    cr_assert_eq(rig_load(&rig, "never", NULL), WINNOW_E_NOT_FOUND);
    cr_assert_eq(rig_load(&rig, "../etc", NULL), WINNOW_E_NOT_FOUND);
    cr_assert_eq(rig_rollback(&rig, "never"), WINNOW_E_NOT_FOUND);
}

Test(serve_registry, only_plain_numbers_are_versions_and_only_plain_names_models)
{
    rig_put(&rig, "m", 3, RIG_ROWS, 4, 30);
    rig_sh("mkdir -p '%s/sp ace/1' %s/.hid/1 && cp %s/m/3/model.onnx '%s/sp ace/1' && cp %s/m/3/model.onnx %s/.hid/1",
           rig.repo, rig.repo, rig.repo, rig.repo, rig.repo, rig.repo);
    rig_sh("cd %s/m && cp -r 3 04 && cp -r 3 x5 && cp -r 3 6x && cp -r 3 -- -7 && cp -r 3 0 && mkdir 9", rig.repo);
    rig_start(&rig);
    cr_assert_eq(rig_live(&rig, "m"), 3);
    struct wn_index_entry *at;
    size_t n;
    cr_assert_eq(wn_serve_index(rig.serve, "m", &at, &n, NULL), WINNOW_OK);
    cr_assert_eq(n, 1, "%zu versions", n);
    cr_assert(at[0].live && at[0].state == WN_MODEL_READY && at[0].generation && at[0].loaded_at_ms &&
              !at[0].made_here);
    wn_index_free(at, n);
    cr_assert_eq(rig_live(&rig, "sp ace"), 0);
    cr_assert_eq(rig_live(&rig, ".hid"), 0);
}

Test(serve_registry, pins_are_met_or_fail)
{
    rig_put(&rig, "m", 1, RIG_ROWS, 4, 10);
    rig_put(&rig, "m", 2, RIG_ROWS, 4, 20);
    rig_start(&rig);
    struct wn_gen *gen, *again;
    struct winnow_err err;
    cr_assert_eq(wn_serve_acquire(rig.serve, "m", NULL, &gen, &err), WINNOW_OK);
    struct wn_pin pin = { .version = 2, .generation = wn_gen_number(gen), .digest = wn_gen_digest(gen) };
    cr_assert_eq(wn_serve_acquire(rig.serve, "m", &pin, &again, &err), WINNOW_OK);
    cr_assert_eq(gen, again);
    wn_gen_unref(again);
    pin = (struct wn_pin){ .version = 1 };
    cr_assert_eq(wn_serve_acquire(rig.serve, "m", &pin, &again, &err), WINNOW_E_PRECONDITION, "%s", err.msg);
    pin = (struct wn_pin){ .version = 7 };
    cr_assert_eq(wn_serve_acquire(rig.serve, "m", &pin, &again, &err), WINNOW_E_NOT_FOUND, "%s", err.msg);
    cr_assert_str_eq(err.msg, "model 'm' has no version 7");
    pin = (struct wn_pin){ .generation = 999 };
    cr_assert_eq(wn_serve_acquire(rig.serve, "m", &pin, &again, &err), WINNOW_E_PRECONDITION, "%s", err.msg);
    pin = (struct wn_pin){ .digest = "sha256:00" };
    cr_assert_eq(wn_serve_acquire(rig.serve, "m", &pin, &again, &err), WINNOW_E_PRECONDITION, "%s", err.msg);
    cr_assert_eq(wn_serve_acquire(rig.serve, "q", NULL, &again, &err), WINNOW_E_NOT_FOUND, "%s", err.msg);
    cr_assert_str_eq(err.msg, "Request for unknown model: 'q' is not found");
    wn_gen_unref(gen);
}

Test(serve_registry, promote_and_rollback_survive_a_restart)
{
    rig_put(&rig, "m", 1, RIG_ROWS, 4, 10);
    rig_put(&rig, "m", 2, RIG_ROWS, 4, 20);
    rig_start(&rig);
    cr_assert_eq(rig_rollback(&rig, "m"), WINNOW_E_CONFLICT);
    cr_assert_eq(rig_promote(&rig, "m", 1, true, NULL), WINNOW_OK);
    cr_assert_float_eq(rig_ask(&rig, "m", 4), 10, 0);
    cr_assert_eq(rig_promote(&rig, "m", 1, true, NULL), WINNOW_OK, "promoting twice");
    cr_assert_eq(rig_promote(&rig, "m", 5, true, NULL), WINNOW_E_NOT_FOUND);
    usleep(300000); /* looks at the folders in between must not undo it */
    cr_assert_eq(rig_live(&rig, "m"), 1);
    rig_stop(&rig);
    rig_start(&rig);
    cr_assert_eq(rig_live(&rig, "m"), 1);
    cr_assert_eq(rig_rollback(&rig, "m"), WINNOW_OK);
    cr_assert_eq(rig_live(&rig, "m"), 2);
    rig_sh("grep -q '\"by\": \"rig\"' %s/models/m/live && ! grep -q previous %s/models/m/live", rig.state, rig.state);
    rig_stop(&rig);
    rig_start(&rig);
    cr_assert_eq(rig_live(&rig, "m"), 2);
}

Test(serve_registry, rolling_back_again_goes_further_back)
{
    for (int v = 1; v <= 4; v++)
        rig_put(&rig, "m", v, RIG_ROWS, 4, 10 * (float)v);
    rig_start(&rig);
    cr_assert_eq(rig_promote(&rig, "m", 1, true, NULL), WINNOW_OK);
    cr_assert_eq(rig_promote(&rig, "m", 2, true, NULL), WINNOW_OK);
    cr_assert_eq(rig_promote(&rig, "m", 3, true, NULL), WINNOW_OK);
    rig_sh("grep -q older %s/models/m/live", rig.state);
    rig_stop(&rig); /* the way back is in the file */
    rig_start(&rig);
    cr_assert_eq(rig_rollback(&rig, "m"), WINNOW_OK);
    cr_assert_eq(rig_live(&rig, "m"), 2);
    rig_sh("rm -r %s/m/1", rig.repo); /* not kept: passed over */
    for (int i = 0; i < 100; i++) {
        usleep(50000);
        struct wn_index_entry *at;
        size_t n;
        cr_assert_eq(wn_serve_index(rig.serve, "m", &at, &n, NULL), WINNOW_OK);
        wn_index_free(at, n);
        if (n == 3)
            break;
    }
    cr_assert_eq(rig_rollback(&rig, "m"), WINNOW_OK);
    cr_assert_eq(rig_live(&rig, "m"), 4, "what was live before the first promotion");
    cr_assert_eq(rig_rollback(&rig, "m"), WINNOW_E_CONFLICT);
    cr_assert_eq(rig_live(&rig, "m"), 4);
    cr_assert_eq(rig_promote(&rig, "m", 2, true, NULL), WINNOW_OK);
    cr_assert_eq(rig_rollback(&rig, "m"), WINNOW_OK);
    cr_assert_eq(rig_live(&rig, "m"), 4);
}

Test(serve_registry, messages_for_clients_name_no_folders)
{
    rig_start(&rig);
    char text[800], want[400];
    snprintf(text, sizeof text, "opening '%s/m/2/model.onnx' beside %s/models/m/live, '%s/jobs/j' in '%s': %sx/y",
             rig.repo, rig.state, rig.state, rig.state, rig.state);
    snprintf(want, sizeof want, "opening 'm/2/model.onnx' beside m/live, 'jobs/j' in 'state': %sx/y", rig.state);
    wn_serve_hide_folders(rig.serve, text);
    cr_assert_str_eq(text, want);
}

Test(serve_registry, a_persons_later_version_takes_over)
{
    rig_put(&rig, "m", 1, RIG_ROWS, 4, 10);
    rig_put(&rig, "m", 2, RIG_ROWS, 4, 20);
    rig_start(&rig);
    cr_assert_eq(rig_promote(&rig, "m", 1, false, NULL), WINNOW_OK);
    rig_put(&rig, "m", 3, RIG_ROWS, 4, 30);
    cr_assert(rig_await(&rig, "m", 3));
    cr_assert_eq(rig_rollback(&rig, "m"), WINNOW_OK);
    cr_assert_eq(rig_live(&rig, "m"), 1);
    usleep(300000);
    cr_assert_eq(rig_live(&rig, "m"), 1);
    rig_stop(&rig);
    rig_put(&rig, "m", 4, RIG_ROWS, 4, 40);
    rig_sh("touch %s/m/*/model.onnx %s/m/*", rig.repo, rig.repo); /* new times do not count */
    rig_start(&rig);
    cr_assert_eq(rig_live(&rig, "m"), 4);
}

Test(serve_registry, a_live_file_without_highest_goes_by_times)
{
    rig_put(&rig, "m", 1, RIG_ROWS, 4, 10);
    rig_put(&rig, "m", 2, RIG_ROWS, 4, 20);
    struct wn_sha256 sha;
    char path[160], text[300], digest[WN_DIGEST_TEXT];
    snprintf(path, sizeof path, "%s/m/1/model.onnx", rig.repo);
    cr_assert_eq(wn_sha256_file(path, &sha, NULL, NULL), WINNOW_OK);
    snprintf(text, sizeof text, "{\"version\":1,\"digest\":\"%s\",\"by\":\"x\"}", wn_digest_text(&sha, digest));
    usleep(20000);
    rig_sh("mkdir -p %s/models/m", rig.state);
    rig_text(&rig, "state/models/m/live", text);
    rig_start(&rig);
    cr_assert_eq(rig_live(&rig, "m"), 1);
    rig_stop(&rig);
    usleep(20000);
    rig_put(&rig, "m", 3, RIG_ROWS, 4, 30);
    rig_start(&rig);
    cr_assert_eq(rig_live(&rig, "m"), 3);
}

Test(serve_registry, a_broken_live_file_does_not_stop_a_model)
{
    rig_put(&rig, "m", 1, RIG_ROWS, 4, 10);
    rig_sh("mkdir -p %s/models/m", rig.state);
    rig_text(&rig, "state/models/m/live", "{\"version\": -3");
    rig_start(&rig);
    cr_assert_eq(rig_live(&rig, "m"), 1);
}

Test(serve_registry, a_broken_version_leaves_the_old_one_serving)
{
    rig_put(&rig, "m", 1, RIG_ROWS, 4, 10);
    rig_start(&rig);
    rig_sh("mkdir %s/m/.n && echo junk > %s/m/.n/model.onnx && mv -T %s/m/.n %s/m/2", rig.repo, rig.repo, rig.repo,
           rig.repo);
    struct wn_index_entry *at = NULL;
    size_t n = 0;
    for (int i = 0; i < 100; i++) {
        usleep(50000);
        cr_assert_eq(wn_serve_index(rig.serve, "m", &at, &n, NULL), WINNOW_OK);
        if (n == 2 && at[1].reason[0] && at[1].state == WN_MODEL_UNAVAILABLE && strstr(at[1].reason, "model.onnx"))
            break;
        wn_index_free(at, n);
        at = NULL;
    }
    cr_assert(at, "the reason never appeared");
    wn_index_free(at, n);
    cr_assert_eq(rig_live(&rig, "m"), 1);
    cr_assert(wn_serve_ready(rig.serve));
    struct winnow_err err;
    cr_assert_neq(rig_load(&rig, "m", &err), WINNOW_OK);
    cr_assert_eq(rig_live(&rig, "m"), 1);
    cr_assert_neq(rig_promote(&rig, "m", 2, false, &err), WINNOW_OK);
    cr_assert_eq(rig_live(&rig, "m"), 1);
    /* mended in place: it is loaded when it has settled */
    char path[160];
    snprintf(path, sizeof path, "%s/m/2/model.onnx", rig.repo);
    rig_model(path, RIG_ROWS, 4, 22);
    cr_assert(rig_await(&rig, "m", 2));
    /* and after a restart a broken newest one falls back too */
    rig_stop(&rig);
    rig_sh("mkdir %s/m/9 && echo junk > %s/m/9/model.onnx", rig.repo, rig.repo);
    rig_start(&rig);
    cr_assert_eq(rig_live(&rig, "m"), 2);
}

Test(serve_registry, a_model_that_cannot_load_says_why)
{
    rig_sh("mkdir -p %s/m/1 && echo junk > %s/m/1/model.onnx", rig.repo, rig.repo);
    rig_start(&rig);
    struct wn_gen *gen;
    struct winnow_err err;
    cr_assert_eq(wn_serve_acquire(rig.serve, "m", NULL, &gen, &err), WINNOW_E_UNAVAILABLE);
    cr_assert(strstr(err.msg, "model.onnx"), "%s", err.msg);
}

Test(serve_registry, copied_in_place_waits_until_it_is_whole)
{
    rig_put(&rig, "m", 1, RIG_ROWS, 4, 10);
    rig_put(&rig, "src", 1, RIG_ROWS, 4, 20);
    rig_start(&rig);
    rig_sh("mkdir %s/m/2 && head -c 60 %s/src/1/model.onnx > %s/m/2/model.onnx", rig.repo, rig.repo, rig.repo);
    usleep(150000);
    rig_sh("cat %s/src/1/model.onnx > %s/m/2/model.onnx", rig.repo, rig.repo);
    cr_assert(rig_await(&rig, "m", 2));
    cr_assert_float_eq(rig_ask(&rig, "m", 4), 20, 0);
}

Test(serve_registry, touching_files_loads_nothing)
{
    rig_put(&rig, "m", 1, RIG_ROWS, 4, 10);
    rig_start(&rig);
    struct wn_gen *gen, *again;
    cr_assert_eq(wn_serve_acquire(rig.serve, "m", NULL, &gen, NULL), WINNOW_OK);
    rig_sh("touch %s/m/1/model.onnx", rig.repo);
    usleep(600000);
    cr_assert_eq(rig_load(&rig, "m", NULL), WINNOW_OK);
    cr_assert_eq(wn_serve_acquire(rig.serve, "m", NULL, &again, NULL), WINNOW_OK);
    cr_assert_eq(gen, again);
    wn_gen_unref(again);
    /* other contents under the same number do load */
    char path[160];
    snprintf(path, sizeof path, "%s/m/1/model.onnx", rig.repo);
    rig_model(path, RIG_ROWS, 4, 11);
    for (int i = 0; i < 200 && rig_ask(&rig, "m", 4) != 11; i++)
        usleep(20000);
    cr_assert_float_eq(rig_ask(&rig, "m", 4), 11, 0);
    wn_gen_unref(gen);
}

Test(serve_registry, unload_holds_until_load)
{
    rig_put(&rig, "m", 1, RIG_ROWS, 4, 10);
    rig_start(&rig);
    cr_assert_eq(rig_unload(&rig, "m"), WINNOW_OK);
    cr_assert_eq(rig_live(&rig, "m"), 0);
    cr_assert_eq(rig_unload(&rig, "m"), WINNOW_OK);
    rig_put(&rig, "m", 2, RIG_ROWS, 4, 20);
    usleep(400000);
    cr_assert_eq(rig_live(&rig, "m"), 0);
    cr_assert(wn_serve_ready(rig.serve));
    cr_assert_eq(rig_load(&rig, "m", NULL), WINNOW_OK);
    cr_assert_eq(rig_live(&rig, "m"), 2);
}

Test(serve_registry, removed_models_go_replaced_folders_stay)
{
    rig_put(&rig, "m", 1, RIG_ROWS, 4, 10);
    rig_put(&rig, "k", 1, RIG_ROWS, 4, 10);
    rig_start(&rig);
    rig_sh("mv %s/k %s/k.away && rm -r %s/m", rig.repo, rig.root, rig.repo);
    usleep(120000);
    rig_sh("mv %s/k.away %s/k", rig.root, rig.repo);
    cr_assert(rig_await(&rig, "m", 0));
    cr_assert_eq(rig_live(&rig, "k"), 1);
    struct wn_gen *gen;
    cr_assert_eq(wn_serve_acquire(rig.serve, "m", NULL, &gen, NULL), WINNOW_E_NOT_FOUND);
    rig_put(&rig, "m", 1, RIG_ROWS, 4, 10);
    cr_assert(rig_await(&rig, "m", 1));
}

/* ---- versions made here ---- */

static int64_t add(const char *name, float value)
{
    char path[160];
    int64_t version = 0;
    struct winnow_err err;
    rig_sh("rm -rf %s/cand && mkdir %s/cand", rig.root, rig.root);
    snprintf(path, sizeof path, "%s/cand/model.onnx", rig.root);
    rig_model(path, RIG_ROWS, 4, value);
    snprintf(path, sizeof path, "%s/cand", rig.root);
    rig_sh("ln -s /etc/passwd %s/cand/labels.txt; mkdir %s/cand/sub; echo x > %s/cand/notes", rig.root, rig.root,
           rig.root);
    cr_assert_eq(wn_serve_add_version(rig.serve, name, path, "{\"recipe\":\"r\"}", &version, &err), WINNOW_OK, "%s",
                 err.msg);
    return version;
}

Test(serve_registry, a_candidate_waits_for_its_promotion)
{
    rig_put(&rig, "m", 1, RIG_ROWS, 4, 10);
    rig_put(&rig, "m", 4, RIG_ROWS, 4, 40);
    rig_start(&rig);
    cr_assert_eq(add("m", 50), 5);
    rig_sh("cd %s/models/m/5 && test ! -e labels.txt && test ! -e sub && test -f notes && grep -q recipe lineage.json",
           rig.state);
    usleep(400000);
    cr_assert_eq(rig_live(&rig, "m"), 4);
    rig_stop(&rig);
    rig_start(&rig);
    cr_assert_eq(rig_live(&rig, "m"), 4);
    cr_assert_eq(rig_promote(&rig, "m", 5, true, NULL), WINNOW_OK);
    cr_assert_float_eq(rig_ask(&rig, "m", 4), 50, 0);
    rig_stop(&rig);
    rig_start(&rig);
    cr_assert_eq(rig_live(&rig, "m"), 5);
    cr_assert_eq(rig_rollback(&rig, "m"), WINNOW_OK);
    cr_assert_eq(rig_live(&rig, "m"), 4);
    struct wn_index_entry *at;
    size_t n;
    cr_assert_eq(wn_serve_index(rig.serve, "m", &at, &n, NULL), WINNOW_OK);
    cr_assert_eq(n, 3);
    cr_assert(at[2].version == 5 && at[2].made_here && !at[2].live && at[1].live);
    cr_assert_str_eq(at[1].live_by, "rig");
    wn_index_free(at, n);
}

Test(serve_registry, a_new_name_starts_at_one)
{
    rig_start(&rig);
    cr_assert_eq(add("fresh", 7), 1);
    usleep(300000);
    struct wn_gen *gen;
    struct winnow_err err;
    cr_assert_eq(wn_serve_acquire(rig.serve, "fresh", NULL, &gen, &err), WINNOW_E_UNAVAILABLE);
    cr_assert(strstr(err.msg, "made live"), "%s", err.msg);
    cr_assert_eq(rig_promote(&rig, "fresh", 1, true, NULL), WINNOW_OK);
    cr_assert_float_eq(rig_ask(&rig, "fresh", 4), 7, 0);
    int64_t v;
    cr_assert_eq(wn_serve_add_version(rig.serve, "a/b", rig.root, NULL, &v, &err), WINNOW_E_MALFORMED);
    cr_assert_eq(wn_serve_add_version(rig.serve, "x", rig.root, NULL, &v, &err), WINNOW_E_NOT_FOUND, "%s", err.msg);
}

Test(serve_registry, a_tampered_version_of_ours_is_not_loaded)
{
    rig_put(&rig, "m", 1, RIG_ROWS, 4, 10);
    rig_start(&rig);
    cr_assert_eq(add("m", 20), 2);
    cr_assert_eq(rig_promote(&rig, "m", 2, true, NULL), WINNOW_OK);
    rig_stop(&rig);
    char path[160];
    snprintf(path, sizeof path, "%s/models/m/2/model.onnx", rig.state);
    rig_model(path, RIG_ROWS, 4, 666);
    rig_start(&rig);
    cr_assert_eq(rig_live(&rig, "m"), 1, "falls back to the version before");
}

Test(serve_registry, retention_spares_live_and_previous)
{
    rig_put(&rig, "m", 1, RIG_ROWS, 4, 10);
    rig.cfg.models.keep_versions = 2;
    rig_start(&rig);
    cr_assert_eq(add("m", 2), 2);
    rig_sh("mkdir %s/models/m/.outgoing-9 %s/models/m/.incoming", rig.state, rig.state); /* as a crash leaves them */
    cr_assert_eq(rig_promote(&rig, "m", 2, true, NULL), WINNOW_OK);
    cr_assert_eq(add("m", 3), 3);
    cr_assert_eq(rig_promote(&rig, "m", 3, true, NULL), WINNOW_OK);
    cr_assert_eq(add("m", 4), 4);
    cr_assert_eq(add("m", 5), 5);
    rig_sh("cd %s/models/m && test -d 2 && test -d 3 && test ! -e 4 && test -d 5 && ! ls -d .outgoing-* .incoming "
           "2>/dev/null",
           rig.state);
    cr_assert_eq(rig_promote(&rig, "m", 5, true, NULL), WINNOW_OK);
    rig_sh("cd %s/models/m && test ! -e 2 && test -d 3 && test -d 5 && test -d %s/m/1", rig.state, rig.repo);
    cr_assert_eq(rig_rollback(&rig, "m"), WINNOW_OK);
    cr_assert_eq(rig_live(&rig, "m"), 3);
}

Test(serve_registry, the_gates_rule_refuses_another_interface)
{
    rig_put(&rig, "m", 1, RIG_ROWS, 8, 10);
    rig_put(&rig, "m", 2, RIG_ROWS, 4, 20);
    rig_start(&rig);
    struct winnow_err err;
    cr_assert_eq(rig_promote(&rig, "m", 1, true, &err), WINNOW_E_PRECONDITION);
    cr_assert(strstr(err.msg, "'x'"), "%s", err.msg);
    cr_assert_eq(rig_live(&rig, "m"), 2);
    cr_assert_eq(rig_promote(&rig, "m", 1, false, &err), WINNOW_OK);
    cr_assert_eq(rig_live(&rig, "m"), 1);
}

/* ---- memory, events ---- */

static size_t resident(void)
{
    FILE *f = fopen("/proc/self/statm", "r");
    size_t pages = 0;
    if (!f || fscanf(f, "%*u %zu", &pages) != 1)
        pages = 0;
    if (f)
        fclose(f);
    return pages * (size_t)sysconf(_SC_PAGESIZE);
}

/* Freeing happens on a thread of its own: wait for it. */
static bool shrinks_to(size_t bytes)
{
    for (int i = 0; i < 200 && resident() > bytes; i++)
        usleep(20000);
    return resident() <= bytes;
}

Test(serve_registry, unloading_gives_memory_back)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    cr_skip_test("a sanitizer keeps freed memory");
#endif
    rig_put(&rig, "m", 1, RIG_HEAVY, 1000, 1);
    rig_put(&rig, "m", 2, RIG_HEAVY, 1000, 2);
    size_t none = resident();
    rig_start(&rig);
    size_t one = resident();
    cr_assert_gt(one, none + (4u << 20), "a model takes %zu KiB", (one - none) >> 10);
    for (int i = 0; i < 10; i++)
        cr_assert_eq(rig_promote(&rig, "m", 1 + i % 2, false, NULL), WINNOW_OK);
    cr_assert(shrinks_to(one + one / 8), "%zu MiB -> %zu MiB", one >> 20, resident() >> 20);
    cr_assert_eq(rig_unload(&rig, "m"), WINNOW_OK);
    cr_assert(shrinks_to(none + (one - none) / 4), "%zu MiB, with a model %zu, without it %zu", none >> 20, one >> 20,
              resident() >> 20);
}

static void on_event(void *arg, const char *event, const char *model, int64_t version, uint64_t generation,
                     const char *detail)
{
    char *log = arg;
    size_t n = strlen(log);
    snprintf(log + n, 400 - n, "%s %s %" PRId64 "\n", event, model, version);
}

Test(serve_registry, events_tell_what_happened)
{
    static char log[400];
    rig_put(&rig, "m", 1, RIG_ROWS, 4, 10);
    rig_put(&rig, "m", 2, RIG_ROWS, 4, 20);
    rig_start(&rig);
    wn_serve_listen(rig.serve, on_event, log);
    cr_assert_eq(rig_promote(&rig, "m", 1, false, NULL), WINNOW_OK);
    cr_assert_eq(rig_rollback(&rig, "m"), WINNOW_OK);
    cr_assert_eq(rig_unload(&rig, "m"), WINNOW_OK);
    cr_assert_str_eq(log, "load m 1\nlive m 1\nload m 2\nrollback m 2\nunload m 2\n");
}
