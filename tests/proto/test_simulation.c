// The data plane under every weather: see simulator.h.
//     test_proto_simulation [SEEDS [FIRST]]       300 seeds by default; one seed again: 1 SEED
// also: fault 10000
// also: nightly 1000000
// timeout: 900
//
// Invariants: P1 P2 P3 P5 P6 P7 D5 L1 L5 R4
#include "tests/proto/simulator.h"

#include <inttypes.h>

static uint64_t seeds = 300, first_seed = 1;

static void
every_invariant_holds_for_every_seed(void **unused)
{
    (void)unused;
    struct sim *sim = malloc(sizeof *sim);
    uint64_t events = 0, applied = 0, crashed = 0, multi = 0, shared = 0, spoiled = 0;
    for (uint64_t seed = first_seed; seed < first_seed + seeds; seed++) {
        if (!sim_live(sim, seed, PLANT_NONE))
            fail_msg("seed %" PRIu64 ", at %" PRId64 " ms, event %" PRIu64 ": %s", seed,
                     sim->now - 1000000, sim->events_done, sim->why);
        events += sim->events_done;
        applied += sim->applied_total;
        crashed += sim->crashed;
        shared += sim->shared;
        spoiled += sim->spoiled;
        multi += sim->producers > 1 && sim->trainers > 1;
    }
    print_message("%" PRIu64 " seeds: %" PRIu64 " events, %" PRIu64 " batches applied (%" PRIu64
                  " out of shared memory, %" PRIu64 " replaced while read), %" PRIu64
                  " crashes, %" PRIu64 " farms\n",
                  seeds, events, applied, shared, spoiled, crashed, multi);
    free(sim);
}

static void
a_seed_repeats_itself(void **unused)
{
    (void)unused;
    struct sim *a = malloc(sizeof *a), *b = malloc(sizeof *b);
    for (uint64_t seed = 1; seed <= 10; seed++) {
        assert_true(sim_live(a, seed, PLANT_NONE));
        assert_true(sim_live(b, seed, PLANT_NONE));
        assert_int_equal(a->events_done, b->events_done);
        assert_int_equal(a->draws, b->draws);
        assert_int_equal(a->now, b->now);
    }
    free(a);
    free(b);
}

// The test of the test: each planted fault must be found, and named as what it is.
static void
planted_faults_are_found(void **unused)
{
    (void)unused;
    static const struct {
        enum plant plant;
        const char *names;
    } plants[] = {
        {PLANT_APPLY_TWICE, "P1"}, {PLANT_STALE_BATCH, "P6"},  {PLANT_STALE_CREDIT, "P5"},
        {PLANT_EARLY_DUR, "D5"},   {PLANT_SKIP_HASH, "P3"},    {PLANT_EARLY_REUSE, "P7"},
        {PLANT_SKIP_BATCH, "P1"},  {PLANT_IGNORE_STAMP, "P3"},
    };
    struct sim *sim = malloc(sizeof *sim);
    for (size_t i = 0; i < sizeof plants / sizeof plants[0]; i++) {
        uint64_t seed = 1;
        while (seed <= 400 &&
               (sim_live(sim, seed, plants[i].plant) || strncmp(sim->why, plants[i].names, 2) != 0))
            seed++;
        if (seed > 400)
            fail_msg("planted fault %d (%s) was not found in 400 seeds", (int)plants[i].plant,
                     plants[i].names);
        print_message("planted %d found by seed %" PRIu64 ": %s\n", (int)plants[i].plant, seed,
                      sim->why);
    }
    free(sim);
}

int
main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_invariant_holds_for_every_seed),
        cmocka_unit_test(a_seed_repeats_itself),
        cmocka_unit_test(planted_faults_are_found),
    };
    if (argc > 1)
        seeds = strtoull(argv[1], NULL, 0);
    if (argc > 2)
        first_seed = strtoull(argv[2], NULL, 0);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
