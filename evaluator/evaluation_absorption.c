// First-letter absorption (letters.h, absorbing.h) as a row of evaluation.h. What the model knows
// is found out with the first checkpoint that is due, not before: a run whose `final` is hours away
// does not wait for it.
#include "evaluator/absorbing_given.h"
#include "evaluator/absorbing_state.h"
#include "evaluator/evaluation.h"
#include "lib/base/say.h"
#include "lib/base/tick.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct absorption_state {
    const struct desk *desk;
    struct tokenizer *tokenizer;
    struct letters_plan plan;
    struct hash128 spec;
    struct letters letters;
    bool known; // letters are open
    struct given *given;
};

static void
close_state(void **state)
{
    struct absorption_state *a = *state;
    if (!a)
        return;
    letters_close(&a->letters);
    given_close(&a->given);
    tokenizer_free(&a->tokenizer);
    free(a);
    *state = NULL;
}

static enum status
prepare(struct absorption_state *a)
{
    const struct settings *set = a->desk->set;
    uint32_t bos;
    TRY(tokenizer_open(&a->tokenizer, set->model.path));
    const char *word = set->model.bos[0] ? set->model.bos : "auto";
    TRY(tokenizer_pick(&bos, a->tokenizer, word, tokenizer_bos(a->tokenizer), "model.bos"));
    a->plan = letters_profile(set->eval.profile == SET_PROFILE_QUICK);
    a->plan.layer = set->model.layer;
    a->plan.context = set->model.context;
    a->plan.model_contexts = set->model.batch_contexts;
    a->plan.precision = set->model.dtype == SET_DTYPE_BF16 ? "bf16" : "f32";
    a->plan.bos = bos;
    a->plan.cache = set->storage.cache;
    a->spec = letters_spec(&a->plan, a->desk->model, a->tokenizer);
    return STATUS_OK;
}

static enum status
open_state(void **state, const struct desk *desk, const struct score_watch *watch)
{
    (void)watch;
    struct absorption_state *a = calloc(1, sizeof *a);
    if (!a)
        return FAIL(CREATE, "no memory for the absorption evaluation");
    a->desk = desk;
    *state = a;
    return prepare(a);
}

static const char *
schedule(const struct settings_eval *of)
{
    return of->absorption;
}

static struct hash128
spec(void *state)
{
    return ((const struct absorption_state *)state)->spec;
}

static void
sum_up(struct finding *finding, const struct absorption_file *file)
{
    const struct absorption *a = &file->absorption;
    named_real(finding->values, "mean_absorption_fraction_score", a->fraction.value);
    named_real(finding->values, "mean_full_absorption_score", a->full.value);
    named_real(finding->values, "mean_num_split_features", a->splits.value);
    named_real(finding->values, "mean_absorption_score", a->missed.value);
    named_whole(finding->values, "letters_used", (int64_t)a->used);
    finding->seconds = file->head.seconds;
    snprintf(finding->line, sizeof finding->line,
             "fraction %.4f, full %.4f, split %.2f, %d letters of F1 %.2f, %s", a->fraction.value,
             a->full.value, a->splits.value, (int)a->used, a->mean_f1, file->head.profile);
}

static enum status
tell(struct finding *finding, const char *path)
{
    struct absorption_file *file = calloc(1, sizeof *file);
    if (!file)
        return FAIL(CREATE, "no memory for a result");
    enum status status = saebench_absorption_read(file, path);
    if (status == STATUS_OK)
        sum_up(finding, file);
    free(file);
    return status;
}

static enum status
learn_letters(struct absorption_state *a, const struct score_watch *watch)
{
    if (a->known)
        return STATUS_OK;
    double from = tick_seconds();
    enum status status = letters_open(&a->letters, &a->plan, a->desk->model, a->tokenizer, watch);
    if (status != STATUS_OK) {
        letters_close(&a->letters);
        return status;
    }
    a->known = true;
    const struct letters *l = &a->letters;
    say(SAY_INFO,
        "absorption: %zu words, %zu of %zu letters can be read off the model's stream; %.1f s, %zu "
        "prompts new, %.2f GiB held",
        l->train + l->test, l->used, l->classes, tick_seconds() - from, l->computed,
        (double)letters_bytes(l) / (1 << 30));
    return STATUS_OK;
}

// The words of desk->given: the finding is what it is by ours, and how far theirs is from it.
static enum status
run_given(struct absorption_state *a, struct saelens *sae, struct absorption_file *file,
          struct finding *finding, const struct score_watch *watch)
{
    const struct absorbing_plan plan = absorbing_defaults();
    const char *folder = a->desk->given;
    struct given_agreement to;
    if (!a->given)
        TRY(given_open(&a->given, folder, &a->plan, a->desk->model, a->tokenizer, watch));
    TRY(given_measure(&file->absorption, &to, a->given, &plan, sae, watch));
    if (a->desk->state)
        TRY(given_write(a->desk->state, a->given));
    snprintf(file->head.profile, sizeof file->head.profile, "given");
    sum_up(finding, file);
    named_real(finding->values, "fraction_difference", to.fractions ? to.fraction : UNDEFINED);
    named_real(finding->values, "full_differences", to.fulls ? (double)to.full : UNDEFINED);
    say(SAY_INFO,
        "absorption: %s: %zu words; of %zu fractions the farthest differs by %.2g%s%s%s, of %zu "
        "full ones %zu differ",
        folder, to.words, to.fractions, to.fraction, to.word[0] ? " ('" : "", to.word,
        to.word[0] ? "')" : "", to.fulls, to.full);
    return STATUS_OK;
}

static enum status
run(void *state, const struct subject *subject, struct finding *finding,
    const struct score_watch *watch)
{
    struct absorption_state *a = state;
    const struct absorbing_plan plan = absorbing_defaults();
    char path[PATH_BYTES];
    struct saelens sae = {0};
    double from = tick_seconds();
    enum status status = STATUS_OK;
    struct absorbed_word *words = NULL;
    struct absorption_file *file = calloc(1, sizeof *file);
    if (!file)
        return FAIL(CREATE, "no memory for a result");
    GOTRY(subject_open(&sae, subject, a->desk, plan.rows));
    if (a->desk->given) {
        status = run_given(a, &sae, file, finding, watch);
        finding->seconds = tick_seconds() - from;
        goto done;
    }
    GOTRY(learn_letters(a, watch));
    words = calloc(a->letters.asked, sizeof *words);
    if (!words)
        GOTRY(FAIL(CREATE, "no memory for %zu words", a->letters.asked));
    GOTRY(absorbing_measure(&file->absorption, words, &plan, &a->letters, NULL, &sae, watch));
    if (a->desk->state)
        GOTRY(absorbing_state_write(a->desk->state, &a->letters, &file->absorption, words));
    GOTRY(subject_head(&file->head, path, evaluation_absorption.kind, subject, a->desk, &sae,
                       a->spec, a->plan.profile));
    file->head.seconds = tick_seconds() - from;
    file->seed = a->plan.seed;
    file->batch = a->desk->set->model.batch_contexts;
    file->jump = plan.jump;
    file->most_latents = plan.most_latents;
    file->least_f1 = a->plan.least_f1;
    file->least_letters = a->plan.least_letters;
    GOTRY(saebench_absorption_write(path, file));
    sum_up(finding, file);
done:
    saelens_close(&sae);
    free(words);
    free(file);
    return status;
}

const struct evaluation evaluation_absorption = {
    .kind = "absorption",
    .key = "eval.absorption",
    .schedule = schedule,
    .open = open_state,
    .close = close_state,
    .spec = spec,
    .states = true,
    .tell = tell,
    .run = run,
};
