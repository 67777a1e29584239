/* base.c: folders of model versions: copied for a job, and found again by the job that made them. */
#include "daemon/jobs/internal.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/digest.h"
#include "base/file.h"
#include "base/tree.h"
#include "winnow/winnow.h"

#define MAX_FILES 64

static void close_dir(DIR **d)
{
    if (*d)
        closedir(*d);
}

static bool wanted(const char *name)
{
    return name[0] != '.' && strcmp(name, "lineage.json") != 0 && strcmp(name, "anchor.npz") != 0;
}

static enum winnow_status copy_one(const char *from_dir, const char *to_dir, const char *name, struct winnow_err *err)
{
    WN_CLEANUP(wn_freep) char *from = wn_asprintf("%s/%s", from_dir, name);
    WN_CLEANUP(wn_freep) char *real = from ? realpath(from, NULL) : NULL; /* repositories may be made of links */
    WN_CLEANUP(wn_freep) char *to = wn_asprintf("%s/%s", to_dir, name);
    if (!real || !to)
        return wn_fail_errno(err, errno, "copying '%s/%s'", from_dir, name);
    return wn_tree_copy_file(real, to, 0, err);
}

static bool is_there(const char *dir, const char *name)
{
    WN_CLEANUP(wn_freep) char *path = wn_asprintf("%s/%s", dir, name);
    return path && access(path, F_OK) == 0;
}

/* The files that the weights of a version's model or master lie in. */
static enum winnow_status copy_weights(const char *from, const char *to, struct winnow_err *err)
{
    static const char *const names[] = { "model.onnx", "master.onnx" };
    for (size_t i = 0; i < WN_COUNT(names); i++) {
        WN_CLEANUP(wn_freep) char *path = wn_asprintf("%s/%s", from, names[i]);
        if (!path)
            return wn_fail(err, WINNOW_E_NOMEM, "copying '%s'", from);
        if (is_there(from, names[i]))
            WN_TRY(winnow_external_copy(path, to, 0, err));
    }
    return WINNOW_OK;
}

static enum winnow_status copy_version(const char *from, const char *to, struct winnow_err *err)
{
    struct stat st;
    unsigned n = 0;
    WN_CLEANUP(close_dir) DIR *d = opendir(from);
    if (!d)
        return wn_fail_errno(err, errno, "folder '%s'", from);
    for (struct dirent *e; (e = readdir(d)) != NULL;) {
        if (!wanted(e->d_name) || fstatat(dirfd(d), e->d_name, &st, 0) < 0 || !S_ISREG(st.st_mode))
            continue;
        if (is_there(to, e->d_name)) /* with the weights */
            continue;
        if (++n > MAX_FILES)
            return wn_fail(err, WINNOW_E_TOO_LARGE, "folder '%s' holds more than %d files", from, MAX_FILES);
        WN_TRY(copy_one(from, to, e->d_name, err));
    }
    return WINNOW_OK;
}

/* Files that versions of a model may share stand beside their folders. */
static enum winnow_status copy_shared(const char *version_dir, const char *to, struct winnow_err *err)
{
    WN_CLEANUP(wn_freep) char *parent = wn_asprintf("%s/..", version_dir);
    for (const char *const *name = wn_pipeline_files; *name && parent; name++) {
        struct stat st;
        WN_CLEANUP(wn_freep) char *there = wn_asprintf("%s/%s", to, *name);
        WN_CLEANUP(wn_freep) char *here = wn_asprintf("%s/%s", parent, *name);
        if (there && here && stat(there, &st) < 0 && stat(here, &st) == 0 && S_ISREG(st.st_mode))
            WN_TRY(copy_one(parent, to, *name, err));
    }
    return parent ? WINNOW_OK : wn_fail(err, WINNOW_E_NOMEM, "copying '%s'", version_dir);
}

enum winnow_status wn_base_copy(const struct wn_gen *gen, const char *to, struct winnow_err *err)
{
    struct wn_sha256 want, got;
    const char *from = wn_gen_dir(gen);
    WN_CLEANUP(wn_freep) char *model = wn_asprintf("%s/model.onnx", to);
    if (!model)
        return wn_fail(err, WINNOW_E_NOMEM, "copying '%s'", from);
    WN_TRY(wn_tree_make(to, err));
    WN_TRY(copy_weights(from, to, err));
    WN_TRY(copy_version(from, to, err));
    WN_TRY(copy_shared(from, to, err));
    WN_TRY(wn_gen_digest_of(gen, model, &got, err));
    if (!wn_digest_parse(wn_gen_digest(gen), &want) || !wn_digest_equal(&want, &got))
        return wn_fail(err, WINNOW_E_CONFLICT,
                       "'%s/model.onnx' is not the model that serves: it is changing, try again", from);
    return wn_dir_sync(to, err);
}

int64_t wn_find_published(const struct wn_jobs *jobs, const char *target, const char *job)
{
    int64_t found = 0;
    WN_CLEANUP(wn_freep) char *folder = wn_asprintf("%s/models/%s", jobs->state, target);
    WN_CLEANUP(close_dir) DIR *d = folder ? opendir(folder) : NULL;
    for (struct dirent *e; d && !found && (e = readdir(d)) != NULL;) {
        char *end;
        long long version = strtoll(e->d_name, &end, 10);
        if (version <= 0 || *end)
            continue;
        WN_CLEANUP(wn_freep) char *path = wn_asprintf("%s/%s/lineage.json", folder, e->d_name);
        json_t *o = path ? wn_json_file(path, NULL) : NULL;
        const char *by = json_string_value(json_object_get(o, "job"));
        if (by && strcmp(by, job) == 0)
            found = version;
        json_decref(o);
    }
    return found;
}
