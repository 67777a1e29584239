/* team.c: libgomp's team without pragmas. */
#include "sparsify/kernels/team.h"

/* libgomp's ABI (stable since GCC 4.9; libgomp.map GOMP_4.0 and OMP_1.0). */
extern void GOMP_parallel(void (*fn)(void *), void *data, unsigned num_threads, unsigned flags);
extern int omp_get_thread_num(void);
extern void omp_set_num_threads(int n);
extern void omp_set_dynamic(int on);

struct call {
    void (*fn)(void *arg, unsigned i, unsigned n);
    void *arg;
    unsigned n;
};

void wn_team_size(unsigned threads)
{
    omp_set_dynamic(0);
    omp_set_num_threads((int)threads);
}

static void entry(void *data)
{
    struct call *c = data;
    c->fn(c->arg, (unsigned)omp_get_thread_num(), c->n);
}

void wn_team_run(unsigned threads, size_t parts, void (*fn)(void *arg, unsigned i, unsigned n), void *arg)
{
    struct call c = { fn, arg, (unsigned)WN_MIN((size_t)threads, parts) };
    if (c.n <= 1)
        fn(arg, 0, 1);
    else
        GOMP_parallel(entry, &c, c.n, 0);
}
