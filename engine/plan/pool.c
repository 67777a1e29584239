/* pool.c: a fixed team of threads with a barrier.
 *
 * DESIGN  A run is a list of short steps with a barrier after each, so a barrier has to cost about a microsecond when
 *         every thread has a core, and must not burn a core when one does not: threads spin for SPIN_NS and then wait
 * on a futex. Spinning longer made two threads slower than one on a loaded machine. Considered:
 * OpenMP. Its team belongs to a process, ours to a stream, and it cannot be capped per run. */
#include "engine/plan/pool.h"

#include <linux/futex.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "base/cpus.h"

#define SPIN_NS 20000u

/* A 32-bit word that threads wait on until it changes. */
struct gate {
    _Alignas(64) _Atomic uint32_t word;
    _Atomic uint32_t sleepers;
};

struct winnow_pool {
    unsigned n_threads; /* the caller included */
    struct gate job;    /* counts jobs */
    struct gate round;  /* counts barrier rounds */
    _Alignas(64) _Atomic uint32_t arrived;
    void (*fn)(void *arg, unsigned part, unsigned n_parts);
    void *arg;
    _Atomic bool quit;
    pthread_t *thread; /* [n_threads - 1] */
};

struct member {
    winnow_pool *pool;
    unsigned part;
};

static void futex(_Atomic uint32_t *word, int op, uint32_t value)
{
    syscall(SYS_futex, word, op | FUTEX_PRIVATE_FLAG, value, NULL, NULL, 0);
}

/* Leaves the core to its other thread for a moment. */
static inline void relax(void)
{
#ifdef __aarch64__
    __asm__ volatile("yield");
#else
    __builtin_ia32_pause();
#endif
}

static void gate_wait(struct gate *gate, uint32_t old)
{
    uint64_t until = wn_now_ns() + SPIN_NS;
    do {
        for (unsigned i = 0; i < 64; i++) {
            if (atomic_load_explicit(&gate->word, memory_order_acquire) != old)
                return;
            relax();
        }
    } while (wn_now_ns() < until);
    atomic_fetch_add(&gate->sleepers, 1);
    while (atomic_load(&gate->word) == old)
        futex(&gate->word, FUTEX_WAIT, old);
    atomic_fetch_sub(&gate->sleepers, 1);
}

static void gate_open(struct gate *gate)
{
    atomic_fetch_add(&gate->word, 1);
    if (atomic_load(&gate->sleepers))
        futex(&gate->word, FUTEX_WAKE, INT32_MAX);
}

void wn_pool_barrier(winnow_pool *pool)
{
    if (!pool || pool->n_threads == 1)
        return;
    uint32_t round = atomic_load_explicit(&pool->round.word, memory_order_acquire);
    if (atomic_fetch_add_explicit(&pool->arrived, 1, memory_order_acq_rel) + 1 == pool->n_threads) {
        atomic_store_explicit(&pool->arrived, 0, memory_order_relaxed);
        gate_open(&pool->round);
    } else {
        gate_wait(&pool->round, round);
    }
}

static void *member_main(void *arg)
{
    struct member m = *(struct member *)arg;
    free(arg);
    for (uint32_t seen = 0;; seen++) {
        gate_wait(&m.pool->job, seen);
        if (atomic_load(&m.pool->quit))
            return NULL;
        m.pool->fn(m.pool->arg, m.part, m.pool->n_threads);
        wn_pool_barrier(m.pool);
    }
}

void wn_pool_run(winnow_pool *pool, void (*fn)(void *, unsigned, unsigned), void *arg)
{
    if (!pool || pool->n_threads == 1) {
        fn(arg, 0, 1);
        return;
    }
    pool->fn = fn;
    pool->arg = arg;
    gate_open(&pool->job);
    fn(arg, 0, pool->n_threads);
    wn_pool_barrier(pool);
}

enum winnow_status winnow_pool_new(unsigned threads, winnow_pool **ret_pool, struct winnow_err *err)
{
    if (!threads)
        threads = wn_cpus();
    if (threads > 1024)
        return wn_fail(err, WINNOW_E_TOO_LARGE, "%u threads asked for, at most 1024 are possible", threads);
    winnow_pool *pool = aligned_alloc(64, wn_round_up(sizeof *pool, 64));
    if (!pool)
        return wn_fail(err, WINNOW_E_NOMEM, "thread pool");
    memset(pool, 0, sizeof *pool);
    pool->thread = calloc(threads, sizeof *pool->thread);
    if (!pool->thread) {
        free(pool);
        return wn_fail(err, WINNOW_E_NOMEM, "thread pool");
    }
    pool->n_threads = 1;
    for (unsigned i = 1; i < threads; i++) {
        struct member *m = malloc(sizeof *m);
        if (m)
            *m = (struct member){ pool, i };
        int e = m ? pthread_create(&pool->thread[i - 1], NULL, member_main, m) : 12 /* ENOMEM */;
        if (e) {
            free(m);
            winnow_pool_free(pool);
            return wn_fail_errno(err, e, "starting thread %u of %u", i + 1, threads);
        }
        pthread_setname_np(pool->thread[i - 1], "engine");
        pool->n_threads++;
    }
    *ret_pool = pool;
    return WINNOW_OK;
}

unsigned winnow_pool_threads(const winnow_pool *pool)
{
    return pool ? pool->n_threads : 1;
}

void winnow_pool_free(winnow_pool *pool)
{
    if (!pool)
        return;
    atomic_store(&pool->quit, true);
    gate_open(&pool->job);
    for (unsigned i = 1; i < pool->n_threads; i++)
        pthread_join(pool->thread[i - 1], NULL);
    free(pool->thread);
    free(pool);
}
