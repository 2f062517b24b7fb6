// A model with biases makes something of a stream of zeros: then ablation is a forward pass. Such a
// model, a two-block Llama with attention biases and random weights, is written here.
#include "evaluator/score.h"
#include "lib/base/file.h"
#include "tests/evaluator/golden.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { D = 16, FFN = 24, VOCAB = 40, KV = 8, LAYERS = 2, C = 6, WINDOWS = 4, K = 4 };

static char root[40];
static uint32_t windows[WINDOWS * C];
static float store[8192];
static size_t used;
static uint64_t state = 11;
static struct tensor_out tensors[64];
static size_t count;
static char names[64][64];

static void
add(const char *name, size_t rank, size_t rows, size_t cols)
{
    size_t n = rows * (rank == 2 ? cols : 1);
    assert_true(used + n <= sizeof store / sizeof store[0] && count < 64);
    for (size_t i = 0; i < n; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        store[used + i] = (float)(state >> 40) / (1 << 24) - 0.5f;
    }
    snprintf(names[count], sizeof names[count], "%s", name);
    tensors[count] = (struct tensor_out){names[count], DTYPE_F32, rank, {rows, cols}, store + used};
    used += n;
    count++;
}

static void
add_block(size_t layer)
{
    static const struct {
        const char *name;
        size_t rank, rows, cols;
    } parts[] = {
        {"input_layernorm.weight", 1, D, 0},   {"post_attention_layernorm.weight", 1, D, 0},
        {"self_attn.q_proj.weight", 2, D, D},  {"self_attn.q_proj.bias", 1, D, 0},
        {"self_attn.k_proj.weight", 2, KV, D}, {"self_attn.k_proj.bias", 1, KV, 0},
        {"self_attn.v_proj.weight", 2, KV, D}, {"self_attn.v_proj.bias", 1, KV, 0},
        {"self_attn.o_proj.weight", 2, D, D},  {"self_attn.o_proj.bias", 1, D, 0},
        {"mlp.gate_proj.weight", 2, FFN, D},   {"mlp.up_proj.weight", 2, FFN, D},
        {"mlp.down_proj.weight", 2, D, FFN},
    };
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        char name[64];
        snprintf(name, sizeof name, "model.layers.%zu.%s", layer, parts[i].name);
        add(name, parts[i].rank, parts[i].rows, parts[i].cols);
    }
}

static int
set_up(void **unused)
{
    (void)unused;
    static const char config[] =
        "{\"model_type\": \"llama\", \"hidden_size\": 16, \"num_hidden_layers\": 2, "
        "\"num_attention_heads\": 2, \"num_key_value_heads\": 1, \"head_dim\": 8, "
        "\"intermediate_size\": 24, \"vocab_size\": 40, \"rms_norm_eps\": 1e-5, "
        "\"rope_theta\": 10000, \"max_position_embeddings\": 64, \"hidden_act\": \"silu\", "
        "\"attention_bias\": true, \"mlp_bias\": false, \"tie_word_embeddings\": true}";
    char path[PATH_BYTES];
    snprintf(root, sizeof root, "/tmp/osae-ablation-XXXXXX");
    if (!mkdtemp(root) || path_join(path, root, "config.json") != STATUS_OK ||
        file_replace(path, config, sizeof config - 1) != STATUS_OK)
        return -1;
    add("model.embed_tokens.weight", 2, VOCAB, D);
    add("model.norm.weight", 1, D, 0);
    for (size_t layer = 0; layer < LAYERS; layer++)
        add_block(layer);
    if (path_join(path, root, "model.safetensors") != STATUS_OK)
        return -1;
    int fd = open(path, O_WRONLY | O_CREAT, 0644);
    if (fd < 0 || safetensors_write(fd, path, tensors, count, NULL, 0, NULL, NULL) != STATUS_OK ||
        close(fd) != 0)
        return -1;
    for (size_t i = 0; i < WINDOWS * C; i++)
        windows[i] = (uint32_t)(i * 7 % VOCAB);
    return 0;
}

static int
tear_down(void **unused)
{
    (void)unused;
    return path_remove(root) == STATUS_OK ? 0 : -1;
}

// Nothing fires, so the reconstruction is zero, at every position: it is the ablation.
static void
silence_is_ablation(void **unused)
{
    (void)unused;
    struct model *model = NULL;
    struct model_settings how = {
        .path = root, .layer = 0, .context = C, .batch_contexts = WINDOWS, .whole = true};
    if (model_new(&model, &how) != STATUS_OK)
        fail_msg("%s", status_words());
    assert_false(model_is_bias_free(model));
    float w[K * D] = {0}, b_enc[K], b_dec[D] = {0};
    for (size_t i = 0; i < K; i++) {
        w[i * D + i] = 1;
        b_enc[i] = -1e6f;
    }
    struct card card = {.arch = ARCH_RELU, .width = D, .latents = K, .context = C};
    struct saelens_source from = {.arch = ARCH_RELU,
                                  .k = K,
                                  .d = D,
                                  .w_enc = w,
                                  .b_enc = b_enc,
                                  .w_dec = w,
                                  .b_dec = b_dec,
                                  .scale = 1};
    char folder[PATH_BYTES];
    struct saelens sae;
    card_hook(&card, 0, true);
    assert_int_equal(path_join(folder, root, "sae"), STATUS_OK);
    assert_int_equal(saelens_write(folder, &card, &from), STATUS_OK);
    assert_int_equal(saelens_open(&sae, folder, 64, &kern_ref), STATUS_OK);
    struct score_plan plan = {.layer = 0,
                              .context = C,
                              .model_contexts = WINDOWS,
                              .precision = "f32",
                              .batch_contexts = WINDOWS / 2,
                              .core_batches = 1,
                              .variance_batches = 1,
                              .keep_most = 1 << 20};
    struct score *score = NULL;
    struct score_result result;
    assert_int_equal(score_new(&score, &plan, model, windows, WINDOWS), STATUS_OK);
    assert_int_equal(score_sae(&result, score, &sae, NULL), STATUS_OK);
    assert_true(fabs(result.core.ce_loss_with_ablation - log(VOCAB)) > 1e-3);
    near(result.core.ce_loss_with_sae, result.core.ce_loss_with_ablation, 1e-6);
    near(result.core.kl_div_with_sae, result.core.kl_div_with_ablation, 1e-6);
    assert_true(fabs(result.core.ce_loss_score) < 1e-5 && fabs(result.core.kl_div_score) < 1e-5);
    score_result_release(&result);
    score_free(&score);
    saelens_close(&sae);
    model_free(&model);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(silence_is_ablation)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
