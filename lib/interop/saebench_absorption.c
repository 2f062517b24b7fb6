#include "lib/interop/saebench_absorption.h"

#include "lib/interop/saebench_inside.h"

#include <string.h>

static const char type_id[] = "absorption_first_letter";

// The means: SAEBench's three, under eval_result_metrics.mean, and the one of its first months
// under osae. Name of the mean and of its standard deviation.
static const struct mean_row {
    const char *mean, *std_dev;
    size_t offset;
    bool ours;
} rows[] = {
    {"mean_absorption_fraction_score", "std_dev_absorption_fraction_score",
     offsetof(struct absorption, fraction), false},
    {"mean_full_absorption_score", "std_dev_full_absorption_score",
     offsetof(struct absorption, full), false},
    {"mean_num_split_features", "std_dev_num_split_features", offsetof(struct absorption, splits),
     false},
    {"mean_absorption_score", "std_dev_absorption_score", offsetof(struct absorption, missed),
     true},
};
enum { ROWS = sizeof rows / sizeof rows[0] };

static struct absorption_mean
mean_at(const struct absorption *absorption, size_t row)
{
    struct absorption_mean mean;
    memcpy(&mean, (const char *)absorption + rows[row].offset, sizeof mean);
    return mean;
}

// ---------------------------------------------------------------- writing

// Into `to`, and its path into `undefined` where it is not finite.
static void
put(json_t *to, json_t *undefined, const char *category, const char *key, double value)
{
    json_object_set_new(to, key, saebench_real(value));
    if (!isfinite(value))
        json_array_append_new(undefined, json_sprintf("%s.%s", category, key));
}

static json_t *
config_json(const struct absorption_file *file)
{
    return json_pack("{s:o, s:o, s:o, s:s, s:i, s:o, s:f, s:i, s:i, s:o, s:o, s:i, s:b}",
                     "random_seed", saebench_count(file->seed), "f1_jump_threshold",
                     saebench_real(file->jump), "max_k_value", saebench_count(file->most_latents),
                     "prompt_template", "{word} has the first letter:", "prompt_token_pos", -6,
                     "llm_batch_size", saebench_count(file->batch), "k_sparse_probe_l1_decay", 0.01,
                     "k_sparse_probe_batch_size", 4096, "k_sparse_probe_num_epochs", 50,
                     "min_GT_probe_f1", saebench_real(file->least_f1), "min_feats_for_eval",
                     saebench_count(file->least_letters), "eval_k_sparse_probe_batch_size", 24,
                     "precalc_k_sparse_probe_sae_acts", 1);
}

static double
rate(const struct absorption_letter *letter, uint64_t words)
{
    return letter->true_positives ? (double)words / (double)letter->true_positives : UNDEFINED;
}

static json_t *
details_json(const struct absorption *absorption)
{
    json_t *all = json_array();
    for (size_t i = 0; i < absorption->count; i++) {
        const struct absorption_letter *l = &absorption->letters[i];
        const char letter[2] = {l->letter, 0};
        if (l->used)
            json_array_append_new(
                all, json_pack("{s:s, s:o, s:o, s:o, s:o, s:o}", "first_letter", letter,
                               "mean_absorption_fraction", saebench_real(l->fraction),
                               "full_absorption_rate", saebench_real(rate(l, l->full)),
                               "num_full_absorption", saebench_count(l->full),
                               "num_probe_true_positives", saebench_count(l->true_positives),
                               "num_split_features", saebench_count(l->mains)));
    }
    return all;
}

static json_t *
letter_json(const struct absorption_letter *l)
{
    const char letter[2] = {l->letter, 0};
    json_t *mains = json_array(), *f1 = json_array();
    for (size_t i = 0; i < l->mains && i < ABSORPTION_MAINS; i++)
        json_array_append_new(mains, saebench_count(l->main[i]));
    for (size_t i = 0; i < l->tried && i < ABSORPTION_MAINS; i++)
        json_array_append_new(f1, saebench_real(l->k_f1[i]));
    return json_pack("{s:s, s:b, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "first_letter", letter,
                     "used", (int)l->used, "probe_f1", saebench_real(l->f1),
                     "num_probe_true_positives", saebench_count(l->true_positives),
                     "mean_absorption_fraction", saebench_real(l->fraction), "num_full_absorption",
                     saebench_count(l->full), "num_full_absorption_missed",
                     saebench_count(l->missed), "main_latents", mains, "k_sparse_f1", f1);
}

static void
means_json(json_t *metrics, json_t *ours, const struct absorption *absorption)
{
    json_t *intervals = json_object(), *undefined = json_array(), *mean = json_object();
    for (size_t i = 0; i < ROWS; i++) {
        struct absorption_mean of = mean_at(absorption, i);
        json_t *to = rows[i].ours ? ours : mean;
        const char *category = rows[i].ours ? "osae" : "eval_result_metrics.mean";
        put(to, undefined, category, rows[i].mean, of.value);
        put(to, undefined, category, rows[i].std_dev, of.std_dev);
        if (isfinite(of.low) && isfinite(of.high))
            json_object_set_new(intervals, rows[i].mean, json_pack("[f, f]", of.low, of.high));
    }
    json_object_set_new(metrics, "mean", mean);
    put(ours, undefined, "osae", "mean_probe_f1", absorption->mean_f1);
    json_object_set_new(ours, "interval_95", intervals);
    json_object_set_new(ours, "undefined", undefined);
}

static json_t *
ours_json(json_t *metrics, const struct absorption_file *file)
{
    const struct absorption *a = &file->absorption;
    json_t *ours = json_object(), *letters = json_array();
    char used[ABSORPTION_LETTERS + 1] = "";
    size_t n = 0;
    for (size_t i = 0; i < a->count; i++) {
        if (a->letters[i].used)
            used[n++] = a->letters[i].letter;
        json_array_append_new(letters, letter_json(&a->letters[i]));
    }
    means_json(metrics, ours, a);
    json_object_set_new(ours, "letters_used", json_string(used));
    json_object_set_new(ours, "words", saebench_count(a->words));
    json_object_set_new(ours, "words_train", saebench_count(a->train));
    json_object_set_new(ours, "words_test", saebench_count(a->test));
    json_object_set_new(ours, "words_unfit", saebench_count(a->unfit));
    json_object_set_new(ours, "examples", saebench_count(a->examples));
    json_object_set_new(ours, "resamples", saebench_count(a->resamples));
    json_object_set_new(ours, "letters", letters);
    return ours;
}

enum status
saebench_absorption_write(const char *path, const struct absorption_file *file)
{
    json_t *metrics = json_object(), *ours = ours_json(metrics, file);
    return saebench_write(path, type_id, &file->head,
                          (struct saebench_parts){.config = config_json(file),
                                                  .metrics = metrics,
                                                  .details = details_json(&file->absorption),
                                                  .sae = json_object(),
                                                  .unstructured = json_object(),
                                                  .ours = ours});
}

// ---------------------------------------------------------------- reading

static enum status
means_of(struct absorption *out, const struct saebench_tree *tree, const char *path)
{
    const json_t *mean = json_object_get(tree->metrics, "mean");
    const json_t *intervals = json_object_get(tree->ours, "interval_95");
    for (size_t i = 0; i < ROWS; i++) {
        const json_t *from = rows[i].ours ? tree->ours : mean;
        if (!rows[i].ours && !json_is_number(json_object_get(from, rows[i].mean)))
            return FAIL(DAMAGED, "%s: eval_result_metrics.mean.%s is no number", path,
                        rows[i].mean);
        const json_t *interval = json_object_get(intervals, rows[i].mean);
        const json_t *low = json_array_get(interval, 0), *high = json_array_get(interval, 1);
        struct absorption_mean of = {saebench_real_of(from, rows[i].mean),
                                     saebench_real_of(from, rows[i].std_dev),
                                     json_is_number(low) ? json_number_value(low) : UNDEFINED,
                                     json_is_number(high) ? json_number_value(high) : UNDEFINED};
        memcpy((char *)out + rows[i].offset, &of, sizeof of);
    }
    return STATUS_OK;
}

static size_t
list_of(const json_t *list, double *numbers, uint32_t *indexes)
{
    size_t n = json_array_size(list) < ABSORPTION_MAINS ? json_array_size(list) : ABSORPTION_MAINS;
    for (size_t i = 0; i < n; i++) {
        const json_t *at = json_array_get(list, i);
        json_int_t whole = json_integer_value(at);
        if (indexes)
            indexes[i] = whole > 0 && whole < UINT32_MAX ? (uint32_t)whole : 0;
        else
            numbers[i] = json_is_number(at) ? json_number_value(at) : UNDEFINED;
    }
    return n;
}

static enum status
letters_of(struct absorption *out, const struct saebench_tree *tree, const char *path)
{
    const json_t *list = json_object_get(tree->ours, "letters");
    bool mine = json_is_array(list);
    if (!mine)
        list = tree->details;
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *at = json_array_get(list, i);
        const char *letter = json_string_value(json_object_get(at, "first_letter"));
        if (!letter || letter[0] < 'a' || letter[0] > 'z' || letter[1] ||
            (out->count > 0 && letter[0] <= out->letters[out->count - 1].letter))
            return FAIL(DAMAGED, "%s: '%.20s' is not the next letter", path, letter ? letter : "");
        struct absorption_letter *to = &out->letters[out->count++];
        to->letter = letter[0];
        to->used = !mine || json_is_true(json_object_get(at, "used"));
        to->f1 = saebench_real_of(at, "probe_f1");
        to->true_positives = saebench_count_of(at, "num_probe_true_positives");
        to->fraction = saebench_real_of(at, "mean_absorption_fraction");
        to->full = saebench_count_of(at, "num_full_absorption");
        to->missed = saebench_count_of(at, "num_full_absorption_missed");
        to->mains = mine ? list_of(json_object_get(at, "main_latents"), NULL, to->main)
                         : saebench_count_of(at, "num_split_features");
        to->tried = list_of(json_object_get(at, "k_sparse_f1"), to->k_f1, NULL);
        out->used += to->used;
    }
    return STATUS_OK;
}

static enum status
file_of(struct absorption_file *file, const struct saebench_tree *tree, const char *path)
{
    const json_t *ours = tree->ours, *config = tree->config;
    struct absorption *a = &file->absorption;
    TRY(means_of(a, tree, path));
    TRY(letters_of(a, tree, path));
    a->words = saebench_count_of(ours, "words");
    a->train = saebench_count_of(ours, "words_train");
    a->test = saebench_count_of(ours, "words_test");
    a->unfit = saebench_count_of(ours, "words_unfit");
    a->examples = saebench_count_of(ours, "examples");
    a->resamples = saebench_count_of(ours, "resamples");
    a->mean_f1 = saebench_real_of(ours, "mean_probe_f1");
    file->seed = saebench_count_of(config, "random_seed");
    file->batch = saebench_count_of(config, "llm_batch_size");
    file->jump = saebench_real_of(config, "f1_jump_threshold");
    file->least_f1 = saebench_real_of(config, "min_GT_probe_f1");
    file->most_latents = saebench_count_of(config, "max_k_value");
    file->least_letters = saebench_count_of(config, "min_feats_for_eval");
    return STATUS_OK;
}

enum status
saebench_absorption_read(struct absorption_file *out, const char *path)
{
    struct saebench_tree tree;
    memset(out, 0, sizeof *out);
    TRY(saebench_open(&tree, &out->head, path, type_id));
    enum status status = file_of(out, &tree, path);
    saebench_close(&tree);
    return status;
}
