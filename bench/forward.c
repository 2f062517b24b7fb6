// Tokens a second of the forward pass up to a hook, beside the same products alone on the same
// tiles: what is left for norms, rope, attention, activations and waiting.
//     OMP_WAIT_POLICY=passive bench_forward MODEL [layer 9] [threads 0] [contexts 16] [tokens 128]
//                                           [f32|bf16] [seconds 10]
// Processor seconds are the fair clock on a machine that does other things as well.
#include "lib/base/say.h"
#include "lib/base/tick.h"
#include "lib/lm/model_inside.h"

#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static double
cpu_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

// The four products of each block, on tiles of GEMM_ROWS rows.
static void
products(const struct model *m, const float *x, size_t rows)
{
    const struct arch *a = m->arch;
    size_t d = a->width, mixed = a->heads * a->head_dim, up = width_up(a), wide = width_qkv(a);
#pragma omp parallel
    for (size_t layer = 0; layer < m->loaded; layer++) {
        const struct block *b = &m->blocks[layer];
        struct bench *bench = &m->benches[omp_get_thread_num()];
#pragma omp for schedule(dynamic)
        for (size_t first = 0; first < rows; first += GEMM_ROWS) {
            size_t count = rows - first < GEMM_ROWS ? rows - first : GEMM_ROWS;
            gemm_weight_rows(m->qkv + first * wide, wide, x + first * d, d, b->qkv, count,
                             bench->product);
        }
#pragma omp for schedule(dynamic)
        for (size_t first = 0; first < rows; first += GEMM_ROWS) {
            size_t count = rows - first < GEMM_ROWS ? rows - first : GEMM_ROWS;
            gemm_weight_rows(bench->sum, d, m->mixed + first * mixed, mixed, b->out, count,
                             bench->product);
            gemm_weight_rows(bench->wide, up, bench->sum, d, b->up, count, bench->product);
            gemm_weight_rows(bench->sum, d, bench->wide, up, b->down, count, bench->product);
        }
    }
}

int
main(int count, char **words)
{
    if (count < 2) {
        fprintf(stderr, "usage: %s MODEL [layer] [threads] [contexts] [tokens] [f32|bf16] [s]\n",
                words[0]);
        return 64;
    }
    struct model *m = NULL;
    struct model_settings set = {
        .path = words[1],
        .layer = count > 2 ? strtoul(words[2], NULL, 10) : 9,
        .batch_contexts = count > 4 ? strtoul(words[4], NULL, 10) : 16,
        .context = count > 5 ? strtoul(words[5], NULL, 10) : 128,
        .precision = count > 6 && strcmp(words[6], "bf16") == 0 ? GEMM_BF16 : GEMM_F32};
    double limit = count > 7 ? strtod(words[7], NULL) : 10;
    gemm_threads(count > 3 ? strtoul(words[3], NULL, 10) : 0);
    double start = tick_seconds();
    enum status status = model_new(&m, &set);
    if (status != STATUS_OK)
        return say_failure(status);
    printf("%s, %s, opened in %.2f s\n", model_family(m), model_memory(m), tick_seconds() - start);
    size_t rows = set.context * set.batch_contexts;
    uint32_t *ids = malloc(rows * sizeof *ids);
    float *x = malloc(rows * model_width(m) * sizeof *x);
    if (!ids || !x)
        return 73;
    for (size_t i = 0; i < rows; i++)
        ids[i] = (uint32_t)(i * 2654435761u % model_vocab(m));
    double wall = 1e9, cpu = 1e9, product_wall = 1e9, product_cpu = 1e9, end = start + limit;
    for (int round = 0; round < 3 || tick_seconds() < end; round++) {
        double wall_from = tick_seconds(), cpu_from = cpu_seconds();
        if ((status = model_below(m, ids, set.batch_contexts, x)) != STATUS_OK)
            return say_failure(status);
        double took = tick_seconds() - wall_from, used = cpu_seconds() - cpu_from;
        wall = took < wall ? took : wall;
        cpu = used < cpu ? used : cpu;
        wall_from = tick_seconds(), cpu_from = cpu_seconds();
        products(m, x, rows);
        took = tick_seconds() - wall_from, used = cpu_seconds() - cpu_from;
        product_wall = took < product_wall ? took : product_wall;
        product_cpu = used < product_cpu ? used : product_cpu;
    }
    const struct arch *a = m->arch;
    double work = 2.0 * (double)rows * (double)a->width * (double)m->loaded *
                  (double)(width_qkv(a) + a->heads * a->head_dim + width_up(a) + a->ffn);
    printf("%d threads, block %zu, %zu x %zu tokens, best of the rounds\n", omp_get_max_threads(),
           set.layer, set.batch_contexts, set.context);
    printf("wall       %8.0f tokens/s, products %5.1f %% of the time at %6.1f GFLOP/s\n",
           (double)rows / wall, 100 * product_wall / wall, work / product_wall / 1e9);
    printf("processor  %8.0f tokens/s, products %5.1f %% of the time at %6.1f GFLOP/s\n",
           (double)rows / cpu, 100 * product_cpu / cpu, work / product_cpu / 1e9);
    free(ids);
    free(x);
    model_free(&m);
    return 0;
}
