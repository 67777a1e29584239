/* number.c: numbers on the command line. */
#include <argp.h>
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include "cli/cli.h"

int64_t wn_cli_whole(const char *option, const char *text, int64_t min, int64_t max, struct argp_state *state)
{
    char *end;
    const char *digits = text + (*text == '-');
    errno = 0;
    long long v = strtoll(text, &end, 10);
    if (!isdigit((unsigned char)*digits) || *end || v < min) /* what is too small for strtoll is also below min */
        argp_error(state, "%s wants a whole number from %" PRId64 " to %" PRId64 ", not '%s'", option, min, max, text);
    else if (errno || v > max)
        argp_error(state, "%s: %s is too large, at most %" PRId64 " is allowed", option, text, max);
    return v;
}

double wn_cli_real(const char *option, const char *text, double min, double max, struct argp_state *state)
{
    char *end;
    double v = strtod(text, &end);
    if (isspace((unsigned char)*text) || end == text || *end || !(v >= min && v <= max)) /* NAN is refused, too */
        argp_error(state, "%s wants a number from %g to %g, not '%s'", option, min, max, text);
    return v;
}
