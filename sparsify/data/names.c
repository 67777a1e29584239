/* names.c: labels and parts from names. */
#include "sparsify/data/names.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static const char *leaf_of(const char *name)
{
    const char *slash = strrchr(name, '/');
    return slash ? slash + 1 : name;
}

bool wn_data_hidden(const char *name)
{
    for (const char *s = name; *s;) {
        size_t n = strcspn(s, "/");
        if (s[0] == '.' || (n == 8 && strncmp(s, "__MACOSX", 8) == 0))
            return true;
        s += n;
        s += *s == '/';
    }
    return false;
}

bool wn_data_ignorable(const char *name)
{
    static const char *const leaves[] = { "Thumbs.db", "desktop.ini", "README", "LICENSE" };
    static const char *const endings[] = { "txt", "md",   "json", "jsonl", "csv", "tsv", "xml", "html",
                                           "htm", "yaml", "yml",  "log",   "pdf", "rst", "py",  "ini" };
    if (wn_data_hidden(name))
        return true;
    const char *leaf = leaf_of(name), *dot = strrchr(leaf, '.');
    for (size_t i = 0; i < WN_COUNT(leaves); i++)
        if (strcasecmp(leaf, leaves[i]) == 0)
            return true;
    for (size_t i = 0; dot && i < WN_COUNT(endings); i++)
        if (strcasecmp(dot + 1, endings[i]) == 0)
            return true;
    return false;
}

enum wn_part wn_data_part_word(const char *word, size_t n)
{
    static const struct {
        const char *word;
        enum wn_part part;
    } words[] = { { "train", WN_PART_TRAIN }, { "training", WN_PART_TRAIN },  { "val", WN_PART_EVAL },
                  { "valid", WN_PART_EVAL },  { "validation", WN_PART_EVAL }, { "eval", WN_PART_EVAL },
                  { "test", WN_PART_EVAL },   { "t10k", WN_PART_EVAL } };
    for (size_t i = 0; i < WN_COUNT(words); i++)
        if (strlen(words[i].word) == n && strncasecmp(word, words[i].word, n) == 0)
            return words[i].part;
    return WN_PART_ANY;
}

static size_t first_len(const char *s)
{
    return strcspn(s, "/");
}

/* Bytes to take off every path: the one folder that holds everything, itself not the label of anything. */
static size_t common_root(const char *const *dir, size_t n)
{
    size_t len = n ? first_len(dir[0]) : 0;
    for (size_t i = 0; i < n; i++)
        if (!len || first_len(dir[i]) != len || memcmp(dir[i], dir[0], len) != 0 || dir[i][len] != '/')
            return 0;
    return len + 1;
}

void wn_data_settle_dirs(const char *const *dir, size_t n, size_t *ret_label, enum wn_part *ret_part)
{
    size_t root = n > 1 ? common_root(dir, n) : 0;
    bool train = false, eval = false, only = true;
    for (size_t i = 0; i < n; i++) {
        const char *s = dir[i] + root;
        enum wn_part part = s[first_len(s)] == '/' ? wn_data_part_word(s, first_len(s)) : WN_PART_ANY;
        train |= part == WN_PART_TRAIN;
        eval |= part == WN_PART_EVAL;
        only &= part != WN_PART_ANY;
    }
    bool parts = train && eval && only;
    for (size_t i = 0; i < n; i++) {
        const char *s = dir[i] + root, *slash = strrchr(dir[i], '/');
        ret_part[i] = parts ? wn_data_part_word(s, first_len(s)) : WN_PART_ANY;
        ret_label[i] = !dir[i][0] ? SIZE_MAX : slash ? (size_t)(slash + 1 - dir[i]) : 0;
    }
}

char *wn_data_idx_key(const char *name)
{
    static const char *const drop[] = { "images", "labels", "image", "label", "idx3", "idx1", "idx4", ".gz" };
    char *key = malloc(strlen(name) + 1), *to = key;
    for (const char *s = name; key && *s;) {
        size_t skip = 0;
        for (size_t i = 0; i < WN_COUNT(drop) && !skip; i++)
            if (strncasecmp(s, drop[i], strlen(drop[i])) == 0)
                skip = strlen(drop[i]);
        if (skip) {
            s += skip;
        } else {
            *to++ = (char)tolower((unsigned char)*s++);
        }
    }
    if (key)
        *to = '\0';
    return key;
}

enum wn_part wn_data_idx_part(const char *name)
{
    for (const char *s = name; *s;) {
        size_t n = strcspn(s, "/-_. ");
        enum wn_part part = wn_data_part_word(s, n);
        if (part != WN_PART_ANY)
            return part;
        s += n;
        s += *s != '\0';
    }
    return WN_PART_ANY;
}
