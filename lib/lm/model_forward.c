// The pass. Two stages a block, each a parallel loop:
//   mix   for every tile of rows: norm, q|k|v in one product, rope;  then for every head: attention
//   feed  for every tile of rows: output product, residual, norm, gate|up in one product,
//         activation, down product, residual
// A tile's rows go through a whole stage on one thread and stay in its cache; weights stream past.
// A tile is what a product takes at once, GEMM_ROWS.
#include "lib/lm/model_inside.h"

#include "lib/lm/maths.h"

#include <assert.h>
#include <omp.h>
#include <string.h>

static struct bench *
my_bench(const struct model *m)
{
    size_t thread = (size_t)omp_get_thread_num();
    assert(thread < m->threads);
    return &m->benches[thread];
}

static void
add_bias(float *x, size_t width, const float *bias, size_t rows)
{
    for (size_t r = 0; bias && r < rows; r++)
        for (size_t i = 0; i < width; i++)
            x[r * width + i] += bias[i];
}

static void
add_rows(float *x, const float *more, size_t count)
{
    for (size_t i = 0; i < count; i++)
        x[i] += more[i];
}

static void
norm_rows(const struct model *m, float *y, const float *x, const float *w, const float *b,
          size_t rows)
{
    size_t d = m->arch->width;
    for (size_t r = 0; r < rows; r++)
        if (m->arch->layer_norm)
            maths_layer_norm(y + r * d, x + r * d, w, b, d, m->arch->eps);
        else
            maths_rms(y + r * d, x + r * d, w, d, m->arch->eps);
}

// q and k of one row: norm over each head, rope, and the attention scale on q.
static void
turn_row(const struct model *m, const struct block *b, float *qkv, size_t position)
{
    const struct arch *a = m->arch;
    size_t dim = a->head_dim, half = a->rotary / 2;
    float scale = (float)a->attention_scale;
    for (size_t h = 0; h < a->heads + a->kv_heads; h++) {
        float *head = qkv + h * dim;
        bool is_q = h < a->heads;
        if (a->qk_norm)
            maths_rms(head, head, is_q ? b->q_norm : b->k_norm, dim, a->eps);
        if (half > 0)
            maths_rope(head, m->cosine + position * half, m->sine + position * half, half);
        for (size_t i = 0; is_q && i < dim; i++)
            head[i] *= scale;
    }
}

// The rows of a call: n contexts of so many tokens, one after the other; or, with `at`, those of
// contexts that share their beginnings (m->beginnings, m->position), of which at[i] is wanted.
struct wanted {
    size_t n, context, rows;
    const uint32_t *at; // [n], or NULL: all
};

static void
project_tile(const struct model *m, const struct block *b, const float *x,
             const struct wanted *wanted, size_t first, size_t rows)
{
    struct bench *bench = my_bench(m);
    size_t d = m->arch->width, width = width_qkv(m->arch);
    float *qkv = m->qkv + first * width;
    norm_rows(m, bench->norm, x + first * d, b->attn_norm, b->attn_norm_bias, rows);
    gemm_weight_rows(qkv, width, bench->norm, d, b->qkv, rows, bench->product);
    add_bias(qkv, width, b->qkv_bias, rows);
    for (size_t r = 0; r < rows; r++)
        turn_row(m, b, qkv + r * width,
                 wanted->at ? m->position[first + r] : (first + r) % wanted->context);
}

// The q, k and v of one head for context `number` up to at[number], gathered from where they are:
// its own rows, those it has in common with the one before, and so on back.
static void
gather_path(float *path, const struct model *m, const struct wanted *wanted, size_t number,
            const size_t columns[3])
{
    size_t dim = m->arch->head_dim, width = width_qkv(m->arch), end = wanted->at[number] + 1;
    for (const struct beginning *from = m->beginnings + number; end > 0; from--) {
        for (size_t t = from->shared; t < end; t++) {
            const float *row = m->qkv + (from->row + t - from->shared) * width;
            for (size_t i = 0; i < 3; i++)
                memcpy(path + (3 * t + i) * dim, row + columns[i], dim * sizeof *path);
        }
        end = from->shared < end ? from->shared : end;
    }
}

// One head of a context that shares its beginning: only its own rows are computed, and in the last
// block only the one that is wanted, which becomes row `number`.
static void
attend_path(const struct model *m, struct attention *how, const struct wanted *wanted,
            size_t number, const size_t columns[3], bool last)
{
    struct bench *bench = my_bench(m);
    size_t dim = how->dim, mixed = m->arch->heads * dim, length = wanted->at[number] + 1;
    // A context of fewer than ATTENTION_ROWS is computed in another way, with other bits.
    how->context =
        length < ATTENTION_ROWS && m->set.context >= ATTENTION_ROWS ? ATTENTION_ROWS : length;
    how->first = last ? length - 1 : m->beginnings[number].shared;
    memset(bench->path + 3 * length * dim, 0, 3 * (how->context - length) * dim * sizeof(float));
    gather_path(bench->path, m, wanted, number, columns);
    how->count = length - how->first;
    attention_head(m->mixed + (last ? number : m->beginnings[number].row) * mixed + columns[0],
                   mixed, bench->path, bench->path + dim, bench->path + 2 * dim, 3 * dim, how,
                   bench->heads);
}

static void
attend(const struct model *m, size_t layer, const struct wanted *wanted, size_t number, size_t head,
       bool last)
{
    const struct arch *a = m->arch;
    size_t dim = a->head_dim, width = width_qkv(a), mixed = a->heads * dim;
    size_t shared = head / (a->heads / a->kv_heads), row = number * wanted->context;
    struct attention how = {.context = wanted->context,
                            .dim = dim,
                            .window = a->sliding[layer] ? a->window : 0,
                            .cap = (float)a->attention_cap};
    if (wanted->at) {
        const size_t columns[3] = {head * dim, (a->heads + shared) * dim,
                                   (a->heads + a->kv_heads + shared) * dim};
        attend_path(m, &how, wanted, number, columns, last);
        return;
    }
    const float *qkv = m->qkv + row * width;
    attention_head(m->mixed + row * mixed + head * dim, mixed, qkv + head * dim,
                   qkv + (a->heads + shared) * dim, qkv + (a->heads + a->kv_heads + shared) * dim,
                   width, &how, my_bench(m)->heads);
}

static void
feed_tile(const struct model *m, const struct block *b, float *x, size_t first, size_t rows)
{
    const struct arch *a = m->arch;
    struct bench *bench = my_bench(m);
    size_t d = a->width, mixed = a->heads * a->head_dim, up = width_up(a);
    float *stream = x + first * d, *wide = bench->wide;
    if (a->parallel) // the MLP reads the stream as it was
        norm_rows(m, bench->norm, stream, b->mlp_norm, b->mlp_norm_bias, rows);

    gemm_weight_rows(bench->sum, d, m->mixed + first * mixed, mixed, b->out, rows, bench->product);
    add_bias(bench->sum, d, b->out_bias, rows);
    if (a->post_norms)
        norm_rows(m, bench->sum, bench->sum, b->attn_post_norm, NULL, rows);
    add_rows(stream, bench->sum, rows * d);

    if (!a->parallel)
        norm_rows(m, bench->norm, stream, b->mlp_norm, b->mlp_norm_bias, rows);
    gemm_weight_rows(wide, up, bench->norm, d, b->up, rows, bench->product);
    add_bias(wide, up, b->up_bias, rows);
    for (size_t r = 0; r < rows; r++) // [tile x 2F] becomes [tile x F], row after row
        if (a->gated)
            maths_gate(wide + r * a->ffn, wide + r * up, wide + r * up + a->ffn, a->ffn,
                       a->activation);
        else
            maths_activate(wide + r * up, a->ffn, a->activation);
    gemm_weight_rows(bench->sum, d, wide, a->ffn, b->down, rows, bench->product);
    add_bias(bench->sum, d, b->down_bias, rows);
    if (a->post_norms)
        norm_rows(m, bench->sum, bench->sum, b->mlp_post_norm, NULL, rows);
    add_rows(stream, bench->sum, rows * d);
}

// The row of x at at[number] becomes row `number`. It is the last of the context's own, of which
// every context has one: so never before row `number`.
static void
keep_wanted(const struct model *m, float *x, const struct wanted *wanted)
{
    size_t d = m->arch->width;
    for (size_t i = 0; i < wanted->n; i++) {
        size_t from = m->beginnings[i].row + wanted->at[i] - m->beginnings[i].shared;
        memmove(x + i * d, x + from * d, d * sizeof *x);
    }
}

// x [rows x d] through blocks from .. to - 1, in place. Only of the last block are some rows left
// out: the ones before need the keys and values of all.
static void
run_blocks(const struct model *m, float *x, const struct wanted *wanted, size_t from, size_t to)
{
    size_t n = wanted->n, rows = wanted->rows, heads = m->arch->heads;
    const size_t tile = GEMM_ROWS;
#pragma omp parallel
    for (size_t layer = from; layer < to; layer++) {
        const struct block *b = &m->blocks[layer];
        bool last = layer + 1 == to;
#pragma omp for schedule(dynamic)
        for (size_t first = 0; first < rows; first += tile)
            project_tile(m, b, x, wanted, first, rows - first < tile ? rows - first : tile);
#pragma omp for schedule(dynamic)
        for (size_t i = 0; i < n * heads; i++)
            attend(m, layer, wanted, i / heads, i % heads, last);
        size_t fed = rows;
        if (wanted->at && last) {
            fed = n;
#pragma omp single
            keep_wanted(m, x, wanted);
        }
#pragma omp for schedule(dynamic)
        for (size_t first = 0; first < fed; first += tile)
            feed_tile(m, b, x, first, fed - first < tile ? fed - first : tile);
    }
}

void
model_blocks(const struct model *m, float *x, size_t n, size_t from, size_t to)
{
    run_blocks(m, x, &(struct wanted){n, m->set.context, n * m->set.context, NULL}, from, to);
}

static void
embed_row(const struct model *m, float *x, uint32_t id, size_t position)
{
    const struct arch *a = m->arch;
    float scale = (float)a->embed_scale;
    weights_row(x, m->weights, ROLE_EMBED, id);
    if (m->set.precision == GEMM_BF16) { // as a model whose weights are bf16 does: 67.88 becomes 68
        uint32_t bits;
        memcpy(&bits, &scale, sizeof bits);
        bits = (bits + 0x7fff + (bits >> 16 & 1)) & 0xffff0000u;
        memcpy(&scale, &bits, sizeof scale);
    }
    for (size_t i = 0; i < a->width; i++)
        x[i] *= scale;
    if (m->positions)
        add_rows(x, m->positions + position * a->width, a->width);
}

static enum status
check_ids(const struct model *m, const uint32_t *ids, size_t n, size_t context)
{
    for (size_t i = 0; i < n * context; i++)
        if (ids[i] >= m->arch->vocab)
            return FAIL(DAMAGED, "%s: token %u at position %zu, but the model's are 0 to %zu",
                        m->set.path, ids[i], i % context, m->arch->vocab - 1);
    return STATUS_OK;
}

static enum status
below(struct model *m, const uint32_t *ids, size_t n, size_t context, float *x)
{
    TRY(check_ids(m, ids, n, context));
#pragma omp parallel for schedule(static)
    for (size_t i = 0; i < n * context; i++)
        embed_row(m, x + i * m->arch->width, ids[i], i % context);
    run_blocks(m, x, &(struct wanted){n, context, n * context, NULL}, 0, m->set.layer + 1);
    return STATUS_OK;
}

// How many positions context i has in common with the beginning of the one before, whose rows end
// at its own `at`. Its last row is always its own.
static size_t
in_common(const uint32_t *ids, size_t i, size_t context, const uint32_t *at)
{
    if (i == 0)
        return 0;
    size_t most = at[i - 1] + (size_t)1 < at[i] ? at[i - 1] + (size_t)1 : at[i], t = 0;
    while (t < most && ids[i * context + t] == ids[(i - 1) * context + t])
        t++;
    return t;
}

enum status
model_below(struct model *m, const uint32_t *ids, size_t n, float *x)
{
    assert(n >= 1 && n <= m->set.batch_contexts);
    return below(m, ids, n, m->set.context, x);
}

size_t
model_fit_at(size_t rows, const uint32_t *ids, size_t n, size_t context, const uint32_t *at)
{
    for (size_t i = 0; i < n; i++) {
        size_t own = at[i] + (size_t)1 - in_common(ids, i, context, at);
        if (own > rows)
            return i;
        rows -= own;
    }
    return n;
}

enum status
model_below_at(struct model *m, const uint32_t *ids, size_t n, size_t context, const uint32_t *at,
               float *x)
{
    assert(context >= 1 && context <= m->set.context);
    assert(n >= 1 && n <= m->set.batch_contexts * m->set.context);
    TRY(check_ids(m, ids, n, context));
    size_t rows = 0;
    for (size_t i = 0; i < n; i++) {
        assert(at[i] < context);
        size_t shared = in_common(ids, i, context, at);
        m->beginnings[i] = (struct beginning){(uint32_t)shared, (uint32_t)rows};
        for (size_t t = shared; t <= at[i]; t++, rows++) {
            assert(rows < m->set.batch_contexts * m->set.context);
            m->position[rows] = (uint32_t)t;
            embed_row(m, x + rows * m->arch->width, ids[i * context + t], t);
        }
    }
    run_blocks(m, x, &(struct wanted){n, context, rows, at}, 0, m->set.layer + 1);
    return STATUS_OK;
}

enum status
model_below_short(struct model *m, const uint32_t *ids, size_t n, size_t context, float *x)
{
    assert(context >= 1 && context <= m->set.context);
    assert(n >= 1 && n <= m->set.batch_contexts * m->set.context / context);
    return below(m, ids, n, context, x);
}

void
model_above(struct model *m, const float *x, size_t n, float *y)
{
    assert(m->set.whole && n >= 1 && n <= m->set.batch_contexts);
    size_t d = m->arch->width, rows = n * m->set.context;
    if (y != x)
        memcpy(y, x, rows * d * sizeof *y);
    model_blocks(m, y, n, m->set.layer + 1, m->arch->layers);
#pragma omp parallel for schedule(static)
    for (size_t r = 0; r < rows; r++)
        norm_rows(m, y + r * d, y + r * d, m->final_norm, m->final_norm_bias, 1);
}

void
model_logits(struct model *m, const float *y, size_t rows, float *logits)
{
    assert(m->set.whole);
    size_t d = m->arch->width, vocab = m->arch->vocab;
    size_t tiles = (rows + GEMM_ROWS - 1) / GEMM_ROWS;
#pragma omp parallel for schedule(dynamic)
    for (size_t i = 0; i < tiles * m->slices; i++) {
        size_t slice = i / tiles, first = i % tiles * GEMM_ROWS, column = slice * HEAD_ROWS;
        size_t count = rows - first < GEMM_ROWS ? rows - first : GEMM_ROWS;
        size_t columns = vocab - column < HEAD_ROWS ? vocab - column : HEAD_ROWS;
        float *out = logits + first * vocab + column;
        gemm_weight_rows(out, vocab, y + first * d, d, m->head[slice], count, my_bench(m)->product);
        for (size_t r = 0; m->arch->final_cap > 0 && r < count; r++)
            maths_softcap(out + r * vocab, columns, (float)m->arch->final_cap);
    }
}
