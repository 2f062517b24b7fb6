// planted: a language model made by hand, in whose stream the truth is known. Its vocabulary is the
// bytes, all pairs of letters of which the second is small, and what the prompts need; its blocks
// add nothing, so the stream at a word is the word's embedding:
//     x = SIZE (g_letter + v_rest)     v: one axis for what follows the letter
//     g_l = (e_l - 0.1 sum of e_m, m != l) / sqrt(1.25): 26 directions of norm 1, 0.03 alike
// Hierarchical by construction: (letter, rest) implies letter, and an SAE can be made whose latent
// for the letter is silent on chosen words, where a latent for the whole word speaks instead.
#ifndef TESTS_EVALUATOR_PLANTED_H
#define TESTS_EVALUATOR_PLANTED_H

#include "evaluator/spelling.h"
#include "lib/base/file.h"
#include "lib/interop/saelens.h"
#include "lib/lm/model.h"
#include "lib/store/safetensors.h"

#include <ctype.h>
#include <jansson.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { PLANTED_WIDTH = 96, RESTS = 62, BYTES_END = 259, PLANTED_CONTEXT = 64 };
static const float planted_size = 0.4f;

// What follows the first letter, as a number: pairs are 0 .. 25, with a capital in front 26 .. 51,
// then come single letters, and the pieces with a space in front by their length.
static inline size_t
planted_rest(const char *at, size_t bytes)
{
    if (at[0] == ' ')
        return 52 + bytes; // " h" .. " letter"
    size_t capital = isupper((unsigned char)at[0]) != 0;
    return bytes == 1 ? 52 + capital : 26 * capital + (size_t)(at[1] - 'a');
}

// Element c of g_letter.
static inline float
planted_letter(size_t letter, size_t c)
{
    return c >= 26 ? 0 : (c == letter ? 1.0f : -0.1f) * sqrtf(0.8f);
}

static inline void
planted_add(json_t *vocab, json_t *merges, const char *left, const char *right)
{
    char text[64];
    snprintf(text, sizeof text, "%.31s%.31s", left, right);
    if (json_object_get(vocab, text))
        return;
    json_object_set_new(vocab, text, json_integer((json_int_t)json_object_size(vocab)));
    json_array_append_new(merges, json_pack("[s, s]", left, right));
}

// tiny-llama's tokenizer with these words instead of its own; how many tokens it has.
static inline size_t
planted_tokenizer(const char *folder)
{
    static const char *const asked[] = {"has", "the", "first", "letter", NULL};
    char path[PATH_BYTES];
    json_t *root = json_load_file(OSAE_TESTS "/golden/tiny-llama/tokenizer.json", 0, NULL);
    json_t *model = json_object_get(root, "model"), *merges = json_array(), *value;
    json_t *vocab = json_object_get(model, "vocab");
    const char *key;
    void *next;
    json_object_foreach_safe(vocab, next, key, value)
    {
        if (json_integer_value(value) >= BYTES_END)
            json_object_del(vocab, key);
    }
    assert_int_equal(json_object_size(vocab), BYTES_END);
    for (size_t w = 0; asked[w]; w++) {
        char left[32] = "\u0120";
        for (const char *c = asked[w]; *c; c++) {
            const char right[2] = {*c, 0};
            planted_add(vocab, merges, left, right);
            strncat(left, right, 2);
        }
    }
    for (char a = 'a'; a <= 'z'; a++)
        for (char b = 'a'; b <= 'z'; b++) {
            const char left[2] = {a, 0}, right[2] = {b, 0};
            const char capital[2] = {(char)toupper(a), 0};
            planted_add(vocab, merges, left, right);
            planted_add(vocab, merges, capital, right);
        }
    json_object_set_new(model, "merges", merges);
    assert_int_equal(path_join(path, folder, "tokenizer.json"), STATUS_OK);
    assert_int_equal(json_dump_file(root, path, 0), 0);
    size_t count = json_object_size(vocab);
    json_decref(root);
    return count;
}

static inline void
planted_config(const char *folder, size_t tokens)
{
    char path[PATH_BYTES];
    json_t *root = json_load_file(OSAE_TESTS "/golden/tiny-llama/config.json", 0, NULL);
    assert_non_null(root);
    json_object_set_new(root, "vocab_size", json_integer((json_int_t)tokens));
    json_object_set_new(root, "hidden_size", json_integer(PLANTED_WIDTH));
    json_object_set_new(root, "num_hidden_layers", json_integer(1));
    json_object_set_new(root, "intermediate_size", json_integer(16));
    assert_int_equal(path_join(path, folder, "config.json"), STATUS_OK);
    assert_int_equal(json_dump_file(root, path, 0), 0);
    json_decref(root);
}

static inline void
planted_weights(const char *folder, const struct tokenizer *t, size_t tokens)
{
    enum { D = PLANTED_WIDTH, F = 16, Q = 64, KV = 32 };
    static float zeros[D * D], ones[D];
    float *embed = calloc(tokens * D, sizeof *embed);
    char path[PATH_BYTES];
    assert_non_null(embed);
    for (size_t i = 0; i < D; i++)
        ones[i] = 1;
    for (uint32_t id = 0; id < tokens; id++) {
        struct tokenizer_text piece = tokenizer_piece(t, id);
        bool space = piece.bytes > 0 && piece.at[0] == ' ';
        if (piece.bytes == space || !isalpha((unsigned char)piece.at[space])) {
            embed[id * D + D - 1] = 1;
            continue;
        }
        size_t letter = (size_t)(tolower((unsigned char)piece.at[space]) - 'a');
        for (size_t c = 0; c < 26; c++)
            embed[id * D + c] = planted_size * planted_letter(letter, c);
        embed[id * D + 26 + planted_rest(piece.at, piece.bytes)] = planted_size;
    }
    const struct tensor_out tensors[] = {
        {"model.embed_tokens.weight", DTYPE_F32, 2, {tokens, D}, embed},
        {"model.norm.weight", DTYPE_F32, 1, {D}, ones},
        {"model.layers.0.input_layernorm.weight", DTYPE_F32, 1, {D}, ones},
        {"model.layers.0.post_attention_layernorm.weight", DTYPE_F32, 1, {D}, ones},
        {"model.layers.0.self_attn.q_proj.weight", DTYPE_F32, 2, {Q, D}, zeros},
        {"model.layers.0.self_attn.k_proj.weight", DTYPE_F32, 2, {KV, D}, zeros},
        {"model.layers.0.self_attn.v_proj.weight", DTYPE_F32, 2, {KV, D}, zeros},
        {"model.layers.0.self_attn.o_proj.weight", DTYPE_F32, 2, {D, Q}, zeros},
        {"model.layers.0.mlp.gate_proj.weight", DTYPE_F32, 2, {F, D}, zeros},
        {"model.layers.0.mlp.up_proj.weight", DTYPE_F32, 2, {F, D}, zeros},
        {"model.layers.0.mlp.down_proj.weight", DTYPE_F32, 2, {D, F}, zeros},
    };
    assert_int_equal(path_join(path, folder, "model.safetensors"), STATUS_OK);
    assert_int_equal(
        safetensors_replace(path, tensors, sizeof tensors / sizeof tensors[0], NULL, 0), STATUS_OK);
    free(embed);
}

// The model's folder; *tokenizer and *model are the caller's.
static inline void
planted_open(struct tokenizer **tokenizer, struct model **model, const char *folder,
             size_t contexts)
{
    assert_int_equal(path_make(folder, 0755), STATUS_OK);
    size_t tokens = planted_tokenizer(folder);
    planted_config(folder, tokens);
    if (tokenizer_open(tokenizer, folder) != STATUS_OK)
        fail_msg("%s", status_words());
    planted_weights(folder, *tokenizer, tokens);
    struct model_settings set = {
        .path = folder, .context = PLANTED_CONTEXT, .batch_contexts = contexts};
    if (model_new(model, &set) != STATUS_OK)
        fail_msg("%s", status_words());
}

// ---------------------------------------------------------------- SAEs of it

enum planted_kind {
    PLAIN,    // the letter's latent speaks
    ABSORBED, // it is silent, the word's own latent carries the letter
    HALF,     // each carries half of it
};
struct planted_sae {
    enum planted_kind kind[26][RESTS];
    const uint32_t *order; // latents in this order instead; NULL: as they are
};
enum { PLANTED_LATENTS = 26 + 26 * RESTS };

// Latent l is letter l; 26 + l RESTS + r is the word (l, r), silent where that is plain. Order[j]
// is which of these latent j of the file is.
static inline void
planted_sae_write(const char *folder, const struct planted_sae *of)
{
    enum { K = PLANTED_LATENTS, D = PLANTED_WIDTH };
    float *w_enc = calloc(K * D, sizeof *w_enc), *w_dec = calloc(K * D, sizeof *w_dec);
    float b_enc[K] = {0}, b_dec[D] = {0};
    const float half = sqrtf(0.5f);
    assert_true(w_enc && w_dec);
    for (size_t j = 0; j < K; j++) {
        size_t is = of->order ? of->order[j] : j;
        float *enc = w_enc + j * D, *dec = w_dec + j * D;
        if (is < 26) { // relu((y - 0.4 SIZE) / 0.6), y: x . g_l, less where r is not plain
            for (size_t c = 0; c < 26; c++) {
                dec[c] = planted_letter(is, c);
                enc[c] = dec[c] / 0.6f;
            }
            for (size_t r = 0; r < RESTS; r++)
                enc[26 + r] = of->kind[is][r] == ABSORBED ? -2
                              : of->kind[is][r] == HALF   ? -0.5f
                                                          : 0;
            b_enc[j] = -planted_size * 0.4f / 0.6f;
            continue;
        }
        size_t l = (is - 26) / RESTS, r = (is - 26) % RESTS;
        float scale = of->kind[l][r] == ABSORBED ? 4 * half : of->kind[l][r] == HALF ? 2 * half : 0;
        for (size_t c = 0; c < 26; c++) {
            dec[c] = half * planted_letter(l, c);
            enc[c] = scale * planted_letter(l, c);
        }
        enc[26 + r] = scale;
        dec[26 + r] = half;
        b_enc[j] = -1.5f * scale * planted_size; // both, or nothing
    }
    struct card card = {.arch = ARCH_RELU, .width = D, .latents = K, .context = 128};
    struct saelens_source from = {.arch = ARCH_RELU,
                                  .k = K,
                                  .d = D,
                                  .w_enc = w_enc,
                                  .b_enc = b_enc,
                                  .w_dec = w_dec,
                                  .b_dec = b_dec,
                                  .scale = 1};
    card_hook(&card, 0, true);
    snprintf(card.architecture, sizeof card.architecture, "orthogonal");
    if (saelens_write(folder, &card, &from) != STATUS_OK)
        fail_msg("%s", status_words());
    free(w_enc);
    free(w_dec);
}

#endif
