#include "evaluator/absorbing_state.h"

#include "lib/base/file.h"
#include "lib/lm/grow.h"
#include "lib/store/safetensors.h"

#include <jansson.h>

#include <stdlib.h>
#include <string.h>

static enum status
write_probe(const char *path, const float *probe, size_t d)
{
    const struct tensor_out tensors[] = {
        {.name = "probe.bias",
         .dtype = DTYPE_F32,
         .rank = 1,
         .shape = {LETTERS},
         .at = probe + LETTERS * d},
        {.name = "probe.weight", .dtype = DTYPE_F32, .rank = 2, .shape = {LETTERS, d}, .at = probe},
    };
    return safetensors_replace(path, tensors, 2, NULL, 0);
}

// The classes' rows at their letters, zeros for the others; NULL without memory.
static float *
probe_of(const struct letters *l)
{
    size_t d = l->width;
    float *probe = calloc(LETTERS * (d + 1), sizeof *probe);
    for (size_t c = 0; probe && c < l->classes; c++) {
        memcpy(probe + l->letter[c] * d, l->weights + c * d, d * sizeof *probe);
        probe[LETTERS * d + l->letter[c]] = l->bias[c];
    }
    return probe;
}

// ---------------------------------------------------------------- state.json

// Words and prompts are ASCII, so jansson has nothing to refuse: NULL is a lack of memory, which
// append and put note and the writer reports.
static json_t *
word_json(const struct spelled *word)
{
    return json_stringn(word->at, word->bytes);
}

static json_t *
prompt_json(struct text_list *text, const struct letters *l, bool again, size_t i)
{
    if (letters_prompt(text, l, again, i) != STATUS_OK)
        return NULL;
    return json_stringn(text->at, text->bytes);
}

// Into a list or an object; notes a lack of memory.
static void
append(bool *fine, json_t *list, json_t *value)
{
    *fine = json_array_append_new(list, value) == 0 && *fine;
}

static void
put(bool *fine, json_t *object, const char *key, json_t *value)
{
    *fine = json_object_set_new(object, key, value) == 0 && *fine;
}

// {"train": [...], "test": [...]} of the words, or of the prompts.
static json_t *
split_json(bool *fine, struct text_list *text, const struct letters *l, bool prompts)
{
    json_t *parts[2] = {json_array(), json_array()}, *both = json_object();
    for (size_t i = 0; i < l->train + l->test; i++)
        append(fine, parts[i >= l->train],
               prompts ? prompt_json(text, l, false, i) : word_json(&l->split[i]));
    put(fine, both, "train", parts[0]);
    put(fine, both, "test", parts[1]);
    return both;
}

static json_t *
indexes_json(bool *fine, const uint32_t *latents, size_t count)
{
    json_t *list = json_array();
    for (size_t i = 0; i < count; i++)
        append(fine, list, json_integer(latents[i]));
    return list;
}

bool
absorbing_state_word(json_t *object, const struct absorbed_word *word)
{
    bool fine = true;
    put(&fine, object, "fraction", json_real(word->fraction));
    put(&fine, object, "full", json_boolean(word->full));
    put(&fine, object, "top_latent", json_integer(word->top));
    put(&fine, object, "top_share", json_real(word->share));
    return fine;
}

static json_t *
words_json(bool *fine, struct text_list *text, const struct letters *l, size_t c,
           const struct absorbed_word *words)
{
    json_t *list = json_array();
    for (size_t i = l->start[c]; i < l->start[c + 1]; i++) {
        json_t *one = json_object();
        put(fine, one, "word", word_json(&l->split[l->train + l->asked_test[i]]));
        put(fine, one, "prompt", prompt_json(text, l, true, i));
        *fine = absorbing_state_word(one, &words[i]) && *fine;
        append(fine, list, one);
    }
    return list;
}

static json_t *
state_json(bool *fine, struct text_list *text, const struct letters *l,
           const struct absorption *absorption, const struct absorbed_word *words)
{
    json_t *state = json_object(), *probe = json_object(), *f1 = json_object(),
           *latents = json_object(), *letters = json_object();
    for (size_t c = 0; c < absorption->count; c++) {
        const struct absorption_letter *of = &absorption->letters[c];
        const char key[2] = {of->letter, 0};
        json_t *k_f1 = json_array(), *best = json_array(), *one = json_object();
        for (size_t k = 0; k < of->tried; k++) {
            append(fine, k_f1, json_real(of->k_f1[k]));
            append(fine, best, indexes_json(fine, of->main, k + 1));
        }
        put(fine, probe, key, json_real(of->f1));
        put(fine, f1, key, k_f1);
        put(fine, latents, key, best);
        put(fine, one, "main_latents", indexes_json(fine, of->main, of->mains));
        put(fine, one, "words", words_json(fine, text, l, c, words));
        put(fine, letters, key, one);
    }
    put(fine, state, "words", split_json(fine, text, l, false));
    put(fine, state, "prompts", split_json(fine, text, l, true));
    put(fine, state, "probe_f1", probe);
    put(fine, state, "k_sparse_f1", f1);
    put(fine, state, "k_sparse_latents", latents);
    put(fine, state, "absorption", letters);
    return state;
}

enum status
absorbing_state_save(const char *folder, const float *probe, size_t width, const json_t *state)
{
    char weights[PATH_BYTES], path[PATH_BYTES];
    TRY(path_join(weights, folder, "probe.safetensors"));
    TRY(path_join(path, folder, "state.json"));
    TRY(path_make(folder, 0777));
    TRY(write_probe(weights, probe, width));
    char *whole = json_dumps(state, JSON_INDENT(1) | JSON_REAL_PRECISION(10));
    enum status status =
        whole ? file_replace(path, whole, strlen(whole)) : FAIL(CREATE, "%s: no memory", path);
    free(whole);
    return status;
}

enum status
absorbing_state_write(const char *folder, const struct letters *letters,
                      const struct absorption *absorption, const struct absorbed_word *words)
{
    struct text_list text = {0};
    bool fine = true;
    json_t *state = state_json(&fine, &text, letters, absorption, words);
    float *probe = probe_of(letters);
    enum status status = state && fine && probe
                             ? absorbing_state_save(folder, probe, letters->width, state)
                             : FAIL(CREATE, "%s: no memory", folder);
    free(probe);
    json_decref(state);
    text_list_release(&text);
    return status;
}
