/* vec.c: growth of WN_VEC by doubling. */
#include "base/vec.h"

#include <string.h>

bool wn_vec_grow(void *at_pp, size_t *cap, size_t want, size_t size)
{
    size_t n = *cap ? *cap : 8, bytes;
    while (n < want)
        if (!wn_mul_size(n, 2, &n))
            return false;
    if (!wn_mul_size(n, size, &bytes))
        return false;
    void *old;
    memcpy(&old, at_pp, sizeof old);
    void *p = realloc(old, bytes);
    if (!p)
        return false;
    memcpy(at_pp, &p, sizeof p);
    *cap = n;
    return true;
}
