/* replay.c: run a fuzz target over saved inputs, under any compiler: every file named on the command line, and every
 * file of the folders named there. A crash or a sanitizer report ends the program; the input is named before. */
#include <dirent.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "base/base.h"
#include "base/file.h"

#define MAX_BYTES ((size_t)64 << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *current = "(none)";

static void say_current(void)
{
    if (current)
        fprintf(stderr, "replay: stopped in '%s'\n", current);
}

static int replay_file(const char *path, unsigned long *count)
{
    void *bytes;
    size_t n;
    struct winnow_err err;
    if (wn_file_read(path, MAX_BYTES, &bytes, &n, &err) != WINNOW_OK) {
        fprintf(stderr, "replay: %s\n", err.msg);
        return 1;
    }
    /* An exact copy, without the NUL that follows a file read: reading past the end shall be seen. */
    uint8_t *exact = malloc(n ? n : 1);
    if (!exact) {
        free(bytes);
        fprintf(stderr, "replay: out of memory for '%s'\n", path);
        return 1;
    }
    if (n)
        memcpy(exact, bytes, n);
    free(bytes);
    current = path;
    LLVMFuzzerTestOneInput(exact, n);
    free(exact);
    ++*count;
    return 0;
}

static int replay_folder(const char *path, unsigned long *count)
{
    struct dirent **list;
    int n = scandir(path, &list, NULL, alphasort), failed = 0;
    if (n < 0) {
        fprintf(stderr, "replay: folder '%s': %s\n", path, strerror(errno));
        return 1;
    }
    for (int i = 0; i < n; i++) {
        char *file = list[i]->d_name[0] == '.' ? NULL : wn_asprintf("%s/%s", path, list[i]->d_name);
        if (file)
            failed |= replay_file(file, count);
        free(file);
        free(list[i]);
    }
    free(list);
    return failed;
}

int main(int argc, char **argv)
{
    unsigned long count = 0;
    int failed = 0;
    atexit(say_current);
    for (int i = 1; i < argc; i++) {
        struct stat st;
        if (stat(argv[i], &st) == 0 && S_ISDIR(st.st_mode))
            failed |= replay_folder(argv[i], &count);
        else
            failed |= replay_file(argv[i], &count);
    }
    current = NULL;
    printf("%lu inputs replayed\n", count);
    return failed || count == 0;
}
