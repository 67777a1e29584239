/* load.h: reading the files of a tokenizer. Every message names the file and the key ("DIR/tokenizer.json:
 * pre_tokenizer.pretokenizers[1].type: …"). */
#ifndef WN_TOK_LOAD_H
#define WN_TOK_LOAD_H

#include <jansson.h>
#include "pipeline/tok/tok.h"

#define WN_TK_MAX_FILE    ((size_t)64 << 20)
#define WN_TK_MAX_VALUES  4000000u /* of a JSON file: keys and elements */
#define WN_TK_MAX_ENTRIES 2000000u /* of a vocabulary; of merges */
#define WN_TK_MAX_ID      16000000
#define WN_TK_MAX_DEPTH   32u

/** Who is reading what. */
struct wn_tk_reader {
    struct wn_tokenizer *t;
    const char *file; /* path */
    struct winnow_err *err;
    char where[160]; /* key path */
    size_t where_n;
};

/** Fail with "FILE: KEY: message". */
#define WN_TK_FAIL(r, status, ...) wn_tk_fail((r), (status), __VA_ARGS__)
#define WN_TK_BAD(r, ...)          wn_tk_fail((r), WINNOW_E_MALFORMED, __VA_ARGS__)
__attribute__((format(printf, 3, 4))) enum winnow_status wn_tk_fail(struct wn_tk_reader *r, enum winnow_status status,
                                                                    const char *fmt, ...);
/** Go down to a key (".name") or element ("[3]"); the result goes to wn_tk_leave(). */
__attribute__((format(printf, 2, 3))) size_t wn_tk_enter(struct wn_tk_reader *r, const char *fmt, ...);
void wn_tk_leave(struct wn_tk_reader *r, size_t mark);

/** A JSON file within the bounds above; its top must be an object.
 *  @return also E_NOT_FOUND */
enum winnow_status wn_tk_json_read(struct wn_tk_reader *r, json_t **ret);
/** Every key of `o` is one of `names` (NULL-terminated), else E_UNSUPPORTED. */
enum winnow_status wn_tk_json_keys(struct wn_tk_reader *r, const json_t *o, const char *const *names);
/** Members. `def` < 0: the key must be there. null counts as absent. */
enum winnow_status wn_tk_json_bool(struct wn_tk_reader *r, const json_t *o, const char *key, int def, bool *ret);
/** Borrowed from `o`. `required` false: NULL when absent. */
enum winnow_status wn_tk_json_string(struct wn_tk_reader *r, const json_t *o, const char *key, bool required,
                                     const char **ret, size_t *ret_n);
enum winnow_status wn_tk_json_size(struct wn_tk_reader *r, const json_t *o, const char *key, size_t max, size_t *ret);

/** The files of a folder, in the order of tokenizer.h. */
enum winnow_status wn_tk_load(struct wn_tokenizer *t, const char *dir, struct winnow_err *err);
/** tokenizer.json's "model". */
enum winnow_status wn_tk_load_model(struct wn_tk_reader *r, const json_t *model);
/** vocab.txt; vocab.json and merges.txt. E_NOT_FOUND where the first of them is not there. */
enum winnow_status wn_tk_load_vocab_txt(struct wn_tokenizer *t, const char *dir, struct winnow_err *err);
enum winnow_status wn_tk_load_vocab_json(struct wn_tokenizer *t, const char *dir, struct winnow_err *err);

/** Parts that both kinds of files are put together from. */
enum winnow_status wn_tk_push_norm(struct wn_tk_reader *r, struct wn_tk_norm norm);
/** Takes split.pattern over, also on failure. */
enum winnow_status wn_tk_push_split(struct wn_tk_reader *r, struct wn_tk_split split);
enum winnow_status wn_tk_push_byte_level(struct wn_tk_reader *r, bool prefix_space, bool use_regex);
/** [cls] text [sep], pair as BERT or (roberta) RoBERTa has it. */
enum winnow_status wn_tk_post_bert(struct wn_tk_reader *r, int32_t cls, int32_t sep, bool roberta);
enum winnow_status wn_tk_post_none(struct wn_tk_reader *r);
enum winnow_status wn_tk_post_trim(struct wn_tk_reader *r, bool trim, bool prefix_space);
enum winnow_status wn_tk_push_added(struct wn_tk_reader *r, struct wn_tk_added added);

/** Models from their parts. `tokens` [n] with [i] at id `ids[i]`. */
struct wn_tk_entry {
    const char *text;
    size_t n;
    int32_t id;
};
enum winnow_status wn_tk_make_wordpiece(struct wn_tk_reader *r, const struct wn_tk_entry *entries, size_t n,
                                        const char *unk, const char *prefix, size_t max_chars);
enum winnow_status wn_tk_make_bpe(struct wn_tk_reader *r, const struct wn_tk_entry *entries, size_t n);
/** The next merge, in order of rank, after wn_tk_make_bpe(). */
enum winnow_status wn_tk_add_merge(struct wn_tk_reader *r, uint32_t rank, const char *a, size_t a_n, const char *b,
                                   size_t b_n);
/** The same from "a b". */
enum winnow_status wn_tk_add_merge_line(struct wn_tk_reader *r, uint32_t rank, const char *line, size_t n);
/** A vocabulary as JSON: an object, token -> id. `*ret` is malloc'ed and borrows the texts. */
enum winnow_status wn_tk_json_vocab(struct wn_tk_reader *r, const json_t *vocab, struct wn_tk_entry **ret,
                                    size_t *ret_n);

#endif
