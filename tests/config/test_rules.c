// What must hold between settings: each rule broken once, and the advice.
#include "config/rules.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

// Each argument list is "key=value" texts, as --set takes them.
static struct config *
with(const char *const *sets)
{
    struct config *config = NULL;
    assert_int_equal(config_new(&config), STATUS_OK);
    for (; *sets; sets++)
        assert_int_equal(config_flag(config, *sets), STATUS_OK);
    return config;
}

static void
the_defaults_break_no_rule_and_need_no_advice(void **unused)
{
    (void)unused;
    static const char *const none[] = {NULL};
    struct config *config = with(none);
    struct texts *advice = calloc(1, sizeof *advice);
    assert_int_equal(rules_check(config), STATUS_OK);
    rules_advise(config, advice);
    assert_int_equal(advice->count, 0);
    free(advice);
    config_free(&config);
}

static void
each_rule_names_the_value_at_fault(void **unused)
{
    (void)unused;
    static const struct {
        const char *sets[5];
        const char *words;
    } wrong[] = {
        {{"run.name=a/b"},
         "--set: run.name is 'a/b', wanted letters, digits, '.', '_', '-', and no '.' in front"},
        {{"run.name=..", NULL},
         "--set: run.name is '..', wanted letters, digits, '.', '_', '-', and no '.' in front"},
        {{"pace.group="},
         "--set: pace.group is '', wanted letters, digits, '.', '_', '-', and no '.' in front"},
        {{"text.field="}, "--set: text.field is '', wanted the key of the text in a JSON line"},
        {{"storage.runs="}, "--set: storage.runs is '', wanted a folder (. for this one)"},
        {{"model.bos=eos"}, "--set: model.bos is 'eos', wanted auto, none or a token's id"},
        {{"model.separator=x"},
         "--set: model.separator is 'x', wanted bos, eos, none or a token's id"},
        {{"stream.rows=65536", "stream.shuffle_block=65536"},
         "--set: stream.shuffle_block is '65536', wanted at most 16384: a block of 4294967296 rows "
         "is more than 2^30"},
        {{"stream.shuffle=contexts", "stream.rows=126"},
         "--set: stream.rows is '126', wanted at least 127, the rows of one context, when "
         "stream.shuffle is contexts"},
        {{"temporal.pairing=position"},
         "--set: temporal.pairing is 'position', wanted step, or stream.shuffle: contexts "
         "(shuffled "
         "rows have lost the position before them)"},
        {{"producer.shard=1"},
         "--set: producer.shard is '1', wanted less than producer.shards, which is 1"},
        {{"pace.lag=17"}, "--set: pace.lag is '17', wanted at most stream.ring_slots, which is 16"},
        {{"sae.arch=topk", "sae.topk=41", "sae.latents=40"},
         "--set: sae.topk is '41', wanted at most sae.latents, which is 40"},
        {{"sae.arch=batchtopk", "sae.latents=39"},
         "default: sae.topk is '40', wanted at most sae.latents, which is 39"},
        {{"sae.arch=topk", "loss.sparsity=l0"},
         "--set: loss.sparsity is 'l0', wanted auto, or sae.arch jumprelu instead of topk"},
        {{"loss.sparsity=tanh", "sae.unit_norm=off"},
         "--set: loss.sparsity is 'tanh', wanted another form, or sae.unit_norm both or decoder"},
        {{"trainer.device=gpu"}, "--set: trainer.device is 'gpu', wanted auto, ref, cpu or cuda:N"},
        {{"producer.device=cuda:"},
         "--set: producer.device is 'cuda:', wanted auto, ref, cpu or cuda:N"},
        {{"producer.device=ref"},
         "--set: producer.device is 'ref', wanted auto, cpu or cuda:N: no slow twin of the model"},
        {{"loss.sparsity=l0"},
         "--set: loss.sparsity is 'l0', wanted auto, or sae.arch jumprelu instead of relu"},
        {{"loss.sparsity=target_l0"},
         "--set: loss.sparsity is 'target_l0', wanted auto, or sae.arch jumprelu instead of relu"},
        {{"sae.arch=jumprelu", "loss.sparsity=target_l0", "loss.target_l0=20000"},
         "--set: loss.target_l0 is '20000', wanted at most sae.latents, which is 16384"},
        {{"curriculum.recon_end=2001"},
         "--set: curriculum.recon_end is '2001', wanted at most curriculum.sparsity_end, which "
         "is "
         "2000 (default)"},
        {{"curriculum.sparsity_end=1199"},
         "--set: curriculum.sparsity_end is '1199', wanted at least curriculum.recon_end, which "
         "is "
         "1200 (default)"},
        {{"curriculum.theta_end=0.8"},
         "--set: curriculum.theta_end is '0.8', wanted at most curriculum.theta_start, which is "
         "0.7 "
         "(default)"},
        {{"curriculum.theta_start=0.2"},
         "--set: curriculum.theta_start is '0.2', wanted at least curriculum.theta_end, which is "
         "0.3 (default)"},
        {{"optimiser.warmup=2000", "optimiser.decay=442"},
         "--set: optimiser.decay is '442', wanted warm-up and decay within trainer.steps, which is "
         "2441"},
        {{"optimiser.warmup=2442"},
         "--set: optimiser.warmup is '2442', wanted warm-up and decay within trainer.steps, which "
         "is "
         "2441"},
        {{"net.hb_ms=5001"},
         "default: net.lease_ms is '15000', wanted at least three times net.hb_ms, which is 5001"},
        {{"producer.data=tcp://127.0.0.1:5560", "trainer.ctl=tcp://127.0.0.1:5560"},
         "--set: trainer.ctl is 'tcp://127.0.0.1:5560', wanted an endpoint of its own: "
         "producer.data is the same"},
        {{"producer.data=tcp://127.0.0.1:5560", "security.plain_loopback=false"},
         "--set: producer.data is 'tcp://127.0.0.1:5560', wanted ipc: security.plain_loopback is "
         "false"},
        {{"evaluator.trainers=[tcp://127.0.0.1:1, tcp://10.0.0.1:2]"},
         "--set: evaluator.trainers is 'tcp://10.0.0.1:2', wanted tcp://127.0.0.1:PORT or "
         "tcp://[::1]:PORT: this version has no encryption and stays on this host"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        struct config *config = with(wrong[i].sets);
        enum status status = rules_check(config);
        if (status != STATUS_CONFIG)
            print_error("not refused: %s\n", wrong[i].words);
        assert_int_equal(status, STATUS_CONFIG);
        assert_string_equal(status_words(), wrong[i].words);
        config_free(&config);
    }
}

static void
what_is_on_the_right_side_of_each_border_passes(void **unused)
{
    (void)unused;
    static const char *const right[][6] = {
        {"run.name=a.B_c-9"},
        {"model.bos=0", "model.separator=none"},
        {"model.bos=none", "model.separator=2"},
        {"stream.rows=65536", "stream.shuffle_block=16384"},
        {"stream.shuffle=contexts", "stream.rows=127", "temporal.pairing=position"},
        {"stream.shuffle=contexts", "stream.rows=128", "stream.drop_first=false"},
        {"producer.shard=1", "producer.shards=2"},
        {"pace.lag=16"},
        {"pace.mode=lockstep", "stream.ring_slots=2"},
        {"sae.arch=topk", "sae.topk=40", "sae.latents=40"},
        {"sae.topk=40", "sae.latents=39"}, // relu reads no topk
        {"sae.arch=jumprelu", "loss.sparsity=target_l0", "sae.latents=40"},
        {"loss.sparsity=tanh", "sae.unit_norm=decoder"},
        {"sae.arch=topk", "loss.sparsity=l1"},
        {"evaluator.device=cuda:0", "trainer.device=ref"},
        {"curriculum.recon_end=2000"},
        {"curriculum.enabled=false", "curriculum.recon_end=2001"},
        {"curriculum.theta_end=0.7"},
        {"optimiser.warmup=2000", "optimiser.decay=441"},
        {"net.hb_ms=5000"},
        {"producer.data=tcp://127.0.0.1:5560", "trainer.ctl=tcp://[::1]:5560"},
    };
    for (size_t i = 0; i < sizeof right / sizeof right[0]; i++) {
        struct config *config = with(right[i]);
        if (rules_check(config) != STATUS_OK)
            fail_msg("%s", status_words());
        config_free(&config);
    }
}

static void
advice_is_given_for_what_is_hardly_meant(void **unused)
{
    (void)unused;
    static const struct {
        const char *sets[4];
        const char *words;
    } odd[] = {
        {{"trainer.steps=1200"},
         "--set: the run ends after 1200 steps, before the sparsity term begins "
         "(curriculum.recon_end is 1200)"},
        {{"trainer.steps=2000"},
         "--set: the run ends after 2000 steps, before the competition and temporal terms begin "
         "(curriculum.sparsity_end is 2000)"},
        {{"trainer.steps=1000", "sae.arch=topk"},
         "--set: the run ends after 1000 steps, before the competition and temporal terms begin "
         "(curriculum.sparsity_end is 2000)"},
        {{"ckpt.every_s=0"}, "--set: no checkpoint before the end of the run"},
        {{"sae.topk=64", "sae.bandwidth=0.001"}, // a value that is the default is not worth a word
         "--set: sae.topk has no effect: sae.arch is neither topk nor batchtopk"},
        {{"sae.bandwidth=1"}, "--set: sae.bandwidth has no effect: sae.arch is not jumprelu"},
        {{"sae.topk=64"}, "--set: sae.topk has no effect: sae.arch is neither topk nor batchtopk"},
        {{"sae.arch=topk", "loss.lambda_s=1"},
         "--set: loss.lambda_s has no effect: topk and batchtopk have no sparsity term"},
        {{"loss.target_l0=64"},
         "--set: loss.target_l0 has no effect: loss.sparsity is not target_l0"},
    };
    static const char *const fine[][5] = {
        {"trainer.steps=1201", "loss.lambda_o=0", "loss.lambda_t=0"},
        {"trainer.steps=10", "curriculum.enabled=false"},
        {"trainer.steps=10", "sae.arch=topk", "loss.lambda_o=0", "loss.lambda_t=0"},
        {"sae.arch=topk", "loss.lambda_s=0", "sae.topk=3"},
        {"sae.arch=topk", "loss.lambda_s=1", "loss.sparsity=l1"},
        {"ckpt.every_s=0", "ckpt.every_steps=100"},
    };
    struct texts *advice = calloc(1, sizeof *advice);
    for (size_t i = 0; i < sizeof odd / sizeof odd[0]; i++) {
        struct config *config = with(odd[i].sets);
        assert_int_equal(rules_check(config), STATUS_OK);
        rules_advise(config, advice);
        assert_int_equal(advice->count, 1);
        assert_string_equal(advice->at[0], odd[i].words);
        config_free(&config);
    }
    for (size_t i = 0; i < sizeof fine / sizeof fine[0]; i++) {
        struct config *config = with(fine[i]);
        rules_advise(config, advice);
        if (advice->count)
            fail_msg("%s", advice->at[0]);
        config_free(&config);
    }
    free(advice);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_defaults_break_no_rule_and_need_no_advice),
        cmocka_unit_test(each_rule_names_the_value_at_fault),
        cmocka_unit_test(what_is_on_the_right_side_of_each_border_passes),
        cmocka_unit_test(advice_is_given_for_what_is_hardly_meant),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
