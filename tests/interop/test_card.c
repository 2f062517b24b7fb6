// cfg.json: there and back, the keys SAELens asks for, the version trap, old flat files, refusals.
#include "lib/interop/card.h"

#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct card
sample(enum arch arch)
{
    struct card card = {
        .arch = arch,
        .width = 2304,
        .latents = 16384,
        .topk = arch == ARCH_TOPK || arch == ARCH_BATCHTOPK ? 40 : 0,
        .model_name = "gemma-2-2b",
        .dataset_path = "monology/pile-uncopyrighted",
        .context = 128,
        .prepend_bos = true,
        .version = "0.1.0",
        .run = "paper",
        .stream = "00112233445566778899aabbccddeeff",
        .config = "ffeeddccbbaa99887766554433221100",
        .step = 2441,
        .tokens = 4999168,
        .lambda_s = 0.04,
        .lambda_o = 0.01,
        .lambda_t = 0.001,
    };
    card_hook(&card, 12, true);
    memcpy(card.architecture, "orthogonal", sizeof "orthogonal");
    return card;
}

static void
there_and_back(void **unused)
{
    (void)unused;
    for (int arch = ARCH_RELU; arch <= ARCH_JUMPRELU; arch++) {
        struct card card = sample((enum arch)arch), got;
        card.threshold = arch == ARCH_BATCHTOPK ? 0.1 : 0;
        card.apply_b_dec_to_input = arch == ARCH_TOPK;
        char *text;
        assert_int_equal(card_write(&text, &card), STATUS_OK);
        assert_int_equal(card_read(&got, text, strlen(text), "cfg.json"), STATUS_OK);
        free(text);
        assert_int_equal(got.arch, arch == ARCH_BATCHTOPK ? ARCH_JUMPRELU : arch);
        assert_true(got.width == 2304 && got.latents == 16384 && got.topk == card.topk);
        assert_true(got.apply_b_dec_to_input == card.apply_b_dec_to_input);
        assert_true(got.layer == 12 && got.context == 128 && got.prepend_bos && got.ours);
        assert_true(got.step == 2441 && got.tokens == 4999168 && !got.normalised);
        assert_true(got.lambda_s == 0.04 && got.lambda_o == 0.01 && got.lambda_t == 0.001);
        assert_true(got.threshold == card.threshold && !got.rescale_by_decoder);
        assert_string_equal(got.architecture, "orthogonal");
        assert_string_equal(got.model_name, card.model_name);
        assert_string_equal(got.model_class_name, "HookedTransformer");
        assert_string_equal(got.hook_name, "blocks.12.hook_resid_post");
        assert_string_equal(got.dataset_path, card.dataset_path);
        assert_string_equal(got.run, card.run);
        assert_string_equal(got.stream, card.stream);
        assert_string_equal(got.config, card.config);
        assert_string_equal(got.version, card.version);
    }
}

// What SAELens 6 needs to load the folder and keep its metadata.
static void
saelens_keys(void **unused)
{
    (void)unused;
    struct card card = sample(ARCH_TOPK);
    char *text;
    assert_int_equal(card_write(&text, &card), STATUS_OK);
    json_t *whole = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
    free(text);
    static const char *const strings[][2] = {{"dtype", "float32"},
                                             {"device", "cpu"},
                                             {"normalize_activations", "none"},
                                             {"reshape_activations", "none"},
                                             {"architecture", "topk"}};
    for (size_t i = 0; i < sizeof strings / sizeof strings[0]; i++)
        assert_string_equal(json_string_value(json_object_get(whole, strings[i][0])),
                            strings[i][1]);
    assert_int_equal(json_integer_value(json_object_get(whole, "d_in")), 2304);
    assert_int_equal(json_integer_value(json_object_get(whole, "d_sae")), 16384);
    assert_int_equal(json_integer_value(json_object_get(whole, "k")), 40);
    assert_true(json_is_false(json_object_get(whole, "rescale_acts_by_decoder_norm")));
    assert_true(json_is_false(json_object_get(whole, "apply_b_dec_to_input")));
    const json_t *metadata = json_object_get(whole, "metadata");
    assert_string_equal(json_string_value(json_object_get(metadata, "sae_lens_version")), "6.0.0");
    assert_true(json_is_null(json_object_get(metadata, "hook_head_index")));
    assert_int_equal(json_object_size(json_object_get(metadata, "model_from_pretrained_kwargs")),
                     0);
    assert_true(json_is_null(json_array_get(json_object_get(metadata, "seqpos_slice"), 0)));
    json_decref(whole);
    card.model_name[0] = '\xff';
    assert_int_equal(card_write(&text, &card), STATUS_CREATE);
}

static enum status
read_text(struct card *card, const char *text)
{
    return card_read(card, text, strlen(text), "x/cfg.json");
}

static void
old_flat_files(void **unused)
{
    (void)unused;
    struct card card;
    assert_int_equal(
        read_text(&card, "{\"d_in\": 8, \"d_sae\": 32, \"dtype\": \"torch.float32\", "
                         "\"hook_point\": \"blocks.5.hook_resid_pre\", \"model_name\": \"gpt2\","
                         "\"normalize_activations\": null, \"activation_fn_str\": \"relu\"}"),
        STATUS_OK);
    assert_true(card.arch == ARCH_RELU && card.apply_b_dec_to_input && card.prepend_bos);
    assert_true(card.layer == 4 && !card.ours && card.context == 0 && !card.normalised);
    assert_string_equal(card.hook_name, "blocks.5.hook_resid_pre");
    assert_int_equal(
        read_text(&card, "{\"d_in\": 8, \"d_sae\": 32, \"normalize_activations\": true, "
                         "\"activation_fn\": \"topk\", \"activation_fn_kwargs\": {\"k\": 7}}"),
        STATUS_OK);
    assert_true(card.arch == ARCH_TOPK && card.topk == 7 && card.normalised && card.layer == -1);
    // SAELens drops the metadata of a file without a version; we do not
    assert_int_equal(read_text(&card,
                               "{\"d_in\": 8, \"d_sae\": 32, \"architecture\": \"jumprelu\", "
                               "\"metadata\": {\"hook_name\": \"model.layers.3\"}}"),
                     STATUS_OK);
    assert_true(card.arch == ARCH_JUMPRELU && card.layer == 3);
}

#define NEW(rest)                                                                                  \
    "{\"d_in\": 8, \"d_sae\": 32, \"dtype\": \"float32\", " rest                                   \
    "\"metadata\": {\"sae_lens_version\": \"6.54.12\"}}"

static void
hostile(void **unused)
{
    (void)unused;
    static const struct {
        const char *text, *says;
        enum status status;
    } cases[] = {
        {"", "not JSON", STATUS_DAMAGED},
        {"[1]", "object", STATUS_DAMAGED},
        {"{}", "d_in is missing", STATUS_DAMAGED},
        {"{\"d_in\": 8, \"d_in\": 8}", "uplicate", STATUS_DAMAGED},
        {"{\"d_in\": 0}", "d_in is 0", STATUS_DAMAGED},
        {"{\"d_in\": -4}", "d_in is -4", STATUS_DAMAGED},
        {"{\"d_in\": 8.5}", "no integer", STATUS_DAMAGED},
        {"{\"d_in\": 99999999999}", "d_in", STATUS_DAMAGED},
        {"{\"d_in\": 8, \"d_sae\": NaN}", "not JSON", STATUS_DAMAGED},
        {NEW(""), "architecture is missing", STATUS_DAMAGED},
        {NEW("\"architecture\": \"gated\","), "'gated'", STATUS_CONFIG},
        {NEW("\"architecture\": \"orthogonal\","), "'orthogonal'", STATUS_CONFIG},
        {NEW("\"architecture\": 3,"), "architecture is no text", STATUS_DAMAGED},
        {NEW("\"architecture\": \"topk\","), "k is missing", STATUS_DAMAGED},
        {NEW("\"architecture\": \"topk\", \"k\": 33,"), "k is 33", STATUS_DAMAGED},
        {NEW("\"architecture\": \"topk\", \"k\": 3, \"rescale_acts_by_decoder_norm\": 1,"),
         "rescale_acts_by_decoder_norm", STATUS_DAMAGED},
        {NEW("\"architecture\": \"standard\", \"normalize_activations\": \"layer_norm\","),
         "'layer_norm'", STATUS_CONFIG},
        {NEW("\"architecture\": \"standard\", \"normalize_activations\": null,"), "no text",
         STATUS_DAMAGED},
        {NEW("\"architecture\": \"standard\", \"reshape_activations\": \"hook_z\","), "'hook_z'",
         STATUS_CONFIG},
        {NEW("\"architecture\": \"standard\", \"apply_b_dec_to_input\": \"yes\","), "no boolean",
         STATUS_DAMAGED},
        {"{\"d_in\": 8, \"d_sae\": 32, \"dtype\": \"F32\"}", "'F32'", STATUS_DAMAGED},
        {"{\"d_in\": 8, \"d_sae\": 32, \"architecture\": \"standard\", \"metadata\": "
         "{\"sae_lens_version\": \"6.0.0\"}}",
         "dtype is missing", STATUS_DAMAGED},
        {"{\"d_in\": 8, \"d_sae\": 32, \"activation_fn\": \"tanh-relu\"}", "'tanh-relu'",
         STATUS_CONFIG},
        {"{\"d_in\": 8, \"d_sae\": 32, \"metadata\": {\"context_size\": 0}}", "context_size is 0",
         STATUS_DAMAGED},
    };
    struct card card;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        enum status status = read_text(&card, cases[i].text);
        if (status != cases[i].status || !strstr(status_words(), cases[i].says) ||
            !strstr(status_words(), "x/cfg.json"))
            fail_msg("%s: %s: %s", cases[i].text, status_name(status), status_words());
    }
    struct card good = sample(ARCH_TOPK);
    char *text;
    assert_int_equal(card_write(&text, &good), STATUS_OK);
    for (size_t cut = 0; cut + 2 < strlen(text); cut++)
        assert_int_equal(card_read(&card, text, cut, "cfg.json"), STATUS_DAMAGED);
    free(text);
}

static void
hooks(void **unused)
{
    (void)unused;
    static const struct {
        const char *hook;
        int64_t layer;
    } cases[] = {
        {"blocks.0.hook_resid_post", 0},
        {"blocks.31.hook_resid_post", 31},
        {"blocks.0.hook_resid_pre", -1},
        {"blocks.7.hook_resid_pre", 6},
        {"blocks.7.hook_mlp_out", -1},
        {"blocks.-1.hook_resid_post", -1},
        {"blocks..hook_resid_post", -1},
        {"blocks.7.hook_resid_post.x", -1},
        {"blocks. 7.hook_resid_post", -1},
        {"model.layers.12", 12},
        {"model.layers.12.mlp", -1},
        {"blocks.99999999999999999999.hook_resid_post", -1},
        {"", -1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char text[256];
        snprintf(text, sizeof text, "{\"d_in\": 8, \"d_sae\": 32, \"hook_name\": \"%s\"}",
                 cases[i].hook);
        struct card card;
        assert_int_equal(read_text(&card, text), STATUS_OK);
        assert_int_equal(card.layer, cases[i].layer);
    }
    struct card card = {0};
    card_hook(&card, 9, false);
    assert_string_equal(card.hook_name, "model.layers.9");
    assert_string_equal(card.model_class_name, "AutoModelForCausalLM");
    assert_string_equal(card_true_name(ARCH_RELU, 0.01), "orthogonal");
    assert_string_equal(card_true_name(ARCH_RELU, 0), "standard");
    assert_string_equal(card_true_name(ARCH_TOPK, 1), "topk-orthogonal");
    assert_string_equal(card_true_name(ARCH_BATCHTOPK, 0), "batchtopk");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(there_and_back), cmocka_unit_test(saelens_keys),
        cmocka_unit_test(old_flat_files), cmocka_unit_test(hostile),
        cmocka_unit_test(hooks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
