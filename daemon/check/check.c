/* check.c: what `winnowd --check` tells beyond the settings' own rules.
 *
 * DESIGN  A warning is what a start would live with (and log), fatal is what it would not. What cannot be known without
 *         starting stays untold: whether a model runs, and what systemd hands over. Models are read where a pipeline.yaml
 *         has to be held against them, and not otherwise. */
#include "daemon/check/check.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "config/value.h"
#include "daemon/jobs/proc.h"
#include "daemon/net/net.h"
#include "daemon/serve/serve.h"

struct check {
    wn_check_fn *tell;
    void *arg;
};

__attribute__((format(printf, 3, 4))) static void say(const struct check *c, bool fatal, const char *fmt, ...)
{
    char text[600];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    c->tell(c->arg, fatal, text);
}

/* ---- settings ---- */

void wn_check_address(const struct wn_config *cfg, const char *address, wn_check_fn *tell, void *arg)
{
    const struct check c = { tell, arg };
    bool clear = !*cfg->tls.certificate || cfg->server.tls == WN_SERVER_TLS_OFF;
    if (wn_value_is_loopback(address))
        return;
    if (cfg->server.auth == WN_AUTH_NONE)
        say(&c, false, "server.auth: none: whoever reaches %s may run, train and replace models", address);
    else if (clear)
        say(&c, false,
            "tokens reach %s in clear text: whoever sees the network can use them; tls.certificate hides them",
            address);
}

void wn_check_settings(const struct wn_config *cfg, wn_check_fn *tell, void *arg)
{
    const struct check c = { tell, arg };
    if (*cfg->tls.certificate && cfg->server.tls == WN_SERVER_TLS_OFF)
        say(&c, false, "server.tls: off: tls.certificate '%s' is not used, every listener speaks clear text only",
            cfg->tls.certificate);
}

/* ---- the machine ---- */

static void check_repositories(const struct check *c, const struct wn_config *cfg)
{
    struct wn_stray *stray = NULL;
    struct winnow_err err;
    size_t n = 0;
    for (size_t i = 0; i < cfg->models.repositories.n; i++) {
        struct stat st;
        const char *path = cfg->models.repositories.at[i];
        bool there = stat(path, &st) == 0;
        if (!there || !S_ISDIR(st.st_mode) || access(path, R_OK | X_OK) != 0)
            say(c, false, "models.repositories: '%s': %s: nothing is served from there", path,
                there && !S_ISDIR(st.st_mode) ? "not a folder" : strerror(errno));
    }
    if (wn_strays_look(cfg->models.repositories.at, cfg->models.repositories.n, &stray, &n, &err) != WINNOW_OK)
        say(c, false, "%s", err.msg);
    for (size_t i = 0; i < n; i++)
        say(c, false, "'%s' is passed over: %s", stray[i].path, stray[i].why);
    wn_strays_free(stray, n);
}

static void pipeline_bad(void *arg, const char *model, int64_t version, bool loads, const char *why)
{
    say(arg, false, loads ? "model '%s' version %lld is not served: %s" : "model '%s' version %lld does not load: %s",
        model, (long long)version, why);
}

/* A file that is no database of SQLite's: a start does not pass over it. */
static void check_database(const struct check *c, const struct wn_config *cfg)
{
    static const char magic[16] = "SQLite format 3";
    char head[sizeof magic];
    WN_CLEANUP(wn_freep) char *path = wn_asprintf("%s/winnow.db", cfg->models.state);
    WN_CLEANUP(wn_closep) int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    ssize_t n = fd >= 0 ? read(fd, head, sizeof head) : 0;
    if (n > 0 && (n < (ssize_t)sizeof head || memcmp(head, magic, sizeof magic) != 0))
        say(c, true, "'%s' is no database: move it away, or restore it", path);
}

/* The start makes the last folder of the path where it is missing. */
static void check_state(const struct check *c, const struct wn_config *cfg)
{
    struct stat st;
    const char *state = cfg->models.state, *slash = strrchr(state, '/');
    WN_CLEANUP(wn_freep)
    char *parent = !slash ? wn_strdup(".") : wn_asprintf("%.*s", (int)WN_MAX(slash - state, 1), state);
    bool there = stat(state, &st) == 0;
    if (!there && errno == ENOENT && parent && access(parent, W_OK | X_OK) == 0)
        return;
    if (there && S_ISDIR(st.st_mode) && access(state, R_OK | W_OK | X_OK) == 0) {
        check_database(c, cfg);
        return;
    }
    say(c, false, "models.state '%s': %s: no uploads, no jobs, and promotions are not kept", state,
        there && !S_ISDIR(st.st_mode) ? "not a folder" : strerror(errno));
}

static void check_program(const struct check *c, const char *setting, const char *name, const char *effect)
{
    WN_CLEANUP(wn_freep) char *path = *name ? wn_proc_find(name) : NULL;
    if (*name && !path)
        say(c, false, "%s: there is no program '%s': %s", setting, name, effect);
}

static void check_addresses(const struct check *c, const struct wn_config *cfg)
{
    struct winnow_err err;
    for (size_t i = 0; i < cfg->server.listen.n; i++) {
        wn_check_address(cfg, cfg->server.listen.at[i], c->tell, c->arg);
        enum winnow_status status = wn_net_can_listen(cfg->server.listen.at[i], &err);
        if (status == WINNOW_E_CONFLICT)
            say(c, false, "server.listen: %s (by a winnowd that runs?)", err.msg);
        else if (status != WINNOW_OK)
            say(c, true, "server.listen: %s", err.msg);
    }
}

void wn_check_machine(const struct wn_config *cfg, wn_check_fn *tell, void *arg)
{
    const struct check c = { tell, arg };
    check_addresses(&c, cfg);
    check_repositories(&c, cfg);
    check_state(&c, cfg);
    wn_pipelines_look(cfg, pipeline_bad, (void *)&c);
    if (cfg->jobs.enabled) {
        check_program(&c, "jobs.worker", cfg->jobs.worker, "jobs wait until a worker watches the folder");
        check_program(&c, "jobs.evaluator", cfg->jobs.evaluator, "no candidate can be judged");
    }
}
