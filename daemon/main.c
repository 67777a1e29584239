/* main.c: winnowd: settings, start, signals, drain.
 *
 * THREADS  main waits for signals and feeds systemd's watchdog; loops (daemon/net), workers (daemon/api), loaders and
 *   executors (daemon/serve) do the rest. All signals are blocked everywhere and taken here by sigtimedwait().
 * END      SIGTERM or SIGINT: not ready -> server.drain_lag -> listeners closed, GOAWAY, requests in flight finish
 * within server.drain_timeout -> the worker ends, its job at a checkpoint -> exit 0. A second signal exits at once.
 * SIGHUP reloads. */
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <systemd/sd-daemon.h>
#include <time.h>
#include <unistd.h>
#include "base/file.h"
#include "base/log.h"
#include "config/config.h"
#include "config/value.h"
#include "daemon/api/api.h"
#include "daemon/check/check.h"
#include "daemon/jobs/jobs.h"
#include "daemon/net/net.h"
#include "daemon/serve/serve.h"

/** A loop that has not turned for so long is stuck (microseconds). */
#define LOOP_STUCK_US ((uint64_t)10000000)
/** How long requests whose client has gone may still run when everybody else is done (milliseconds). */
#define ORPHANS_MS 5000u
#define WORKER_MS  12000u /* it is killed after 10 s */

struct daemon {
    const char *config_path; /* NULL: defaults */
    struct wn_config *boot;  /* as read at the start; what needs a restart keeps these values */
    struct wn_config *cfg;   /* in force; == boot before the first reload */
    struct wn_serve *serve;
    struct wn_api *api;
    struct wn_jobs *jobs; /* NULL: jobs.enabled is false, or models.state cannot be written */
    struct wn_net *net;
    struct wn_buf ports; /* a line for each listener: for WINNOW_PORT_FILE */
    char status[200];    /* last told to systemd */
    bool told_ready;     /* READY=1 was sent */
};

static atomic_bool drained;
static pthread_t main_thread;

/* ---- settings ---- */
static struct wn_config *config_read(const char *path, struct winnow_err *err)
{
    struct wn_config *cfg = calloc(1, sizeof *cfg);
    if (!cfg) {
        wn_fail(err, WINNOW_E_NOMEM, "settings");
        return NULL;
    }
    enum winnow_status s = path ? wn_config_load(path, cfg, err) : wn_config_defaults(cfg, err);
    if (s != WINNOW_OK) {
        free(cfg);
        return NULL;
    }
    return cfg;
}

static void config_free(struct wn_config *cfg)
{
    if (cfg)
        wn_config_done(cfg);
    free(cfg);
}

static void config_freep(struct wn_config **cfg)
{
    config_free(*cfg);
}

static int print_config(const struct wn_config *cfg)
{
    size_t n;
    const struct wn_setting *s = wn_config_settings(&n);
    const char *section = "";
    for (size_t i = 0; i < n; i++) {
        char value[4096];
        if (strcmp(section, s[i].section) != 0)
            printf("%s:\n", s[i].section);
        section = s[i].section;
        wn_config_format(cfg, &s[i], value, sizeof value);
        printf("    %s: %s\n", s[i].key, value);
    }
    return fflush(stdout) == 0 ? 0 : 1;
}

static struct wn_net_opts net_opts(const struct wn_config *cfg)
{
    return (struct wn_net_opts){
        .loops = (unsigned)cfg->server.loops,
        .max_connections = (unsigned)cfg->server.max_connections,
        .max_streams = (unsigned)cfg->server.max_streams,
        .max_header_bytes = (size_t)cfg->server.max_header,
        .max_headers = (unsigned)cfg->server.max_headers,
        .max_buffered = (size_t)cfg->server.max_buffered,
        .header_timeout_us = cfg->server.header_timeout,
        .body_timeout_us = cfg->server.body_timeout,
        .write_timeout_us = cfg->server.write_timeout,
        .idle_timeout_us = cfg->server.idle_timeout,
        .handshake_timeout_us = cfg->tls.handshake_timeout,
        .max_handshakes = (unsigned)cfg->tls.max_handshakes,
    };
}

/** A file's name from a setting: "credential:NAME" is what systemd put into $CREDENTIALS_DIRECTORY. malloc'ed. */
static enum winnow_status secret_path(const char *setting, const char *value, char **ret, struct winnow_err *err)
{
    const size_t n = sizeof WN_CONFIG_CREDENTIAL - 1;
    const char *folder = getenv("CREDENTIALS_DIRECTORY");
    bool credential = strncmp(value, WN_CONFIG_CREDENTIAL, n) == 0;
    if (credential && (!value[n] || strchr(value + n, '/') || !folder))
        return wn_fail(err, WINNOW_E_NOT_FOUND, "%s: '%s': %s", setting, value,
                       folder ? "not the name of a credential" : "systemd hands no credentials to this process");
    *ret = credential ? wn_asprintf("%s/%s", folder, value + n) : wn_strdup(value);
    return *ret ? WINNOW_OK : wn_fail(err, WINNOW_E_NOMEM, "%s", setting);
}

/** The certificate of the settings; NULL where there is none. */
static enum winnow_status read_tls(const struct wn_config *cfg, struct wn_tls **ret, struct winnow_err *err)
{
    WN_CLEANUP(wn_freep) char *certificate = NULL, *key = NULL;
    if (!*cfg->tls.certificate || cfg->server.tls == WN_SERVER_TLS_OFF)
        return WINNOW_OK;
    WN_TRY(secret_path("tls.certificate", cfg->tls.certificate, &certificate, err));
    WN_TRY(secret_path("tls.key", cfg->tls.key, &key, err));
    enum winnow_status status = wn_tls_new(certificate, key, ret, err);
    return status == WINNOW_OK ? status : wn_fail_at(err, status, "tls");
}

/** New connections find `tls` (NULL: clear text only). */
static enum winnow_status use_tls(struct daemon *d, const struct wn_config *cfg, struct wn_tls *tls,
                                  struct winnow_err *err)
{
    WN_TRY(wn_net_set_tls(d->net, tls, (enum wn_tls_mode)cfg->server.tls, err));
    wn_api_set_certificate_end(d->api, tls ? wn_tls_expires(tls) : 0);
    if (tls)
        wn_notice("certificate", "file=%s expires_s=%lld", cfg->tls.certificate, (long long)wn_tls_expires(tls));
    return WINNOW_OK;
}

static void tokens_unrefp(struct wn_tokens **tokens)
{
    wn_tokens_unref(*tokens);
}

/** The tokens of the settings; NULL where nobody needs one. A start needs one at least; a reload takes a file without
 *  any where it was left so (`winnow token revoke` leaves a comment), but not one that is empty. */
static enum winnow_status read_tokens(const struct wn_config *cfg, bool reload, struct wn_tokens **ret,
                                      struct winnow_err *err)
{
    WN_CLEANUP(wn_freep) char *path = NULL;
    WN_CLEANUP(tokens_unrefp) struct wn_tokens *tokens = NULL;
    if (cfg->server.auth != WN_AUTH_TOKENS)
        return WINNOW_OK;
    WN_TRY(secret_path("auth.tokens_file", cfg->auth.tokens_file, &path, err));
    enum winnow_status status = wn_tokens_read(path, &tokens, err);
    if (status != WINNOW_OK)
        return wn_fail_at(err, status, "auth.tokens_file");
    if (reload ? wn_tokens_blank(tokens) : !wn_tokens_count(tokens))
        return wn_fail(err, WINNOW_E_MALFORMED, "%s: no token in it; winnow token create NAME -f FILE makes one", path);
    *ret = WN_TAKE(tokens);
    return WINNOW_OK;
}

static void use_tokens(struct daemon *d, struct wn_tokens *tokens)
{
    wn_api_set_tokens(d->api, tokens);
    if (tokens && !wn_tokens_count(tokens))
        wn_warning("tokens", "n=0 why=%s", "the last one was revoked, nobody gets in");
    else if (tokens)
        wn_notice("tokens", "n=%zu", wn_tokens_count(tokens));
}

static void tls_unrefp(struct wn_tls **tls)
{
    wn_tls_unref(*tls);
}

struct findings {
    unsigned fatal, warnings;
};

static void tell_finding(void *arg, bool fatal, const char *text)
{
    struct findings *f = arg;
    ++*(fatal ? &f->fatal : &f->warnings);
    fprintf(stderr, "winnowd: %s%s\n", fatal ? "" : "warning: ", text);
}

static void tell_end(const struct wn_tls *tls, struct findings *f)
{
    char text[120];
    int64_t left_s = tls ? wn_tls_expires(tls) - (int64_t)time(NULL) : INT64_MAX;
    snprintf(text, sizeof text, "tls.certificate %s", left_s <= 0 ? "has expired" : "expires within 14 days");
    if (left_s < 14 * 86400)
        tell_finding(f, false, text);
}

/** For --check: the files that settings name, read as at a start. Credentials are systemd's to hand over, at a start.
 */
static enum winnow_status check_secrets(const struct wn_config *cfg, struct findings *f, struct winnow_err *err)
{
    WN_CLEANUP(tls_unrefp) struct wn_tls *tls = NULL;
    WN_CLEANUP(tokens_unrefp) struct wn_tokens *tokens = NULL;
    const size_t n = sizeof WN_CONFIG_CREDENTIAL - 1;
    bool there = getenv("CREDENTIALS_DIRECTORY") != NULL;
    bool pair = there || (strncmp(cfg->tls.certificate, WN_CONFIG_CREDENTIAL, n) != 0 &&
                          strncmp(cfg->tls.key, WN_CONFIG_CREDENTIAL, n) != 0);
    bool list = there || strncmp(cfg->auth.tokens_file, WN_CONFIG_CREDENTIAL, n) != 0;
    if (pair)
        WN_TRY(read_tls(cfg, &tls, err));
    tell_end(tls, f);
    return list ? read_tokens(cfg, false, &tokens, err) : WINNOW_OK;
}

/** --check: all that is found is told. Returns the exit code. */
static int check(const struct wn_config *cfg, const char *path)
{
    struct findings f = { 0 };
    struct winnow_err err;
    wn_log_configure(WN_LOG_TEXT, WN_LOG_ERROR); /* what is found is told here, once */
    if (check_secrets(cfg, &f, &err) != WINNOW_OK)
        tell_finding(&f, true, err.msg);
    wn_check_settings(cfg, tell_finding, &f);
    wn_check_machine(cfg, tell_finding, &f);
    if (f.fatal)
        return 2;
    printf("%s: ok", path ? path : "defaults");
    if (f.warnings)
        printf(", with %u warning%s", f.warnings, f.warnings == 1 ? "" : "s");
    printf("\n");
    return 0;
}

static void configure_log(const struct wn_config *cfg)
{
    wn_log_configure((enum wn_log_format)cfg->log.format, (enum wn_log_level)(WN_LOG_ERROR + cfg->log.level));
}

static size_t setting_size(enum wn_setting_type type)
{
    switch (type) {
#define TYPE(name)                                                                                                     \
    case WN_SETTING_##name:                                                                                            \
        return sizeof(wn_setting_##name)
        TYPE(BOOL);
        TYPE(INT);
        TYPE(REAL);
        TYPE(SIZE);
        TYPE(DURATION);
        TYPE(STRING);
        TYPE(PATH);
        TYPE(ENUM);
        TYPE(PATHS);
        TYPE(ADDRESSES);
#undef TYPE
    }
    return 0;
}

/** Settings that differ from those in force; what needs a restart gets its old value back in `cfg`. */
static size_t keep_what_needs_restart(const struct daemon *d, struct wn_config *cfg, const struct wn_setting **diff,
                                      size_t cap)
{
    size_t n = WN_MIN(wn_config_diff(d->cfg, cfg, diff, cap), cap);
    for (size_t i = 0; i < n; i++) {
        char value[512];
        if (diff[i]->reload)
            continue;
        wn_config_format(cfg, diff[i], value, sizeof value);
        wn_warning("setting_needs_restart", "name=%s.%s value=%s", diff[i]->section, diff[i]->key, value);
        memcpy((char *)cfg + diff[i]->offset, (const char *)d->boot + diff[i]->offset, setting_size(diff[i]->type));
    }
    return n;
}

static void tell_changed(const struct wn_config *cfg, const struct wn_setting *const *diff, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        char value[512];
        wn_config_format(cfg, diff[i], value, sizeof value);
        if (diff[i]->reload)
            wn_notice("setting", "name=%s.%s value=%s", diff[i]->section, diff[i]->key, value);
    }
}

/** Read settings and secrets again and put them in force: all or, on an error, none. */
static enum winnow_status reload_all(struct daemon *d, size_t *ret_changed, struct winnow_err *err)
{
    WN_CLEANUP(tls_unrefp) struct wn_tls *tls = NULL;
    WN_CLEANUP(tokens_unrefp) struct wn_tokens *tokens = NULL;
    WN_CLEANUP(config_freep) struct wn_config *cfg = config_read(d->config_path, err);
    const struct wn_setting *diff[256];
    if (!cfg)
        return err->status;
    *ret_changed = keep_what_needs_restart(d, cfg, diff, WN_COUNT(diff));
    WN_TRY(read_tls(cfg, &tls, err));
    WN_TRY(read_tokens(cfg, true, &tokens, err));
    WN_TRY(use_tls(d, cfg, tls, err));
    use_tokens(d, tokens);
    tell_changed(cfg, diff, *ret_changed);
    configure_log(cfg);
    struct wn_net_opts opts = net_opts(cfg);
    wn_net_configure(d->net, &opts);
    wn_api_reconfigure(d->api, cfg);
    wn_serve_reconfigure(d->serve, cfg);
    if (d->jobs)
        wn_jobs_reconfigure(d->jobs, cfg);
    if (d->cfg != d->boot)
        config_free(d->cfg);
    d->cfg = WN_TAKE(cfg);
    return WINNOW_OK;
}

/** SIGHUP. What may change does; what needs a restart keeps its value and is named. A bad file, of settings or of
 *  secrets, changes nothing. */
static void reload(struct daemon *d)
{
    struct timespec now;
    struct winnow_err err = { 0 };
    size_t changed = 0;
    clock_gettime(CLOCK_MONOTONIC, &now);
    sd_notifyf(0, "RELOADING=1\nMONOTONIC_USEC=%llu",
               (unsigned long long)now.tv_sec * 1000000u + (unsigned long long)now.tv_nsec / 1000u);
    if (reload_all(d, &changed, &err) != WINNOW_OK) {
        wn_error("reload_failed", "error=%s settings=unchanged", err.msg);
        sd_notifyf(0, "READY=1\nSTATUS=reload failed, old settings stay: %s", err.msg);
        return;
    }
    wn_notice("reloaded", "changed=%zu", changed);
    sd_notify(0, "READY=1\nSTATUS=reloaded");
    d->status[0] = '\0';
}

/* ---- start ---- */
/** No memory of this process becomes executable that was not from the start. Children are free to differ (flag 2). */
static void deny_executable_memory(void)
{
    enum { SET_MDWE = 65, REFUSE_EXEC_GAIN = 1, NO_INHERIT = 2 }; /* linux/prctl.h of 6.6; Debian 12's is older */
    if (prctl(SET_MDWE, REFUSE_EXEC_GAIN | NO_INHERIT, 0, 0, 0) != 0 && prctl(SET_MDWE, REFUSE_EXEC_GAIN, 0, 0, 0) != 0)
        wn_debug("start", "no_mdwe", "error=%s", strerror(errno));
}

static void raise_file_limit(void)
{
    struct rlimit l;
    if (getrlimit(RLIMIT_NOFILE, &l) == 0 && l.rlim_cur < l.rlim_max) {
        l.rlim_cur = l.rlim_max;
        setrlimit(RLIMIT_NOFILE, &l);
    }
}

/** Where a listening socket can be reached: its address as text; false: only from this machine. */
static bool beyond_loopback(int fd, char *text, size_t room)
{
    struct sockaddr_storage at = { 0 };
    socklen_t n = sizeof at;
    char host[INET6_ADDRSTRLEN] = "";
    const struct sockaddr_in *in = (const void *)&at;
    const struct sockaddr_in6 *in6 = (const void *)&at;
    if (getsockname(fd, (struct sockaddr *)&at, &n) < 0 || at.ss_family == AF_UNIX)
        return false;
    if (at.ss_family == AF_INET) {
        inet_ntop(AF_INET, &in->sin_addr, host, sizeof host);
        snprintf(text, room, "%s:%u", host, ntohs(in->sin_port));
        return ntohl(in->sin_addr.s_addr) >> 24 != 127;
    }
    inet_ntop(AF_INET6, &in6->sin6_addr, host, sizeof host);
    snprintf(text, room, "[%s]:%u", host, ntohs(in6->sin6_port));
    return !IN6_IS_ADDR_LOOPBACK(&in6->sin6_addr);
}

/** server.listen was judged when the settings were read; systemd's sockets are judged here. */
static enum winnow_status check_sockets(const struct daemon *d, struct winnow_err *err)
{
    char text[80] = "";
    int n = sd_listen_fds(0), i = 0;
    while (i < n && !beyond_loopback(SD_LISTEN_FDS_START + i, text, sizeof text))
        i++;
    if (d->cfg->server.auth != WN_AUTH_LOOPBACK || i >= n)
        return WINNOW_OK;
    return wn_fail(
        err, WINNOW_E_PRECONDITION,
        "%s: server.auth is loopback, but systemd's socket listens on %s: 'auth: tokens' (or 'auth: none') allows "
        "it",
        d->config_path ? d->config_path : "defaults", text);
}

static void log_finding(void *arg, bool fatal, const char *text)
{
    wn_warning("settings", "what=%s", text);
}

static enum winnow_status listen_one(struct daemon *d, const char *address, struct winnow_err *err)
{
    uint16_t port;
    WN_TRY(wn_net_listen(d->net, address, &port, err));
    wn_check_address(d->cfg, address, log_finding, NULL);
    const char *colon = strrchr(address, ':');
    int host = colon ? (int)(colon - address) : (int)strlen(address);
    wn_notice("listening", "address=%.*s:%u", host, address, port);
    wn_buf_printf(&d->ports, "%.*s:%u\n", host, address, port);
    return WINNOW_OK;
}

/** systemd's sockets where there are any, else server.listen. */
static enum winnow_status listen_all(struct daemon *d, struct winnow_err *err)
{
    int n = sd_listen_fds(1);
    if (n < 0)
        return wn_fail_errno(err, -n, "sockets from systemd");
    for (int i = 0; i < n; i++) {
        char text[80] = "";
        if (beyond_loopback(SD_LISTEN_FDS_START + i, text, sizeof text))
            wn_check_address(d->cfg, text, log_finding, NULL);
        WN_TRY(wn_net_listen_fd(d->net, SD_LISTEN_FDS_START + i, err));
        wn_notice("listening", "fd=%d", SD_LISTEN_FDS_START + i);
    }
    for (size_t i = 0; n == 0 && i < d->cfg->server.listen.n; i++)
        WN_TRY(listen_one(d, d->cfg->server.listen.at[i], err));
    const char *path = getenv("WINNOW_PORT_FILE");
    if (!path || !*path)
        return WINNOW_OK;
    if (d->ports.failed)
        return wn_fail(err, WINNOW_E_NOMEM, "port file");
    return wn_file_write_durable(path, d->ports.at ? d->ports.at : "", d->ports.n, err);
}

/** Uploads and jobs. A server that only serves may have a state folder that it cannot write; a damaged or foreign
 *  database is never passed over. */
static enum winnow_status start_jobs(struct daemon *d, struct winnow_err *err)
{
    if (!d->cfg->jobs.enabled)
        return WINNOW_OK;
    enum winnow_status s = wn_jobs_new(d->cfg, d->serve, &d->jobs, err);
    if (s == WINNOW_E_DENIED || s == WINNOW_E_NOT_FOUND || s == WINNOW_E_NO_SPACE || s == WINNOW_E_IO) {
        wn_warning("jobs_off", "state=%s error=%s", d->cfg->models.state, err->msg);
        return WINNOW_OK;
    }
    WN_TRY(s);
    wn_api_set_jobs(d->api, d->jobs);
    wn_api_add_metrics(d->api, wn_jobs_metrics, d->jobs);
    return WINNOW_OK;
}

/** @param ret_settings  set when it is the settings or their files that are wrong, and would be again */
static enum winnow_status start(struct daemon *d, bool *ret_settings, struct winnow_err *err)
{
    struct wn_net_opts opts = net_opts(d->cfg);
    WN_CLEANUP(tls_unrefp) struct wn_tls *tls = NULL;
    WN_CLEANUP(tokens_unrefp) struct wn_tokens *tokens = NULL;
    *ret_settings = true;
    wn_check_settings(d->cfg, log_finding, NULL);
    WN_TRY(check_sockets(d, err));
    WN_TRY(read_tls(d->cfg, &tls, err));
    WN_TRY(read_tokens(d->cfg, false, &tokens, err));
    *ret_settings = false;
    WN_TRY(wn_serve_new(d->cfg, &d->serve, err));
    WN_TRY(wn_api_new(d->cfg, d->serve, &d->api, err));
    WN_TRY(start_jobs(d, err));
    WN_TRY(wn_net_new(&opts, wn_api_handler(d->api), &d->net, err));
    use_tokens(d, tokens);
    WN_TRY(use_tls(d, d->cfg, tls, err));
    wn_api_set_net(d->api, d->net);
    wn_api_set_ready(d->api, true);
    return listen_all(d, err);
}

/* ---- while it runs, and the end ---- */
/** READY=1 once the models that were there at the start are loaded (or have failed to); until then more time is asked
 *  for, so that a slow load is no failed start. */
static void tell_status(struct daemon *d)
{
    char text[sizeof d->status];
    bool ready = wn_api_is_ready(d->api);
    if (ready && !d->told_ready)
        sd_notify(0, "READY=1");
    else if (!d->told_ready)
        sd_notify(0, "EXTEND_TIMEOUT_USEC=30000000");
    d->told_ready = d->told_ready || ready;
    snprintf(text, sizeof text, "STATUS=%s", ready ? "ready" : "loading models");
    if (strcmp(text, d->status) != 0) {
        memcpy(d->status, text, sizeof text);
        sd_notify(0, text);
    }
}

static void feed_watchdog(struct daemon *d)
{
    if (wn_net_alive(d->net, LOOP_STUCK_US))
        sd_notify(0, "WATCHDOG=1");
    else
        wn_error("loop_stuck", "seconds=%llu", (unsigned long long)(LOOP_STUCK_US / 1000000));
}

/** Next signal, or 0 when `us` have passed. A second SIGTERM or SIGINT on the way down ends the process. */
static int wait_signal(const sigset_t *set, uint64_t us, bool down)
{
    struct timespec ts = { (time_t)(us / 1000000), (long)(us % 1000000) * 1000 };
    int sig = sigtimedwait(set, NULL, &ts);
    if (down && (sig == SIGTERM || sig == SIGINT)) {
        wn_warning("stopped_at_once", "signal=%s", strsignal(sig));
        _exit(1);
    }
    return sig > 0 ? sig : 0;
}

static int serve_until_stopped(struct daemon *d, const sigset_t *set)
{
    uint64_t watchdog_us = 0;
    if (sd_watchdog_enabled(0, &watchdog_us) <= 0)
        watchdog_us = 0;
    uint64_t step = watchdog_us ? WN_MIN(watchdog_us / 2, (uint64_t)1000000) : 1000000;
    for (;;) {
        int sig = wait_signal(set, d->told_ready ? step : WN_MIN(step, (uint64_t)50000), false);
        if (sig == SIGTERM || sig == SIGINT)
            return sig;
        if (sig == SIGHUP)
            reload(d);
        if (watchdog_us)
            feed_watchdog(d);
        tell_status(d);
    }
}

/** The last connection is gone; on a loop thread. */
static void on_drained(void *arg)
{
    atomic_store(&drained, true);
    pthread_kill(main_thread, SIGRTMIN);
}

static void sleep_watching(struct daemon *d, const sigset_t *set, uint64_t us)
{
    uint64_t end = wn_now_ns() / 1000 + us, now;
    while (!atomic_load(&drained) && (now = wn_now_ns() / 1000) < end) {
        wait_signal(set, WN_MIN(end - now, (uint64_t)1000000), true);
        sd_notify(0, "WATCHDOG=1");
    }
}

/** Returns the number of requests that are still under way. */
static unsigned drain(struct daemon *d, const sigset_t *set, int sig)
{
    wn_notice("draining", "signal=%s inflight=%u", strsignal(sig), wn_api_inflight(d->api));
    sd_notify(0, "STOPPING=1\nSTATUS=finishing requests");
    wn_api_set_ready(d->api, false);
    if (d->jobs)
        wn_jobs_drain(d->jobs);
    sleep_watching(d, set, d->cfg->server.drain_lag);
    uint64_t grace = d->cfg->server.drain_timeout;
    wn_net_drain(d->net, grace, on_drained, NULL);
    sleep_watching(d, set, grace + 5000000);
    for (unsigned ms = 0; wn_api_inflight(d->api) && ms < ORPHANS_MS; ms += 10)
        wait_signal(set, 10000, true);
    for (unsigned ms = 0; d->jobs && !wn_jobs_drained(d->jobs) && ms < WORKER_MS; ms += 50) {
        wait_signal(set, 50000, true);
        sd_notify(0, "WATCHDOG=1");
    }
    return wn_api_inflight(d->api);
}

/** Outermost first: nobody may post to a loop once it is freed, or use a generation once the registry is. */
static void stop(struct daemon *d)
{
    if (d->api)
        wn_api_stop_work(d->api);
    if (d->jobs)
        wn_jobs_stop(d->jobs);
    wn_serve_free(d->serve, 0);
    wn_net_free(d->net);
    wn_jobs_free(d->jobs);
    wn_api_free(d->api);
    wn_buf_done(&d->ports);
    if (d->cfg != d->boot)
        config_free(d->cfg);
    config_free(d->boot);
}

static void block_signals(sigset_t *set)
{
    sigemptyset(set);
    sigaddset(set, SIGTERM);
    sigaddset(set, SIGINT);
    sigaddset(set, SIGHUP);
    sigaddset(set, SIGRTMIN);
    pthread_sigmask(SIG_BLOCK, set, NULL);
    signal(SIGPIPE, SIG_IGN);
    main_thread = pthread_self();
}

static int run(struct daemon *d)
{
    struct winnow_err err = { 0 };
    sigset_t set;
    configure_log(d->cfg);
    block_signals(&set);
    deny_executable_memory();
    raise_file_limit();
    wn_notice("starting", "version=%s isa=%s pid=%ld config=%s", WN_VERSION, winnow_cpu_isa(), (long)getpid(),
              d->config_path ? d->config_path : "(defaults)");
    bool settings_wrong = false;
    if (start(d, &settings_wrong, &err) != WINNOW_OK) {
        sd_notifyf(0, "STATUS=start failed: %s", err.msg);
        stop(d); /* first: what is being loaded would go on saying so after the error */
        wn_error("start_failed", "error=%s", err.msg);
        return settings_wrong ? 2 : 1;
    }
    int sig = serve_until_stopped(d, &set);
    unsigned left = drain(d, &set, sig), jobs = d->jobs ? wn_jobs_stop(d->jobs) : 0;
    wn_notice("stopped", "unfinished=%u jobs=%u", left, jobs);
    if (left)
        _exit(0); /* a run that nobody waits for is still computing: the kernel frees what it uses */
    stop(d);
    return 0;
}

static void usage(FILE *to)
{
    fputs(
        "winnowd [--config FILE] [--check | --print-config | --version | --help]\n"
        "\n"
        "  --config FILE     settings (winnowd.yaml(5)); without it: the defaults\n"
        "  --check           validate the settings and the files they name, and exit: 0, or 2 and what is wrong, with\n"
        "                    FILE:LINE\n"
        "  --print-config    print every setting as it would be in force\n"
        "  --version         print the version\n"
        "\n"
        "SIGHUP reloads the settings. SIGTERM finishes what is in flight and exits; a second one exits at once.\n"
        "WINNOW_PORT_FILE names a file that gets a line host:port for every listener (port 0 chooses one).\n",
        to);
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        { "config", required_argument, NULL, 'c' }, { "check", no_argument, NULL, 'k' },
        { "print-config", no_argument, NULL, 'p' }, { "version", no_argument, NULL, 'v' },
        { "help", no_argument, NULL, 'h' },         { 0 },
    };
    struct daemon d = { 0 };
    struct winnow_err err = { 0 };
    int action = 0, c;
    while ((c = getopt_long(argc, argv, "c:h", options, NULL)) != -1) {
        if (c == '?' || (action && c != 'c')) {
            usage(stderr);
            return 2;
        }
        if (c == 'c')
            d.config_path = optarg;
        else
            action = c;
    }
    if (optind < argc) {
        fprintf(stderr, "winnowd: unexpected argument '%s'\n", argv[optind]);
        usage(stderr);
        return 2;
    }
    if (action == 'h' || action == 'v') {
        if (action == 'h')
            usage(stdout);
        else
            printf("winnowd %s\n", WN_VERSION);
        return 0;
    }
    d.boot = d.cfg = config_read(d.config_path, &err);
    if (!d.cfg) {
        fprintf(stderr, "winnowd: %s\n", err.msg);
        return 2;
    }
    if (action) {
        int rc = action == 'p' ? print_config(d.cfg) : check(d.cfg, d.config_path);
        config_free(d.cfg);
        return rc;
    }
    return run(&d);
}
