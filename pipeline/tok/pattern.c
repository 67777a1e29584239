/* pattern.c: what Split, Replace and ByteLevel look for in a text.
 *
 * Three ways: a literal; the expressions of GPT-2, cl100k, Llama 3 and Qwen 2, which nearly every byte-level vocabulary
 * was trained with, by a scanner of our own (they are one pass over character classes, and those classes must be the
 * ones of unicode.h); anything else by PCRE2, without its compiler to machine code (the daemon's memory is never both
 * writable and executable). PCRE2's \p{..} know Unicode 14, where `tokenizers` has 17: they differ in letters that were
 * assigned since. */
#define PCRE2_CODE_UNIT_WIDTH 32
#include <pcre2.h>
#include <stdlib.h>
#include <string.h>
#include "pipeline/tok/tok.h"
#include "pipeline/tok/unicode.h"

enum kind { LITERAL, GPT2, CL100K, PCRE };
struct wn_tk_pattern {
    enum kind kind;
    unsigned max_digits; /* CL100K: longest run of numbers */
    uint32_t *literal;
    size_t n_literal;
    pcre2_code *code;
    pcre2_match_context *limits;
    bool empty;
};
#define MAX_STEPS 1000000u /* of PCRE2 for one match */
#define MAX_BYTES 10000u   /* of a pattern */

#define GPT2_TEXT "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"
#define CL100K_TEXT(digits)                                                                                            \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|" digits                                               \
    "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
static const struct {
    const char *text;
    enum kind kind;
    unsigned max_digits;
} known[] = {
    { GPT2_TEXT, GPT2, 0 },
    { CL100K_TEXT("\\p{N}{1,3}"), CL100K, 3 },
    { CL100K_TEXT("\\p{N}"), CL100K, 1 },
};

/* ---- reading ---- */
static enum winnow_status decode(const char *text, size_t n, uint32_t **ret, size_t *ret_n, struct winnow_err *err)
{
    uint32_t *cp = malloc((n + 1) * sizeof *cp);
    if (!cp)
        return wn_fail(err, WINNOW_E_NOMEM, "pattern of %zu bytes", n);
    size_t len = 0;
    for (size_t i = 0; i < n;)
        i += wn_utf8_get((const unsigned char *)text + i, n - i, &cp[len++]);
    *ret = cp;
    *ret_n = len;
    return WINNOW_OK;
}

/* What Oniguruma and PCRE2 read in different ways. */
static const char *differs(const char *text, size_t n)
{
    for (size_t i = 0; i + 1 < n; i++) {
        if (text[i] == '\\' && strchr("hHXRNOkgG", text[i + 1]))
            return "has an escape that is not supported (\\h \\H \\X \\R \\N \\O \\k \\g \\G)";
        if (text[i] == '&' && text[i + 1] == '&')
            return "has an intersection of classes (&&), which is not supported";
        i += text[i] == '\\';
    }
    return NULL;
}

static enum winnow_status compile(struct wn_tk_pattern *p, const char *text, size_t n, struct winnow_err *err)
{
    WN_CLEANUP(wn_freep) uint32_t *cp = NULL;
    size_t len = 0;
    int code = 0;
    PCRE2_SIZE at = 0;
    uint32_t empty = 0;
    const char *why = differs(text, n);
    if (why)
        return wn_fail(err, WINNOW_E_UNSUPPORTED, "the expression %s", why);
    WN_TRY(decode(text, n, &cp, &len, err));
    /* Ruby's syntax, which Oniguruma reads: ^ and $ are ends of lines. */
    p->code =
        pcre2_compile(cp, len, PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C | PCRE2_NO_UTF_CHECK,
                      &code, &at, NULL);
    if (!p->code) {
        uint32_t wide[120];
        char reason[120] = "";
        int m = pcre2_get_error_message(code, wide, WN_COUNT(wide));
        for (int i = 0; i < m && i < (int)sizeof reason - 1; i++)
            reason[i] = (char)wide[i];
        return code == PCRE2_ERROR_HEAP_FAILED
                   ? wn_fail(err, WINNOW_E_NOMEM, "regular expression")
                   : wn_fail(err, WINNOW_E_UNSUPPORTED, "the expression, at character %zu: %s", (size_t)at, reason);
    }
    p->limits = pcre2_match_context_create(NULL);
    if (!p->limits)
        return wn_fail(err, WINNOW_E_NOMEM, "regular expression");
    pcre2_set_match_limit(p->limits, MAX_STEPS);
    pcre2_set_depth_limit(p->limits, MAX_STEPS);
    pcre2_set_heap_limit(p->limits, 64 << 10); /* KiB */
    pcre2_pattern_info(p->code, PCRE2_INFO_MATCHEMPTY, &empty);
    p->empty = empty;
    return WINNOW_OK;
}

void wn_tk_pattern_free(struct wn_tk_pattern *p)
{
    if (!p)
        return;
    free(p->literal);
    pcre2_code_free(p->code);
    pcre2_match_context_free(p->limits);
    free(p);
}

static void freep(struct wn_tk_pattern **p)
{
    wn_tk_pattern_free(*p);
}

enum winnow_status wn_tk_pattern_new(const char *text, size_t n, bool literal, struct wn_tk_pattern **ret,
                                     struct winnow_err *err)
{
    WN_CLEANUP(freep) struct wn_tk_pattern *p = calloc(1, sizeof *p);
    if (!p)
        return wn_fail(err, WINNOW_E_NOMEM, "pattern");
    if (n > MAX_BYTES)
        return wn_fail(err, WINNOW_E_TOO_LARGE, "the pattern has %zu bytes, more than %u", n, MAX_BYTES);
    p->kind = literal ? LITERAL : PCRE;
    for (size_t i = 0; i < WN_COUNT(known) && !literal; i++)
        if (strlen(known[i].text) == n && memcmp(known[i].text, text, n) == 0) {
            p->kind = known[i].kind;
            p->max_digits = known[i].max_digits;
        }
    if (literal) {
        p->empty = n == 0;
        WN_TRY(decode(text, n, &p->literal, &p->n_literal, err));
    } else if (p->kind == PCRE) {
        WN_TRY(compile(p, text, n, err));
    }
    *ret = WN_TAKE(p);
    return WINNOW_OK;
}

enum winnow_status wn_tk_pattern_gpt2(struct wn_tk_pattern **ret, struct winnow_err *err)
{
    return wn_tk_pattern_new(GPT2_TEXT, strlen(GPT2_TEXT), false, ret, err);
}

bool wn_tk_pattern_empty(const struct wn_tk_pattern *p)
{
    return p->empty;
}

/* ---- the scanner of the known expressions: where the match that starts at i ends; there always is one ---- */
#define LETTER(c)  (wn_uc(c) & WN_UC_RE_LETTER)
#define NUMBER(c)  (wn_uc(c) & WN_UC_RE_NUMBER)
#define SPACE(c)   (wn_uc(c) & WN_UC_SPACE)
#define OTHER(c)   (!(wn_uc(c) & (WN_UC_RE_LETTER | WN_UC_RE_NUMBER | WN_UC_SPACE)))
#define NEWLINE(c) ((c) == '\r' || (c) == '\n')

/* 's 't 're 've 'm 'll 'd at i, where an apostrophe is; `fold`: capitals too. Characters, 0 if none. */
static size_t contraction(const uint32_t *cp, size_t n, size_t i, bool fold)
{
    uint32_t a = i + 1 < n ? cp[i + 1] : 0, b = i + 2 < n ? cp[i + 2] : 0;
    if (fold) {
        a = a == 0x17F ? 's' : a < 0x80 ? wn_uc_lower(a) : a; /* the long s folds to s */
        b = b < 0x80 ? wn_uc_lower(b) : b;
    }
    if (a == 's' || a == 't' || a == 'm' || a == 'd')
        return 2;
    return (a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l') ? 3 : 0;
}

/* \s+(?!\S)|\s+ from i, a space. */
static size_t spaces(const uint32_t *cp, size_t n, size_t i)
{
    size_t end = i + 1;
    while (end < n && SPACE(cp[end]))
        end++;
    return end == n || end == i + 1 ? end : end - 1;
}

static size_t scan_gpt2(const uint32_t *cp, size_t n, size_t i)
{
    size_t k = i, len;
    if (cp[i] == '\'' && (len = contraction(cp, n, i, false)))
        return i + len;
    if (cp[i] == ' ' && i + 1 < n && !SPACE(cp[i + 1]))
        k++;
    uint32_t c = cp[k];
    if (LETTER(c))
        for (k++; k < n && LETTER(cp[k]);)
            k++;
    else if (NUMBER(c))
        for (k++; k < n && NUMBER(cp[k]);)
            k++;
    else if (OTHER(c))
        for (k++; k < n && OTHER(cp[k]);)
            k++;
    else
        return spaces(cp, n, i);
    return k;
}

static size_t scan_cl100k(const uint32_t *cp, size_t n, size_t i, unsigned max_digits)
{
    size_t k = i, len;
    uint32_t c = cp[i];
    if (c == '\'' && (len = contraction(cp, n, i, true)))
        return i + len;
    if (!LETTER(c) && !NUMBER(c) && !NEWLINE(c) && i + 1 < n && LETTER(cp[i + 1]))
        k++;
    if (LETTER(cp[k])) {
        while (k < n && LETTER(cp[k]))
            k++;
        return k;
    }
    if (NUMBER(c)) {
        for (k = i + 1; k < n && k - i < max_digits && NUMBER(cp[k]);)
            k++;
        return k;
    }
    k = i + (c == ' ' && i + 1 < n && OTHER(cp[i + 1]));
    if (OTHER(cp[k])) {
        while (k < n && OTHER(cp[k]))
            k++;
        while (k < n && NEWLINE(cp[k]))
            k++;
        return k;
    }
    size_t line = 0; /* \s*[\r\n]+ ends after the last end of line among the spaces */
    for (k = i; k < n && SPACE(cp[k]); k++)
        if (NEWLINE(cp[k]))
            line = k + 1;
    return line ? line : spaces(cp, n, i);
}

/* ---- matching ---- */
enum winnow_status wn_tk_find_init(struct wn_tk_find *f, const struct wn_tk_pattern *p, const uint32_t *cp, size_t n,
                                   struct winnow_err *err)
{
    *f = (struct wn_tk_find){ .p = p, .cp = cp, .n = n, .last = SIZE_MAX };
    if (p->kind == PCRE) {
        f->data = pcre2_match_data_create(1, NULL);
        if (!f->data)
            return wn_fail(err, WINNOW_E_NOMEM, "regular expression");
    }
    return WINNOW_OK;
}

void wn_tk_find_done(struct wn_tk_find *f)
{
    pcre2_match_data_free(f->data);
    f->data = NULL;
}

static enum winnow_status next_by_pcre(struct wn_tk_find *f, bool *ret_found, size_t *ret_lo, size_t *ret_hi,
                                       struct winnow_err *err)
{
    static const uint32_t nothing;
    for (;;) {
        *ret_found = false;
        if (f->at > f->n)
            return WINNOW_OK;
        int got =
            pcre2_match(f->p->code, f->n ? f->cp : &nothing, f->n, f->at, PCRE2_NO_UTF_CHECK, f->data, f->p->limits);
        if (got == PCRE2_ERROR_NOMATCH)
            return WINNOW_OK;
        if (got < 0)
            return wn_fail(err, got == PCRE2_ERROR_NOMEMORY ? WINNOW_E_NOMEM : WINNOW_E_TOO_LARGE,
                           "a regular expression took more than its limit of steps or memory for one match");
        const PCRE2_SIZE *at = pcre2_get_ovector_pointer(f->data);
        /* An empty match right after the last one is passed over. (\K may turn the two round.) */
        size_t lo = WN_MIN(at[0], at[1]), hi = at[1];
        if (lo == hi && f->last == hi) {
            f->at++;
            continue;
        }
        f->at = f->last = hi;
        *ret_found = true;
        *ret_lo = lo;
        *ret_hi = hi;
        return WINNOW_OK;
    }
}

enum winnow_status wn_tk_find_next(struct wn_tk_find *f, bool *ret_found, size_t *ret_lo, size_t *ret_hi,
                                   struct winnow_err *err)
{
    const struct wn_tk_pattern *p = f->p;
    size_t i = f->at;
    if (p->kind == PCRE)
        return next_by_pcre(f, ret_found, ret_lo, ret_hi, err);
    if (p->kind == LITERAL)
        while (i + p->n_literal <= f->n &&
               (f->cp[i] != p->literal[0] || memcmp(f->cp + i, p->literal, p->n_literal * sizeof *f->cp) != 0))
            i++;
    *ret_found = p->kind == LITERAL ? i + p->n_literal <= f->n : i < f->n;
    if (!*ret_found)
        return WINNOW_OK;
    *ret_lo = i;
    *ret_hi = p->kind == LITERAL ? i + p->n_literal
              : p->kind == GPT2  ? scan_gpt2(f->cp, f->n, i)
                                 : scan_cl100k(f->cp, f->n, i, p->max_digits);
    f->at = *ret_hi;
    return WINNOW_OK;
}
