/* unicode.c: character classes as a two-stage table, filled once per process from utf8proc and unicode_delta.def.
 *
 * A table, not utf8proc's own lookups: one load answers all classes of a character, and the differences cost nothing
 * when it is used. Rejected: generating the whole table into the sources (12,000 lines that nobody can review). */
#include "pipeline/tok/unicode.h"

#include <pthread.h>
#include <string.h>
#include <utf8proc.h>

uint16_t wn_uc_block[WN_UC_BLOCKS];
uint16_t wn_uc_table[WN_UC_DISTINCT][WN_UC_BLOCK];

static const struct {
    uint32_t first, last;
    uint16_t bit;
} flips[] = {
#define FLIP(bit, first, last) { first, last, WN_UC_##bit },
#define LOWER(first, last, offset)
#include "pipeline/tok/unicode_delta.def"
#undef FLIP
#undef LOWER
};
static const struct {
    uint32_t first, last;
    int32_t offset;
} lowers[] = {
#define FLIP(bit, first, last)
#define LOWER(first, last, offset) { first, last, offset },
#include "pipeline/tok/unicode_delta.def"
#undef FLIP
#undef LOWER
};

static bool is_space(uint32_t c)
{
    return (c >= 9 && c <= 13) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) ||
           c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

/* Alphabetic symbols (Other_Alphabetic of category So), and the joiners that \w takes. */
static bool is_word_besides(uint32_t c)
{
    return c == 0x200C || c == 0x200D || (c >= 0x24B6 && c <= 0x24E9) || (c >= 0x1F130 && c <= 0x1F149) ||
           (c >= 0x1F150 && c <= 0x1F169) || (c >= 0x1F170 && c <= 0x1F189);
}

/* BERT's idea of a Chinese character; without extension E's first 0xF0, as in the original. */
static bool is_ideograph(uint32_t c)
{
    return (c >= 0x4E00 && c <= 0x9FFF) || (c >= 0x3400 && c <= 0x4DBF) || (c >= 0x20000 && c <= 0x2A6DF) ||
           (c >= 0x2A700 && c <= 0x2B73F) || (c >= 0x2B740 && c <= 0x2B81F) || (c >= 0x2B920 && c <= 0x2CEAF) ||
           (c >= 0xF900 && c <= 0xFAFF) || (c >= 0x2F800 && c <= 0x2FA1F);
}

static unsigned of_category(uint32_t c)
{
    switch (utf8proc_category((utf8proc_int32_t)c)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
        return WN_UC_RE_LETTER | WN_UC_WORD;
    case UTF8PROC_CATEGORY_MN:
        return WN_UC_NONSPACING | WN_UC_MARK | WN_UC_WORD;
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
        return WN_UC_MARK | WN_UC_WORD;
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
        return WN_UC_NUMERIC | WN_UC_RE_NUMBER | WN_UC_WORD;
    case UTF8PROC_CATEGORY_NO:
        return WN_UC_NUMERIC | WN_UC_RE_NUMBER;
    case UTF8PROC_CATEGORY_PC:
        return WN_UC_PUNCT | WN_UC_WORD;
    case UTF8PROC_CATEGORY_PD:
    case UTF8PROC_CATEGORY_PS:
    case UTF8PROC_CATEGORY_PE:
    case UTF8PROC_CATEGORY_PI:
    case UTF8PROC_CATEGORY_PF:
    case UTF8PROC_CATEGORY_PO:
        return WN_UC_PUNCT;
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CO:
        return c == 9 || c == 10 || c == 13 ? 0 : WN_UC_CONTROL;
    default:
        return c == 0xFFFD ? WN_UC_CONTROL : 0;
    }
}

static unsigned classes(uint32_t c)
{
    const utf8proc_property_t *p = utf8proc_get_property((utf8proc_int32_t)c);
    unsigned bits = of_category(c);
    if (c < 0x80 && strchr("$+<=>^`|~", (int)c) && c)
        bits |= WN_UC_PUNCT;
    if (is_space(c))
        bits |= WN_UC_SPACE;
    if (is_word_besides(c))
        bits |= WN_UC_WORD;
    if (is_ideograph(c))
        bits |= WN_UC_IDEOGRAPH;
    /* What composes with a character before it has a comb_index with the top bit; not all of those have a combining
     * class. Hangul has no entry of its own for either direction. */
    if (p->decomp_seqindex != UINT16_MAX || (p->comb_index >= 0x8000 && p->comb_index != UINT16_MAX) ||
        p->combining_class || (c >= 0xAC00 && c < 0xAC00 + 11172) || (c >= 0x1100 && c < 0x1200))
        bits |= WN_UC_UNSTABLE;
    if (c == 0x130 || utf8proc_tolower((utf8proc_int32_t)c) != (utf8proc_int32_t)c)
        bits |= WN_UC_UPPER;
    return bits;
}

/* All code points of one block. `near` is a hint: the table row of the block before. Returns its row. */
static unsigned fill(uint32_t block, unsigned used, unsigned near)
{
    uint16_t row[WN_UC_BLOCK];
    uint32_t first = block * WN_UC_BLOCK, last = first + WN_UC_BLOCK - 1;
    for (uint32_t c = first; c <= last; c++)
        row[c - first] = (uint16_t)classes(c);
    for (size_t i = 0; i < WN_COUNT(flips); i++)
        for (uint32_t c = WN_MAX(first, flips[i].first); c <= WN_MIN(last, flips[i].last); c++)
            row[c - first] ^= flips[i].bit;
    for (size_t i = 0; i < WN_COUNT(lowers); i++)
        for (uint32_t c = WN_MAX(first, lowers[i].first); c <= WN_MIN(last, lowers[i].last); c++)
            row[c - first] |= WN_UC_UPPER;
    if (used && memcmp(wn_uc_table[near], row, sizeof row) == 0)
        return near;
    unsigned at = 0;
    while (at < used && memcmp(wn_uc_table[at], row, sizeof row) != 0)
        at++;
    if (at == WN_UC_DISTINCT)
        wn_die(__FILE__, __LINE__, "more kinds of characters than the table has room for");
    memcpy(wn_uc_table[at], row, sizeof row);
    return at;
}

static void init(void)
{
    unsigned used = 0, row = 0;
    for (uint32_t block = 0; block < WN_UC_BLOCKS; block++) {
        row = fill(block, used, row);
        used = WN_MAX(used, row + 1);
        wn_uc_block[block] = (uint16_t)row;
    }
}

void wn_uc_init(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, init);
}

uint32_t wn_uc_lower(uint32_t cp)
{
    if (cp < 0x80)
        return cp >= 'A' && cp <= 'Z' ? cp + 32 : cp;
    for (size_t i = 0; i < WN_COUNT(lowers) && cp >= lowers[0].first; i++)
        if (cp >= lowers[i].first && cp <= lowers[i].last)
            return cp + (uint32_t)lowers[i].offset;
    return (uint32_t)utf8proc_tolower((utf8proc_int32_t)cp);
}

unsigned wn_uc_decompose(uint32_t cp, bool compatible, uint32_t ret[WN_UC_MAX_DECOMPOSED])
{
    if (wn_uc(cp) & WN_UC_UNSTABLE && !(wn_uc(cp) & WN_UC_WHOLE)) {
        utf8proc_int32_t room[WN_UC_MAX_DECOMPOSED];
        int boundclass = 0;
        utf8proc_option_t how = UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | (compatible ? UTF8PROC_COMPAT : 0);
        utf8proc_ssize_t n =
            utf8proc_decompose_char((utf8proc_int32_t)cp, room, WN_UC_MAX_DECOMPOSED, how, &boundclass);
        if (n > 0 && n <= WN_UC_MAX_DECOMPOSED) {
            for (utf8proc_ssize_t i = 0; i < n; i++)
                ret[i] = (uint32_t)room[i];
            return (unsigned)n;
        }
    }
    ret[0] = cp;
    return 1;
}

unsigned wn_uc_combining(uint32_t cp)
{
    return !(wn_uc(cp) & WN_UC_UNSTABLE) || wn_uc(cp) & WN_UC_STARTER
               ? 0
               : (unsigned)utf8proc_get_property((utf8proc_int32_t)cp)->combining_class;
}

uint32_t wn_uc_compose(uint32_t a, uint32_t b)
{
    if (!(wn_uc(b) & WN_UC_UNSTABLE))
        return 0;
    utf8proc_int32_t pair[2] = { (utf8proc_int32_t)a, (utf8proc_int32_t)b };
    if (utf8proc_normalize_utf32(pair, 2, UTF8PROC_STABLE | UTF8PROC_COMPOSE) != 1)
        return 0;
    return wn_uc((uint32_t)pair[0]) & WN_UC_WHOLE ? 0 : (uint32_t)pair[0];
}

unsigned wn_utf8_get(const unsigned char *s, size_t n, uint32_t *ret)
{
    unsigned char c = s[0];
    *ret = c;
    if (c < 0x80)
        return 1;
    unsigned more = c >= 0xF0 && c <= 0xF4 ? 3 : c >= 0xE0 && c <= 0xEF ? 2 : c >= 0xC2 && c <= 0xDF ? 1 : 0;
    /* The second byte has a narrower range after four first bytes: no overlong forms, no surrogates, no more than
     * U+10FFFF. */
    unsigned char least = c == 0xE0 ? 0xA0 : c == 0xF0 ? 0x90 : 0x80, most = c == 0xED ? 0x9F : c == 0xF4 ? 0x8F : 0xBF;
    uint32_t cp = c & (0x3Fu >> more);
    *ret = 0xFFFD;
    for (unsigned i = 1; i <= more; i++) {
        if (i == n || s[i] < least || s[i] > most)
            return i;
        cp = cp << 6 | (s[i] & 0x3F);
        least = 0x80;
        most = 0xBF;
    }
    if (more)
        *ret = cp;
    return more + 1;
}
