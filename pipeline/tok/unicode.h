/* unicode.h: what a tokenizer needs to know of a character: classes, lower case, decomposition and composition.
 *
 * A vocabulary is only right with the classes it was trained with, and Hugging Face's `tokenizers` takes them from
 * five crates and a regular-expression library of Unicode versions 8 to 17. Here they come from utf8proc (Debian; one
 * version, small constant tables, no locale; ICU would bring 30 MB of data for the same answers) and
 * unicode_delta.def, the 330 ranges in which the two differ. */
#ifndef WN_TOK_UNICODE_H
#define WN_TOK_UNICODE_H

#include "base/base.h"

enum {
    WN_UC_SPACE = 1 << 0,      /* White_Space */
    WN_UC_CONTROL = 1 << 1,    /* what BERT's cleaning removes: Cc, Cf, Co, NUL, U+FFFD, but not tab, CR and LF */
    WN_UC_PUNCT = 1 << 2,      /* ASCII punctuation and symbols, P* */
    WN_UC_NUMERIC = 1 << 3,    /* Nd, Nl, No */
    WN_UC_NONSPACING = 1 << 4, /* Mn */
    WN_UC_MARK = 1 << 5,       /* M* */
    WN_UC_WORD = 1 << 6,       /* \w */
    WN_UC_RE_LETTER = 1 << 7,  /* \p{L} of a split pattern */
    WN_UC_RE_NUMBER = 1 << 8,  /* \p{N} of a split pattern */
    WN_UC_IDEOGRAPH = 1 << 9,  /* what BERT puts spaces round */
    WN_UC_UPPER = 1 << 10,     /* wn_uc_lower() changes it */
    WN_UC_UNSTABLE = 1 << 11,  /* decomposes, may compose with what is before it, or has a combining class */
    WN_UC_WHOLE = 1 << 12,     /* utf8proc would decompose it, `tokenizers` does not */
    WN_UC_STARTER = 1 << 13,   /* utf8proc gives it a combining class, `tokenizers` does not */
};

enum { WN_UC_BLOCK = 256, WN_UC_BLOCKS = 0x110000 / WN_UC_BLOCK, WN_UC_DISTINCT = 512 };
extern uint16_t wn_uc_block[WN_UC_BLOCKS];
extern uint16_t wn_uc_table[WN_UC_DISTINCT][WN_UC_BLOCK];

/** Fill the tables; the first call takes some 10 ms. Before anything else here. Any thread. */
void wn_uc_init(void);

/** Classes of a code point (below 0x110000): WN_UC_* bits. */
static inline unsigned wn_uc(uint32_t cp)
{
    return wn_uc_table[wn_uc_block[cp / WN_UC_BLOCK]][cp % WN_UC_BLOCK];
}

/** Lower case, one code point for one; U+0130, which becomes two, is the caller's affair. */
uint32_t wn_uc_lower(uint32_t cp);

enum { WN_UC_MAX_DECOMPOSED = 32 };
/** Full decomposition of one code point, canonical or compatible. Returns how many, at least 1. */
unsigned wn_uc_decompose(uint32_t cp, bool compatible, uint32_t ret[WN_UC_MAX_DECOMPOSED]);
/** Canonical combining class. */
unsigned wn_uc_combining(uint32_t cp);
/** The composition of two code points; 0: there is none. */
uint32_t wn_uc_compose(uint32_t a, uint32_t b);

/** Length of the valid UTF-8 character at the start of `s` (n >= 1 bytes), its code point in `ret`. Where it is not
 *  valid: U+FFFD and the length of the maximal invalid part (Unicode 3.9, as Python and WHATWG have it). */
unsigned wn_utf8_get(const unsigned char *s, size_t n, uint32_t *ret);
/** Write a code point as UTF-8; returns 1 to 4. */
static inline unsigned wn_utf8_put(uint32_t cp, unsigned char *to)
{
    if (cp < 0x80) {
        to[0] = (unsigned char)cp;
        return 1;
    }
    if (cp < 0x800) {
        to[0] = (unsigned char)(0xC0 | cp >> 6);
        to[1] = (unsigned char)(0x80 | (cp & 0x3F));
        return 2;
    }
    if (cp < 0x10000) {
        to[0] = (unsigned char)(0xE0 | cp >> 12);
        to[1] = (unsigned char)(0x80 | (cp >> 6 & 0x3F));
        to[2] = (unsigned char)(0x80 | (cp & 0x3F));
        return 3;
    }
    to[0] = (unsigned char)(0xF0 | cp >> 18);
    to[1] = (unsigned char)(0x80 | (cp >> 12 & 0x3F));
    to[2] = (unsigned char)(0x80 | (cp >> 6 & 0x3F));
    to[3] = (unsigned char)(0x80 | (cp & 0x3F));
    return 4;
}

#endif
