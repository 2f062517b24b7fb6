// Every kernel of every backend against `ref`, at sizes that straddle each edge, between fences,
// and with one thread and two giving the same bits. The checks grow from KERN_LIST: a new kernel
// does not compile here until it has its check_.
#include "tests/kern/fenced.h"

struct shape {
    size_t B, d, k;
};

static struct active
lists(size_t B, size_t k, size_t room)
{
    size_t bytes;
    struct active a;
    assert_true(active_bytes(&bytes, B, k, room));
    float *memory = floats(bytes / sizeof(float) + 16);
    memory += (64 - (uintptr_t)memory % 64) % 64 / sizeof(float);
    memset(memory, 0, bytes);
    active_init(&a, memory, B, k, room);
    return a;
}

// A jump whose z has values near tau, but none at the very edge of the window.
struct jump_setting {
    struct mat z, tau, f;
    float width;
};
static struct jump_setting
jump_setting(size_t B, size_t k)
{
    struct jump_setting s = {given(B, k), fresh(1, k), fresh(B, k), 0.4f};
    for (size_t i = 0; i < k; i++)
        s.tau.at[i] = 0.3f + uniform() * 0.2f;
    for (size_t n = 0; n < B * k; n++) {
        float tau = s.tau.at[n % k], off = s.z.at[n] - tau;
        if (fabsf(fabsf(off) - s.width / 2) < 1e-3f || fabsf(off) < 1e-3f)
            s.z.at[n] += 3e-3f;
        s.f.at[n] = s.z.at[n] > tau ? s.z.at[n] : 0;
    }
    return s;
}

static void
check_shift(struct shape s)
{
    struct mat x = given(s.B, s.d), bias = given(1, s.d), out[RUNS], plain[RUNS];
    EACH(run)
    {
        out[run] = fresh(s.B, s.d);
        plain[run] = copy(x);
        kern->shift(out[run], x, 1.5f, bias.at);
        kern->shift(plain[run], plain[run], 0.5f, NULL);
    }
    agree(out, 1e-6, "shift");
    agree(plain, 1e-6, "shift in place");
}

static void
check_spread(struct shape s)
{
    struct mat x = given(s.B, s.d);
    for (size_t i = 0; i < mat_count(x); i++)
        x.at[i] += 30; // a large mean must not eat the spread
    double spread[RUNS], norm[RUNS];
    EACH(run) spread[run] = kern->spread(x, &norm[run]);
    agree_numbers(spread, 1e-9, "spread");
    agree_numbers(norm, 1e-9, "mean norm");
    near(kern->spread(x, NULL), spread[TWO], 0, "spread alone");
}

static void
check_encode(struct shape s)
{
    struct mat x = given(s.B, s.d), w = given(s.k, s.d), bias = given(1, s.k), z[RUNS];
    EACH(run)
    {
        z[run] = fresh(s.B, s.k);
        kern->encode(z[run], x, w, bias.at);
    }
    agree(z, 1e-4, "encode");
}

static void
check_relu(struct shape s)
{
    struct mat z = given(s.B, s.k), f[RUNS], same[RUNS];
    z.at[0] = -0.0f;
    EACH(run)
    {
        f[run] = fresh(s.B, s.k);
        same[run] = copy(z);
        kern->relu(f[run], z);
        kern->relu(same[run], same[run]);
    }
    agree(f, 0, "relu");
    agree(same, 0, "relu in place");
}

static void
check_topk(struct shape s)
{
    size_t some[] = {1, s.k / 3 + 1, s.k, s.k + 5};
    for (size_t n = 0; n < 4; n++) {
        struct mat z = n % 2 ? coarse(s.B, s.k) : given(s.B, s.k), f[RUNS], same[RUNS];
        EACH(run)
        {
            f[run] = fresh(s.B, s.k);
            same[run] = copy(z);
            kern->topk(f[run], z, some[n], scratch(s.B, s.d, s.k));
            kern->topk(same[run], same[run], some[n], scratch(s.B, s.d, s.k));
        }
        agree(f, 0, "topk");
        agree(same, 0, "topk in place");
        fences_hold();
    }
}

static void
check_batchtopk(struct shape s)
{
    size_t some[] = {1, s.B * (s.k / 20 + 1), 2 * s.B * s.k, 0};
    for (size_t n = 0; n < 4; n++) {
        struct mat z = n % 2 ? coarse(s.B, s.k) : given(s.B, s.k), f[RUNS];
        double least[RUNS];
        EACH(run)
        {
            f[run] = fresh(s.B, s.k);
            least[run] = (double)kern->batchtopk(f[run], z, some[n], scratch(s.B, s.d, s.k));
        }
        agree(f, 0, "batchtopk");
        agree_numbers(least, 0, "the least value kept");
        fences_hold();
    }
}

static void
check_jumprelu(struct shape s)
{
    struct jump_setting j = jump_setting(s.B, s.k);
    struct mat f[RUNS];
    j.tau.at[0] = -1; // a value below 0 opens no gate
    EACH(run)
    {
        f[run] = copy(j.z);
        kern->jumprelu(f[run], f[run], j.tau.at);
    }
    agree(f, 0, "jumprelu");
}

static void
check_gather(struct shape s)
{
    struct jump_setting j = jump_setting(s.B, s.k);
    struct jump jump = {.z = j.z, .tau = j.tau.at, .width = j.width};
    struct mat plain = features(s.B, s.k, 0.2f);
    for (int way = 0; way < 3; way++) { // f > 0; with those near the jump; no room
        struct active a[RUNS];
        struct mat f = way == 1 ? j.f : plain;
        EACH(run)
        {
            a[run] = lists(s.B, s.k, way == 2 ? 0 : s.B * s.k);
            kern->gather(&a[run], f, way == 1 ? &jump : NULL);
            assert_int_equal(a[run].count, a[REF].count);
            assert_int_equal(a[run].positive, a[REF].positive);
            assert_int_equal(a[run].listed, way != 2 || a[REF].count == 0);
            near(a[run].pairings, a[REF].pairings, 0, "pairings");
            near(a[run].sum, a[REF].sum, 1e-6, "sum");
            assert_memory_equal(a[run].fired, a[REF].fired, s.k * sizeof(uint32_t));
            if (way == 2)
                continue;
            size_t entries = a[REF].count * sizeof(uint32_t);
            assert_memory_equal(a[run].row_at, a[REF].row_at, (s.B + 1) * sizeof(uint32_t));
            assert_memory_equal(a[run].col_at, a[REF].col_at, (s.k + 1) * sizeof(uint32_t));
            assert_memory_equal(a[run].col, a[REF].col, entries);
            assert_memory_equal(a[run].value, a[REF].value, entries);
            assert_memory_equal(a[run].place, a[REF].place, entries);
            assert_memory_equal(a[run].row, a[REF].row, entries);
            for (size_t e = 0; e < a[run].count; e++)
                near((double)a[run].grad[e], 0, 0, "grad after gather");
        }
        near(a[ONE].sum, a[TWO].sum, 0, "sum by threads");
    }
}

static void
check_decode(struct shape s)
{
    struct mat w = given(s.k, s.d), bias = given(1, s.d), out[RUNS];
    const float shares[] = {0.03f, 0.6f}; // on both sides of the border between paths
    for (int n = 0; n < 2; n++) {
        struct mat f = features(s.B, s.k, shares[n]);
        EACH(run)
        {
            out[run] = fresh(s.B, s.d);
            kern->decode(out[run], f, w, bias.at);
        }
        agree(out, 1e-4, "decode");
    }
}

static void
check_residual(struct shape s)
{
    struct mat x = given(s.B, s.d), xhat = given(s.B, s.d), g[RUNS], gbias[RUNS], same[RUNS];
    double mse[RUNS];
    EACH(run)
    {
        g[run] = fresh(s.B, s.d);
        gbias[run] = fresh(1, s.d);
        same[run] = copy(xhat);
        mse[run] = kern->residual(g[run], gbias[run].at, xhat, x, 1);
        kern->residual(same[run], gbias[run].at, same[run], x, 2.5f);
    }
    agree(g, 1e-5, "residual");
    agree(same, 1e-5, "residual in place");
    agree(gbias, 1e-5, "its column sums");
    agree_numbers(mse, 1e-6, "mse");
}

static void
check_features_back(struct shape s)
{
    struct mat g = given(s.B, s.d), w = given(s.k, s.d), was = given(s.B, s.k);
    struct mat set[RUNS], added[RUNS];
    EACH(run)
    {
        set[run] = fresh(s.B, s.k);
        added[run] = copy(was);
        kern->features_back(set[run], g, w, false);
        kern->features_back(added[run], g, w, true);
    }
    agree(set, 1e-4, "features_back");
    agree(added, 1e-4, "features_back, added");
}

// Every kind of pull, through the dense or the listed gate.
static void
check_gates(struct shape s, bool listed)
{
    for (int way = 0; way < 5; way++) {
        struct jump_setting j = jump_setting(s.B, s.k);
        struct mat f = way == 4 ? j.f : features(s.B, s.k, 0.3f), was = features(s.B, s.k, 0.3f);
        struct mat start = given(s.B, s.k), gf[RUNS], gbias[RUNS], gtau[RUNS];
        unsigned char follows[32];
        memset(follows, 0xb6, sizeof follows);
        struct pull pull = {0};
        if (way == 1 || way == 4)
            pull.l1 = 0.3f;
        if (way == 2)
            pull.tanh = 0.2f;
        if (way >= 3) {
            pull.temporal = 0.7f;
            pull.before = way == 3 ? f : was;
            pull.follows = way == 3 ? follows : NULL;
        }
        EACH(run)
        {
            gbias[run] = fresh(1, s.k);
            gtau[run] = fresh(1, s.k);
            gf[run] = copy(start);
            struct jump jump = {j.z, j.tau.at, j.width, 0.5f, gtau[run].at};
            const struct jump *jumps = way == 4 ? &jump : NULL;
            if (!jumps)
                memset(gtau[run].at, 0, s.k * sizeof(float));
            if (!listed) {
                kern->gate(gf[run], gbias[run].at, f, pull, jumps);
                continue;
            }
            struct active a = lists(s.B, s.k, s.B * s.k);
            kern->gather(&a, f, jumps);
            for (size_t b = 0; b < s.B; b++)
                for (size_t e = a.row_at[b]; e < a.row_at[b + 1]; e++)
                    a.grad[e] = start.at[b * s.k + a.col[e]];
            kern->gate_active(&a, gbias[run].at, f, pull, jumps);
            memset(gf[run].at, 0, mat_count(start) * sizeof(float));
            for (size_t b = 0; b < s.B; b++)
                for (size_t e = a.row_at[b]; e < a.row_at[b + 1]; e++)
                    gf[run].at[b * s.k + a.col[e]] = a.grad[e];
        }
        agree(gf, 1e-5, "gate");
        agree(gbias, 1e-5, "gate's column sums");
        agree(gtau, 1e-4, "gate's thresholds");
        fences_hold();
    }
}

static void
check_gate(struct shape s)
{
    check_gates(s, false);
}

static void
check_gate_active(struct shape s)
{
    check_gates(s, true);
}

static void
check_weights(struct shape s)
{
    struct mat a = given(s.B, s.k), b = given(s.B, s.d), was = given(s.k, s.d);
    struct mat set[RUNS], added[RUNS];
    EACH(run)
    {
        set[run] = fresh(s.k, s.d);
        added[run] = copy(was);
        kern->weights(set[run], a, b, false);
        kern->weights(added[run], a, b, true);
    }
    agree(set, 1e-4, "weights");
    agree(added, 1e-4, "weights, added");
}

static struct active
listed_features(struct mat f)
{
    struct active a = lists(f.rows, f.cols, f.rows * f.cols);
    kern->gather(&a, f, NULL);
    return a;
}

static void
check_reconstruct_active(struct shape s)
{
    struct mat f = features(s.B, s.k, 0.2f), x = given(s.B, s.d), w = given(s.k, s.d);
    struct mat bias = given(1, s.d), g[RUNS], gbias[RUNS], grads[RUNS];
    double mse[RUNS];
    EACH(run)
    {
        struct active a = listed_features(f);
        g[run] = fresh(s.B, s.d);
        gbias[run] = fresh(1, s.d);
        mse[run] = kern->reconstruct_active(&a, g[run], gbias[run].at, x, w, bias.at, 1.5f);
        grads[run] = fresh(1, a.count);
        memcpy(grads[run].at, a.grad, a.count * sizeof(float));
    }
    agree(g, 1e-4, "reconstruct_active");
    agree(gbias, 1e-4, "its column sums");
    agree(grads, 1e-4, "its gradients");
    agree_numbers(mse, 1e-5, "its mse");
}

static void
check_weights_active(struct shape s)
{
    struct mat f = features(s.B, s.k, 0.2f), b = given(s.B, s.d), was = given(s.k, s.d);
    struct mat set[RUNS], added[RUNS];
    EACH(run)
    {
        struct active a = listed_features(f);
        set[run] = fresh(s.k, s.d);
        added[run] = copy(was);
        kern->weights_active(set[run], &a, a.value, b, false);
        kern->weights_active(added[run], &a, a.value, b, true);
    }
    agree(set, 1e-4, "weights_active");
    agree(added, 1e-4, "weights_active, added");
}

static void
check_pre_bias_back(struct shape s)
{
    struct mat w = given(s.k, s.d), c = given(1, s.k), was = given(1, s.d), out[RUNS];
    EACH(run)
    {
        out[run] = copy(was);
        kern->pre_bias_back(out[run].at, c.at, w);
    }
    agree(out, 1e-4, "pre_bias_back");
}

static void
check_tanh_sum(struct shape s)
{
    struct mat f = features(s.B, s.k, 0.3f);
    double sum[RUNS];
    EACH(run) sum[run] = kern->tanh_sum(f);
    agree_numbers(sum, 1e-6, "tanh_sum");
}

static void
check_temporal(struct shape s)
{
    struct mat f = features(s.B, s.k, 0.3f), was = features(s.B, s.k, 0.3f);
    unsigned char follows[32];
    memset(follows, 0x6d, sizeof follows);
    double step[RUNS], position[RUNS];
    EACH(run)
    {
        step[run] = kern->temporal(f, was, NULL);
        position[run] = kern->temporal(f, f, follows);
    }
    agree_numbers(step, 1e-6, "temporal by step");
    agree_numbers(position, 1e-6, "temporal by position");
}

static int
ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

// A theta about 0.3 in the middle of the widest gap between cosines, so that rounding moves no pair
// over it.
static float
theta_in_a_gap(struct mat f)
{
    size_t k = f.cols, count = 0;
    double *c = malloc((k * k + 2) * sizeof *c), *norm = calloc(k, sizeof *norm);
    assert_true(c && norm);
    for (size_t b = 0; b < f.rows; b++)
        for (size_t i = 0; i < k; i++)
            norm[i] += (double)f.at[b * k + i] * (double)f.at[b * k + i];
    for (size_t i = 0; i < k; i++)
        for (size_t j = i + 1; j < k; j++) {
            double dot = 0;
            for (size_t b = 0; b < f.rows; b++)
                dot += (double)f.at[b * k + i] * (double)f.at[b * k + j];
            double cij = dot > 0 ? dot / sqrt(norm[i] * norm[j]) : 0;
            if (cij > 0.25 && cij < 0.35)
                c[count++] = cij;
        }
    c[count++] = 0.25;
    c[count++] = 0.35;
    qsort(c, count, sizeof *c, ascending);
    double theta = 0.3, widest = 0;
    for (size_t n = 0; n + 1 < count; n++)
        if (c[n + 1] - c[n] > widest) {
            widest = c[n + 1] - c[n];
            theta = (c[n + 1] + c[n]) / 2;
        }
    free(c);
    free(norm);
    assert_true(widest > 2e-6);
    return (float)theta;
}

static void
check_rivalry(struct shape s, bool listed, bool through)
{
    struct mat f = features(s.B, s.k, 0.2f), w = unit_directions(s.k, s.d);
    struct mat was = given(s.k, s.d), start = given(s.B, s.k), gw[RUNS], gf[RUNS];
    struct rivals rivals = {f, w, theta_in_a_gap(f), 0.1f, through};
    double loss[RUNS], pairs[RUNS];
    EACH(run)
    {
        gw[run] = copy(was);
        gf[run] = copy(start);
        struct rivalry found;
        if (listed) {
            struct active a = listed_features(f);
            for (size_t b = 0; b < s.B; b++)
                for (size_t e = a.row_at[b]; e < a.row_at[b + 1]; e++)
                    a.grad[e] = start.at[b * s.k + a.col[e]];
            found = kern->compete_active(gw[run], &a, &rivals, scratch(s.B, s.d, s.k));
            for (size_t b = 0; b < s.B; b++)
                for (size_t e = a.row_at[b]; e < a.row_at[b + 1]; e++)
                    gf[run].at[b * s.k + a.col[e]] = a.grad[e];
        } else {
            struct mat spare = through ? fresh(s.k, s.B) : (struct mat){0};
            found = kern->compete(gw[run], gf[run], spare, &rivals, scratch(s.B, s.d, s.k));
        }
        loss[run] = found.loss;
        pairs[run] = found.pairs;
    }
    agree_numbers(loss, 1e-5, "competition");
    agree_numbers(pairs, 0, "pairs");
    agree(gw, 1e-4, "competition's dL/dw");
    if (through || listed)
        agree(gf, 1e-4, "competition's dL/df");
    fences_hold();
}

static void
check_compete(struct shape s)
{
    check_rivalry(s, false, false);
    check_rivalry(s, false, true);
}

static void
check_compete_active(struct shape s)
{
    check_rivalry(s, true, false);
    check_rivalry(s, true, true);
}

static void
check_square_sum(struct shape s)
{
    struct mat g = given(s.k, s.d);
    double sum[RUNS];
    EACH(run) sum[run] = kern->square_sum(g);
    agree_numbers(sum, 1e-6, "square_sum");
}

static void
check_adam(struct shape s)
{
    for (int way = 0; way < 4; way++) { // without and with a first moment, unit rows
        struct mat w = given(s.k, s.d), g = given(s.k, s.d), m0 = given(s.k, s.d);
        struct mat v0 = given(s.k, s.d), out[RUNS], v[RUNS], m[RUNS];
        for (size_t i = 0; i < mat_count(v0); i++)
            v0.at[i] *= v0.at[i];
        struct adam_rates rates = {.lr = 0.01,
                                   .beta1 = way % 2 ? 0.9 : 0,
                                   .beta2 = 0.999,
                                   .eps = 1e-8,
                                   .scale = 0.5,
                                   .correction1 = 1 - pow(0.9, 3),
                                   .correction2 = 1 - pow(0.999, 3)};
        EACH(run)
        {
            out[run] = copy(w);
            v[run] = copy(v0);
            m[run] = copy(m0);
            struct mat none = {0};
            kern->adam(out[run], way % 2 ? m[run] : none, v[run], g, rates, way >= 2);
        }
        agree(out, 1e-5, "adam");
        agree(v, 1e-6, "adam's v");
        agree(m, 1e-6, "adam's m");
        fences_hold();
    }
}

static void
check_unit_rows(struct shape s)
{
    struct mat w = given(s.k, s.d), out[RUNS];
    memset(w.at, 0, s.d * sizeof(float)); // a row of zeros stays one
    EACH(run)
    {
        out[run] = copy(w);
        kern->unit_rows(out[run]);
    }
    agree(out, 1e-6, "unit_rows");
}

// All pairs of sizes: the third is a Latin square's, so each pair of letters meets each pair of
// sizes once.
static const size_t sizes[] = {1, 2, 3, 7, 63, 64, 65, 130};
enum { SIZES = sizeof sizes / sizeof sizes[0] };

static void
at_all_sizes(void **state)
{
    void (*check)(struct shape) = *(void (**)(struct shape)) * state;
    for (size_t i = 0; i < SIZES; i++)
        for (size_t j = 0; j < SIZES; j++) {
            check((struct shape){sizes[i], sizes[(i + j) % SIZES], sizes[j]});
            fences_hold();
        }
}

static void
competition_is_right_across_tiles(void **unused)
{
    (void)unused;
    const size_t across[] = {255, 256, 257, 513};
    for (size_t n = 0; n < 4; n++) {
        check_rivalry((struct shape){33, 5, across[n]}, false, n % 2);
        check_rivalry((struct shape){33, 5, across[n]}, true, n % 2);
    }
}

int
main(void)
{
#define K(result, name, arguments) static void (*const at_##name)(struct shape) = check_##name;
    KERN_LIST(K)
#undef K
    union { // cmocka hands on void *, which cannot hold a function
        const void *in;
        void *out;
    } state[64];
    size_t count = 0;
#define K(result, name, arguments) state[count++].in = &at_##name;
    KERN_LIST(K)
#undef K
    const struct CMUnitTest kernels[] = {
#define K(result, name, arguments) {#name " agrees with ref", at_all_sizes, NULL, NULL, NULL},
        KERN_LIST(K)
#undef K
    };
    struct CMUnitTest tests[64 + 8] = {{0}};
    for (size_t n = 0; n < count; n++) {
        tests[n] = kernels[n];
        tests[n].initial_state = state[n].out;
    }
    const struct CMUnitTest more[] = {
        cmocka_unit_test(competition_is_right_across_tiles),
    };
    memcpy(tests + count, more, sizeof more);
    count += sizeof more / sizeof more[0];
    return _cmocka_run_group_tests("kern", tests, count, NULL, NULL);
}
