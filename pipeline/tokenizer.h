/* tokenizer.h: text to token ids, exactly as Hugging Face's `tokenizers` does it from the same files.
 *
 * Files read, all of one folder: tokenizer.json; else vocab.txt (WordPiece) with tokenizer_config.json where it exists
 * (do_lower_case, strip_accents, tokenize_chinese_chars, special tokens); else vocab.json + merges.txt (byte-level
 * BPE). What a file asks for and this reader lacks is refused at open, by file and key; nothing is ignored silently.
 * Reference: huggingface/tokenizers, crate `tokenizers` (normalizers/, pre_tokenizers/, models/, processors/). */
#ifndef WN_TOKENIZER_H
#define WN_TOKENIZER_H

#include "base/base.h"

/** A tokenizer: immutable, any number of threads may use it. */
struct wn_tokenizer;

/** Text of the caller: UTF-8, not terminated, at most WN_TEXT_MAX bytes. Invalid bytes become U+FFFD, one for each
 *  maximal invalid part, as Python's decode("utf-8", "replace") has them. NUL is a character like others. */
struct wn_text {
    const char *at;
    size_t n;
};
#define WN_TEXT_MAX ((size_t)4 << 20)

/** Tokens of one text or pair. Zero-initialise; the caller owns it, wn_tokenizer_encode() grows the arrays (realloc)
 *  and reuses them. [n] used of [room]. */
struct wn_tokens {
    int32_t *id;
    uint8_t *type;         /* segment: 0 for the text, 1 for the pair, as the post-processor says */
    uint32_t (*offset)[2]; /* first byte and end in the text (or pair) that the token came from; 0, 0 for special
                              tokens that the post-processor added */
    size_t n, room;
};

/** Read the tokenizer of `dir`.
 *  @return E_NOT_FOUND (none of the files), E_MALFORMED (broken file; err names file and key), E_UNSUPPORTED (a type or
 *          setting that is not implemented, named), E_TOO_LARGE (over 64 MiB, 2 M tokens or merges, 4 M values of
 * JSON), E_NOMEM, E_IO, E_DENIED */
WINNOW_MUST_USE enum winnow_status wn_tokenizer_open(const char *dir, struct wn_tokenizer **ret,
                                                     struct winnow_err *err);

/** Text, or text and `pair` (NULL: none), to ids with the special tokens of the post-processor; no
 *  padding. Time is O(n log n) in the bytes of the text whatever it holds (times the longest token for WordPiece;
 *  expressions of tokenizer.json that PCRE2 runs have a limit of steps). Any thread, each with its own `ret`.
 *  @param max_length  most tokens, the special ones counted; tokens are taken off the end of the longer of the two
 *                     texts first ("longest_first"). 0: the truncation of tokenizer.json, or none
 *  @param ret         holds nothing of use after a failure, but stays reusable
 *  @return E_TOO_LARGE (text over WN_TEXT_MAX), E_MALFORMED (max_length has no room for the special tokens; a character
 *          that the vocabulary lacks, and so it does the unknown token that tokenizer.json names), E_NOMEM */
WINNOW_MUST_USE enum winnow_status wn_tokenizer_encode(const struct wn_tokenizer *t, struct wn_text text,
                                                       const struct wn_text *pair, size_t max_length,
                                                       struct wn_tokens *ret, struct winnow_err *err);

/** Id that fills short rows: padding's of tokenizer.json, or that of the pad token ([PAD], <pad>), else 0. */
int32_t wn_tokenizer_pad_id(const struct wn_tokenizer *t);
/** One more than the largest id: what a model's embedding needs at least. */
size_t wn_tokenizer_vocab(const struct wn_tokenizer *t);
/** Name of the file that it was read from: "tokenizer.json", "vocab.txt" or "vocab.json". */
const char *wn_tokenizer_file(const struct wn_tokenizer *t);
/** NULL is fine. */
void wn_tokenizer_free(struct wn_tokenizer *t);
/** Release the arrays; `t` is empty and usable again. */
void wn_tokens_done(struct wn_tokens *t);

#endif
