/* tok.h: a tokenizer as its files settle it, and what its parts hand to each other.
 *
 * A text goes: bytes -> code points, each with the bytes it came from (struct wn_tk_text) -> added tokens cut out ->
 * normalized -> cut into words (struct wn_tk_piece) -> the model's tokens -> special tokens round them. */
#ifndef WN_TOK_TOK_H
#define WN_TOK_TOK_H

#include "base/arena.h"
#include "base/vec.h"
#include "pipeline/tok/vocab.h"
#include "pipeline/tokenizer.h"

/** Most code points that a text of `n` bytes may become on its way: patterns that replace may make it longer. Unicode's
 *  compatibility forms make 6 of a byte, byte-level characters 4 of one code point. */
#define WN_TK_MAX_CHARS(n) (32 * (size_t)(n) + 65536)

/* ---- text on its way ---- */
struct wn_tk_span {
    uint32_t from, to; /* bytes of the caller's text */
};
/** Code points and where each came from; two arrays, so that the regular expressions can run over one of them. */
struct wn_tk_text {
    uint32_t *cp;
    struct wn_tk_span *at;
    size_t n, room;
    size_t most; /* more are refused; 0: any number */
};
/** Code points [lo, hi) of a text: words to be tokenized (id < 0) or an added token. */
struct wn_tk_piece {
    uint32_t lo, hi;
    int32_t id;
};
struct wn_tk_pieces {
    struct wn_tk_piece *at;
    size_t n, cap;
};
/** A token before special tokens are put round it. `lead` and `trail`: spaces at its ends that trimming takes off. */
struct wn_tk_token {
    int32_t id;
    struct wn_tk_span at;
    uint32_t lead, trail;
};

/** A symbol of a word that BPE is merging. */
struct wn_tk_symbol {
    int32_t id, prev, next; /* next -1: the last */
    uint32_t bytes;         /* 0: merged into the one before */
};
struct wn_tk_merge {
    uint64_t key; /* rank, position: one comparison orders both */
    int32_t id;
};

/** Working memory of one wn_tokenizer_encode(). */
struct wn_tk_scratch {
    struct wn_tk_text text, other; /* transformations write `other` and swap */
    struct wn_tk_text raw;
    struct wn_tk_pieces pieces, next, cuts;
    WN_VEC(unsigned char) word; /* a word in UTF-8 */
    WN_VEC(uint32_t) char_of;   /* [bytes of word] index of the character that a byte belongs to */
    WN_VEC(struct wn_tk_symbol) symbols;
    WN_VEC(struct wn_tk_merge) heap;
    WN_VEC(uint32_t) classes; /* normalization: combining class, and change, of each decomposed character */
    WN_VEC(struct wn_tk_token) tokens;
    size_t second; /* where the pair's tokens begin */
    struct winnow_err *err;
};
void wn_tk_scratch_done(struct wn_tk_scratch *sc);

/* ---- regular expressions (pattern.c) ---- */
struct wn_tk_pattern;
/** A literal, or a regular expression in the syntax of Oniguruma as far as PCRE2 reads it alike.
 *  @return E_UNSUPPORTED with PCRE2's reason, E_NOMEM */
enum winnow_status wn_tk_pattern_new(const char *text, size_t n, bool literal, struct wn_tk_pattern **ret,
                                     struct winnow_err *err);
/** GPT-2's, which the ByteLevel pre-tokenizer uses. */
enum winnow_status wn_tk_pattern_gpt2(struct wn_tk_pattern **ret, struct winnow_err *err);
void wn_tk_pattern_free(struct wn_tk_pattern *p);
/** It may match without taking a character. */
bool wn_tk_pattern_empty(const struct wn_tk_pattern *p);
/** A run over `n` code points. */
struct wn_tk_find {
    const struct wn_tk_pattern *p;
    const uint32_t *cp;
    size_t n, at, last; /* next start; end of the last match, SIZE_MAX before the first */
    void *data;         /* PCRE2's match data */
};
enum winnow_status wn_tk_find_init(struct wn_tk_find *f, const struct wn_tk_pattern *p, const uint32_t *cp, size_t n,
                                   struct winnow_err *err);
/** The next match in [lo, hi); `*ret_found` false at the end. @return E_TOO_LARGE: PCRE2's limit of steps */
enum winnow_status wn_tk_find_next(struct wn_tk_find *f, bool *ret_found, size_t *ret_lo, size_t *ret_hi,
                                   struct winnow_err *err);
void wn_tk_find_done(struct wn_tk_find *f);

/* ---- normalizers (norm.c) ---- */
enum wn_tk_norm_kind {
    WN_TK_BERT,
    WN_TK_LOWERCASE,
    WN_TK_STRIP_ACCENTS,
    WN_TK_NFC,
    WN_TK_NFD,
    WN_TK_NFKC,
    WN_TK_NFKD,
    WN_TK_REPLACE,
    WN_TK_PREPEND,
    WN_TK_STRIP,
};
struct wn_tk_norm {
    enum wn_tk_norm_kind kind;
    bool clean, ideographs, accents, lower; /* BERT; Strip: left is `clean`, right is `lower` */
    struct wn_tk_pattern *pattern;          /* Replace */
    uint32_t *content;                      /* Replace, Prepend: [n_content] */
    size_t n_content;
};
/** Normalize sc->text in place. */
enum winnow_status wn_tk_normalize(const struct wn_tk_norm *norms, size_t n, struct wn_tk_scratch *sc);

/* ---- pre-tokenizers (split.c) ---- */
enum wn_tk_split_kind { WN_TK_BY_BERT, WN_TK_BY_CLASS, WN_TK_BY_WORD, WN_TK_BY_PATTERN, WN_TK_BYTE_LEVEL };
enum wn_tk_behavior { WN_TK_REMOVED, WN_TK_ISOLATED, WN_TK_WITH_PREVIOUS, WN_TK_WITH_NEXT, WN_TK_CONTIGUOUS };
struct wn_tk_split {
    enum wn_tk_split_kind kind;
    enum wn_tk_behavior behavior;
    unsigned cls;                  /* BY_CLASS: WN_UC_* */
    struct wn_tk_pattern *pattern; /* BY_PATTERN, and BYTE_LEVEL with its regex */
    bool invert, prefix_space;
};
/** Cut sc->pieces of sc->text further. */
enum winnow_status wn_tk_pre_tokenize(const struct wn_tk_split *splits, size_t n, struct wn_tk_scratch *sc);
/** The character that stands for a byte in byte-level vocabularies. */
extern const uint16_t wn_tk_byte_char[256];

/* ---- models ---- */
struct wn_tk_wordpiece {
    struct wn_vocab whole, rest; /* tokens; those with the continuation prefix, without it */
    int32_t unk;
    uint32_t max_chars;
    uint32_t longest[2]; /* bytes of the longest token of whole, rest */
};
enum { WN_TK_FIRST = 512 };
struct wn_tk_bpe {
    struct wn_vocab vocab;
    struct wn_merges merges;
    int32_t first[WN_TK_FIRST]; /* ids of the tokens of one character; -1: none */
    int32_t byte[256];          /* byte_fallback: ids of <0x00> … */
    int32_t unk;                /* -1: none; -2: named, but not in the vocabulary */
    bool fuse_unk, byte_fallback, ignore_merges;
    bool unique; /* no two tokens have the same id: a short word may be merged without the heap */
    const char *prefix, *suffix, *unk_name;
    size_t prefix_n, suffix_n;
};
enum winnow_status wn_tk_wordpiece_word(const struct wn_tokenizer *t, struct wn_tk_scratch *sc, uint32_t lo,
                                        uint32_t hi);
enum winnow_status wn_tk_bpe_word(const struct wn_tokenizer *t, struct wn_tk_scratch *sc, uint32_t lo, uint32_t hi);
/** After the vocabulary is complete: marks the tokens that merging leaves whole, so that a word that is one of them
 *  needs no merging. */
enum winnow_status wn_tk_bpe_mark(struct wn_tokenizer *t, struct winnow_err *err);
/** sc->word and sc->char_of from characters [lo, hi) of sc->text. */
enum winnow_status wn_tk_word(struct wn_tk_scratch *sc, uint32_t lo, uint32_t hi);
/** Append a token made of bytes [from, to) of sc->word, the word starting at character `lo`. */
enum winnow_status wn_tk_emit(const struct wn_tokenizer *t, struct wn_tk_scratch *sc, int32_t id, uint32_t lo,
                              size_t from, size_t to);

/* ---- added tokens (added.c) ---- */
struct wn_tk_added {
    const char *content;
    size_t n;
    int32_t id;
    bool single_word, lstrip, rstrip, normalized, special;
};
/** A trie over code points. Zero-initialise. */
struct wn_tk_trie {
    struct wn_tk_trie_edge *edge; /* open addressing by (node, code point) */
    size_t cap, n;
    WN_VEC(int32_t) token; /* by node: index of an added token, -1: none */
    uint64_t starts;       /* bit (code point % 64) of every first character */
};
/** @return E_MALFORMED when the same pattern is there already; E_NOMEM */
enum winnow_status wn_tk_trie_add(struct wn_tk_trie *trie, const uint32_t *cp, size_t n, int32_t token,
                                  struct winnow_err *err);
void wn_tk_trie_done(struct wn_tk_trie *trie);
/** Cut characters [lo, hi) of `text` at added tokens; appends to `out`. */
bool wn_tk_cut_added(const struct wn_tokenizer *t, const struct wn_tk_trie *trie, const struct wn_tk_text *text,
                     uint32_t lo, uint32_t hi, struct wn_tk_pieces *out);
/** Once everything else is read: gives ids to t->added and builds the tries. */
enum winnow_status wn_tk_added_settle(struct wn_tokenizer *t, const char *file, struct winnow_err *err);

/* ---- post-processing (post.c) ---- */
struct wn_tk_step {
    int16_t sequence; /* 0, 1: the text, the pair; -1: the special ids */
    uint8_t type;
    bool keep_type; /* type 0 for the text, 1 for the pair */
    const int32_t *id;
    size_t n_ids;
};
struct wn_tk_template {
    struct wn_tk_step *step;
    size_t n, added; /* `added`: special tokens in it */
};
struct wn_tk_post {
    bool trim[8], trim_prefix_space[8]; /* what ByteLevel and RobertaProcessing do to offsets, in order */
    unsigned n_trims;
    struct wn_tk_template form[2]; /* single, pair */
};
enum wn_tk_strategy { WN_TK_LONGEST_FIRST, WN_TK_ONLY_FIRST, WN_TK_ONLY_SECOND };
struct wn_tk_truncation {
    bool set, left;
    enum wn_tk_strategy strategy;
    size_t max_length;
};
enum winnow_status wn_tk_post(const struct wn_tokenizer *t, struct wn_tk_scratch *sc, const struct wn_text *texts,
                              size_t max_length, struct wn_tokens *ret);

struct wn_tokenizer {
    const char *file;      /* a literal: which of the folder's files it is */
    struct wn_arena arena; /* strings, templates, contents */
    WN_VEC(struct wn_tk_norm) norms;
    WN_VEC(struct wn_tk_split) splits;
    bool is_bpe;
    struct wn_tk_wordpiece wordpiece;
    struct wn_tk_bpe bpe;
    WN_VEC(struct wn_tk_added) added;
    struct wn_tk_trie raw, normalized; /* added tokens to be looked for before and after normalization */
    struct wn_tk_post post;
    struct wn_tk_truncation truncation;
    int32_t pad;
    size_t n_vocab;                      /* entries of the model's vocabulary */
    size_t max_id;                       /* one more than the largest id */
    uint8_t (*spaces)[2];                /* [max_id] spaces at the ends of a token's text; NULL without trimming */
    struct wn_tk_scratch *_Atomic spare; /* working memory that the next encode may take over; NULL: none, or in use */
};

/** Id of a token in the model's vocabulary; -1: none. */
int32_t wn_tk_model_id(const struct wn_tokenizer *t, const char *token, size_t n);
/** The same, added tokens first. */
int32_t wn_tk_token_id(const struct wn_tokenizer *t, const char *token, size_t n);

/* ---- text.c ---- */
/** Room for `want` code points. false: out of memory, or more than text->most. */
bool wn_tk_text_reserve(struct wn_tk_text *text, size_t want);
void wn_tk_text_done(struct wn_tk_text *text);
/** What to return then. */
enum winnow_status wn_tk_text_full(const struct wn_tk_text *text, struct winnow_err *err, size_t want);
/** Replace `text` by `bytes`, decoded. */
enum winnow_status wn_tk_text_decode(struct wn_tk_text *text, struct wn_text bytes, struct winnow_err *err);
static inline void wn_tk_text_put(struct wn_tk_text *text, uint32_t cp, struct wn_tk_span at)
{
    text->cp[text->n] = cp;
    text->at[text->n++] = at;
}

#endif
