// small: little runs for the tests of lib/sae.
#ifndef TESTS_SAE_SMALL_H
#define TESTS_SAE_SMALL_H

#include "lib/base/rng.h"
#include "lib/sae/train.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { SMALL_D = 12, SMALL_K = 40, SMALL_B = 32 };

static inline void
needs(enum status status)
{
    if (status != STATUS_OK)
        fail_msg("%s", status_words());
}

// Everything on: curriculum of 4 and 8 steps, all terms of the loss.
static inline struct recipe
small_recipe(void)
{
    struct recipe r = recipe_paper();
    r.width = SMALL_D;
    r.rows = SMALL_B;
    r.steps = 40;
    r.sae.latents = SMALL_K;
    r.sae.topk = 5;
    r.sae.bandwidth = 0.2;
    r.sae.threshold_init = 0.1;
    r.curriculum.recon_end = 4;
    r.curriculum.sparsity_end = 8;
    r.curriculum.theta_steps = 6;
    r.optimiser.lr = 3e-3;
    return r;
}

// Batch `step` of a stream of sparse mixtures: a few of 20 directions, some noise.
static inline void
small_batch(float *x, uint64_t step)
{
    for (size_t b = 0; b < SMALL_B; b++)
        for (size_t c = 0; c < SMALL_D; c++) {
            uint32_t noise[4];
            rng_words(noise, 5, 71, (uint32_t)step, b * SMALL_D + c);
            x[b * SMALL_D + c] = 0.1f * (rng_uniform(noise[0]) - 0.5f);
        }
    for (size_t b = 0; b < SMALL_B; b++)
        for (size_t n = 0; n < 20; n++) {
            uint32_t on[4], direction[4];
            rng_words(on, 5, 72, (uint32_t)step, b * 20 + n);
            if (rng_uniform(on[0]) > 0.15f)
                continue;
            for (size_t c = 0; c < SMALL_D; c++) {
                rng_words(direction, 5, 73, 0, n * SMALL_D + c);
                x[b * SMALL_D + c] +=
                    (1 + rng_uniform(on[1])) * (2 * rng_uniform(direction[0]) - 1);
            }
        }
}

// Rows are contexts of 8 tokens.
static inline void
small_follows(unsigned char follows[SMALL_B / 8])
{
    for (size_t b = 0; b < SMALL_B / 8; b++)
        follows[b] = 0xfe;
}

static inline struct step_log
small_step(struct train *train)
{
    float x[SMALL_B * SMALL_D];
    unsigned char follows[SMALL_B / 8];
    struct step_log log;
    small_follows(follows);
    small_batch(x, train_steps(train));
    bool by_position = train_recipe(train)->temporal.pairing == PAIRING_POSITION;
    needs(train_step(train, &log, (struct mat){x, SMALL_B, SMALL_D}, by_position ? follows : NULL));
    return log;
}

// The complete state as bytes, to compare. The caller frees it.
static inline unsigned char *
small_state(struct train *train, size_t *bytes)
{
    struct state_tensor list[2 * STATE_TENSORS];
    size_t count = train_weights(train, list), at = 0;
    count += train_rest(train, list + count);
    *bytes = 0;
    for (size_t n = 0; n < count; n++)
        *bytes += state_bytes(&list[n]);
    unsigned char *all = malloc(*bytes);
    assert_non_null(all);
    for (size_t n = 0; n < count; n++) {
        memcpy(all + at, list[n].at, state_bytes(&list[n]));
        at += state_bytes(&list[n]);
    }
    return all;
}

#endif
