#include "evaluator/letters.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// Raised when what is asked, or how, changes: then everything is scored anew.
enum { LETTERS_FORMULAS = 1, QUICK_SEED = 1234 };

struct letters_plan
letters_profile(bool quick)
{
    return (struct letters_plan){
        .profile = quick ? "quick" : "full",
        .seed = 42,
        .most_words = quick ? 8000 : 0,
        .examples = quick ? 3 : 10,
        .least_f1 = 0.6,
        .least_letters = 20,
    };
}

struct hash128
letters_spec(const struct letters_plan *plan, const struct model *model,
             const struct tokenizer *tokenizer)
{
    char text[512], weights[33], pieces[33];
    hex128(weights, model_hash(model));
    hex128(pieces, tokenizer_hash(tokenizer, TOKENIZER_SPLIT));
    int length = snprintf(
        text, sizeof text,
        "kind=absorption\nformulas=%d\nmodel=%s\nprecision=%s\nlayer=%zu\ntokenizer=%s\nbos=%u\n"
        "profile=%s\nseed=%llu\nwords=%zu\nexamples=%zu\nleast_f1=%.17g\nleast_letters=%zu\n",
        LETTERS_FORMULAS, weights, plan->precision, plan->layer, pieces, plan->bos, plan->profile,
        (unsigned long long)plan->seed, plan->most_words, plan->examples, plan->least_f1,
        plan->least_letters);
    assert(length > 0 && (size_t)length < sizeof text);
    return hash128(text, (size_t)length);
}

// ---------------------------------------------------------------- words

static enum status
find_words(struct letters *l, const struct tokenizer *tokenizer, struct tokenizer_cache *cache)
{
    const struct letters_plan *plan = &l->plan;
    TRY(spelling_find(&l->words, tokenizer));
    size_t found = l->words.count;
    TRY(spelling_fit(&l->words, tokenizer, cache, plan->bos));
    l->unfit = found - l->words.count;
    if (plan->most_words)
        TRY(spelling_thin(&l->words, plan->most_words, QUICK_SEED));
    size_t n = l->words.count, least = 5 * (plan->examples + 1);
    if (n < least)
        return FAIL(CONFIG,
                    "%s: %zu words of letters, %zu of them one token in a prompt, wanted at least "
                    "%zu: the first-letter evaluation does not fit this tokenizer",
                    tokenizer_path(tokenizer), found, n, least);
    return STATUS_OK;
}

static enum status
split_words(struct letters *l, struct pyrandom *random)
{
    size_t n = l->words.count, count[LETTERS] = {0};
    uint8_t class_of[LETTERS];
    uint32_t *order = malloc(2 * n * sizeof *order);
    l->train = n * 8 / 10;
    l->test = n - l->train;
    l->split = malloc(n * sizeof *l->split);
    l->label = malloc(n);
    l->asked_test = malloc(n * sizeof *l->asked_test);
    l->drawn = calloc((n + l->test) * l->plan.examples, sizeof *l->drawn);
    if (!order || !l->split || !l->label || !l->asked_test || !l->drawn) {
        free(order);
        return FAIL(CREATE, "no memory for %zu words", n);
    }
    pyrandom_sample(random, order, order + n, (uint32_t)n, (uint32_t)n);
    for (size_t i = 0; i < n; i++)
        l->split[i] = l->words.at[order[i]];
    free(order);
    for (size_t i = 0; i < l->train; i++)
        count[l->split[i].letter]++;
    for (uint8_t c = 0; c < LETTERS; c++) {
        class_of[c] = count[c] ? (uint8_t)l->classes : NO_CLASS;
        if (count[c])
            l->letter[l->classes++] = c;
    }
    for (size_t i = 0; i < n; i++)
        l->label[i] = class_of[l->split[i].letter];
    return STATUS_OK;
}

// ---------------------------------------------------------------- prompts

// Prompts one behind another, as they come.
struct asking {
    const struct letters *letters;
    uint32_t *next; // where the examples drawn are kept
    const struct tokenizer *tokenizer;
    struct tokenizer_cache *cache;
    const struct spelled **examples;
    uint32_t *scratch;
    struct token_list one, all;
    uint32_t *at; // [words]
    size_t count;
};

static enum status
asking_new(struct asking *a, const struct letters *letters, const struct tokenizer *tokenizer,
           struct tokenizer_cache *cache)
{
    size_t examples = letters->plan.examples, n = letters->words.count;
    *a = (struct asking){
        .letters = letters, .next = letters->drawn, .tokenizer = tokenizer, .cache = cache};
    a->examples = calloc(examples + 1, sizeof(struct spelled *));
    a->scratch = calloc(n, sizeof *a->scratch);
    a->at = calloc(n, sizeof *a->at);
    return a->examples && a->scratch && a->at ? STATUS_OK
                                              : FAIL(CREATE, "no memory for %zu prompts", n);
}

static void
asking_free(struct asking *a)
{
    free(a->examples);
    free(a->scratch);
    free(a->at);
    token_list_release(&a->one);
    token_list_release(&a->all);
}

// One word, after examples out of `from`.
static enum status
ask(struct asking *a, struct pyrandom *random, const struct spelled *word,
    const struct spelled *from, size_t count)
{
    size_t examples = a->letters->plan.examples, place;
    TRY(spelling_examples(random, a->next, examples, from, count, word, a->scratch));
    for (size_t e = 0; e < examples; e++)
        a->examples[e] = &from[a->next[e]];
    a->next += examples;
    TRY(spelling_prompt(&a->one, &place, a->tokenizer, a->cache, a->letters->plan.bos, word,
                        a->examples, examples));
    assert(place + 1 == a->one.count); // a prompt ends with its word
    a->at[a->count++] = (uint32_t)place;
    return token_list_append(&a->all, a->one.ids, a->one.count);
}

enum status
letters_read(struct tapped **out, const struct letters_plan *plan, const uint32_t *ids,
             const uint32_t *at, size_t count, struct model *model, const char *what,
             const struct score_watch *watch)
{
    size_t longest = 0, cells;
    for (size_t i = 0; i < count; i++)
        longest = at[i] + 1 > longest ? at[i] + 1 : longest;
    uint32_t *rows = times(&cells, count, longest) ? calloc(cells, sizeof *rows) : NULL;
    if (!rows)
        return FAIL(CREATE, "no memory for %zu prompts of %zu tokens", count, longest);
    for (size_t i = 0; i < count; ids += at[i++] + 1)
        memcpy(rows + i * longest, ids, (at[i] + 1) * sizeof *rows);
    struct prompts prompts = {count, longest, rows, at};
    struct tapped_plan tapping = {plan->layer,     plan->context, plan->model_contexts,
                                  plan->precision, plan->cache,   what};
    enum status status = tapped_open(out, &tapping, model, &prompts, watch);
    free(rows);
    return status;
}

// All prompts asked so far.
static enum status
read_asked(struct tapped **out, const struct asking *a, struct model *model, const char *what,
           const struct score_watch *watch)
{
    return letters_read(out, &a->letters->plan, a->all.ids, a->at, a->count, model, what, watch);
}

static enum status
ask_all(struct letters *l, struct asking *a, struct pyrandom *random, struct model *model,
        const struct score_watch *watch)
{
    size_t words = l->train + l->test;
    for (size_t i = 0; i < words; i++) {
        bool train = i < l->train;
        TRY(ask(a, random, &l->split[i], train ? l->split : l->split + l->train,
                train ? l->train : l->test));
        if (i % 4096 == 4095 && watch &&
            watch->stop(watch->context, "prompts of words", (double)i / (double)words))
            return FAIL(AGAIN, "stopped while asking for words");
    }
    TRY(read_asked(&l->tapped[0], a, model, "words", watch));
    l->x = tapped_rows(l->tapped[0]);
    l->computed += tapped_computed(l->tapped[0]);
    return STATUS_OK;
}

// Every class has a generator of its own, so that no letter depends on another's words.
static enum status
ask_again(struct letters *l, struct asking *a, struct model *model, const struct score_watch *watch)
{
    struct pyrandom random;
    float *z = malloc(l->test * l->classes * sizeof *z);
    if (!z)
        return FAIL(CREATE, "no memory for %zu words", l->test);
    struct probe_data test = {
        .rows = l->test, .inputs = l->width, .dense = l->x + l->train * l->width};
    probe_apply(z, l->weights, l->bias, l->classes, &test);
    a->count = a->all.count = 0;
    enum status status = STATUS_OK;
    for (size_t c = 0; c < l->classes; c++) {
        l->start[c] = l->asked;
        pyrandom_seed(&random, l->plan.seed * 1000 + l->letter[c]);
        for (size_t i = 0; i < l->test; i++) {
            if (l->label[l->train + i] != c || !(z[i * l->classes + c] > 0))
                continue;
            l->asked_test[l->asked++] = (uint32_t)i;
            GOTRY(ask(a, &random, &l->split[l->train + i], l->words.at, l->words.count));
        }
    }
    for (size_t c = l->classes; c <= LETTERS; c++)
        l->start[c] = l->asked;
    assert(l->asked > 0); // a letter that counts has such words
    GOTRY(read_asked(&l->tapped[1], a, model, "words asked again", watch));
    l->asked_x = tapped_rows(l->tapped[1]);
    l->computed += tapped_computed(l->tapped[1]);
done:
    free(z);
    return status;
}

enum status
letters_prompt(struct text_list *text, const struct letters *l, bool again, size_t i)
{
    const struct spelled *examples[LETTERS_EXAMPLES], *word, *from = l->words.at;
    size_t count = l->plan.examples, words = l->train + l->test;
    assert(count <= LETTERS_EXAMPLES && i < (again ? l->asked : words));
    const uint32_t *drawn = l->drawn + (again ? words + i : i) * count;
    word = again ? &l->split[l->train + l->asked_test[i]] : &l->split[i];
    if (!again)
        from = i < l->train ? l->split : l->split + l->train;
    for (size_t e = 0; e < count; e++)
        examples[e] = &from[drawn[e]];
    text->bytes = 0;
    return spelling_text(text, word, examples, count);
}

// ---------------------------------------------------------------- all of it

enum status
letters_open(struct letters *out, const struct letters_plan *plan, struct model *model,
             const struct tokenizer *tokenizer, const struct score_watch *watch)
{
    assert(plan->least_letters > 0 && plan->examples <= LETTERS_EXAMPLES);
    enum status status = STATUS_OK;
    struct tokenizer_cache *cache = NULL;
    struct asking asking = {0};
    struct pyrandom random;
    *out = (struct letters){.plan = *plan, .width = model_width(model)};
    GOTRY(tokenizer_cache_new(&cache, tokenizer));
    GOTRY(find_words(out, tokenizer, cache));
    pyrandom_seed(&random, plan->seed);
    GOTRY(split_words(out, &random));
    GOTRY(asking_new(&asking, out, tokenizer, cache));
    GOTRY(ask_all(out, &asking, &random, model, watch));
    GOTRY(letters_truth(out, watch));
    GOTRY(ask_again(out, &asking, model, watch));
done:
    asking_free(&asking);
    tokenizer_cache_free(&cache);
    return status;
}

void
letters_close(struct letters *letters)
{
    tapped_close(&letters->tapped[0]);
    tapped_close(&letters->tapped[1]);
    spelling_release(&letters->words);
    free(letters->split);
    free(letters->label);
    free(letters->asked_test);
    free(letters->drawn);
    free(letters->weights);
    free(letters->bias);
    *letters = (struct letters){0};
}

size_t
letters_bytes(const struct letters *letters)
{
    size_t n = letters->words.count, bytes = sizeof *letters;
    for (size_t i = 0; i < 2; i++)
        bytes += letters->tapped[i] ? tapped_bytes(letters->tapped[i]) : 0;
    return bytes + n * (2 * sizeof(struct spelled) + sizeof(uint32_t) + 1) +
           (n + letters->test) * letters->plan.examples * sizeof(uint32_t) +
           letters->classes * (letters->width + 1) * sizeof(float);
}
