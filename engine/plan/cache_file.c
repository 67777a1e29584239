/* cache_file.c: see cache_file.h.
 *
 * DESIGN  A form is mapped, not read: its pages are shared with other processes and cost no memory that could not be
 *         dropped. The file is ours: it lies in a folder of this user, is renamed into place whole and never changed,
 *         so that nobody cuts it short under a reader. Trusted is what the checksum covers; offsets and counts are
 *         checked while reading nonetheless (codec.c). The time of last use is kept as the file's time of change. */
#include "engine/plan/cache_file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#define XXH_INLINE_ALL
#include <xxhash.h>
#include "engine/plan/build_id.h"
#include "engine/kernels/kernels.h"

#define PAGE  ((size_t)4096)
#define MAGIC "WNPLAN1"

enum winnow_status wn_cache_header_init(struct wn_cache_header *h, const char *path, struct winnow_err *err)
{
    memset(h, 0, sizeof *h);
    memcpy(h->magic, MAGIC, sizeof h->magic);
    snprintf(h->engine, sizeof h->engine, "%s %s", WN_ENGINE_ID, wn_isa_name(wn_cpu_isa()));
    WN_CLEANUP(wn_freep) char *real = realpath(path, NULL);
    if (!real)
        return wn_fail_errno(err, errno, "'%s'", path);
    if (strlen(real) >= sizeof h->path)
        return wn_fail(err, WINNOW_E_TOO_LARGE, "'%s': a path of more than %zu bytes", path, sizeof h->path - 1);
    memcpy(h->path, real, strlen(real));
    return WINNOW_OK;
}

char *wn_cache_name(const char *folder, const struct wn_cache_header *h)
{
    XXH3_state_t state;
    XXH3_128bits_reset(&state);
    XXH3_128bits_update(&state, h->engine, sizeof h->engine);
    XXH3_128bits_update(&state, h->path, sizeof h->path);
    const XXH128_hash_t hash = XXH3_128bits_digest(&state);
    return wn_asprintf("%s/%016llx%016llx" WN_CACHE_SUFFIX, folder, (unsigned long long)hash.high64,
                       (unsigned long long)hash.low64);
}

void wn_cache_checksum(const struct wn_cache_header *h, const struct wn_piece *rest, size_t n, uint64_t ret[2])
{
    struct wn_cache_header bare = *h;
    memset(bare.check, 0, sizeof bare.check);
    XXH3_state_t state;
    XXH3_128bits_reset(&state);
    XXH3_128bits_update(&state, &bare, sizeof bare);
    for (size_t i = 0; i < n; i++)
        XXH3_128bits_update(&state, rest[i].p, rest[i].n);
    const XXH128_hash_t hash = XXH3_128bits_digest(&state);
    ret[0] = hash.low64;
    ret[1] = hash.high64;
}

const char *wn_cache_check(const void *bytes, size_t n, const struct wn_cache_header *want)
{
    struct wn_cache_header h;
    uint64_t check[2];
    if (n < sizeof h)
        return "damaged: it is too short";
    memcpy(&h, bytes, sizeof h);
    if (memcmp(h.magic, want->magic, sizeof h.magic) != 0)
        return "not a compiled form of this version";
    if (memcmp(h.engine, want->engine, sizeof h.engine) != 0)
        return "made by another build or for another instruction set";
    if (memcmp(h.path, want->path, sizeof h.path) != 0)
        return "that of another file";
    if (h.total != n || h.stream_bytes > n - sizeof h || h.blobs_at % PAGE || h.blobs_at < sizeof h + h.stream_bytes ||
        h.blobs_at > n || h.blob_bytes > n - h.blobs_at || n - h.blobs_at - h.blob_bytes < PAGE ||
        h.n_tag > sizeof h.tag)
        return "damaged: sizes that do not fit together";
    const struct wn_piece rest = { (const char *)bytes + sizeof h, n - sizeof h };
    wn_cache_checksum(&h, &rest, 1, check);
    return memcmp(check, h.check, sizeof check) != 0 ? "damaged: its checksum is wrong" : NULL;
}

enum winnow_status wn_cache_map(const char *name, const unsigned char **ret_bytes, size_t *ret_n,
                                struct wn_mapping **ret_map, struct winnow_err *err)
{
    WN_CLEANUP(wn_closep) int fd = open(name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) != 0)
        return wn_fail_errno(err, errno, "'%s'", name);
    if (!S_ISREG(st.st_mode) || st.st_uid != geteuid() || (st.st_mode & S_IWOTH) || st.st_size <= 0)
        return wn_fail(err, WINNOW_E_DENIED, "'%s' is not this user's own", name);
    const size_t n = (size_t)st.st_size;
    void *p = mmap(NULL, n, PROT_READ, MAP_SHARED | MAP_POPULATE, fd, 0);
    if (p == MAP_FAILED)
        return wn_fail_errno(err, errno, "mapping '%s'", name);
    if (!(*ret_map = wn_mapping_new(p, n))) {
        munmap(p, n);
        return wn_fail(err, WINNOW_E_NOMEM, "'%s'", name);
    }
    futimens(fd, (const struct timespec[]){ { .tv_nsec = UTIME_OMIT }, { .tv_nsec = UTIME_NOW } }); /* last use */
    *ret_bytes = p;
    *ret_n = n;
    return WINNOW_OK;
}

enum winnow_status wn_cache_write(const char *name, struct wn_cache_header *h, const struct wn_codec *im,
                                  struct winnow_err *err)
{
    static const char zeros[2 * PAGE];
    WN_VEC(struct wn_piece) piece = { 0 };
    h->stream_bytes = im->stream.n;
    h->blobs_at = wn_round_up(sizeof *h + im->stream.n, PAGE);
    h->blob_bytes = im->blob_bytes;
    h->total = h->blobs_at + h->blob_bytes + PAGE;
    bool ok = wn_vec_push(&piece, (struct wn_piece){ h, sizeof *h }) &&
              wn_vec_push(&piece, (struct wn_piece){ im->stream.at, im->stream.n }) &&
              wn_vec_push(&piece, (struct wn_piece){ zeros, h->blobs_at - sizeof *h - im->stream.n });
    for (size_t i = 0; ok && i < im->blobs.n; i++) {
        const struct wn_codec_blob *b = &im->blobs.at[i];
        const size_t next = i + 1 < im->blobs.n ? im->blobs.at[i + 1].at : im->blob_bytes;
        ok = wn_vec_push(&piece, (struct wn_piece){ b->p, b->n }) &&
             wn_vec_push(&piece, (struct wn_piece){ zeros, next - b->at - b->n });
    }
    ok = ok && wn_vec_push(&piece, (struct wn_piece){ zeros, PAGE });
    enum winnow_status status = WINNOW_OK;
    if (ok) {
        wn_cache_checksum(h, piece.at + 1, piece.n - 1, h->check);
        status = wn_file_write_pieces(name, piece.at, piece.n, err);
    } else {
        status = wn_fail(err, WINNOW_E_NOMEM, "'%s'", name);
    }
    wn_vec_done(&piece);
    return status;
}

/* ---- pruning ---- */

struct kept {
    char *name;
    size_t bytes;
    int64_t used_ns;
};

/* Whether the form is of a file that is there still, made by this engine. */
static bool is_of_use(const char *name, const struct wn_cache_header *want)
{
    struct wn_cache_header h;
    WN_CLEANUP(wn_closep) int fd = open(name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    bool there;
    if (fd < 0 || pread(fd, &h, sizeof h, 0) != (ssize_t)sizeof h || h.path[sizeof h.path - 1] ||
        memcmp(h.magic, want->magic, sizeof h.magic) != 0 || memcmp(h.engine, want->engine, sizeof h.engine) != 0)
        return false;
    const struct wn_file_id now = wn_file_id_of(h.path, &there);
    return there && wn_file_id_equal(&now, &h.source);
}

static int by_use(const void *a, const void *b)
{
    const struct kept *x = a, *y = b;
    return (x->used_ns > y->used_ns) - (x->used_ns < y->used_ns);
}

static bool ends_with(const char *s, const char *end)
{
    const size_t n = strlen(s), m = strlen(end);
    return n >= m && strcmp(s + n - m, end) == 0;
}

void wn_cache_prune(const char *folder, const struct wn_cache_header *want, const char *keep, size_t max_bytes)
{
    WN_VEC(struct kept) all = { 0 };
    size_t total = 0;
    DIR *d = opendir(folder);
    for (struct dirent *e; d && (e = readdir(d)) != NULL;) {
        struct stat st;
        char *name = ends_with(e->d_name, WN_CACHE_SUFFIX) ? wn_asprintf("%s/%s", folder, e->d_name) : NULL;
        if (!name || lstat(name, &st) != 0 || !S_ISREG(st.st_mode)) {
            free(name);
            continue;
        }
        const bool is_kept = strcmp(name, keep) == 0;
        if (!is_kept && !is_of_use(name, want)) {
            unlink(name);
            free(name);
            continue;
        }
        total += (size_t)st.st_size;
        if (is_kept || !wn_vec_push(&all, (struct kept){ name, (size_t)st.st_size, wn_file_id_of_stat(&st).mtime_ns }))
            free(name);
    }
    if (d)
        closedir(d);
    if (all.n)
        qsort(all.at, all.n, sizeof *all.at, by_use);
    for (size_t i = 0; i < all.n; i++) {
        if (total > max_bytes && unlink(all.at[i].name) == 0)
            total -= all.at[i].bytes;
        free(all.at[i].name);
    }
    wn_vec_done(&all);
}
