// Opening a model: what it needs, whether that is free, and taking it. The pass is in
// model_forward.c.
#include "lib/base/memory.h"
#include "lib/lm/model_inside.h"

#include "lib/base/bytes.h"
#include "lib/base/file.h"

#include <assert.h>
#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// Bytes of each holder: the start banner's sum has a line per part.
struct need {
    double blocks, head, buffers, loading;
};

static size_t
line_floats(size_t floats)
{
    return (floats + 15) / 16 * 16;
}

static size_t
ceil_div(size_t a, size_t b)
{
    return (a + b - 1) / b;
}

static struct attention
attention_of(const struct model *m)
{
    size_t context = m->set.context > ATTENTION_ROWS ? m->set.context : ATTENTION_ROWS;
    return (struct attention){.context = context, .dim = m->arch->head_dim};
}

// Floats of the arena: buffers of a call, tables, and every thread's bench.
static double
arena_floats(const struct model *m)
{
    const struct arch *a = m->arch;
    struct attention how = attention_of(m);
    double rows = (double)m->set.context * (double)m->set.batch_contexts;
    double bench = 2.0 * GEMM_ROWS * (double)line_floats(a->width) +
                   GEMM_ROWS * (double)line_floats(width_up(a)) +
                   (double)line_floats(attention_scratch(&how)) +
                   (double)line_floats(how.context * 3 * how.dim);
    return rows * (double)(width_qkv(a) + a->heads * a->head_dim + 3) +
           (double)m->set.context * (double)(a->rotary + (a->learned_positions ? a->width : 0)) +
           2.0 * (double)a->width + (double)m->threads * bench + 64.0 * (double)(m->threads + 8);
}

static struct need
need_of(const struct model *m)
{
    const struct arch *a = m->arch;
    enum gemm_precision precision = m->set.precision;
    size_t q = a->heads * a->head_dim, d = a->width, up = width_up(a);
    size_t tall = up > width_qkv(a) ? up : width_qkv(a);
    double block = (double)gemm_weight_bytes_for(width_qkv(a), d, precision) +
                   (double)gemm_weight_bytes_for(d, q, precision) +
                   (double)gemm_weight_bytes_for(up, d, precision) +
                   (double)gemm_weight_bytes_for(d, a->ffn, precision) +
                   4.0 * (double)(9 * d + 2 * a->head_dim + width_qkv(a) + up);
    struct need need = {.blocks = block * (double)m->loaded,
                        .buffers = 4 * arena_floats(m),
                        .loading = 4.0 * (double)d * (double)tall};
    if (m->set.whole)
        need.head = (double)gemm_weight_bytes_for(HEAD_ROWS, d, precision) *
                    (double)ceil_div(a->vocab, HEAD_ROWS);
    return need;
}

static enum status
check_memory(struct model *m)
{
    struct need need = need_of(m);
    const double gib = 1024.0 * 1024 * 1024;
    double held = need.blocks + need.head + need.buffers, peak = held + 3 * need.loading;
    snprintf(m->memory, sizeof m->memory, "%.2f GiB = blocks %.2f + head %.2f + buffers %.2f",
             held / gib, need.blocks / gib, need.head / gib, need.buffers / gib);
    double there = memory_available();
    if (!(peak <= there))
        return FAIL(CREATE,
                    "%s: the model needs %.2f GiB (blocks %.2f, head %.2f, buffers %.2f, while "
                    "loading %.2f), but %.2f GiB are available",
                    m->set.path, peak / gib, need.blocks / gib, need.head / gib, need.buffers / gib,
                    3 * need.loading / gib, there / gib);
    m->bytes = (size_t)held;
    return STATUS_OK;
}

static enum status
check_settings(struct model *m)
{
    const struct arch *a = m->arch;
    const struct model_settings *set = &m->set;
    assert(set->context > 0 && set->batch_contexts > 0);
    if (set->layer >= a->layers)
        return FAIL(CONFIG, "%s: block %zu is hooked, but the model's blocks are 0 to %zu",
                    set->path, set->layer, a->layers - 1);
    if (set->context > a->positions)
        return FAIL(CONFIG, "%s: contexts of %zu tokens, but the model reads at most %zu",
                    set->path, set->context, a->positions);
    if (set->batch_contexts > SIZE_MAX / 64 / set->context)
        return FAIL(CONFIG, "%s: %zu contexts of %zu tokens at a time are too many", set->path,
                    set->batch_contexts, set->context);
    return STATUS_OK;
}

// A vector of one block, read to *at, which moves on; *out stays NULL where there is none.
static enum status
read_vector(float **out, float **at, const struct model *m, enum role role, size_t layer)
{
    size_t rows, columns;
    if (!role_needed(m->arch, role))
        return STATUS_OK;
    role_shape(&rows, &columns, m->arch, role);
    TRY(weights_read(*at, m->weights, role, layer));
    if (!*out)
        *out = *at;
    *at += rows;
    return STATUS_OK;
}

// Matrices below each other, as one weight.
static enum status
read_weight(struct gemm_weight **out, float *space, const struct model *m, size_t layer,
            const enum role *roles, size_t count)
{
    size_t rows = 0, columns = 0, all = 0;
    for (size_t i = 0; i < count; i++) {
        if (!role_needed(m->arch, roles[i]))
            continue;
        role_shape(&rows, &columns, m->arch, roles[i]);
        TRY(weights_read(space + all * columns, m->weights, roles[i], layer));
        all += rows;
    }
    return gemm_weight_new(out, space, all, columns, m->set.precision);
}

static enum status
load_block(struct model *m, size_t layer, float *space)
{
    const struct arch *a = m->arch;
    struct block *b = &m->blocks[layer];
    size_t floats = 9 * a->width + 2 * a->head_dim + width_qkv(a) + width_up(a);
    b->vectors = calloc(floats, sizeof *b->vectors);
    if (!b->vectors)
        return FAIL(CREATE, "%s: out of memory for block %zu", m->set.path, layer);
    float *at = b->vectors;
    TRY(read_vector(&b->attn_norm, &at, m, ROLE_ATTN_NORM, layer));
    TRY(read_vector(&b->attn_norm_bias, &at, m, ROLE_ATTN_NORM_BIAS, layer));
    TRY(read_vector(&b->attn_post_norm, &at, m, ROLE_ATTN_POST_NORM, layer));
    TRY(read_vector(&b->mlp_norm, &at, m, ROLE_MLP_NORM, layer));
    TRY(read_vector(&b->mlp_norm_bias, &at, m, ROLE_MLP_NORM_BIAS, layer));
    TRY(read_vector(&b->mlp_post_norm, &at, m, ROLE_MLP_POST_NORM, layer));
    TRY(read_vector(&b->q_norm, &at, m, ROLE_Q_NORM, layer));
    TRY(read_vector(&b->k_norm, &at, m, ROLE_K_NORM, layer));
    TRY(read_vector(&b->qkv_bias, &at, m, ROLE_Q_BIAS, layer)); // these three in a row
    TRY(read_vector(&b->qkv_bias, &at, m, ROLE_K_BIAS, layer));
    TRY(read_vector(&b->qkv_bias, &at, m, ROLE_V_BIAS, layer));
    TRY(read_vector(&b->out_bias, &at, m, ROLE_OUT_BIAS, layer));
    TRY(read_vector(&b->up_bias, &at, m, ROLE_GATE_BIAS, layer)); // and these two
    TRY(read_vector(&b->up_bias, &at, m, ROLE_UP_BIAS, layer));
    TRY(read_vector(&b->down_bias, &at, m, ROLE_DOWN_BIAS, layer));
    assert((size_t)(at - b->vectors) <= floats);
    static const enum role qkv[] = {ROLE_Q, ROLE_K, ROLE_V}, out[] = {ROLE_OUT};
    static const enum role up[] = {ROLE_GATE, ROLE_UP}, down[] = {ROLE_DOWN};
    TRY(read_weight(&b->qkv, space, m, layer, qkv, 3));
    TRY(read_weight(&b->out, space, m, layer, out, 1));
    TRY(read_weight(&b->up, space, m, layer, up, 2));
    return read_weight(&b->down, space, m, layer, down, 1);
}

static enum status
load_head(struct model *m)
{
    const struct arch *a = m->arch;
    enum role role = a->tied ? ROLE_EMBED : ROLE_HEAD;
    size_t slices = ceil_div(a->vocab, HEAD_ROWS);
    m->head = calloc(slices, sizeof(struct gemm_weight *));
    float *space = malloc(HEAD_ROWS * a->width * sizeof *space);
    enum status status = STATUS_OK;
    if (!m->head || !space)
        GOTRY(FAIL(CREATE, "%s: out of memory for the head", m->set.path));
    for (; m->slices < slices; m->slices++) {
        size_t first = m->slices * HEAD_ROWS;
        size_t rows = a->vocab - first < HEAD_ROWS ? a->vocab - first : HEAD_ROWS;
        for (size_t i = 0; i < rows; i++)
            weights_row(space + i * a->width, m->weights, role, first + i);
        GOTRY(gemm_weight_new(&m->head[m->slices], space, rows, a->width, m->set.precision));
    }
done:
    free(space);
    return status;
}

static float *
cut(float **at, size_t floats)
{
    float *out = *at;
    *at += line_floats(floats);
    return out;
}

// The angle of position t and pair i is t theta^(-2i / rotary), rounded to fp32 where the reference
// implementations round it.
static void
fill_rope(struct model *m)
{
    size_t half = m->arch->rotary / 2;
    for (size_t i = 0; i < half; i++) {
        float inverse = (float)(1 / pow(m->arch->theta, 2 * (double)i / (double)m->arch->rotary));
        for (size_t t = 0; t < m->set.context; t++) {
            float angle = (float)t * inverse;
            m->cosine[t * half + i] = (float)cos((double)angle);
            m->sine[t * half + i] = (float)sin((double)angle);
        }
    }
}

static enum status
take_buffers(struct model *m)
{
    const struct arch *a = m->arch;
    struct attention how = attention_of(m);
    size_t rows = m->set.context * m->set.batch_contexts, half = a->rotary / 2;
    size_t bytes = (size_t)arena_floats(m) / 16 * 64 + 64, product = 0;
    for (size_t i = 0; i < m->loaded; i++) {
        const struct gemm_weight *all[] = {m->blocks[i].qkv, m->blocks[i].out, m->blocks[i].up,
                                           m->blocks[i].down};
        for (size_t w = 0; w < 4; w++)
            product = gemm_weight_scratch(all[w]) > product ? gemm_weight_scratch(all[w]) : product;
    }
    for (size_t i = 0; i < m->slices; i++)
        product =
            gemm_weight_scratch(m->head[i]) > product ? gemm_weight_scratch(m->head[i]) : product;
    product = (product + 63) / 64 * 16; // in floats, whole lines
    m->bytes += product * 4 * m->threads;
    m->arena = aligned_alloc(64, bytes + product * 4 * m->threads);
    m->benches = calloc(m->threads, sizeof *m->benches);
    if (!m->arena || !m->benches)
        return FAIL(CREATE, "%s: out of memory for buffers", m->set.path);
    float *at = m->arena;
    m->qkv = cut(&at, rows * width_qkv(a));
    m->mixed = cut(&at, rows * a->heads * a->head_dim);
    m->beginnings = (struct beginning *)(void *)cut(&at, 2 * rows);
    m->position = (uint32_t *)(void *)cut(&at, rows);
    m->cosine = cut(&at, m->set.context * half);
    m->sine = cut(&at, m->set.context * half);
    if (a->learned_positions)
        m->positions = cut(&at, m->set.context * a->width);
    m->final_norm = cut(&at, a->width);
    m->final_norm_bias = a->layer_norm ? cut(&at, a->width) : NULL;
    for (size_t i = 0; i < m->threads; i++)
        m->benches[i] = (struct bench){.norm = cut(&at, GEMM_ROWS * a->width),
                                       .wide = cut(&at, GEMM_ROWS * width_up(a)),
                                       .sum = cut(&at, GEMM_ROWS * a->width),
                                       .heads = cut(&at, attention_scratch(&how)),
                                       .path = cut(&at, how.context * 3 * how.dim),
                                       .product = cut(&at, product)};
    assert((size_t)(at - m->arena) * 4 <= bytes + product * 4 * m->threads);
    fill_rope(m);
    for (size_t t = 0; m->positions && t < m->set.context; t++)
        weights_row(m->positions + t * a->width, m->weights, ROLE_POSITIONS, t);
    TRY(weights_read(m->final_norm, m->weights, ROLE_FINAL_NORM, 0));
    if (m->final_norm_bias)
        TRY(weights_read(m->final_norm_bias, m->weights, ROLE_FINAL_NORM_BIAS, 0));
    return STATUS_OK;
}

static enum status
load(struct model *m)
{
    const struct arch *a = m->arch;
    size_t q = a->heads * a->head_dim, most = width_up(a); // the longest side beside the width
    most = width_qkv(a) > most ? width_qkv(a) : most;
    most = (q > most ? q : most) * a->width;
    m->blocks = calloc(m->loaded, sizeof *m->blocks);
    float *space = malloc(most * sizeof *space);
    enum status status = STATUS_OK;
    if (!m->blocks || !space)
        GOTRY(FAIL(CREATE, "%s: out of memory", m->set.path));
    for (size_t i = 0; i < m->loaded; i++)
        GOTRY(load_block(m, i, space));
    if (m->set.whole)
        GOTRY(load_head(m));
done:
    free(space);
    return status;
}

enum status
model_new(struct model **out, const struct model_settings *set)
{
    *out = NULL;
    enum status status = STATUS_OK;
    struct model *m = calloc(1, sizeof *m);
    if (!m)
        return FAIL(CREATE, "%s: out of memory", set->path);
    m->set = *set;
    GOTRY(weights_open(&m->weights, set->path));
    m->set.path = weights_path(m->weights); // the caller's may go
    m->set.cache = NULL;
    m->arch = weights_arch(m->weights);
    m->threads = (size_t)(omp_get_max_threads() > omp_get_num_procs() ? omp_get_max_threads()
                                                                      : omp_get_num_procs());
    GOTRY(check_settings(m));
    m->loaded = set->whole ? m->arch->layers : set->layer + 1;
    GOTRY(check_memory(m));
    GOTRY(weights_hash(&m->hash, m->weights, set->cache));
    GOTRY(load(m));
    GOTRY(take_buffers(m));
    *out = m;
    return STATUS_OK;
done:
    model_free(&m);
    return status;
}

void
model_free(struct model **model)
{
    struct model *m = *model;
    if (!m)
        return;
    for (size_t i = 0; m->blocks && i < m->loaded; i++) {
        struct block *b = &m->blocks[i];
        gemm_weight_free(&b->qkv);
        gemm_weight_free(&b->out);
        gemm_weight_free(&b->up);
        gemm_weight_free(&b->down);
        free(b->vectors);
    }
    for (size_t i = 0; i < m->slices; i++)
        gemm_weight_free(&m->head[i]);
    free(m->head);
    free(m->blocks);
    free(m->benches);
    free(m->arena);
    weights_close(&m->weights);
    free(m);
    *model = NULL;
}

size_t
model_width(const struct model *model)
{
    return model->arch->width;
}

size_t
model_vocab(const struct model *model)
{
    return model->arch->vocab;
}

size_t
model_layers(const struct model *model)
{
    return model->arch->layers;
}

size_t
model_bytes(const struct model *model)
{
    return model->bytes;
}

const char *
model_memory(const struct model *model)
{
    return model->memory;
}

const char *
model_family(const struct model *model)
{
    return family_name(model->arch->family);
}

struct hash128
model_hash(const struct model *model)
{
    return model->hash;
}

bool
model_is_bias_free(const struct model *model)
{
    const struct arch *a = model->arch;
    return !a->layer_norm && !a->learned_positions && !a->bias_qkv && !a->bias_out && !a->bias_mlp;
}
