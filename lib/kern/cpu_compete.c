// cpu_compete: the competition term, eq. (3) and (4), exact and without a k x k matrix.
//
// Dense: c_ij and (w_i . w_j)^2 are symmetric and k x k is too big to keep: so half the tiles, one
// at a time. A tile holds c for two blocks of latents; where something exceeds theta it gets s, the
// loss, and both gradient contributions. Two tiles that share a block would add to the same rows,
// so tiles are played like a round-robin tournament: the tiles of one round share no block and run
// in parallel, rounds follow each other, and every row gets its sums in the same order always.
//
// Sparse: latent i adds up its products with whoever fires in the same rows (one row of F^T F, by
// the lists), and gathers its own gradient from the pairs above theta. Every ordered pair is
// visited, which doubles the cheap part and lets each latent write to its own rows only.
#include "lib/base/bytes.h"
#include "lib/kern/cpu_inside.h"
#include "lib/kern/gemm.h"
#include "lib/kern/vec.h"

#include <assert.h>
#include <math.h>
#include <omp.h>
#include <string.h>

enum { TILE = 256 }; // latents of a block

// What the dense path keeps of size k, and where a worker keeps its two tiles.
struct field_of_play {
    float *inverse; // [k] 1 / |f_i|, 0 for a silent latent
    double *back;   // [k] through: sum_j M_ij c_ij
    double *losses; // [matches of a round]
    double *pairs;  // same
    float *tiles;   // per worker: c and s, TILE x TILE each
    int workers;
};

enum { TILES_BYTES = 2 * TILE * TILE * sizeof(float) };

static size_t
head_bytes(size_t k)
{
    size_t blocks = k / TILE + 2;
    return (k + 64) * (sizeof(double) + sizeof(float)) + 2 * (blocks + 8) * sizeof(double) + 256;
}

static struct field_of_play
lay_out(struct scratch tmp, size_t k)
{
    size_t blocks = k / TILE + 2, head = (head_bytes(k) + 63) / 64 * 64;
    assert(tmp.bytes >= head + TILES_BYTES);
    struct field_of_play field;
    field.back = tmp.at;
    field.losses = field.back + k;
    field.pairs = field.losses + blocks;
    field.inverse = (float *)(field.pairs + blocks);
    field.tiles = (void *)((char *)tmp.at + head);
    struct scratch rest = {field.tiles, tmp.bytes - head};
    field.workers = (int)cpu_workers(rest, TILES_BYTES);
    return field;
}

// Transposing goes by blocks, each read and written a line at a time: rows of both matrices lie a
// power of two apart, and whole columns of them would share a few sets of the cache.
enum { BLOCK_COLS = 32, BLOCK_ROWS = 16 };

// turned [k x B] = rows of unit length: f_i / |f_i|.
static void
turn(struct mat turned, float *inverse, struct mat f)
{
    size_t B = f.rows, k = f.cols;
#pragma omp parallel for schedule(static)
    for (size_t from = 0; from < k; from += BLOCK_COLS) {
        size_t cols = k - from < BLOCK_COLS ? k - from : BLOCK_COLS;
        double square[BLOCK_COLS] = {0};
        for (size_t b = 0; b < B; b++) {
            const float *row = mat_row(f, b) + from;
            for (size_t c = 0; c < cols; c++)
                square[c] += (double)row[c] * (double)row[c];
        }
        for (size_t c = 0; c < cols; c++)
            inverse[from + c] = square[c] > 0 ? (float)(1 / sqrt(square[c])) : 0;
        for (size_t at = 0; at < B; at += BLOCK_ROWS) {
            size_t rows = B - at < BLOCK_ROWS ? B - at : BLOCK_ROWS;
            float block[BLOCK_COLS][BLOCK_ROWS];
            for (size_t b = 0; b < rows; b++) {
                const float *row = mat_row(f, at + b) + from;
                for (size_t c = 0; c < cols; c++)
                    block[c][b] = row[c] * inverse[from + c];
            }
            for (size_t c = 0; c < cols; c++)
                memcpy(turned.at + (from + c) * B + at, block[c], rows * sizeof(float));
        }
    }
}

// Who meets whom: match `m` of round `round` among `teams` (even). Every pair meets once.
static void
match_of(size_t *a, size_t *b, size_t round, size_t m, size_t teams)
{
    size_t ring = teams - 1;
    *a = m == 0 ? ring : (round + m) % ring;
    *b = m == 0 ? round % ring : (round + ring - m) % ring;
}

static bool
any_above(const float *c, size_t rows, size_t cols, float theta)
{
    for (size_t i = 0; i < rows; i++) {
        int any = 0;
#pragma omp simd reduction(| : any)
        for (size_t j = 0; j < cols; j++)
            any |= c[i * cols + j] > theta;
        if (any)
            return true;
    }
    return false;
}

// From c and s of a tile: its loss and its pairs; then c becomes A = 4 weight c s (the factors of
// dL/dw) and s becomes M = 2 weight s^2 (the factors of dL/df, `through`), both 0 below theta.
static void
judge(double *loss, double *pairs, float *c, float *s, size_t rows, size_t cols, float theta,
      float weight, double *back_rows, double *back_cols)
{
    *loss = *pairs = 0;
    float row_of_cols[TILE];
    for (size_t i = 0; i < rows; i++) {
        float *ci = c + i * cols, *si = s + i * cols, sum = 0, back = 0;
        unsigned count = 0;
#pragma omp simd reduction(+ : sum, count, back)
        for (size_t j = 0; j < cols; j++) {
            float cij = ci[j] > theta ? ci[j] : 0, sij = si[j];
            float m = ci[j] > theta ? 2 * weight * sij * sij : 0;
            sum += cij * sij * sij;
            count += ci[j] > theta;
            back += m * cij;
            row_of_cols[j] = m * cij;
            ci[j] = 4 * weight * cij * sij;
            si[j] = m;
        }
        *loss += (double)sum;
        *pairs += (double)count;
        if (back_rows)
            back_rows[i] += (double)back;
        for (size_t j = 0; back_cols && j < cols; j++)
            back_cols[j] += (double)row_of_cols[j];
    }
}

// One tile: blocks I and J of latents, which may be the same.
static void
play(double *loss, double *pairs, size_t I, size_t J, struct mat gw, struct mat gturned,
     struct mat turned, const struct rivals *r, const struct field_of_play *field)
{
    *loss = *pairs = 0;
    size_t k = turned.rows, B = turned.cols, d = r->w.cols;
    size_t i0 = I * TILE, j0 = J * TILE;
    if (i0 >= k || j0 >= k)
        return;
    size_t rows = k - i0 < TILE ? k - i0 : TILE, cols = k - j0 < TILE ? k - j0 : TILE;
    float *c = field->tiles + (size_t)omp_get_thread_num() * 2 * TILE * TILE;
    float *s = c + TILE * TILE;
    gemm_nt(c, mat_row(turned, i0), mat_row(turned, j0), rows, cols, B, false);
    for (size_t i = 0; I == J && i < rows; i++)
        c[i * cols + i] = 0; // no competition with itself
    if (!any_above(c, rows, cols, r->theta))
        return;
    const float *wi = mat_row(r->w, i0), *wj = mat_row(r->w, j0);
    gemm_nt(s, wi, wj, rows, cols, d, false);
    bool twice = I != J; // this tile stands for its mirror image as well
    judge(loss, pairs, c, s, rows, cols, r->theta, r->weight, r->through ? field->back + i0 : NULL,
          r->through && twice ? field->back + j0 : NULL);
    *loss *= twice ? 2 : 1;
    *pairs *= twice ? 1 : 0.5;
    gemm_nn(mat_row(gw, i0), c, wj, rows, d, cols, true);
    if (twice)
        gemm_tn(mat_row(gw, j0), c, wi, cols, d, rows, true);
    if (!r->through)
        return;
    gemm_nn(mat_row(gturned, i0), s, mat_row(turned, j0), rows, B, cols, true);
    if (twice)
        gemm_tn(mat_row(gturned, j0), s, mat_row(turned, i0), cols, B, rows, true);
}

// gf [B x k] = the gradient that came through c: (sum_j M_ij f_j/|f_j| - (sum_j M_ij c_ij)
// f_i/|f_i|) / |f_i|, from gturned [k x B]. A silent latent gets none.
static void
turn_back(struct mat gf, struct mat gturned, struct mat f, const struct field_of_play *field)
{
    size_t B = f.rows, k = f.cols;
#pragma omp parallel for schedule(static)
    for (size_t from = 0; from < k; from += BLOCK_COLS) {
        size_t cols = k - from < BLOCK_COLS ? k - from : BLOCK_COLS;
        for (size_t at = 0; at < B; at += BLOCK_ROWS) {
            size_t rows = B - at < BLOCK_ROWS ? B - at : BLOCK_ROWS;
            float block[BLOCK_ROWS][BLOCK_COLS];
            for (size_t c = 0; c < cols; c++) {
                const float *column = gturned.at + (from + c) * B + at;
                for (size_t b = 0; b < rows; b++)
                    block[b][c] = column[b];
            }
            for (size_t b = 0; b < rows; b++) {
                const float *row = mat_row(f, at + b) + from;
                float *out = mat_row(gf, at + b) + from;
                for (size_t c = 0; c < cols; c++) {
                    float inverse = field->inverse[from + c], back = (float)field->back[from + c];
                    out[c] = inverse * (block[b][c] - back * (row[c] * inverse));
                }
            }
        }
    }
}

struct rivalry
cpu_compete(struct mat gw, struct mat gf, struct mat spare, const struct rivals *r,
            struct scratch tmp)
{
    size_t B = r->f.rows, k = r->f.cols;
    assert(gw.rows == k && mat_same_shape(gw, r->w) && mat_count(gf) == B * k && r->theta >= 0);
    assert(!r->through || mat_count(spare) == B * k);
    struct field_of_play field = lay_out(tmp, k);
    // Unit columns of f lie where dL/df will be written last; its sums are collected in `spare`.
    struct mat turned = {gf.at, k, B}, gturned = {spare.at, k, B};
    turn(turned, field.inverse, r->f);
    memset(field.back, 0, k * sizeof *field.back);
    if (r->through)
        memset(gturned.at, 0, mat_count(gturned) * sizeof(float));

    struct rivalry found = {0};
    size_t blocks = (k + TILE - 1) / TILE, teams = blocks + blocks % 2;
    size_t rounds = blocks > 1 ? teams - 1 : 0;
    for (size_t round = 0; round <= rounds; round++) {
        bool alone = round == rounds; // the last round: every block against itself
        size_t matches = alone ? blocks : teams / 2;
#pragma omp parallel for schedule(dynamic) num_threads(field.workers)
        for (size_t m = 0; m < matches; m++) {
            size_t I = m, J = m;
            if (!alone)
                match_of(&I, &J, round, m, teams);
            play(&field.losses[m], &field.pairs[m], I, J, gw, gturned, turned, r, &field);
        }
        for (size_t m = 0; m < matches; m++) {
            found.loss += (double)r->weight * field.losses[m];
            found.pairs += field.pairs[m];
        }
    }
    if (r->through)
        turn_back(gf, gturned, r->f, &field);
    return found;
}

// <f_i, f_j> for every j, and 0 for i itself, into `sums` [k], which is 0 before.
static void
co_activate(float *sums, size_t i, const struct active *a)
{
    for (size_t at = a->col_at[i]; at < a->col_at[i + 1]; at++) {
        size_t b = a->row[at];
        float fi = a->value[a->place[at]];
        for (size_t e = a->row_at[b]; e < a->row_at[b + 1]; e++)
            sums[a->col[e]] += fi * a->value[e];
    }
    sums[i] = 0;
}

struct verdict {
    double loss, pairs; // without its weight; half of the pairs of i
    double back;        // sum_j M_ij c_ij
};

static inline float
cosine_of(const float *sums, size_t j, const float *inverse, float own)
{
    return sums[j] * (own * inverse[j]);
}

// Is any c_ij of this run above theta? Almost never: the run is passed over without a branch for
// each of its many small co-activations.
static bool
any_rival(const float *sums, const float *inverse, float own, float theta, size_t n)
{
    int any = 0;
#pragma omp simd reduction(| : any)
    for (size_t j = 0; j < n; j++)
        any |= cosine_of(sums, j, inverse, own) > theta;
    return any;
}

// Latent i against all others: its loss and dL/dw_i. `sums` becomes M_ij / |f_j|, or all 0 when
// nothing was above theta or c is detached.
static struct verdict
judge_latent(float *sums, float *gwi, size_t i, const struct rivals *r, const float *inverse)
{
    struct verdict v = {0};
    size_t k = r->w.rows, d = r->w.cols;
    for (size_t from = 0; from < k; from += VEC_RUN_BITS) {
        size_t end = from + VEC_RUN_BITS < k ? from + VEC_RUN_BITS : k;
        bool any = any_rival(sums + from, inverse + from, inverse[i], r->theta, end - from);
        for (size_t j = from; any && j < end; j++) {
            float cij = cosine_of(sums, j, inverse, inverse[i]);
            sums[j] = 0;
            if (!(cij > r->theta))
                continue;
            const float *wj = mat_row(r->w, j);
            float sij = vec_dot(mat_row(r->w, i), wj, d), m = 2 * r->weight * sij * sij;
            vec_add(gwi, 4 * r->weight * cij * sij, wj, d);
            v.loss += (double)cij * (double)sij * (double)sij;
            v.pairs += 0.5;
            v.back += (double)m * (double)cij;
            sums[j] = r->through ? m * inverse[j] : 0;
        }
        if (!any)
            memset(sums + from, 0, (end - from) * sizeof *sums);
    }
    return v;
}

// One latent of the sparse path: `sums` [k] is 0 on entry and on return.
static struct verdict
face_all(size_t i, struct mat gw, struct active *a, const struct rivals *r, const float *inverse,
         float *sums)
{
    if (!(inverse[i] > 0))
        return (struct verdict){0};
    co_activate(sums, i, a);
    struct verdict v = judge_latent(sums, mat_row(gw, i), i, r, inverse);
    if (!r->through || !(v.pairs > 0))
        return v;
    for (size_t at = a->col_at[i]; at < a->col_at[i + 1]; at++) {
        size_t own = a->place[at], b = a->row[at];
        float sum = 0;
        for (size_t e = a->row_at[b]; e < a->row_at[b + 1]; e++)
            sum += sums[a->col[e]] * a->value[e];
        a->grad[own] += inverse[i] * (sum - (float)v.back * a->value[own] * inverse[i]);
    }
    memset(sums, 0, a->cols * sizeof *sums);
    return v;
}

struct rivalry
cpu_compete_active(struct mat gw, struct active *a, const struct rivals *r, struct scratch tmp)
{
    size_t k = a->cols, each = (k + 15) / 16 * 16 * sizeof(float);
    assert(a->listed && mat_same_shape(gw, r->w) && gw.rows == k && r->theta >= 0);
    size_t head = k * (2 * sizeof(double) + sizeof(float));
    head = (head + 63) / 64 * 64;
    assert(tmp.bytes >= head + each);
    double *losses = tmp.at, *pairs = losses + k;
    float *inverse = (float *)(pairs + k);
    struct scratch rest = {(char *)tmp.at + head, tmp.bytes - head};
    int workers = (int)cpu_workers(rest, each);
    memset(rest.at, 0, (size_t)workers * each);
#pragma omp parallel for schedule(static)
    for (size_t i = 0; i < k; i++) {
        double square = 0;
        for (size_t at = a->col_at[i]; at < a->col_at[i + 1]; at++)
            square += (double)a->value[a->place[at]] * (double)a->value[a->place[at]];
        inverse[i] = square > 0 ? (float)(1 / sqrt(square)) : 0;
    }
#pragma omp parallel for schedule(dynamic, 8) num_threads(workers)
    for (size_t i = 0; i < k; i++) {
        float *sums = (float *)rest.at + (size_t)omp_get_thread_num() * (each / sizeof(float));
        struct verdict v = face_all(i, gw, a, r, inverse, sums);
        losses[i] = v.loss;
        pairs[i] = v.pairs;
    }
    struct rivalry found = {0};
    for (size_t i = 0; i < k; i++) {
        found.loss += (double)r->weight * losses[i];
        found.pairs += pairs[i];
    }
    return found;
}

size_t
cpu_scratch_bytes(size_t B, size_t d, size_t k)
{
    (void)B;
    (void)d;
    if (k > SIZE_MAX / 1024)
        return SIZE_MAX;
    size_t tiles = (head_bytes(k) + 63) / 64 * 64, workers = (size_t)omp_get_max_threads();
    size_t dense, lists, pools, bins;
    if (!times(&dense, TILES_BYTES, workers) || !times(&lists, (k + 16) * sizeof(float), workers) ||
        !times(&pools, (k + 16) * sizeof(uint64_t), workers) ||
        !times(&bins, 2048 * sizeof(uint64_t), workers))
        return SIZE_MAX;
    dense += tiles;
    lists += k * (2 * sizeof(double) + sizeof(float)) + 128;
    size_t most = dense > lists ? dense : lists;
    most = pools > most ? pools : most;
    return most > bins ? most : bins;
}
