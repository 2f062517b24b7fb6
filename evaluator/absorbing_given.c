#include "evaluator/absorbing_given.h"

#include "evaluator/absorbing_state.h"
#include "lib/base/file.h"
#include "lib/store/safetensors.h"

#include <jansson.h>

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PROMPT_MOST = 64 << 10 };

struct given {
    char path[PATH_BYTES]; // of state.json
    json_t *state;
    struct letters letters; // all its words are test words that were asked again
    json_t **words;         // [asked], borrowed from the state
    float *probe;           // [26 x d], then [26]: as it was read
    struct absorbing_choice mains[LETTERS];
    struct absorbed_word *got; // [asked]
};

// ---------------------------------------------------------------- state.json

// The place of what is wrong, "absorption.e.words[3].prompt", is put together by the caller.
static enum status
wrong(const struct given *g, const char *where, const char *wanted)
{
    return FAIL(DAMAGED, "%s: %s is missing or another kind of value, wanted %s", g->path, where,
                wanted);
}

static enum status
read_mains(struct given *g, size_t c, const json_t *of)
{
    char where[64];
    struct absorbing_choice *mains = &g->mains[c];
    const json_t *list = json_object_get(of, "main_latents"), *one;
    size_t i, count = json_array_size(list);
    snprintf(where, sizeof where, "absorption.%c.main_latents", 'a' + g->letters.letter[c]);
    if (count < 1 || count > ABSORPTION_MAINS)
        return wrong(g, where, "1 to 10 latents");
    json_array_foreach(list, i, one)
    {
        json_int_t latent = json_is_integer(one) ? json_integer_value(one) : -1;
        if (latent < 0 || latent > UINT32_MAX)
            return wrong(g, where, "1 to 10 latents");
        mains->main[mains->count++] = (uint32_t)latent;
    }
    return STATUS_OK;
}

static enum status
read_word(struct given *g, size_t c, size_t i, json_t *of)
{
    struct letters *l = &g->letters;
    const json_t *word = json_object_get(of, "word"), *prompt = json_object_get(of, "prompt");
    char where[96], wanted[64];
    uint8_t letter = l->letter[c];
    size_t at = l->asked;
    snprintf(where, sizeof where, "absorption.%c.words[%zu]", 'a' + letter, i);
    snprintf(wanted, sizeof wanted, "a word of %c and its prompt, as text", 'a' + letter);
    struct spelled *to = &l->split[at];
    if (!json_is_string(word) || !json_is_string(prompt) ||
        !spelling_word(to, json_string_value(word), json_string_length(word)) ||
        to->letter != letter)
        return wrong(g, where, wanted);
    l->label[at] = (uint8_t)c;
    l->asked_test[at] = (uint32_t)at;
    g->words[at] = of;
    l->asked++;
    return STATUS_OK;
}

static enum status
read_letter(struct given *g, size_t c, const json_t *of)
{
    char where[64];
    const char key[2] = {(char)('a' + g->letters.letter[c]), 0};
    const json_t *f1 = json_object_get(json_object_get(g->state, "probe_f1"), key);
    const json_t *words = json_object_get(of, "words");
    json_t *one;
    size_t i;
    snprintf(where, sizeof where, "probe_f1.%s", key);
    if (!json_is_number(f1))
        return wrong(g, where, "a number");
    g->letters.f1[c] = json_number_value(f1);
    g->letters.used += g->letters.f1[c] > g->letters.plan.least_f1;
    g->letters.start[c] = g->letters.asked;
    TRY(read_mains(g, c, of));
    snprintf(where, sizeof where, "absorption.%s.words", key);
    if (!json_is_array(words))
        return wrong(g, where, "a list");
    json_array_foreach(words, i, one)
    {
        TRY(read_word(g, c, i, one));
    }
    return STATUS_OK;
}

// The words of all letters, as they come.
static enum status
make_room(struct given *g, const json_t *letters)
{
    struct letters *l = &g->letters;
    for (uint8_t c = 0; c < LETTERS; c++) {
        const char key[2] = {(char)('a' + c), 0};
        l->test += json_array_size(json_object_get(json_object_get(letters, key), "words"));
    }
    if (l->test == 0)
        return wrong(g, "absorption", "letters with words");
    g->words = calloc(l->test, sizeof *g->words);
    g->got = calloc(l->test, sizeof *g->got);
    l->split = calloc(l->test, sizeof *l->split);
    l->label = calloc(l->test, sizeof *l->label);
    l->asked_test = calloc(l->test, sizeof *l->asked_test);
    return g->words && g->got && l->split && l->label && l->asked_test
               ? STATUS_OK
               : FAIL(CREATE, "%s: no memory for %zu words", g->path, l->test);
}

static enum status
read_state(struct given *g)
{
    const size_t most = (size_t)1 << 30;
    struct letters *l = &g->letters;
    char *text = NULL;
    size_t bytes;
    json_error_t error;
    TRY(file_read(&text, &bytes, g->path, most));
    g->state = json_loadb(text, bytes, JSON_REJECT_DUPLICATES, &error);
    free(text);
    if (!g->state)
        return FAIL(DAMAGED, "%s:%d: not JSON: %s", g->path, error.line, error.text);
    const json_t *letters = json_object_get(g->state, "absorption");
    TRY(make_room(g, letters));
    for (uint8_t c = 0; c < LETTERS; c++) {
        const char key[2] = {(char)('a' + c), 0};
        const json_t *of = json_object_get(letters, key);
        if (!of)
            continue;
        l->letter[l->classes++] = c;
        TRY(read_letter(g, l->classes - 1, of));
    }
    for (size_t c = l->classes; c <= LETTERS; c++)
        l->start[c] = l->asked;
    return STATUS_OK;
}

// ---------------------------------------------------------------- probe.safetensors

static enum status
read_probe(struct given *g, const char *folder)
{
    struct letters *l = &g->letters;
    const size_t shape[2] = {LETTERS, l->width};
    struct safetensors *file;
    const struct tensor *weight, *bias;
    char path[PATH_BYTES];
    float *all = g->probe = calloc(LETTERS * (l->width + 1), sizeof *all), *biases = NULL;
    l->weights = calloc(l->classes * l->width, sizeof *l->weights);
    l->bias = calloc(l->classes, sizeof *l->bias);
    enum status status = all && l->weights && l->bias
                             ? path_join(path, folder, "probe.safetensors")
                             : FAIL(CREATE, "%s: no memory for a probe", folder);
    if (status == STATUS_OK)
        status = safetensors_open(&file, path);
    TRY(status);
    biases = all + LETTERS * l->width;
    GOTRY(safetensors_need(&weight, file, "probe.weight", 2, shape));
    GOTRY(safetensors_need(&bias, file, "probe.bias", 1, shape));
    GOTRY(tensor_to_f32(all, weight, path));
    GOTRY(tensor_to_f32(biases, bias, path));
    for (size_t i = 0; i < LETTERS * (l->width + 1); i++)
        if (!isfinite(all[i]))
            GOTRY(FAIL(DAMAGED, "%s: a value of the probe is not finite", path));
    for (size_t c = 0; c < l->classes; c++) {
        memcpy(l->weights + c * l->width, all + l->letter[c] * l->width,
               l->width * sizeof *l->weights);
        l->bias[c] = biases[l->letter[c]];
    }
done:
    safetensors_close(&file);
    return status;
}

// ---------------------------------------------------------------- all of it

// Says of which word it is: FAIL's words, with the place in front.
static enum status
misfit(const struct given *g, size_t i, enum status status)
{
    const struct letters *l = &g->letters;
    size_t c = l->label[i];
    char words[256];
    snprintf(words, sizeof words, "%s", status_words());
    if (status != STATUS_CONFIG)
        return status;
    return FAIL(CONFIG, "%s: absorption.%c.words[%zu].prompt: %s", g->path, 'a' + l->letter[c],
                i - l->start[c], words);
}

static enum status
read_prompts(struct given *g, struct model *model, const struct tokenizer *tokenizer,
             const struct score_watch *watch)
{
    struct letters *l = &g->letters;
    struct tokenizer_cache *cache = NULL;
    struct token_list one = {0}, all = {0};
    enum status status;
    size_t place;
    uint32_t *at = calloc(l->asked, sizeof *at);
    if (!at)
        GOTRY(FAIL(CREATE, "%s: no memory for %zu prompts", g->path, l->asked));
    GOTRY(tokenizer_cache_new(&cache, tokenizer));
    for (size_t i = 0; i < l->asked; i++) {
        const json_t *prompt = json_object_get(g->words[i], "prompt");
        size_t bytes = json_string_length(prompt);
        status = bytes <= PROMPT_MOST
                     ? spelling_place(&one, &place, tokenizer, cache, l->plan.bos, &l->split[i],
                                      json_string_value(prompt), bytes)
                     : FAIL(CONFIG, "a prompt of %zu bytes, wanted at most %d", bytes, PROMPT_MOST);
        if (status == STATUS_OK && place >= l->plan.context)
            status = FAIL(CONFIG, "%zu tokens up to the word, and model.context is %zu", place + 1,
                          l->plan.context);
        if (status != STATUS_OK)
            GOTRY(misfit(g, i, status));
        at[i] = (uint32_t)place;
        GOTRY(token_list_append(&all, one.ids, one.count));
    }
    GOTRY(
        letters_read(&l->tapped[1], &l->plan, all.ids, at, l->asked, model, "given words", watch));
    l->asked_x = tapped_rows(l->tapped[1]);
    l->computed = tapped_computed(l->tapped[1]);
done:
    tokenizer_cache_free(&cache);
    token_list_release(&one);
    token_list_release(&all);
    free(at);
    return status;
}

enum status
given_open(struct given **out, const char *folder, const struct letters_plan *plan,
           struct model *model, const struct tokenizer *tokenizer, const struct score_watch *watch)
{
    enum status status;
    struct given *g = *out = calloc(1, sizeof *g);
    if (!g)
        return FAIL(CREATE, "%s: no memory", folder);
    g->letters.plan = *plan;
    g->letters.width = model_width(model);
    GOTRY(path_join(g->path, folder, "state.json"));
    GOTRY(read_state(g));
    GOTRY(read_probe(g, folder));
    GOTRY(read_prompts(g, model, tokenizer, watch));
done:
    if (status != STATUS_OK)
        given_close(out);
    return status;
}

void
given_close(struct given **given)
{
    struct given *g = *given;
    if (!g)
        return;
    letters_close(&g->letters);
    json_decref(g->state);
    free(g->words);
    free(g->probe);
    free(g->got);
    free(g);
    *given = NULL;
}

static void
compare(struct given_agreement *out, const struct given *g)
{
    const struct letters *l = &g->letters;
    *out = (struct given_agreement){.words = l->asked};
    for (size_t i = 0; i < l->asked; i++) {
        const json_t *fraction = json_object_get(g->words[i], "fraction"),
                     *full = json_object_get(g->words[i], "full");
        double apart = fabs(json_number_value(fraction) - g->got[i].fraction);
        if (json_is_boolean(full)) {
            out->fulls++;
            out->full += json_is_true(full) != g->got[i].full;
        }
        if (!json_is_number(fraction))
            continue;
        out->fractions++;
        if (apart <= out->fraction)
            continue;
        out->fraction = apart;
        snprintf(out->word, sizeof out->word, "%.*s", (int)l->split[i].bytes, l->split[i].at);
    }
}

enum status
given_measure(struct absorption *out, struct given_agreement *agreement, struct given *g,
              const struct absorbing_plan *plan, struct saelens *sae,
              const struct score_watch *watch)
{
    for (size_t c = 0; c < g->letters.classes; c++)
        for (size_t i = 0; i < g->mains[c].count; i++)
            if (g->mains[c].main[i] >= sae->card.latents)
                return FAIL(CONFIG, "%s: absorption.%c.main_latents: latent %u, wanted below %llu",
                            g->path, 'a' + g->letters.letter[c], g->mains[c].main[i],
                            (unsigned long long)sae->card.latents);
    TRY(absorbing_measure(out, g->got, plan, &g->letters, g->mains, sae, watch));
    out->missed = (struct absorption_mean){UNDEFINED, UNDEFINED, UNDEFINED, UNDEFINED};
    compare(agreement, g);
    return STATUS_OK;
}

enum status
given_write(const char *folder, struct given *g)
{
    for (size_t i = 0; i < g->letters.asked; i++)
        if (!absorbing_state_word(g->words[i], &g->got[i]))
            return FAIL(CREATE, "%s: no memory", folder);
    return absorbing_state_save(folder, g->probe, g->letters.width, g->state);
}
