// ref: the kernels as the paper writes them. One loop per sum, sums in fp64, nothing clever: this
// is what the fast backends are compared with. docs/maths.md maps equations to these functions.
#include "lib/base/bytes.h"
#include "lib/kern/kern.h"

#include <assert.h>
#include <math.h>
#include <string.h>

static double
row_dot(struct mat a, size_t i, struct mat b, size_t j)
{
    assert(a.cols == b.cols);
    double sum = 0;
    for (size_t c = 0; c < a.cols; c++)
        sum += (double)mat_row(a, i)[c] * (double)mat_row(b, j)[c];
    return sum;
}

static double
col_dot(struct mat a, size_t i, struct mat b, size_t j)
{
    assert(a.rows == b.rows);
    double sum = 0;
    for (size_t r = 0; r < a.rows; r++)
        sum += (double)mat_row(a, r)[i] * (double)mat_row(b, r)[j];
    return sum;
}

static bool
bit(const unsigned char *bits, size_t i)
{
    return bits[i / 8] >> (i % 8) & 1;
}

static void
ref_shift(struct mat out, struct mat x, float scale, const float *bias)
{
    assert(mat_same_shape(out, x));
    for (size_t b = 0; b < x.rows; b++)
        for (size_t c = 0; c < x.cols; c++)
            mat_row(out, b)[c] = scale * mat_row(x, b)[c] - (bias ? bias[c] : 0);
}

static double
ref_spread(struct mat x, double *mean_norm)
{
    double spread = 0, norms = 0;
    for (size_t c = 0; c < x.cols; c++) {
        double mean = 0;
        for (size_t b = 0; b < x.rows; b++)
            mean += (double)mat_row(x, b)[c] / (double)x.rows;
        for (size_t b = 0; b < x.rows; b++)
            spread += pow((double)mat_row(x, b)[c] - mean, 2);
    }
    for (size_t b = 0; b < x.rows; b++)
        norms += sqrt(row_dot(x, b, x, b)) / (double)x.rows;
    if (mean_norm)
        *mean_norm = norms;
    return spread;
}

static void
ref_encode(struct mat z, struct mat x, struct mat w, const float *bias)
{
    assert(z.rows == x.rows && z.cols == w.rows && x.cols == w.cols);
    for (size_t b = 0; b < z.rows; b++)
        for (size_t i = 0; i < z.cols; i++)
            mat_row(z, b)[i] = (float)(row_dot(x, b, w, i) + (double)bias[i]);
}

static void
ref_relu(struct mat f, struct mat z)
{
    assert(mat_same_shape(f, z));
    for (size_t b = 0; b < z.rows; b++)
        for (size_t i = 0; i < z.cols; i++)
            mat_row(f, b)[i] = mat_row(z, b)[i] > 0 ? mat_row(z, b)[i] : 0;
}

// Takes the largest of z again and again, n times or until none is positive; equal values: the
// lower index first. Yields the last one taken.
static float
keep_largest(float *f, const float *z, size_t count, size_t n, float *left)
{
    float least = 0;
    memcpy(left, z, count * sizeof *z); // f may be z
    memset(f, 0, count * sizeof *f);
    for (size_t taken = 0; taken < n; taken++) {
        size_t best = 0;
        for (size_t i = 1; i < count; i++)
            if (left[i] > left[best])
                best = i;
        if (!(left[best] > 0))
            break;
        least = f[best] = left[best];
        left[best] = 0;
    }
    return least;
}

static void
ref_topk(struct mat f, struct mat z, size_t n, struct scratch tmp)
{
    assert(mat_same_shape(f, z) && tmp.bytes >= z.cols * sizeof(float));
    for (size_t b = 0; b < z.rows; b++)
        keep_largest(mat_row(f, b), mat_row(z, b), z.cols, n, tmp.at);
}

static float
ref_batchtopk(struct mat f, struct mat z, size_t n, struct scratch tmp)
{
    assert(mat_same_shape(f, z) && tmp.bytes >= mat_count(z) * sizeof(float));
    return keep_largest(f.at, z.at, mat_count(z), n, tmp.at);
}

static void
ref_jumprelu(struct mat f, struct mat z, const float *tau)
{
    assert(mat_same_shape(f, z));
    for (size_t b = 0; b < z.rows; b++)
        for (size_t i = 0; i < z.cols; i++) {
            float zbi = mat_row(z, b)[i];
            mat_row(f, b)[i] = zbi > tau[i] && zbi > 0 ? zbi : 0;
        }
}

// K((z - tau) / width) of the straight-through estimators.
static bool
near_the_jump(const struct jump *jump, size_t b, size_t i)
{
    return fabsf(mat_row(jump->z, b)[i] - jump->tau[i]) < 0.5f * jump->width;
}

static void
ref_gather(struct active *a, struct mat f, const struct jump *jump)
{
    assert(f.rows == a->rows && f.cols == a->cols);
    a->count = a->positive = 0;
    a->sum = a->pairings = 0;
    memset(a->fired, 0, a->cols * sizeof *a->fired);
    for (size_t b = 0; b < f.rows; b++) {
        size_t before = a->count;
        for (size_t i = 0; i < f.cols; i++) {
            float fbi = mat_row(f, b)[i];
            a->positive += fbi > 0;
            a->fired[i] += fbi > 0;
            a->sum += (double)fbi;
            a->count += fbi > 0 || (jump && near_the_jump(jump, b, i));
        }
        a->pairings += pow((double)(a->count - before), 2);
    }
    a->listed = a->count <= a->room;
    if (!a->listed)
        return;
    size_t entry = 0;
    for (size_t b = 0; b < f.rows; b++) {
        a->row_at[b] = (uint32_t)entry;
        for (size_t i = 0; i < f.cols; i++)
            if (mat_row(f, b)[i] > 0 || (jump && near_the_jump(jump, b, i))) {
                a->col[entry] = (uint32_t)i;
                a->value[entry] = mat_row(f, b)[i];
                a->grad[entry++] = 0;
            }
    }
    a->row_at[f.rows] = (uint32_t)entry;
    size_t at = 0;
    for (size_t i = 0; i < f.cols; i++) {
        a->col_at[i] = (uint32_t)at;
        for (size_t b = 0; b < f.rows; b++)
            for (size_t e = a->row_at[b]; e < a->row_at[b + 1]; e++)
                if (a->col[e] == i) {
                    a->place[at] = (uint32_t)e;
                    a->row[at++] = (uint32_t)b;
                }
    }
    a->col_at[f.cols] = (uint32_t)at;
}

static void
ref_decode(struct mat xhat, struct mat f, struct mat w, const float *bias)
{
    assert(xhat.rows == f.rows && f.cols == w.rows && xhat.cols == w.cols);
    for (size_t b = 0; b < f.rows; b++)
        for (size_t c = 0; c < w.cols; c++) {
            double sum = (double)bias[c];
            for (size_t i = 0; i < w.rows; i++)
                sum += (double)mat_row(f, b)[i] * (double)mat_row(w, i)[c];
            mat_row(xhat, b)[c] = (float)sum;
        }
}

static void
column_sums(float *out, struct mat g)
{
    for (size_t c = 0; c < g.cols; c++) {
        double sum = 0;
        for (size_t b = 0; b < g.rows; b++)
            sum += (double)mat_row(g, b)[c];
        out[c] = (float)sum;
    }
}

static double
ref_residual(struct mat g, float *gbias, struct mat xhat, struct mat x, float weight)
{
    assert(mat_same_shape(g, x) && mat_same_shape(xhat, x));
    double sum = 0, B = (double)x.rows;
    for (size_t b = 0; b < x.rows; b++)
        for (size_t c = 0; c < x.cols; c++) {
            double e = (double)mat_row(xhat, b)[c] - (double)mat_row(x, b)[c];
            sum += e * e;
            mat_row(g, b)[c] = (float)(2 * (double)weight / B * e);
        }
    column_sums(gbias, g);
    return sum / B;
}

static void
ref_features_back(struct mat gf, struct mat g, struct mat w, bool add)
{
    assert(gf.rows == g.rows && gf.cols == w.rows && g.cols == w.cols);
    for (size_t b = 0; b < gf.rows; b++)
        for (size_t i = 0; i < gf.cols; i++)
            mat_row(gf, b)[i] =
                (float)(row_dot(g, b, w, i) + (add ? (double)mat_row(gf, b)[i] : 0));
}

// The row of `before` that precedes row b of f, or NULL: eq. (7)'s t - 1 in either reading.
static const float *
row_before(struct mat before, const unsigned char *follows, size_t b)
{
    if (!follows)
        return mat_row(before, b);
    return b > 0 && bit(follows, b) ? mat_row(before, b - 1) : NULL;
}

// dL/df_bi of the terms beside the reconstruction.
static double
pull_at(const struct pull *pull, double fbi, size_t b, size_t i)
{
    double g = (double)pull->l1 + (double)pull->tanh * 4 * (1 - pow(tanh(4 * fbi), 2));
    if (pull->temporal > 0) {
        const float *was = row_before(pull->before, pull->follows, b);
        if (was)
            g += (double)pull->temporal * (fbi - (double)was[i]);
    }
    return g;
}

// What an entry near its threshold adds to dL/dtau.
static double
jump_at(const struct jump *jump, double g, size_t b, size_t i)
{
    if (!near_the_jump(jump, b, i))
        return 0;
    return -((double)jump->tau[i] * g + (double)jump->step) / (double)jump->width;
}

static void
ref_gate(struct mat gf, float *gbias, struct mat f, struct pull pull, const struct jump *jump)
{
    assert(mat_same_shape(gf, f));
    for (size_t i = 0; i < f.cols; i++) {
        double sum = 0, tau_sum = 0;
        for (size_t b = 0; b < f.rows; b++) {
            double fbi = (double)mat_row(f, b)[i];
            double g = (double)mat_row(gf, b)[i] + pull_at(&pull, fbi, b, i);
            if (jump)
                tau_sum += jump_at(jump, g, b, i);
            mat_row(gf, b)[i] = fbi > 0 ? (float)g : 0;
            sum += (double)mat_row(gf, b)[i];
        }
        gbias[i] = (float)sum;
        if (jump)
            jump->gtau[i] = (float)tau_sum;
    }
}

static void
ref_weights(struct mat gw, struct mat a, struct mat b, bool add)
{
    assert(gw.rows == a.cols && gw.cols == b.cols && a.rows == b.rows);
    for (size_t i = 0; i < gw.rows; i++)
        for (size_t c = 0; c < gw.cols; c++)
            mat_row(gw, i)[c] =
                (float)(col_dot(a, i, b, c) + (add ? (double)mat_row(gw, i)[c] : 0));
}

static double
ref_reconstruct_active(struct active *a, struct mat g, float *gbias, struct mat x, struct mat w,
                       const float *bias, float weight)
{
    assert(a->listed && a->rows == x.rows && a->cols == w.rows && mat_same_shape(g, x));
    double sum = 0, B = (double)x.rows;
    for (size_t b = 0; b < x.rows; b++) {
        for (size_t c = 0; c < x.cols; c++) {
            double xhat = (double)bias[c];
            for (size_t e = a->row_at[b]; e < a->row_at[b + 1]; e++)
                xhat += (double)a->value[e] * (double)mat_row(w, a->col[e])[c];
            double off = xhat - (double)mat_row(x, b)[c];
            sum += off * off;
            mat_row(g, b)[c] = (float)(2 * (double)weight / B * off);
        }
        for (size_t e = a->row_at[b]; e < a->row_at[b + 1]; e++)
            a->grad[e] = (float)row_dot(g, b, w, a->col[e]);
    }
    column_sums(gbias, g);
    return sum / B;
}

static void
ref_gate_active(struct active *a, float *gbias, struct mat f, struct pull pull,
                const struct jump *jump)
{
    assert(a->listed && a->rows == f.rows && a->cols == f.cols);
    for (size_t i = 0; i < a->cols; i++) {
        double sum = 0, tau_sum = 0;
        for (size_t at = a->col_at[i]; at < a->col_at[i + 1]; at++) {
            size_t e = a->place[at], b = a->row[at];
            double fbi = (double)a->value[e];
            double g = (double)a->grad[e] + pull_at(&pull, fbi, b, i);
            if (jump)
                tau_sum += jump_at(jump, g, b, i);
            a->grad[e] = fbi > 0 ? (float)g : 0;
            sum += (double)a->grad[e];
        }
        gbias[i] = (float)sum;
        if (jump)
            jump->gtau[i] = (float)tau_sum;
    }
}

static void
ref_weights_active(struct mat gw, const struct active *a, const float *of, struct mat b, bool add)
{
    assert(a->listed && gw.rows == a->cols && gw.cols == b.cols && a->rows == b.rows);
    for (size_t i = 0; i < gw.rows; i++)
        for (size_t c = 0; c < gw.cols; c++) {
            double sum = add ? (double)mat_row(gw, i)[c] : 0;
            for (size_t at = a->col_at[i]; at < a->col_at[i + 1]; at++)
                sum += (double)of[a->place[at]] * (double)mat_row(b, a->row[at])[c];
            mat_row(gw, i)[c] = (float)sum;
        }
}

static void
ref_pre_bias_back(float *gbias, const float *coefficients, struct mat w)
{
    for (size_t c = 0; c < w.cols; c++) {
        double sum = 0;
        for (size_t i = 0; i < w.rows; i++)
            sum += (double)coefficients[i] * (double)mat_row(w, i)[c];
        gbias[c] = (float)((double)gbias[c] - sum);
    }
}

static double
ref_tanh_sum(struct mat f)
{
    double sum = 0;
    for (size_t n = 0; n < mat_count(f); n++)
        sum += tanh(4 * (double)f.at[n]);
    return sum;
}

static double
ref_temporal(struct mat f, struct mat before, const unsigned char *follows)
{
    assert(mat_same_shape(f, before));
    double sum = 0;
    for (size_t b = 0; b < f.rows; b++) {
        const float *was = row_before(before, follows, b);
        for (size_t i = 0; was && i < f.cols; i++)
            sum += pow((double)mat_row(f, b)[i] - (double)was[i], 2);
    }
    return sum;
}

// c_ij of eq. (3): a feature that slept through the batch has no direction, its c_ij is 0.
static double
cosine(struct mat f, size_t i, size_t j, const double *norm)
{
    if (i == j || norm[i] == 0 || norm[j] == 0)
        return 0;
    return col_dot(f, i, f, j) / (norm[i] * norm[j]);
}

// The third term of eq. (4) as it is written: every ordered pair, its loss, dL/dw_i, and through c
// dL/df_i. `norm` and `gfi` are [k] and [B]; gf is written only when `through`.
static struct rivalry
rivalry_of(struct mat gw, float *gf, size_t stride, const struct rivals *r, struct scratch tmp)
{
    size_t B = r->f.rows, k = r->f.cols, d = r->w.cols;
    assert(gw.rows == k && gw.cols == d && r->w.rows == k);
    assert(tmp.bytes >= (k + B) * sizeof(double) && r->theta >= 0);
    double *norm = tmp.at, *gfi = norm + k;
    for (size_t i = 0; i < k; i++)
        norm[i] = sqrt(col_dot(r->f, i, r->f, i));
    struct rivalry found = {0};
    for (size_t i = 0; i < k; i++) {
        memset(gfi, 0, B * sizeof *gfi);
        for (size_t j = 0; j < k; j++) {
            double cij = cosine(r->f, i, j, norm);
            if (!(cij > (double)r->theta))
                continue;
            double sij = row_dot(r->w, i, r->w, j), weight = (double)r->weight;
            found.loss += weight * cij * sij * sij;
            found.pairs += 0.5;
            for (size_t c = 0; c < d; c++)
                mat_row(gw, i)[c] += (float)(4 * weight * cij * sij * (double)mat_row(r->w, j)[c]);
            for (size_t b = 0; b < B && r->through; b++)
                gfi[b] += 2 * weight * sij * sij *
                          ((double)mat_row(r->f, b)[j] / (norm[i] * norm[j]) -
                           cij * (double)mat_row(r->f, b)[i] / (norm[i] * norm[i]));
        }
        for (size_t b = 0; b < B && gf; b++)
            gf[b * stride + i] = (float)gfi[b];
    }
    return found;
}

static struct rivalry
ref_compete(struct mat gw, struct mat gf, struct mat turned, const struct rivals *r,
            struct scratch tmp)
{
    (void)turned;
    assert(!r->through || mat_same_shape(gf, r->f));
    return rivalry_of(gw, r->through ? gf.at : NULL, gf.cols, r, tmp);
}

static struct rivalry
ref_compete_active(struct mat gw, struct active *a, const struct rivals *r, struct scratch tmp)
{
    assert(a->listed && a->rows == r->f.rows && a->cols == r->f.cols);
    size_t B = a->rows, k = a->cols, head = (k + B) * sizeof(double);
    assert(tmp.bytes >= head + B * k * sizeof(float));
    float *gf = (void *)((char *)tmp.at + head);
    struct rivalry found = rivalry_of(gw, r->through ? gf : NULL, k, r, tmp);
    for (size_t b = 0; b < B && r->through; b++)
        for (size_t e = a->row_at[b]; e < a->row_at[b + 1]; e++)
            a->grad[e] += gf[b * k + a->col[e]];
    return found;
}

static double
ref_square_sum(struct mat g)
{
    double sum = 0;
    for (size_t n = 0; n < mat_count(g); n++)
        sum += (double)g.at[n] * (double)g.at[n];
    return sum;
}

static void
ref_unit_rows(struct mat w)
{
    for (size_t i = 0; i < w.rows; i++) {
        double norm = sqrt(row_dot(w, i, w, i));
        for (size_t c = 0; c < w.cols && norm > 0; c++)
            mat_row(w, i)[c] = (float)((double)mat_row(w, i)[c] / norm);
    }
}

static void
ref_adam(struct mat w, struct mat m, struct mat v, struct mat g, struct adam_rates r,
         bool unit_rows)
{
    assert(mat_same_shape(w, v) && mat_same_shape(w, g));
    for (size_t n = 0; n < mat_count(w); n++) {
        double gn = (double)g.at[n] * r.scale, mean = gn;
        if (m.at) {
            m.at[n] = (float)(r.beta1 * (double)m.at[n] + (1 - r.beta1) * gn);
            mean = (double)m.at[n] / r.correction1;
        }
        v.at[n] = (float)(r.beta2 * (double)v.at[n] + (1 - r.beta2) * gn * gn);
        double size = sqrt((double)v.at[n] / r.correction2) + r.eps;
        w.at[n] = (float)((double)w.at[n] - r.lr * mean / size);
    }
    if (unit_rows)
        ref_unit_rows(w);
}

static size_t
ref_scratch_bytes(size_t B, size_t d, size_t k)
{
    (void)d;
    size_t cells, bytes;
    if (!times(&cells, B, k) || !times(&bytes, cells, sizeof(float)) || k > SIZE_MAX / 64 ||
        B > SIZE_MAX / 64 || bytes > SIZE_MAX / 2)
        return SIZE_MAX;
    return bytes + (k + B) * sizeof(double);
}

// clang-format off
const struct kern kern_ref = {
    .name = "ref",
    .scratch_bytes = ref_scratch_bytes,
#define K(result, name, arguments) .name = ref_##name,
    KERN_LIST(K)
#undef K
};
