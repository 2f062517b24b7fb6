// A score depends on nothing that must not matter: batches, the order of latents, what is kept in
// memory or on disk, threads, having been stopped; and its specification on all that does.
#include "tests/evaluator/scored.h"

#include <omp.h>

// All but the four of SAEBench's numbers that depend on the batch.
static void
same_but_for_batches(const struct core *a, const struct core *b, double relative)
{
    for (size_t i = 0; i < CORE_COUNT; i++) {
        const char *key = core_rows[i].key;
        if (strcmp(key, "mse") == 0 || strncmp(key, "explained_variance", 18) == 0 ||
            strcmp(key, "relative_reconstruction_bias") == 0)
            continue;
        near_(core_number(a, i), core_number(b, i), relative, key, __FILE__, __LINE__);
    }
    near(a->explained_variance_centered, b->explained_variance_centered, relative);
}

static void
batch_sizes(void **unused)
{
    (void)unused;
    struct weights w;
    random_sae(&w, 3);
    for (int m = 0; m < 2; m++) {
        struct score_plan how = plan();
        struct score *score = score_of(&how, models[m]);
        struct core a = core_of(score, &w);
        score_free(&score);
        how.batch_contexts = 1;
        how.core_batches = B * NR;
        how.variance_batches = B * NV;
        how.model_contexts = 1;
        score = score_of(&how, models[m]);
        struct core b = core_of(score, &w);
        score_free(&score);
        same_but_for_batches(&a, &b, 1e-6);
        assert_true(b.mse > 2 * a.mse);
    }
}

static void
permuted(void **unused)
{
    (void)unused;
    struct weights w, v;
    random_sae(&w, 4);
    v = w;
    for (size_t i = 0; i < K; i++) {
        size_t to = i * 37 % K;
        memcpy(v.w_enc + to * D, w.w_enc + i * D, D * sizeof *w.w_enc);
        memcpy(v.w_dec + to * D, w.w_dec + i * D, D * sizeof *w.w_dec);
        v.b_enc[to] = w.b_enc[i];
    }
    struct score_plan how = plan();
    struct score *score = score_of(&how, models[0]);
    struct core a = core_of(score, &w), b = core_of(score, &v);
    score_free(&score);
    same_but_for_batches(&a, &b, 1e-5);
    near(a.mse, b.mse, 1e-5);
}

// Bit for bit the same: again, with nothing kept, from the cache on disk, from a damaged cache,
// and on another number of threads.
static void
nothing_else_matters(void **unused)
{
    (void)unused;
    struct weights w;
    random_sae(&w, 5);
    struct score_plan how = plan();
    struct score *score = score_of(&how, models[1]);
    struct core first = core_of(score, &w), other;
    struct hash128 spec = score_spec(score);
    other = core_of(score, &w);
    assert_memory_equal(&first, &other, sizeof first);
    size_t kept = score_bytes(score);
    score_free(&score);

    how.keep_most = 0;
    score = score_of(&how, models[1]);
    other = core_of(score, &w);
    assert_memory_equal(&first, &other, sizeof first);
    assert_true(score_bytes(score) < kept);
    score_free(&score);
    how.keep_most = B * NR * C * D * sizeof(float); // room for one part
    score = score_of(&how, models[1]);
    other = core_of(score, &w);
    other = core_of(score, &w);
    assert_memory_equal(&first, &other, sizeof first);
    score_free(&score);

    char cache[PATH_BYTES], path[PATH_BYTES] = "";
    assert_int_equal(path_join(cache, root, "cache"), STATUS_OK);
    how.keep_most = 1 << 24;
    how.cache = cache;
    for (int round = 0; round < 4; round++) {
        score = score_of(&how, models[1]);
        assert_true((score_bytes(score) < kept) == (round == 1 || round == 3)); // mapped
        other = core_of(score, &w);
        assert_memory_equal(&first, &other, sizeof first);
        assert_true(hash128_same(spec, score_spec(score)));
        score_free(&score);
        if (round == 0 || round == 1) {
            char command[PATH_BYTES + 64];
            snprintf(command, sizeof command, "ls %s/baseline-*.safetensors", cache);
            FILE *list = popen(command, "r");
            assert_true(list && fgets(path, sizeof path, list));
            pclose(list);
            path[strcspn(path, "\n")] = 0;
        }
        if (round == 1) { // one bit, in the middle
            char *text;
            size_t bytes;
            assert_int_equal(file_read(&text, &bytes, path, 1 << 24), STATUS_OK);
            text[bytes / 2] ^= 1;
            assert_int_equal(file_replace(path, text, bytes), STATUS_OK);
            free(text);
        }
    }
    how.cache = NULL;
    for (int threads = 1; threads < 3; threads++) {
        omp_set_num_threads(threads);
        score = score_of(&how, models[1]);
        other = core_of(score, &w);
        assert_memory_equal(&first, &other, sizeof first);
        score_free(&score);
    }
    omp_set_num_threads(2);
}

struct counter {
    int calls, stop_at;
    double last;
};

static bool
count_down(void *context, const char *what, double share)
{
    struct counter *counter = context;
    assert_non_null(what);
    assert_true(share >= 0 && share <= 1 + 1e-9);
    counter->last = share;
    return ++counter->calls == counter->stop_at;
}

// Stopped at every place it can be; what was begun spoils nothing.
static void
stops(void **unused)
{
    (void)unused;
    struct weights w;
    random_sae(&w, 6);
    struct saelens sae = sae_of(&w);
    struct score_plan how = plan();
    struct score *fresh = score_of(&how, models[0]), *score = score_of(&how, models[0]);
    struct core want = core_of(fresh, &w);
    score_free(&fresh);
    struct score_result result;
    int stopped = 0;
    for (int at = 1;; at++) {
        struct counter counter = {.stop_at = at};
        const struct score_watch watch = {count_down, &counter};
        enum status status = score_sae(&result, score, &sae, &watch);
        if (status == STATUS_OK) {
            near(counter.last, 1, 1e-9);
            break;
        }
        assert_int_equal(status, STATUS_AGAIN);
        stopped++;
    }
    assert_true(stopped > NR + NV);
    assert_memory_equal(&result.core, &want, sizeof want);
    score_result_release(&result);
    score_free(&score);
    saelens_close(&sae);
}

// Everything that decides the numbers is in the spec, nothing else is.
static void
specs(void **unused)
{
    (void)unused;
    struct score_plan plans[8];
    struct hash128 seen[9];
    for (size_t i = 0; i < 8; i++)
        plans[i] = plan();
    plans[1].core_batches++;
    plans[2].variance_batches--;
    plans[3].batch_contexts++;
    plans[4].exclude_special = false;
    plans[5].specials = 1;
    plans[6].precision = "bf16";
    plans[7].special[1] = 5;
    for (size_t i = 0; i < 9; i++) {
        struct score *score = score_of(&plans[i % 8], models[i == 8]);
        seen[i] = score_spec(score);
        for (size_t j = 0; j < i; j++)
            assert_false(hash128_same(seen[i], seen[j]));
        score_free(&score);
    }
    struct score_plan same = plan();
    same.keep_most = 5;
    same.model_contexts = 1;
    struct score *score = score_of(&same, models[0]);
    assert_true(hash128_same(score_spec(score), seen[0]));
    score_free(&score);
    windows[3]++;
    score = score_of(&same, models[0]);
    windows[3]--;
    assert_false(hash128_same(score_spec(score), seen[0]));
    score_free(&score);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(batch_sizes),
        cmocka_unit_test(permuted),
        cmocka_unit_test(nothing_else_matters),
        cmocka_unit_test(stops),
        cmocka_unit_test(specs),
    };
    return cmocka_run_group_tests(tests, scored_start, scored_finish);
}
