// A model's files: what is accepted, what is refused and in which words, and the hash.
#include "lib/base/file.h"
#include "lib/lm/weights.h"
#include "lib/store/safetensors.h"
#include "tests/store/scratch.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <unistd.h>

#include <cmocka.h>

#define GOLDEN OSAE_TESTS "/golden/"

static void
path_of(char out[PATH_BYTES], const char *folder, const char *name)
{
    assert_int_equal(path_join(out, folder, name), STATUS_OK);
}

// A folder in scratch with links to all files of a golden model, but `without`.
static const char *
folder_like(const char *golden, const char *without)
{
    static const char *const files[] = {
        "config.json", "model.safetensors", "model.safetensors.index.json",
        "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"};
    static char folder[PATH_BYTES];
    char from[PATH_BYTES], to[PATH_BYTES];
    path_of(folder, scratch, "model");
    assert_int_equal(path_remove(folder), STATUS_OK);
    assert_int_equal(path_make(folder, 0700), STATUS_OK);
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        path_of(from, golden, files[i]);
        path_of(to, folder, files[i]);
        if (path_exists(from) && strcmp(files[i], without) != 0)
            assert_int_equal(symlink(from, to), 0);
    }
    return folder;
}

static void
refused(const char *path, enum status code, const char *words)
{
    struct weights *w = (void *)&code;
    enum status got = weights_open(&w, path);
    if (got != code || !strstr(status_words(), words))
        fail_msg("%s, '%s'; wanted %s with '%s'", status_name(got), status_words(),
                 status_name(code), words);
    assert_null(w);
}

// config.json with the first `find` replaced.
static void
config_refused(const char *golden, const char *find, const char *put, const char *words)
{
    const char *folder = folder_like(golden, "config.json");
    char path[PATH_BYTES], *text, *at, *mutated;
    size_t bytes;
    path_of(path, golden, "config.json");
    text = file_get(path, &bytes);
    at = strstr(text, find);
    assert_non_null(at);
    size_t size = bytes + strlen(put) + 1;
    mutated = malloc(size);
    int used = snprintf(mutated, size, "%.*s%s%s", (int)(at - text), text, put, at + strlen(find));
    path_of(path, folder, "config.json");
    file_put(path, mutated, (size_t)used);
    if (words)
        refused(folder, STATUS_DAMAGED, words);
    else { // a change that changes nothing
        struct weights *w;
        assert_int_equal(weights_open(&w, folder), STATUS_OK);
        weights_close(&w);
    }
    free(text);
    free(mutated);
}

static void
a_config_that_lies_is_refused(void **unused)
{
    (void)unused;
    static const struct {
        const char *model, *find, *put, *words;
    } cases[] = {
        {"tiny-llama", "\"llama\"", "\"mamba2\"", "model_type 'mamba2' is not supported"},
        {"tiny-llama", "\"model_type\"", "\"type\"", "has no model_type"},
        {"tiny-llama", "\"hidden_size\": 64", "\"hidden_size\": 128",
         "tensor 'model.embed_tokens.weight' has shape [512, 64], wanted [512, 128]"},
        {"tiny-llama", "\"hidden_size\": 64", "\"hidden_size\": -64", "hidden_size is -64"},
        {"tiny-llama", "\"hidden_size\": 64", "\"hidden_size\": 1e99", "hidden_size is 1e+99"},
        {"tiny-llama", "\"hidden_size\": 64", "\"hidden_size\": \"64\"", "hidden_size is"},
        {"tiny-llama", "\"hidden_size\": 64", "\"hidden_sizes\": 64", "has no hidden_size"},
        {"tiny-llama", "\"vocab_size\": 512", "\"vocab_size\": 16777216", "has shape [512, 64]"},
        {"tiny-llama", "\"vocab_size\": 512", "\"vocab_size\": 99999999999999999999", "line"},
        {"tiny-llama", "\"num_hidden_layers\": 4", "\"num_hidden_layers\": 1000000",
         "num_hidden_layers is 1000000, wanted at most 1024"},
        {"tiny-llama", "\"num_hidden_layers\": 4", "\"num_hidden_layers\": 5",
         "has no tensor 'model.layers.4.input_layernorm.weight'"},
        {"tiny-llama", "\"num_hidden_layers\": 4", "\"num_hidden_layers\": 3",
         "has no place in a llama of 3 blocks"},
        {"tiny-llama", "\"num_attention_heads\": 4", "\"num_attention_heads\": 0",
         "num_attention_heads is 0"},
        {"tiny-llama", "\"num_key_value_heads\": 2", "\"num_key_value_heads\": 3",
         "4 heads cannot share 3"},
        {"tiny-llama", "\"num_key_value_heads\": 2", "\"num_key_value_heads\": 4",
         "k_proj.weight' has shape [32, 64], wanted [64, 64]"},
        {"tiny-llama", "\"head_dim\": 16", "\"head_dim\": 15", "rope turns 15 dimensions"},
        {"tiny-llama", "\"intermediate_size\": 160", "\"intermediate_size\": 161",
         "shape [160, 64], wanted [161, 64]"},
        {"tiny-llama", "\"rope_type\": \"default\"", "\"rope_type\": \"llama3\"",
         "rope_parameters of type 'llama3' is not supported"},
        {"tiny-llama", "\"pretraining_tp\": 1", "\"rope_scaling\": {\"type\": \"linear\"}",
         "rope_scaling of type 'linear' is not supported"},
        {"tiny-llama", "\"pretraining_tp\": 1", "\"rope_scaling\": {\"factor\": 8.0}",
         "rope_scaling of type 'none'"},
        {"tiny-llama", "\"pretraining_tp\": 1", "\"quantization_config\": {}",
         "quantization_config is not supported"},
        {"tiny-llama", "\"rope_theta\": 100000.0", "\"rope_theta\": -1", "theta is -1"},
        {"tiny-llama", "\"rope_theta\": 100000.0", "\"rope_theta\": \"big\"",
         "rope_theta is not a number"},
        {"tiny-llama", "\"rms_norm_eps\": 1e-05", "\"rms_norm_eps\": -1", "epsilon is -1"},
        {"tiny-llama", "\"hidden_act\": \"silu\"", "\"hidden_act\": \"relu2\"",
         "hidden_act is 'relu2'"},
        {"tiny-llama", "\"hidden_act\": \"silu\"", "\"hidden_act\": 7", "hidden_act is 'no text'"},
        {"tiny-llama", "\"attention_bias\": false", "\"attention_bias\": true",
         "has no tensor 'model.layers.0.self_attn.q_proj.bias'"},
        {"tiny-llama", "\"attention_bias\": false", "\"attention_bias\": 1",
         "attention_bias is neither true nor false"},
        {"tiny-llama", "\"tie_word_embeddings\": true", "\"tie_word_embeddings\": false",
         "has no tensor 'lm_head.weight'"},
        {"tiny-llama", "{", "{\"head_dim\": 16,", "duplicate"},
        {"tiny-llama", "{", "[", "line"},
        {"tiny-llama", "{", "", "line"},
        {"tiny-llama", "\"hidden_act\": \"silu\"", "\"hidden_act\": null", NULL},
        {"tiny-llama", "\"mlp_bias\": false", "\"mlp_bias\": null", NULL},
        {"tiny-gemma2", "\"full_attention\"", "\"chunked_attention\"",
         "layer_types[1] is 'chunked_attention'"},
        {"tiny-gemma2", "\"sliding_attention\",", "", "layer_types has 3 entries, wanted 4"},
        {"tiny-gemma2", "\"query_pre_attn_scalar\": 24", "\"query_pre_attn_scalar\": 0",
         "the attention scale is 0"},
        {"tiny-gemma2", "\"final_logit_softcapping\": 10.0", "\"final_logit_softcapping\": -1",
         "softcaps"},
        {"tiny-gemma2", "\"use_bidirectional_attention\": null",
         "\"use_bidirectional_attention\": true", "use_bidirectional_attention is not supported"},
        {"tiny-gemma2", "\"head_dim\": 32", "\"head_dim\": 16", "shape [128, 64], wanted [64, 64]"},
        {"tiny-gemma2", "\"model_type\": \"gemma2\"", "\"model_type\": \"llama\"", "tensor '"},
        {"tiny-gemma2", "\"head_dim\": 32", "\"head_dim\": 32", NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char golden[PATH_BYTES];
        path_of(golden, GOLDEN, cases[i].model);
        config_refused(golden, cases[i].find, cases[i].put, cases[i].words);
    }
}

static void
put(const char *folder, const char *name, const char *text)
{
    char path[PATH_BYTES];
    path_of(path, folder, name);
    file_put(path, text, strlen(text));
}

static void
a_bad_index_is_refused(void **unused)
{
    (void)unused;
    static const char name[] = "model.safetensors.index.json";
    static const struct {
        const char *text, *words;
    } cases[] = {
        {"", "line 1"},
        {"[]", "has no weight_map"},
        {"{\"weight_map\": {}}", "has no weight_map with tensors"},
        {"{\"weight_map\": []}", "has no weight_map with tensors"},
        {"{\"weight_map\": {\"a\": 3}}", "tensor 'a' is in 'no text', wanted a plain file name"},
        {"{\"weight_map\": {\"a\": \"../tiny-llama/model-00001-of-00002.safetensors\"}}",
         "wanted a plain file name"},
        {"{\"weight_map\": {\"a\": \"/etc/passwd\"}}", "wanted a plain file name"},
        {"{\"weight_map\": {\"a\": \"..\"}}", "wanted a plain file name"},
        {"{\"weight_map\": {\"a\": \"\"}}", "wanted a plain file name"},
        {"{\"weight_map\": {\"a\": \"model-00001-of-00002.safetensors\"}}",
         "tensor 'a' is not in model-00001-of-00002.safetensors"},
        {"{\"weight_map\": {\"model.norm.weight\": \"model-00001-of-00002.safetensors\"}}",
         "tensor 'model.norm.weight' is not in model-00001"},
        {"{\"weight_map\": {\"model.norm.weight\": \"model-00002-of-00002.safetensors\"}}",
         "has no tensor 'model.embed_tokens.weight'"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *folder = folder_like(GOLDEN "tiny-llama", name);
        put(folder, name, cases[i].text);
        refused(folder, STATUS_DAMAGED, cases[i].words);
    }
    const char *folder = folder_like(GOLDEN "tiny-llama", name);
    put(folder, name, "{\"weight_map\": {\"a\": \"model-00003-of-00002.safetensors\"}}");
    refused(folder, STATUS_MISSING, "model-00003-of-00002.safetensors");
    refused(folder_like(GOLDEN "tiny-llama", name), STATUS_MISSING,
            "has neither model.safetensors");
    refused(folder_like(GOLDEN "tiny-llama", "config.json"), STATUS_MISSING, "config.json");
    refused("/nowhere/model.gguf", STATUS_MISSING, "/nowhere/model.gguf");
}

// All tensors of tiny-llama as one file, less or changed as the test likes.
struct all {
    struct safetensors *shard[2];
    struct tensor_out out[64];
    size_t count;
};

static void
all_take(struct all *all)
{
    all->count = 0;
    for (size_t s = 0; s < 2; s++) {
        char path[PATH_BYTES], name[64];
        snprintf(name, sizeof name, "model-%05zu-of-00002.safetensors", s + 1);
        path_of(path, GOLDEN "tiny-llama", name);
        assert_int_equal(safetensors_open(&all->shard[s], path), STATUS_OK);
        for (size_t i = 0; i < safetensors_count(all->shard[s]); i++) {
            const struct tensor *t = safetensors_at(all->shard[s], i);
            all->out[all->count++] = (struct tensor_out){.name = t->name,
                                                         .dtype = t->dtype,
                                                         .rank = t->rank,
                                                         .shape = {t->shape[0], t->shape[1]},
                                                         .at = t->at};
        }
    }
}

static const char *
all_put(const struct all *all, size_t count)
{
    const char *folder = folder_like(GOLDEN "tiny-llama", "model.safetensors.index.json");
    char path[PATH_BYTES];
    path_of(path, folder, "model.safetensors");
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(safetensors_write(fd, path, all->out, count, NULL, 0, NULL, NULL), STATUS_OK);
    assert_int_equal(close(fd), 0);
    return folder;
}

static struct hash128
hash_of(const char *path, const char *cache)
{
    struct weights *w;
    struct hash128 hash;
    if (weights_open(&w, path) != STATUS_OK || weights_hash(&hash, w, cache) != STATUS_OK)
        fail_msg("%s", status_words());
    weights_close(&w);
    return hash;
}

static void
tensors_must_be_there_whole_and_all_used(void **unused)
{
    (void)unused;
    struct all all;
    all_take(&all);
    char words[128];
    for (size_t i = 0; i < all.count; i++) { // each in turn is missing, flat, or of integers
        struct tensor_out last = all.out[all.count - 1], kept = all.out[i];
        snprintf(words, sizeof words, "has no tensor '%s'", kept.name);
        all.out[i] = last;
        refused(all_put(&all, all.count - 1), STATUS_DAMAGED, words);
        snprintf(words, sizeof words, "tensor '%s' has shape", kept.name);
        all.out[i] = kept;
        all.out[i].rank = kept.rank == 2 ? 1 : 2;
        all.out[i].shape[0] = kept.rank == 2 ? kept.shape[0] * kept.shape[1] : kept.shape[0];
        all.out[i].shape[1] = 1;
        refused(all_put(&all, all.count), STATUS_DAMAGED, words);
        snprintf(words, sizeof words, "tensor '%s' has type I32", kept.name);
        all.out[i] = kept;
        all.out[i].dtype = DTYPE_I32;
        refused(all_put(&all, all.count), STATUS_DAMAGED, words);
        all.out[i] = kept;
    }
    static const float bias[64];
    all.out[all.count] = (struct tensor_out){.name = "model.layers.0.self_attn.q_proj.bias",
                                             .dtype = DTYPE_F32,
                                             .rank = 1,
                                             .shape = {64},
                                             .at = bias};
    refused(all_put(&all, all.count + 1), STATUS_DAMAGED,
            "tensor 'model.layers.0.self_attn.q_proj.bias' has no place in a llama of 4 blocks");
    all.out[all.count].name = "model.layers.0.self_attn.rotary_emb.inv_freq"; // older files
    struct hash128 with = hash_of(all_put(&all, all.count + 1), NULL);
    struct hash128 without = hash_of(all_put(&all, all.count), NULL);
    struct hash128 shards = hash_of(GOLDEN "tiny-llama", NULL);
    assert_true(hash128_same(with, without));   // the graph does not use it
    assert_true(hash128_same(shards, without)); // the split into files does not count
    // one bit of one weight does
    float *changed = malloc(all.out[3].shape[0] * 64 * sizeof *changed);
    size_t floats = all.out[3].shape[0] * (all.out[3].rank == 2 ? all.out[3].shape[1] : 1);
    free(changed);
    changed = malloc(floats * sizeof *changed);
    memcpy(changed, all.out[3].at, floats * sizeof *changed);
    ((unsigned char *)changed)[floats * 2] ^= 1;
    all.out[3].at = changed;
    assert_false(hash128_same(shards, hash_of(all_put(&all, all.count), NULL)));
    free(changed);
    safetensors_close(&all.shard[0]);
    safetensors_close(&all.shard[1]);
}

static void
the_hash_is_remembered_and_believed(void **unused)
{
    (void)unused;
    const char *path = GOLDEN "tiny-gemma2/tiny-gemma2.gguf";
    char cache[PATH_BYTES], command[PATH_BYTES + 64], file[PATH_BYTES];
    path_of(cache, scratch, "cache");
    assert_int_equal(path_make(cache, 0700), STATUS_OK);
    struct hash128 first = hash_of(path, NULL), second = hash_of(path, cache);
    assert_true(hash128_same(first, second));
    assert_false(hash128_same(first, hash_of(GOLDEN "tiny-gemma2", NULL))); // other bytes
    snprintf(command, sizeof command, "ls '%s'", cache);
    FILE *list = popen(command, "r");
    char name[80] = "";
    assert_non_null(list);
    assert_non_null(fgets(name, sizeof name, list));
    assert_null(fgets(file, sizeof file, list)); // one file
    pclose(list);
    name[strcspn(name, "\n")] = '\0';
    assert_int_equal(strncmp(name, "model-", 6), 0);
    path_of(file, cache, name);
    file_put(file, "0123456789abcdef0123456789abcdef\n", 33);
    char hex[33];
    hex128(hex, hash_of(path, cache));
    assert_string_equal(hex, "0123456789abcdef0123456789abcdef"); // it was not computed again
    file_put(file, "0123456789abcdef", 16);                       // cut short: computed, and mended
    assert_true(hash128_same(first, hash_of(path, cache)));
    size_t bytes;
    char *text = file_get(file, &bytes);
    hex128(hex, first);
    assert_int_equal(bytes, 33);
    assert_memory_equal(text, hex, 32);
    free(text);
    assert_true(hash128_same(first, hash_of(path, "/nowhere"))); // no cache, no harm
}

// A GGUF cut anywhere, or with a byte changed in its header, is refused or opened whole: never a
// crash. ASan and UBSan watch.
static void
damaged_ggufs_do_no_harm(void **unused)
{
    (void)unused;
    static const char *const names[] = {"tiny-llama/tiny-llama-q4_1.gguf",
                                        "tiny-gemma2/tiny-gemma2.gguf"};
    for (size_t n = 0; n < 2; n++) {
        char path[PATH_BYTES];
        size_t bytes;
        path_of(path, GOLDEN, names[n]);
        char *text = file_get(path, &bytes);
        const char *to = scratch_path("damaged.gguf");
        struct weights *w;
        for (size_t cut = 0; cut < bytes; cut = cut < 64 ? cut + 1 : cut + bytes / 61) {
            file_put(to, text, cut);
            assert_int_not_equal(weights_open(&w, to), STATUS_OK);
            assert_null(w);
        }
        file_put(to, text, bytes - 1);
        assert_int_not_equal(weights_open(&w, to), STATUS_OK);
        size_t opened = 0;
        for (size_t i = 0; i < 400; i++) {
            size_t at = i * 37 % 1200; // the sizes are among the first keys
            char before = text[at];
            text[at] = (char)(before ^ (1 << i % 8));
            file_put(to, text, bytes);
            if (weights_open(&w, to) == STATUS_OK) {
                opened++;
                weights_close(&w);
            }
            text[at] = before;
        }
        assert_true(opened < 400);
        free(text);
    }
}

// Four bytes of a value, by its key; `skip` bytes of its type and length lie between.
static void
gguf_refused(const char *name, const char *key, size_t skip, const void *value, const char *words)
{
    char path[PATH_BYTES], *at = NULL;
    size_t bytes;
    path_of(path, GOLDEN, name);
    char *text = file_get(path, &bytes);
    for (size_t i = 0; !at && i + strlen(key) + 8 < bytes; i++)
        if (memcmp(text + i, key, strlen(key)) == 0)
            at = text + i + strlen(key) + skip;
    assert_non_null(at);
    memcpy(at, value, 4);
    const char *to = scratch_path("changed.gguf");
    file_put(to, text, bytes);
    refused(to, STATUS_DAMAGED, words);
    free(text);
}

static void
a_gguf_that_lies_is_refused(void **unused)
{
    (void)unused;
    const char *llama = "tiny-llama/tiny-llama-q4_1.gguf";
    uint32_t none = 0, five = 5, huge = 0xffffffff, odd = 15, many = 100000;
    float minus = -1;
    gguf_refused(llama, "llama.block_count", 4, &five, "has no tensor 'blk.4.attn_norm.weight'");
    gguf_refused(llama, "llama.block_count", 4, &none, "the number of blocks is 0");
    gguf_refused(llama, "llama.block_count", 4, &many, "100000 blocks");
    gguf_refused(llama, "llama.block_count", 4, &huge, "block_count is 4294967295");
    gguf_refused(llama, "llama.embedding_length", 4, &five, "wanted");
    gguf_refused(llama, "llama.attention.head_count", 4, &none, "0 heads");
    gguf_refused(llama, "llama.rope.dimension_count", 4, &odd, "rope turns 15");
    gguf_refused(llama, "llama.rope.freq_base", 4, &minus, "theta is -1");
    gguf_refused("tiny-gemma2/tiny-gemma2.gguf", "gemma2.attention.key_length", 4, &five,
                 "one width");
    gguf_refused(llama, "general.architecture", 12, "mamb",
                 "general.architecture 'mamba' is not supported");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_config_that_lies_is_refused),
        cmocka_unit_test(a_bad_index_is_refused),
        cmocka_unit_test(tensors_must_be_there_whole_and_all_used),
        cmocka_unit_test(the_hash_is_remembered_and_believed),
        cmocka_unit_test(damaged_ggufs_do_no_harm),
        cmocka_unit_test(a_gguf_that_lies_is_refused),
    };
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
