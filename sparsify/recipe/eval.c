/* eval.c: muParser behind one function. */
#include "sparsify/recipe/eval.h"

#include <ctype.h>
#include <math.h>
#include <muParserDLL.h>
#include <string.h>

static void on_error(muParserHandle_t parser)
{
    (void)parser; /* mupError() tells; without a handler the library would print */
}

static bool is_name(const char *s)
{
    if (!isalpha((unsigned char)*s) && *s != '_')
        return false;
    for (; *s; s++)
        if (!isalnum((unsigned char)*s) && *s != '_')
            return false;
    return true;
}

/* Nesting in brackets; muParser recurses on it. */
static bool too_deep(const char *expr)
{
    int depth = 0;
    for (; *expr; expr++) {
        depth += *expr == '(' ? 1 : *expr == ')' ? -1 : 0;
        if (depth > 64)
            return true;
    }
    return false;
}

enum winnow_status wn_eval(const char *expr, const struct wn_eval_var *vars, size_t n, double *ret,
                           struct winnow_err *err)
{
    if (strlen(expr) > WN_EVAL_MAX_LENGTH || too_deep(expr))
        return wn_fail(err, WINNOW_E_TOO_LARGE, "the expression is longer than %d characters or nested too deeply",
                       WN_EVAL_MAX_LENGTH);
    /* `=` would assign, `"` would make a string: neither is arithmetic. */
    for (const char *s = expr; *s; s++)
        if (*s == '"' || *s == ';' || (*s == '=' && s[1] != '=' && (s == expr || !strchr("=<>!", s[-1]))))
            return wn_fail(err, WINNOW_E_MALFORMED, "'%c' has no place in an expression", *s);
    muParserHandle_t parser = mupCreate(muBASETYPE_FLOAT);
    if (!parser)
        return wn_fail(err, WINNOW_E_NOMEM, "expression");
    mupSetErrorHandler(parser, on_error);
    for (size_t i = 0; i < n; i++)
        if (is_name(vars[i].name))
            mupDefineConst(parser, vars[i].name, vars[i].value);
    mupSetExpr(parser, expr);
    double v = mupEval(parser);
    enum winnow_status status = WINNOW_OK;
    if (mupError(parser))
        status = wn_fail(err, WINNOW_E_MALFORMED, "'%.100s': %.100s", expr, mupGetErrorMsg(parser));
    else if (!isfinite(v))
        status = wn_fail(err, WINNOW_E_MALFORMED, "'%.100s' has no finite value", expr);
    else
        *ret = v;
    mupRelease(parser);
    return status;
}
