// The truth probe: trained on the stream at the words, or read from the cache.
#include "evaluator/letters.h"
#include "lib/base/file.h"
#include "lib/base/say.h"
#include "lib/store/safetensors.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TRUTH_FORMULAS = 1 };

// Of everything that decides the weights.
static struct hash128
key_of(const struct letters *l, const struct probe_recipe *recipe)
{
    struct {
        struct hash128 x, labels;
        uint64_t formulas, train, width, classes, batch, epochs, seed;
        double lr, lr_end, weight_decay;
    } key;
    memset(&key, 0, sizeof key);
    key.x = tapped_key(l->tapped[0]);
    key.labels = hash128(l->label, l->train + l->test);
    key.formulas = TRUTH_FORMULAS;
    key.train = l->train;
    key.width = l->width;
    key.classes = recipe->classes;
    key.batch = recipe->batch;
    key.epochs = recipe->epochs;
    key.seed = recipe->seed;
    key.lr = recipe->lr;
    key.lr_end = recipe->lr_end;
    key.weight_decay = recipe->weight_decay;
    return hash128(&key, sizeof key);
}

static void
contents(char hex[33], const struct letters *l)
{
    struct hash128 parts[2] = {hash128(l->weights, l->classes * l->width * sizeof(float)),
                               hash128(l->bias, l->classes * sizeof(float))};
    hex128(hex, hash128(parts, sizeof parts));
}

static enum status
read_probe(struct letters *l, const char *path)
{
    struct safetensors *file;
    const struct tensor *weight, *bias;
    const size_t shape[2] = {l->classes, l->width};
    char hex[33];
    TRY(safetensors_open(&file, path));
    enum status status;
    GOTRY(safetensors_need(&weight, file, "probe.weight", 2, shape));
    GOTRY(safetensors_need(&bias, file, "probe.bias", 1, shape));
    GOTRY(tensor_to_f32(l->weights, weight, path));
    GOTRY(tensor_to_f32(l->bias, bias, path));
    contents(hex, l);
    const char *said = safetensors_metadata(file, "xxh3");
    if (!said || strcmp(said, hex) != 0)
        GOTRY(FAIL(DAMAGED, "%s: its content has the hash %s, wanted %s", path, hex,
                   said ? said : "one in its head"));
done:
    safetensors_close(&file);
    return status;
}

static enum status
write_probe(const struct letters *l, const char *path)
{
    char hex[33];
    contents(hex, l);
    const struct text_pair sum = {"xxh3", hex};
    const struct tensor_out tensors[2] = {
        {"probe.weight", DTYPE_F32, 2, {l->classes, l->width}, l->weights},
        {"probe.bias", DTYPE_F32, 1, {l->classes}, l->bias},
    };
    return safetensors_replace(path, tensors, 2, &sum, 1);
}

struct training {
    const struct score_watch *watch;
};

static bool
stop(void *context, double share)
{
    const struct training *training = context;
    return training->watch &&
           training->watch->stop(training->watch->context, "the truth probe", share);
}

static enum status
train(struct letters *l, const struct probe_recipe *recipe, const struct score_watch *watch)
{
    struct training training = {watch};
    struct probe_data data = {
        .rows = l->train, .inputs = l->width, .dense = l->x, .label = l->label};
    probe_start(l->weights, l->bias, recipe, l->width);
    TRY(probe_train(l->weights, l->bias, recipe, &data, stop, &training));
    l->trained = true;
    return STATUS_OK;
}

static enum status
measure(struct letters *l)
{
    float *z = malloc(l->test * l->classes * sizeof *z);
    if (!z)
        return FAIL(CREATE, "no memory for %zu words", l->test);
    struct probe_data test = {
        .rows = l->test, .inputs = l->width, .dense = l->x + l->train * l->width};
    probe_apply(z, l->weights, l->bias, l->classes, &test);
    char list[LETTERS * 8 + 1] = "";
    size_t at = 0;
    l->used = 0;
    for (size_t c = 0; c < l->classes; c++) {
        l->f1[c] = probe_f1(z, l->classes, c, l->label + l->train, l->test);
        l->used += l->f1[c] > l->plan.least_f1;
        at +=
            (size_t)snprintf(list + at, sizeof list - at, " %c %.2f", 'a' + l->letter[c], l->f1[c]);
    }
    free(z);
    if (l->used < l->plan.least_letters)
        return FAIL(CONFIG,
                    "%zu letters can be read off the model's stream (F1 above %g), wanted at least "
                    "%zu:%s",
                    l->used, l->plan.least_f1, l->plan.least_letters, list);
    return STATUS_OK;
}

enum status
letters_truth(struct letters *l, const struct score_watch *watch)
{
    struct probe_recipe recipe = probe_recipe_truth(l->plan.seed);
    recipe.classes = l->classes;
    char path[PATH_BYTES] = "", hex[33], name[64];
    l->weights = calloc(l->classes * l->width, sizeof *l->weights);
    l->bias = calloc(l->classes, sizeof *l->bias);
    if (!l->weights || !l->bias)
        return FAIL(CREATE, "no memory for the truth probe");
    hex128(hex, key_of(l, &recipe));
    snprintf(name, sizeof name, "letters-%s.safetensors", hex);
    if (l->plan.cache && path_join(path, l->plan.cache, name) != STATUS_OK)
        path[0] = '\0';
    bool known = path[0] && path_exists(path);
    if (known && read_probe(l, path) != STATUS_OK) {
        say(SAY_WARN, "%s; making it again", status_words());
        known = false;
    }
    if (!known) {
        TRY(train(l, &recipe, watch));
        if (path[0] && write_probe(l, path) != STATUS_OK)
            say(SAY_WARN, "%s; the next process computes it again", status_words());
    }
    return measure(l);
}
