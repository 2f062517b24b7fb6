// golden_file: reading golden tensors, and the losses of a few rows of logits in fp64.
#ifndef TESTS_LM_GOLDEN_FILE_H
#define TESTS_LM_GOLDEN_FILE_H

#include "lib/store/safetensors.h"

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static inline struct safetensors *
golden_open(const char *name)
{
    char path[512];
    struct safetensors *file = NULL;
    snprintf(path, sizeof path, "%s/golden/%s", OSAE_TESTS, name);
    if (safetensors_open(&file, path) != STATUS_OK) {
        fprintf(stderr, "%s\n", status_words());
        abort();
    }
    return file;
}

// The caller frees it.
static inline float *
golden_floats(const struct safetensors *file, const char *name, size_t *count)
{
    const struct tensor *t = safetensors_find(file, name);
    float *out = t ? malloc((t->count + 1) * sizeof *out) : NULL;
    if (!out || tensor_to_f32(out, t, "golden") != STATUS_OK)
        abort();
    if (count)
        *count = t->count;
    return out;
}

static inline uint32_t *
golden_ids(const struct safetensors *file, const char *name, size_t *count)
{
    const struct tensor *t = safetensors_find(file, name);
    uint32_t *out = t ? malloc((t->count + 1) * sizeof *out) : NULL;
    if (!out || t->dtype != DTYPE_I32)
        abort();
    memcpy(out, t->at, t->count * sizeof *out);
    *count = t->count;
    return out;
}

static inline double
log_sum(const float *logits, size_t n)
{
    double most = (double)logits[0], sum = 0;
    for (size_t i = 1; i < n; i++)
        most = fmax(most, (double)logits[i]);
    for (size_t i = 0; i < n; i++)
        sum += exp((double)logits[i] - most);
    return most + log(sum);
}

// -log softmax(logits)[target]
static inline double
cross_entropy(const float *logits, size_t n, uint32_t target)
{
    return log_sum(logits, n) - (double)logits[target];
}

// sum p (log p - log q)
static inline double
divergence(const float *p, const float *q, size_t n)
{
    double p_sum = log_sum(p, n), q_sum = log_sum(q, n), sum = 0;
    for (size_t i = 0; i < n; i++) {
        double log_p = (double)p[i] - p_sum;
        sum += exp(log_p) * (log_p - ((double)q[i] - q_sum));
    }
    return sum;
}

static inline double
worst_difference(const float *a, const float *b, size_t n)
{
    double worst = 0;
    for (size_t i = 0; i < n; i++) {
        double difference = fabs((double)a[i] - (double)b[i]);
        worst = difference >= worst ? difference : worst; // keeps the first
        if (isnan(difference))
            return INFINITY;
    }
    return worst;
}

#endif
