/* main.c: gradient checks. WN_SEED changes the random numbers; arguments name the suites to run (all). One line per
 * check, counts at the end. */
#include "tests/grad/grad.h"

static unsigned passed, failed;
static uint64_t state = 88172645463325252u;

void check(const char *name, double err, double limit)
{
    bool ok = err <= limit; /* false for NaN */
    passed += ok;
    failed += !ok;
    printf("%s %-64s %.1e (limit %.0e)\n", ok ? "ok  " : "FAIL", name, err, limit);
}

void check_true(const char *name, bool ok)
{
    passed += ok;
    failed += !ok;
    printf("%s %s\n", ok ? "ok  " : "FAIL", name);
}

void left_out(const char *name, const char *why)
{
    printf("skip %s: %s\n", name, why);
}

static uint64_t next(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

float rnd(void)
{
    return (float)(next() >> 40) * 0x1p-23f - 1.0f;
}

unsigned rnd_below(unsigned n)
{
    return (unsigned)(next() >> 33) % n;
}

void must(enum winnow_status s, const struct winnow_err *err)
{
    if (s == WINNOW_OK)
        return;
    printf("FAIL %s\n", err->msg);
    exit(1);
}

struct wn_trainer *trainer(const struct build *b, const struct wn_train_opts *opts)
{
    struct winnow_err err;
    struct wn_trainer *tr = NULL;
    must(wn_trainer_new(&b->g, opts, &tr, &err), &err);
    return tr;
}

float *random_rows(const struct wn_trainer *tr, unsigned batch)
{
    size_t n = batch * wn_trainer_row_elements(tr);
    float *x = malloc(n * sizeof *x);
    for (size_t i = 0; i < n; i++)
        x[i] = rnd();
    return x;
}

uint32_t *random_labels(unsigned batch, unsigned classes)
{
    uint32_t *y = malloc(batch * sizeof *y);
    for (unsigned i = 0; i < batch; i++)
        y[i] = rnd_below(classes);
    return y;
}

void random_masks(struct wn_trainer *tr, double density)
{
    struct winnow_err err;
    for (unsigned i = 0; i < wn_trainer_n_params(tr); i++) {
        struct wn_param *p = wn_trainer_param(tr, i);
        if (!p->can_prune)
            continue;
        uint8_t *m = malloc(p->n);
        for (size_t k = 0; k < p->n; k++)
            m[k] = (double)rnd() * 0.5 + 0.5 < density;
        m[0] = 1;
        must(wn_trainer_set_mask(tr, p, m, &err), &err);
        free(m);
    }
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*run)(void);
    } suites[] = { { "kernels", test_kernels }, { "rules", test_rules },     { "paths", test_paths },
                   { "quant", test_quant },     { "resume", test_resume },   { "surgery", test_surgery },
                   { "rows", test_rows },       { "encoder", test_encoder }, { "teach", test_teach },
                   { "models", test_models } };
    const char *seed = getenv("WN_SEED");
    if (seed)
        state ^= strtoull(seed, NULL, 0) * 0x9e3779b97f4a7c15u;
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (size_t i = 0; i < WN_COUNT(suites); i++) {
        bool wanted = argc < 2;
        for (int k = 1; k < argc; k++)
            wanted = wanted || strcmp(argv[k], suites[i].name) == 0;
        if (wanted)
            suites[i].run();
    }
    printf("grad: %u passed, %u failed\n", passed, failed);
    return failed != 0;
}
