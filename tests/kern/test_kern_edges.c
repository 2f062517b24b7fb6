// Kernels where chance does not lead: less scratch, ties, misleading samples, cosines beyond one,
// sizes that overflow; and which device is which.
#include "tests/kern/fenced.h"

static void
nothing_competes_beyond_a_cosine_of_one(void **unused)
{
    (void)unused;
    struct mat f = features(64, 65, 0.5f), w = unit_directions(65, 7);
    struct rivals rivals = {f, w, 1.5f, 1, false};
    EACH(run)
    {
        struct mat gw = fresh(65, 7), gf = fresh(64, 65), none = {0};
        memset(gw.at, 0, mat_count(gw) * sizeof(float));
        struct rivalry found = kern->compete(gw, gf, none, &rivals, scratch(64, 7, 65));
        near(found.loss + found.pairs, 0, 0, "loss beyond 1");
        near(kern->square_sum(gw), 0, 0, "gradient beyond 1");
    }
    fences_hold();
}

static void
competition_in_less_scratch_is_the_same(void **unused)
{
    (void)unused;
    struct mat f = features(40, 600, 0.2f), w = unit_directions(600, 9), gw[2];
    struct rivals rivals = {f, w, 0.3f, 1, false};
    begin(TWO);
    size_t two = kern->scratch_bytes(40, 9, 600);
    begin(ONE);
    size_t one = kern->scratch_bytes(40, 9, 600);
    assert_true(one < two);
    begin(TWO);
    for (int n = 0; n < 2; n++) {
        gw[n] = fresh(600, 9);
        memset(gw[n].at, 0, mat_count(gw[n]) * sizeof(float));
        struct mat gf = fresh(40, 600), none = {0};
        size_t bytes = n ? one : two;
        kern->compete(gw[n], gf, none, &rivals, (struct scratch){floats(bytes / 4), bytes});
    }
    assert_memory_equal(gw[0].at, gw[1].at, mat_count(gw[0]) * sizeof(float));
    fences_hold();
}

// Large enough for the floors that spare most values a second look, and inputs that mislead them.
static void
selections_are_exact_whatever_floor_was_guessed(void **unused)
{
    (void)unused;
    enum { ROWS = 300, COLS = 200, WIDE = 2100 };
    for (int way = 0; way < 4; way++) {
        struct mat z = way == 1 ? coarse(ROWS, COLS) : given(ROWS, COLS), f[RUNS];
        double least[RUNS];
        for (size_t n = 0; n < mat_count(z); n++) {
            bool sampled = n / COLS % 32 == 0;
            if (way == 2) // the sample sees only large values
                z.at[n] = fabsf(z.at[n]) * (sampled ? 1000 : 1);
            if (way == 3) // or next to nothing
                z.at[n] = sampled ? -1 : z.at[n];
        }
        EACH(run)
        {
            f[run] = fresh(ROWS, COLS);
            least[run] = (double)kern->batchtopk(f[run], z, 400, scratch(ROWS, 1, COLS));
        }
        agree(f, 0, "batchtopk");
        agree_numbers(least, 0, "the least value kept");
        fences_hold();
    }
    for (int way = 0; way < 4; way++) {
        struct mat z = way == 1 ? coarse(3, WIDE) : given(3, WIDE), f[RUNS];
        for (size_t n = 0; n < mat_count(z) && way >= 2; n++)
            z.at[n] = way == 2 ? (n % 32 == 5 ? 1 : -1) : n % 200 < 30 ? 1 + z.at[n] : -1;
        EACH(run)
        {
            f[run] = fresh(3, WIDE);
            kern->topk(f[run], z, 30, scratch(3, 1, WIDE));
        }
        agree(f, 0, "topk");
        fences_hold();
    }
}

static void
ties_go_to_the_lower_index(void **unused)
{
    (void)unused;
    EACH(run)
    {
        struct mat z = {(float[]){1, 2, 2, 2, -1, 2}, 1, 6}, f = fresh(1, 6);
        kern->topk(f, z, 2, scratch(1, 1, 6));
        assert_memory_equal(f.at, ((float[]){0, 2, 2, 0, 0, 0}), 6 * sizeof(float));
        struct mat batch = {(float[]){1, 2, 3, 2, 2, 2}, 2, 3}, g = fresh(2, 3);
        float least = kern->batchtopk(g, batch, 3, scratch(2, 1, 3));
        assert_memory_equal(g.at, ((float[]){0, 2, 3, 2, 0, 0}), 6 * sizeof(float));
        near((double)least, 2, 0, "least");
    }
    fences_hold();
}

static void
devices_are_known_or_refused(void **unused)
{
    (void)unused;
    const struct kern *got;
    assert_int_equal(kern_open(&got, "auto", "t"), STATUS_OK);
    assert_ptr_equal(got, &kern_cpu);
    assert_int_equal(kern_open(&got, "ref", "t"), STATUS_OK);
    assert_ptr_equal(got, &kern_ref);
    assert_int_equal(kern_open(&got, "cuda:0", "run.yaml:3"), STATUS_CONFIG);
    assert_string_equal(status_words(),
                        "run.yaml:3: device is 'cuda:0', but this program was built without CUDA");
    assert_int_equal(kern_open(&got, "gpu", "run.yaml:3"), STATUS_CONFIG);
    assert_null(got);
}

static void
sizes_that_do_not_fit_are_noticed(void **unused)
{
    (void)unused;
    size_t bytes;
    assert_false(active_bytes(&bytes, 1, SIZE_MAX, 1));
    assert_false(active_bytes(&bytes, 1u << 20, 1u << 20, SIZE_MAX));
    assert_int_equal(bytes, SIZE_MAX);
    assert_int_equal(kern_ref.scratch_bytes(SIZE_MAX / 2, 1, 8), SIZE_MAX);
    assert_int_equal(kern_cpu.scratch_bytes(1, 1, SIZE_MAX / 4), SIZE_MAX);
    assert_null(kern_take(SIZE_MAX - 5));
    float *at = kern_take(5 << 20);
    assert_non_null(at);
    assert_true((uintptr_t)at % 64 == 0 && at[0] == 0 && at[(5 << 18) - 1] == 0);
    kern_give(at);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_competes_beyond_a_cosine_of_one),
        cmocka_unit_test(competition_in_less_scratch_is_the_same),
        cmocka_unit_test(selections_are_exact_whatever_floor_was_guessed),
        cmocka_unit_test(ties_go_to_the_lower_index),
        cmocka_unit_test(devices_are_known_or_refused),
        cmocka_unit_test(sizes_that_do_not_fit_are_noticed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
