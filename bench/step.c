// bench step: one training step by architecture, beside the products it cannot do without, measured
// in the same rounds.
//
//     bench_step [steps|borders] [rounds] [d k B]       steps, 5 rounds, 576 4096 2048
//
// "steps" is the table of what a step costs; "borders" finds the densities at which lists stop
// being faster than products (recipe.h: lists_below, rivals_below). Processor time counts what all
// threads really ran; wall time counts the neighbours too. Every round times three products of the
// step's shape and then one step; medians are printed. "of bound": the time that the products a
// step needs would take at that rate, over the step's time. Standard needs 5 products; TopK 1, the
// encoder's; the competition by tiles k^2 (B + 3 d) / 2 multiply-adds more, and k^2 B through c.
#include "lib/base/rng.h"
#include "lib/base/status.h"
#include "lib/kern/gemm.h"
#include "lib/sae/train.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { ROUNDS_MOST = 64, BATCHES = 4 };
enum need { FIVE, ONE, TILES, TILES_THROUGH }; // products

struct variant {
    const char *name;
    enum need need;
    int arch;
    size_t topk;
    double lambda_o, lambda_t;
    int gradient;
    double lists, rivals;
};

// clang-format off
static const struct variant steps[] = {
    {"standard",                       FIVE,  ARCH_RELU, 40, 0,    0,     GRADIENT_DETACHED, 0, 0},
    {"standard + temporal",            FIVE,  ARCH_RELU, 40, 0,    0.001, GRADIENT_DETACHED, 0, 0},
    {"standard + competition",         TILES, ARCH_RELU, 40, 0.01, 0,     GRADIENT_DETACHED, 0, 0},
    {"standard + competition through", TILES_THROUGH, ARCH_RELU, 40, 0.01, 0, GRADIENT_THROUGH, 0, 0},
    {"topk 40",                        ONE,   ARCH_TOPK, 40, 0,    0,     GRADIENT_DETACHED, 0, 0},
    {"topk 40 + temporal",             ONE,   ARCH_TOPK, 40, 0,    0.001, GRADIENT_DETACHED, 0, 0},
    {"topk 40 + competition",          ONE,   ARCH_TOPK, 40, 0.01, 0,     GRADIENT_DETACHED, 0, 0},
    {"topk 40 + competition through",  ONE,   ARCH_TOPK, 40, 0.01, 0,     GRADIENT_THROUGH,  0, 0},
    {"batchtopk 40",                   ONE,   ARCH_BATCHTOPK, 40, 0, 0,   GRADIENT_DETACHED, 0, 0},
    {"jumprelu",                       FIVE,  ARCH_JUMPRELU, 40, 0, 0,    GRADIENT_DETACHED, 0, 0},
};
static const struct variant borders[] = {
    {"topk 100, lists",           ONE,   ARCH_TOPK, 100, 0,    0, GRADIENT_DETACHED, 2, 0},
    {"topk 200, lists",           ONE,   ARCH_TOPK, 200, 0,    0, GRADIENT_DETACHED, 2, 0},
    {"topk 400, lists",           ONE,   ARCH_TOPK, 400, 0,    0, GRADIENT_DETACHED, 2, 0},
    {"topk 600, lists",           ONE,   ARCH_TOPK, 600, 0,    0, GRADIENT_DETACHED, 2, 0},
    {"topk 800, lists",           ONE,   ARCH_TOPK, 800, 0,    0, GRADIENT_DETACHED, 2, 0},
    {"topk 400, products",        FIVE,  ARCH_TOPK, 400, 0,    0, GRADIENT_DETACHED, -1, 0},
    {"topk 100, rivals by lists", ONE,   ARCH_TOPK, 100, 0.01, 0, GRADIENT_DETACHED, 2, 2},
    {"topk 200, rivals by lists", ONE,   ARCH_TOPK, 200, 0.01, 0, GRADIENT_DETACHED, 2, 2},
    {"topk 400, rivals by lists", ONE,   ARCH_TOPK, 400, 0.01, 0, GRADIENT_DETACHED, 2, 2},
    {"topk 600, rivals by lists", ONE,   ARCH_TOPK, 600, 0.01, 0, GRADIENT_DETACHED, 2, 2},
    {"topk 200, rivals by tiles", TILES, ARCH_TOPK, 200, 0.01, 0, GRADIENT_DETACHED, 2, -1},
    {"topk 400, rivals by tiles", TILES, ARCH_TOPK, 400, 0.01, 0, GRADIENT_DETACHED, 2, -1},
    {"topk 600, rivals by tiles", TILES, ARCH_TOPK, 600, 0.01, 0, GRADIENT_DETACHED, 2, -1},
};
// clang-format on

struct shape {
    size_t d, k, B, rounds;
    struct mat x[BATCHES];
    float *z, *w, *xhat, *dw; // the products' operands
};

static double
now(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int
ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static double
median(double *values, size_t count)
{
    qsort(values, count, sizeof *values, ascending);
    return values[count / 2];
}

// Rows of 24 directions out of 4 d, some much more often than others: something to learn.
static void
fill(struct mat x, uint32_t batch)
{
    size_t d = x.cols, truths = 4 * d;
#pragma omp parallel for
    for (size_t b = 0; b < x.rows; b++)
        for (size_t n = 0; n < 24; n++) {
            uint32_t pick[4], words[4] = {0};
            rng_words(pick, 1, 81, batch, b * 24 + n);
            double spot = (double)rng_uniform(pick[0]) * (double)rng_uniform(pick[1]);
            size_t which = (size_t)((double)truths * spot);
            float size = 0.2f + 0.4f * rng_uniform(pick[2]);
            for (size_t c = 0; c < d; c++) {
                if (c % 4 == 0)
                    rng_words(words, 1, 82, (uint32_t)which, c / 4);
                mat_row(x, b)[c] += size * (2 * rng_uniform(words[c % 4]) - 1);
            }
        }
}

static bool
set_up(struct shape *s)
{
    for (uint32_t n = 0; n < BATCHES; n++) {
        s->x[n] = (struct mat){kern_take(s->B * s->d * sizeof(float)), s->B, s->d};
        if (!s->x[n].at)
            return false;
        fill(s->x[n], n);
    }
    s->z = kern_take(s->B * s->k * sizeof(float));
    s->w = kern_take(s->k * s->d * sizeof(float));
    s->xhat = kern_take(s->B * s->d * sizeof(float));
    s->dw = kern_take(s->k * s->d * sizeof(float));
    for (size_t n = 0; s->w && n < s->k * s->d; n++)
        s->w[n] = 0.01f * (float)(n % 7) - 0.03f;
    return s->z && s->w && s->xhat && s->dw;
}

static void
tear_down(struct shape *s)
{
    for (size_t n = 0; n < BATCHES; n++)
        kern_give(s->x[n].at);
    kern_give(s->z);
    kern_give(s->w);
    kern_give(s->xhat);
    kern_give(s->dw);
}

static struct recipe
recipe_of(const struct variant *v, const struct shape *s)
{
    struct recipe r = recipe_paper();
    r.width = s->d;
    r.rows = s->B;
    r.sae.latents = s->k;
    r.sae.arch = v->arch;
    r.sae.topk = v->topk < s->k ? v->topk : s->k;
    r.sae.tie_init = true;
    r.loss.lambda_o = v->lambda_o;
    r.loss.lambda_t = v->lambda_t;
    r.competition.gradient = v->gradient;
    r.curriculum.enabled = false; // every term from the first step
    r.curriculum.theta_end = 0.2;
    r.optimiser.lr = 1e-4;
    r.lists_below = v->lists;
    r.rivals_below = v->rivals;
    return r;
}

// Seconds of one product of B k d multiply-adds, of the three kinds a step has.
static double
product_seconds(const struct shape *s)
{
    double from = now(CLOCK_PROCESS_CPUTIME_ID);
    gemm_nt(s->z, s->x[0].at, s->w, s->B, s->k, s->d, false);
    gemm_nn(s->xhat, s->z, s->w, s->B, s->d, s->k, false);
    gemm_tn(s->dw, s->z, s->x[0].at, s->k, s->d, s->B, false);
    return (now(CLOCK_PROCESS_CPUTIME_ID) - from) / 3;
}

static double
products_needed(const struct variant *v, const struct shape *s)
{
    double B = (double)s->B, d = (double)s->d, k = (double)s->k, one = B * d * k;
    double own = v->arch == ARCH_TOPK ? 1 : 5;
    switch (v->need) {
    case FIVE:
        return 5;
    case ONE:
        return 1;
    case TILES:
        return own + k * k * (B + 3 * d) / 2 / one;
    case TILES_THROUGH:
        return own + (k * k * (B + 3 * d) / 2 + k * k * B) / one;
    }
    return 0;
}

static enum status
run(const struct variant *v, const struct shape *s)
{
    double cpu[ROUNDS_MOST], wall[ROUNDS_MOST], product[ROUNDS_MOST];
    struct recipe recipe = recipe_of(v, s);
    struct train *train;
    struct step_log log;
    TRY(train_new(&train, &recipe, &kern_cpu));
    for (size_t round = 0; round <= s->rounds; round++) { // round 0 warms up
        size_t at = round ? round - 1 : 0;
        product[at] = product_seconds(s);
        double cpu_from = now(CLOCK_PROCESS_CPUTIME_ID), from = now(CLOCK_MONOTONIC);
        enum status status = train_step(train, &log, s->x[round % BATCHES], NULL);
        cpu[at] = now(CLOCK_PROCESS_CPUTIME_ID) - cpu_from;
        wall[at] = now(CLOCK_MONOTONIC) - from;
        if (status != STATUS_OK) {
            train_free(&train);
            return status;
        }
    }
    train_free(&train);
    double spent = median(cpu, s->rounds), one = median(product, s->rounds);
    double flops = 2 * (double)s->B * (double)s->k * (double)s->d;
    printf("%-31s %5.0f ms cpu %5.0f ms wall %5.1f products %3.0f %% of bound (at %.0f GFLOP/cpu-s)"
           "  L0 %.0f, %s",
           v->name, 1e3 * spent, 1e3 * median(wall, s->rounds), spent / one,
           100 * one * products_needed(v, s) / spent, 1e-9 * flops / one, log.l0,
           log.listed ? "lists" : "products");
    if (v->lambda_o > 0)
        printf("; %.0f pairs by %s", log.pairs, log.rivals_listed ? "lists" : "tiles");
    printf("\n");
    fflush(stdout);
    return STATUS_OK;
}

int
main(int argc, char **argv)
{
    bool at_borders = argc > 1 && !strcmp(argv[1], "borders");
    struct shape s = {.d = 576, .k = 4096, .B = 2048, .rounds = 5};
    if (argc > 2)
        s.rounds = strtoul(argv[2], NULL, 10);
    if (argc > 5) {
        s.d = strtoul(argv[3], NULL, 10);
        s.k = strtoul(argv[4], NULL, 10);
        s.B = strtoul(argv[5], NULL, 10);
    }
    if (s.rounds < 1 || s.rounds > ROUNDS_MOST || !s.d || !s.k || !s.B) {
        fprintf(stderr, "usage: bench_step [steps|borders|NAME] [rounds] [d k B]\n");
        return 64;
    }
    if (!set_up(&s)) {
        fprintf(stderr, "bench_step: no memory\n");
        return 73;
    }
    const struct variant *list = at_borders ? borders : steps;
    size_t count = at_borders ? sizeof borders / sizeof borders[0] : sizeof steps / sizeof steps[0];
    bool one = argc > 1 && !at_borders && strcmp(argv[1], "steps") != 0;
    enum status status = STATUS_OK;
    for (size_t n = 0; n < count && status == STATUS_OK; n++)
        if (!one || !strcmp(argv[1], list[n].name))
            status = run(&list[n], &s);
    if (status != STATUS_OK)
        fprintf(stderr, "bench_step: %s\n", status_words());
    tear_down(&s);
    return status_exit_code(status);
}
