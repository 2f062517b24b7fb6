#include "lib/sae/sae.h"

#include "lib/base/bytes.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

struct sae {
    struct recipe_sae set;
    size_t d, rows_most;
    const struct kern *kern;
    struct mat param[SAE_PARAMS];
    double running;     // BatchTopK's threshold, < 0: none yet
    float *tau;         // [k] thresholds as values
    struct mat centred; // [rows_most x d] x - b_d, with pre_bias
    struct scratch tmp;
    void *memory;
};

const char *
sae_param_name(const struct recipe_sae *set, enum sae_param param)
{
    static const char *const names[] = {"W_enc", "b_enc", "W_dec", "b_dec", "threshold"};
    assert((unsigned)param < SAE_PARAMS);
    if (param == SAE_THRESHOLD && set->threshold == THRESHOLD_LOG)
        return "log_threshold";
    return names[param];
}

void
sae_param_shape(size_t *rows, size_t *cols, const struct recipe_sae *set, size_t d,
                enum sae_param param)
{
    size_t k = set->latents;
    switch (param) {
    case SAE_W_ENC:
    case SAE_W_DEC:
        *rows = k;
        *cols = d;
        return;
    case SAE_B_ENC:
        *rows = 1;
        *cols = k;
        return;
    case SAE_B_DEC:
        *rows = 1;
        *cols = d;
        return;
    case SAE_THRESHOLD:
        *rows = set->arch == ARCH_JUMPRELU ? 1 : 0;
        *cols = set->arch == ARCH_JUMPRELU ? k : 0;
        return;
    case SAE_PARAMS:
        break;
    }
    assert(!"a parameter");
}

// Cuts floats off the memory, whole cache lines; with no memory it only adds up.
static float *
cut(size_t *at, char *memory, size_t rows, size_t cols)
{
    size_t count, bytes, from = *at;
    if (from == SIZE_MAX || !times(&count, rows, cols) || !times(&bytes, count, sizeof(float)) ||
        bytes > SIZE_MAX / 2 - 64 - from)
        *at = SIZE_MAX;
    else
        *at = from + (bytes + 63) / 64 * 64;
    return memory && *at != SIZE_MAX ? (void *)(memory + from) : NULL;
}

static bool
needs_tau(const struct recipe_sae *set)
{
    return set->arch == ARCH_JUMPRELU || set->arch == ARCH_BATCHTOPK;
}

// Bytes of all arrays but the kernels' scratch.
static size_t
lay_out(struct sae *sae, char *memory)
{
    size_t at = 0;
    for (enum sae_param p = 0; p < SAE_PARAMS; p++) {
        size_t rows, cols;
        sae_param_shape(&rows, &cols, &sae->set, sae->d, p);
        float *values = cut(&at, memory, rows, cols);
        sae->param[p] = (struct mat){rows ? values : NULL, rows, cols};
    }
    sae->tau = cut(&at, memory, 1, needs_tau(&sae->set) ? sae->set.latents : 0);
    size_t rows = sae->set.pre_bias ? sae->rows_most : 0;
    sae->centred = (struct mat){cut(&at, memory, rows, sae->d), rows, sae->d};
    return at;
}

// TopK's: the cpu backend's pools are the largest of all backends, and know nothing of rows.
static size_t
scratch_bytes(const struct recipe_sae *set, size_t d)
{
    return set->arch == ARCH_TOPK ? kern_cpu.scratch_bytes(1, d, set->latents) : 0;
}

size_t
sae_bytes(const struct recipe_sae *set, size_t d, size_t rows_most)
{
    struct sae sae = {.set = *set, .d = d, .rows_most = rows_most};
    size_t arrays = lay_out(&sae, NULL), scratch = scratch_bytes(set, d);
    return arrays > SIZE_MAX - 64 || scratch > SIZE_MAX - 64 - arrays ? SIZE_MAX : arrays + scratch;
}

enum status
sae_new(struct sae **out, const struct recipe_sae *set, size_t d, size_t rows_most,
        const struct kern *kern)
{
    assert(set->latents > 0 && d > 0 && rows_most > 0);
    *out = NULL;
    size_t bytes = sae_bytes(set, d, rows_most);
    struct sae *sae = calloc(1, sizeof *sae);
    void *memory = sae && bytes < SIZE_MAX ? kern_take(bytes) : NULL;
    if (!memory) {
        free(sae);
        return FAIL(CREATE, "an SAE of %zu latents and width %zu needs %zu bytes: no such memory",
                    set->latents, d, bytes);
    }
    *sae = (struct sae){
        .set = *set, .d = d, .rows_most = rows_most, .kern = kern, .running = -1, .memory = memory};
    size_t arrays = lay_out(sae, memory);
    sae->tmp = (struct scratch){(char *)memory + arrays, bytes - arrays};
    *out = sae;
    return STATUS_OK;
}

void
sae_free(struct sae **sae)
{
    if (!*sae)
        return;
    kern_give((*sae)->memory);
    free(*sae);
    *sae = NULL;
}

const struct recipe_sae *
sae_settings(const struct sae *sae)
{
    return &sae->set;
}

size_t
sae_width(const struct sae *sae)
{
    return sae->d;
}

struct mat
sae_param(const struct sae *sae, enum sae_param param)
{
    assert((unsigned)param < SAE_PARAMS);
    return sae->param[param];
}

double *
sae_running_threshold(struct sae *sae)
{
    return &sae->running;
}

const float *
sae_tau(struct sae *sae)
{
    if (sae->set.arch != ARCH_JUMPRELU)
        return NULL;
    struct mat kept = sae->param[SAE_THRESHOLD];
    for (size_t i = 0; i < kept.cols; i++)
        sae->tau[i] = sae->set.threshold == THRESHOLD_LOG ? expf(kept.at[i]) : kept.at[i];
    return sae->tau;
}

// sigma at inference, in place.
static void
activate(struct sae *sae, struct mat f)
{
    switch ((enum arch)sae->set.arch) {
    case ARCH_RELU:
        sae->kern->relu(f, f);
        return;
    case ARCH_TOPK:
        sae->kern->topk(f, f, sae->set.topk, sae->tmp);
        return;
    case ARCH_BATCHTOPK:
        for (size_t i = 0; i < sae->set.latents; i++)
            sae->tau[i] = sae->running > 0 ? (float)sae->running : 0;
        sae->kern->jumprelu(f, f, sae->tau);
        return;
    case ARCH_JUMPRELU:
        sae->kern->jumprelu(f, f, sae_tau(sae));
        return;
    }
    assert(!"an architecture");
}

void
sae_encode(struct sae *sae, struct mat f, struct mat x)
{
    assert(f.rows == x.rows && f.cols == sae->set.latents && x.cols == sae->d);
    const float *b_enc = sae->param[SAE_B_ENC].at;
    struct mat w_enc = sae->param[SAE_W_ENC];
    if (!sae->set.pre_bias)
        sae->kern->encode(f, x, w_enc, b_enc);
    for (size_t from = 0; sae->set.pre_bias && from < x.rows; from += sae->rows_most) {
        size_t rows = x.rows - from < sae->rows_most ? x.rows - from : sae->rows_most;
        struct mat part = {x.at + from * sae->d, rows, sae->d};
        struct mat centred = {sae->centred.at, rows, sae->d};
        struct mat to = {f.at + from * f.cols, rows, f.cols};
        sae->kern->shift(centred, part, 1, sae->param[SAE_B_DEC].at);
        sae->kern->encode(to, centred, w_enc, b_enc);
    }
    activate(sae, f);
}

void
sae_decode(const struct sae *sae, struct mat xhat, struct mat f)
{
    sae->kern->decode(xhat, f, sae->param[SAE_W_DEC], sae->param[SAE_B_DEC].at);
}
