// Resume at every step: a run of 60 steps is taken up again from each of its 61 states, through the
// real checkpoint code, and ends with the same bits; with one thread and with two, which agree.
//
// label: fault
// Invariants: D1 D3 P1 P2
//
// What is compared at the end of each: the files of the last checkpoint, byte for byte (weights,
// moments, counters, chain), and on the way the numbers of every step's log. The run crosses all
// three phases of the curriculum. The processes are resumed at every step in test_resume.sh.
#include "lib/kern/gemm.h"
#include "lib/kern/kern.h"
#include "proto/share.h"
#include "tests/sae/small.h"
#include "tests/store/scratch.h"
#include "trainer/keeper.h"

enum { STEPS = 60 };

struct life { // of one process
    struct runfolder *run;
    struct train *train;
    struct keeper *keeper;
    struct place place;
};

static struct hash128 stream = {11, 12};
static struct step_log undisturbed[STEPS];
static struct recipe recipe;

static const struct {
    const char *name;
    int arch, threshold, normalize, pairing;
    double lambda_o, beta1;
    bool pre_bias;
} kinds[] = {
    {"relu", ARCH_RELU, THRESHOLD_VALUE, NORMALIZE_NONE, PAIRING_STEP, 0.01, 0, false},
    {"relu by position", ARCH_RELU, THRESHOLD_VALUE, NORMALIZE_MEAN_NORM_SQRT_D, PAIRING_POSITION,
     0.01, 0.9, true},
    {"topk", ARCH_TOPK, THRESHOLD_VALUE, NORMALIZE_MEAN_NORM_SQRT_D, PAIRING_STEP, 0.01, 0.9, true},
    {"batchtopk", ARCH_BATCHTOPK, THRESHOLD_VALUE, NORMALIZE_MEAN_NORM_SQRT_D, PAIRING_STEP, 0.01,
     0, false},
    {"jumprelu", ARCH_JUMPRELU, THRESHOLD_LOG, NORMALIZE_NONE, PAIRING_STEP, 0.01, 0.9, false},
};

static void
begin(struct life *life, const char *folder, struct checkpoint_found *found)
{
    struct runfolder_opener opener = {"resume", "test", "0", "test", false};
    const struct kern *kern;
    memset(life, 0, sizeof *life);
    needs(kern_open(&kern, "cpu", "test"));
    needs(runfolder_open(&life->run, folder, &opener));
    needs(checkpoint_recover(found, life->run, false));
    needs(train_new(&life->train, &recipe, kern));
    struct keeper_settings set = {.trajectory = {3, 4},
                                  .card = {.arch = (enum arch)recipe.sae.arch,
                                           .width = recipe.width,
                                           .latents = recipe.sae.latents,
                                           .topk = recipe.sae.topk,
                                           .ours = true},
                                  .policy = {.keep_last = 100}};
    snprintf(set.card.model_name, sizeof set.card.model_name, "tiny");
    card_hook(&set.card, 1, false);
    needs(keeper_new(&life->keeper, &set, life->run, life->train));
    life->place = (struct place){.stream = stream, .chain = stream};
    if (found->found)
        needs(keeper_restore(life->keeper, found, &life->place));
}

static void
end(struct life *life)
{
    keeper_free(&life->keeper);
    train_free(&life->train);
    runfolder_close(&life->run);
}

static void
save(struct life *life)
{
    struct kept kept;
    keeper_snapshot(life->keeper, &life->place);
    needs(keeper_persist(life->keeper, &kept));
}

static void
step(struct life *life, struct step_log *log)
{
    uint64_t seq = life->place.next;
    *log = small_step(life->train);
    life->place.last_hash = hash64(&seq, sizeof seq);
    life->place.chain = chain_extend(life->place.chain, seq, life->place.last_hash);
    life->place.next++;
}

static bool
same_log(const struct step_log *a, const struct step_log *b)
{
    return memcmp(a, b, offsetof(struct step_log, competing)) == 0 &&
           a->competing == b->competing && a->listed == b->listed &&
           a->rivals_listed == b->rivals_listed;
}

// The files of two checkpoints are the same bytes. Manifests name who wrote them: left out.
static void
same_files(const char *a, const char *b, const char *who)
{
    static const char *const names[] = {"cfg.json", "sae_weights.safetensors",
                                        "train_state.safetensors"};
    for (size_t i = 0; i < 3; i++) {
        char path[PATH_BYTES];
        size_t bytes_a, bytes_b;
        needs(path_join(path, a, names[i]));
        char *at_a = file_get(path, &bytes_a);
        needs(path_join(path, b, names[i]));
        char *at_b = file_get(path, &bytes_b);
        if (bytes_a != bytes_b || memcmp(at_a, at_b, bytes_a) != 0)
            fail_msg("%s: %s and %s differ in %s", who, a, b, names[i]);
        free(at_a);
        free(at_b);
    }
}

static const char *
step_folder(const char *name, int at)
{
    char tail[PATH_BYTES / 2];
    snprintf(tail, sizeof tail, "%.100s/checkpoints/step-%012d", name, at);
    return scratch_path(tail);
}

// The run that never stops, and a checkpoint after each of its steps.
static void
run_undisturbed(const char *name)
{
    struct life life;
    struct checkpoint_found found;
    begin(&life, scratch_path(name), &found);
    assert_false(found.found);
    save(&life);
    for (int i = 0; i < STEPS; i++) {
        step(&life, &undisturbed[i]);
        save(&life);
    }
    end(&life);
}

// A run folder that holds nothing but the checkpoint of step `at`, as retention leaves it behind.
static void
resume_at(const char *kind, int at, const char *from)
{
    assert_int_equal(path_remove(scratch_path("resumed")), STATUS_OK);
    needs(path_make(scratch_path("resumed/checkpoints"), 0700));
    const char *old = step_folder(from, at), *new = step_folder("resumed", at);
    assert_int_equal(rename(old, new), 0);
    struct life life;
    struct checkpoint_found found;
    begin(&life, scratch_path("resumed"), &found);
    assert_true(found.found && found.facts.step == (uint64_t)at);
    assert_int_equal(life.place.next, at);
    for (int i = at; i < STEPS; i++) {
        struct step_log log;
        step(&life, &log);
        if (!same_log(&log, &undisturbed[i]))
            fail_msg("%s, resumed at step %d: the numbers of step %d differ (loss %.17g, %.17g)",
                     kind, at, i, log.loss, undisturbed[i].loss);
    }
    if (at < STEPS)
        save(&life);
    end(&life);
    assert_int_equal(rename(step_folder("resumed", at), step_folder(from, at)), 0);
    if (at < STEPS)
        same_files(step_folder(from, STEPS), step_folder("resumed", STEPS), kind);
}

static void
every_step_is_a_place_to_resume(void **unused)
{
    (void)unused;
    for (size_t k = 0; k < sizeof kinds / sizeof kinds[0]; k++) {
        recipe = small_recipe();
        recipe.steps = STEPS;
        recipe.sae.arch = kinds[k].arch;
        recipe.sae.threshold = kinds[k].threshold;
        recipe.sae.normalize = kinds[k].normalize;
        recipe.sae.pre_bias = kinds[k].pre_bias;
        recipe.loss.lambda_o = kinds[k].lambda_o;
        recipe.temporal.pairing = kinds[k].pairing;
        recipe.optimiser.beta1 = kinds[k].beta1;
        recipe.curriculum.recon_end = 12;
        recipe.curriculum.sparsity_end = 30;
        recipe.curriculum.theta_steps = 20;
        for (size_t threads = 1; threads <= 2; threads++) {
            char name[32];
            snprintf(name, sizeof name, "%zu-%zu", k, threads);
            gemm_threads(threads);
            run_undisturbed(name);
            gemm_threads(3 - threads); // what one began, two finish, and the other way round
            for (int at = 0; at <= STEPS; at++)
                resume_at(kinds[k].name, at, name);
        }
        char one[32], two[32];
        snprintf(one, sizeof one, "%zu-1", k);
        snprintf(two, sizeof two, "%zu-2", k);
        for (int at = 0; at <= STEPS; at++)
            same_files(step_folder(one, at), step_folder(two, at), kinds[k].name);
        assert_true(undisturbed[STEPS - 1].temporal > 0 && undisturbed[STEPS - 1].competing);
    }
}

// The test of the test: a state that comes back incomplete is seen.
static void
a_forgotten_moment_is_found(void **unused)
{
    (void)unused;
    static const char *const forgotten[] = {"adam.v.W_enc", "adam.v.b_dec", "f_prev", "silence"};
    recipe = small_recipe();
    recipe.steps = STEPS;
    recipe.sae.arch = ARCH_TOPK; // some latents sleep
    run_undisturbed("whole");
    for (size_t f = 0; f < sizeof forgotten / sizeof forgotten[0]; f++) {
        struct life life;
        struct checkpoint_found found;
        bool seen = false, is_there = false;
        needs(path_make(scratch_path("partial/checkpoints"), 0700));
        assert_int_equal(rename(step_folder("whole", 20), step_folder("partial", 20)), 0);
        begin(&life, scratch_path("partial"), &found);
        struct state_tensor list[STATE_TENSORS];
        size_t count = train_rest(life.train, list);
        for (size_t i = 0; i < count; i++)
            if (strcmp(list[i].name, forgotten[f]) == 0) {
                is_there = true;
                memset(list[i].at, 0, state_bytes(&list[i]));
            }
        assert_true(is_there);
        for (int i = 20; i < STEPS; i++) {
            struct step_log log;
            step(&life, &log);
            seen = seen || !same_log(&log, &undisturbed[i]);
        }
        save(&life);
        end(&life);
        size_t bytes;
        char *a = file_get(scratch_path("whole/checkpoints/step-000000000060/"
                                        "train_state.safetensors"),
                           &bytes);
        char *b = file_get(scratch_path("partial/checkpoints/step-000000000060/"
                                        "train_state.safetensors"),
                           &bytes);
        seen = seen || memcmp(a, b, bytes) != 0;
        free(a);
        free(b);
        if (!seen)
            fail_msg("nobody noticed that %s was lost", forgotten[f]);
        assert_int_equal(rename(step_folder("partial", 20), step_folder("whole", 20)), 0);
        assert_int_equal(path_remove(scratch_path("partial")), STATUS_OK);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_step_is_a_place_to_resume),
        cmocka_unit_test(a_forgotten_moment_is_found),
    };
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
