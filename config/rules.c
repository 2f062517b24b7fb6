#include "config/rules.h"

#include "config/address.h"

#include <assert.h>
#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>

static const struct field *
row_of(const char *key)
{
    const struct field *row = settings_row(key);
    assert(row);
    return row;
}

static const char *
where_of(const struct config *config, const char *key)
{
    return config_origin(config, row_of(key))->where;
}

static bool
was_set(const struct config *config, const char *key)
{
    return config_origin(config, row_of(key))->source != SOURCE_PRESET;
}

// "run.yaml:9: sae.topk is '40', wanted ..."
static enum status refuse(const struct config *config, const char *key, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static enum status
refuse(const struct config *config, const char *key, const char *format, ...)
{
    char value[256], wanted[512];
    va_list args;
    va_start(args, format);
    vsnprintf(wanted, sizeof wanted, format, args);
    va_end(args);
    field_print(value, sizeof value, &config->set, row_of(key));
    return FAIL(CONFIG, "%s: %s is '%.80s', wanted %s", where_of(config, key), key, value, wanted);
}

// Two numbers in the wrong order: the one that was set last is at fault.
static enum status
disorder(const struct config *config, const char *low, const char *high)
{
    enum source of_low = config_origin(config, row_of(low))->source,
                of_high = config_origin(config, row_of(high))->source;
    bool blame_low = of_low > of_high;
    const char *key = blame_low ? low : high, *other = blame_low ? high : low;
    char value[64];
    field_print(value, sizeof value, &config->set, row_of(other));
    return refuse(config, key, "%s %s, which is %s (%s)", blame_low ? "at most" : "at least", other,
                  value, where_of(config, other));
}

static bool
name_fine(const char *name)
{
    if (name[0] == '.')
        return false;
    for (; *name; name++)
        if (!isalnum((unsigned char)*name) && !strchr("._-", *name))
            return false;
    return true;
}

static enum status
check_names(const struct config *config)
{
    const struct settings *set = &config->set;
    if (!name_fine(set->run.name))
        return refuse(config, "run.name", "letters, digits, '.', '_', '-', and no '.' in front");
    if (!set->pace.group[0] || !name_fine(set->pace.group))
        return refuse(config, "pace.group", "letters, digits, '.', '_', '-', and no '.' in front");
    if (!set->text.field[0])
        return refuse(config, "text.field", "the key of the text in a JSON line");
    if (!set->storage.runs[0])
        return refuse(config, "storage.runs", "a folder (. for this one)");
    struct schedule schedule;
    if (!schedule_parse(&schedule, set->eval.absorption))
        return refuse(config, "eval.absorption", SCHEDULE_WANTED);
    return STATUS_OK;
}

// The words kern_open knows; whether this build has the device is for it to say.
static bool
device_fine(const char *device)
{
    static const char *const words[] = {"auto", "ref", "cpu"};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        if (strcmp(device, words[i]) == 0)
            return true;
    static const char cuda[] = "cuda:";
    size_t skip = sizeof cuda - 1;
    return strncmp(device, cuda, skip) == 0 && device[skip] &&
           strspn(device + skip, "0123456789") == strlen(device + skip);
}

static enum status
check_model(const struct config *config)
{
    static const char *const devices[] = {"producer.device", "trainer.device", "evaluator.device"};
    const struct settings *set = &config->set;
    for (size_t i = 0; i < sizeof devices / sizeof devices[0]; i++)
        if (!device_fine((const char *)set + row_of(devices[i])->offset))
            return refuse(config, devices[i], "auto, ref, cpu or cuda:N");
    if (strcmp(set->producer.device, "ref") == 0)
        return refuse(config, "producer.device", "auto, cpu or cuda:N: no slow twin of the model");
    uint32_t id;
    enum token_word bos = token_word(&id, set->model.bos);
    if (bos != TOKEN_AUTO && bos != TOKEN_NONE && bos != TOKEN_ID)
        return refuse(config, "model.bos", "auto, none or a token's id");
    enum token_word separator = token_word(&id, set->model.separator);
    if (separator == TOKEN_BAD || separator == TOKEN_AUTO)
        return refuse(config, "model.separator", "bos, eos, none or a token's id");
    return STATUS_OK;
}

static enum status
check_stream(const struct config *config)
{
    const struct settings *set = &config->set;
    uint64_t block = (uint64_t)set->stream.rows * set->stream.shuffle_block;
    if (block > 1u << 30)
        return refuse(config, "stream.shuffle_block",
                      "at most %u: a block of %llu rows is more than 2^30",
                      (1u << 30) / set->stream.rows, (unsigned long long)block);
    if (set->stream.shuffle == SET_SHUFFLE_CONTEXTS) {
        uint32_t whole = set->model.context - set->stream.drop_first;
        if (set->stream.rows < whole)
            return refuse(config, "stream.rows",
                          "at least %u, the rows of one context, when stream.shuffle is contexts",
                          whole);
    }
    if (set->temporal.pairing == PAIRING_POSITION && set->stream.shuffle != SET_SHUFFLE_CONTEXTS)
        return refuse(config, "temporal.pairing",
                      "step, or stream.shuffle: contexts (shuffled rows have lost the position "
                      "before them)");
    if (set->producer.shard >= set->producer.shards)
        return refuse(config, "producer.shard", "less than producer.shards, which is %u",
                      (unsigned)set->producer.shards);
    if (settings_lag(set) > set->stream.ring_slots)
        return refuse(config, "pace.lag", "at most stream.ring_slots, which is %u",
                      set->stream.ring_slots);
    return STATUS_OK;
}

static enum status
check_sae(const struct config *config)
{
    const struct settings *set = &config->set;
    int arch = set->sae.arch, sparsity = set->loss.sparsity;
    bool picks = arch == ARCH_TOPK || arch == ARCH_BATCHTOPK;
    if (picks && set->sae.topk > set->sae.latents)
        return refuse(config, "sae.topk", "at most sae.latents, which is %zu", set->sae.latents);
    if ((sparsity == SPARSITY_L0 || sparsity == SPARSITY_TARGET_L0) && arch != ARCH_JUMPRELU)
        return refuse(config, "loss.sparsity", "auto, or sae.arch jumprelu instead of %s",
                      arch_names[arch]);
    if (sparsity == SPARSITY_TARGET_L0 && set->loss.target_l0 > (double)set->sae.latents)
        return refuse(config, "loss.target_l0", "at most sae.latents, which is %zu",
                      set->sae.latents);
    if (sparsity == SPARSITY_TANH && set->sae.unit_norm == UNIT_NORM_OFF)
        return refuse(config, "loss.sparsity", "another form, or sae.unit_norm both or decoder");
    return STATUS_OK;
}

static enum status
check_schedule(const struct config *config)
{
    const struct settings *set = &config->set;
    if (set->curriculum.enabled && set->curriculum.recon_end > set->curriculum.sparsity_end)
        return disorder(config, "curriculum.recon_end", "curriculum.sparsity_end");
    if (set->curriculum.theta_end > set->curriculum.theta_start)
        return disorder(config, "curriculum.theta_end", "curriculum.theta_start");
    // Each is at most 9e15, so the sum does not overflow.
    if (set->optimiser.warmup + set->optimiser.decay > set->trainer.steps)
        return refuse(config,
                      was_set(config, "optimiser.decay") ? "optimiser.decay" : "optimiser.warmup",
                      "warm-up and decay within trainer.steps, which is %llu",
                      (unsigned long long)set->trainer.steps);
    if (set->net.lease_ms / 3 < set->net.hb_ms)
        return refuse(config, "net.lease_ms", "at least three times net.hb_ms, which is %u",
                      set->net.hb_ms);
    return STATUS_OK;
}

static enum status
check_endpoints(const struct config *config)
{
    static const char *const bound[] = {"producer.data", "producer.ctl", "producer.pub",
                                        "trainer.ctl",   "trainer.pub",  "trainer.blob",
                                        "evaluator.ctl", "evaluator.pub"};
    static const char *const lists[] = {"trainer.producers", "evaluator.trainers"};
    enum { BOUND = sizeof bound / sizeof bound[0] };
    const struct settings *set = &config->set;
    const char *at[BOUND];
    for (size_t i = 0; i < BOUND; i++) {
        at[i] = (const char *)set + row_of(bound[i])->offset;
        if (!at[i][0])
            continue;
        TRY(address_check(at[i], where_of(config, bound[i]), bound[i]));
        if (!set->security.plain_loopback && strncmp(at[i], "tcp:", 4) == 0)
            return refuse(config, bound[i], "ipc: security.plain_loopback is false");
        for (size_t j = 0; j < i; j++)
            if (strcmp(at[i], at[j]) == 0)
                return refuse(config, bound[i], "an endpoint of its own: %s is the same", bound[j]);
    }
    for (size_t i = 0; i < 2; i++) {
        const struct texts *list = i ? &set->evaluator.trainers : &set->trainer.producers;
        for (size_t j = 0; j < list->count; j++)
            TRY(address_check(list->at[j], where_of(config, lists[i]), lists[i]));
    }
    return STATUS_OK;
}

enum status
rules_check(const struct config *config)
{
    TRY(check_names(config));
    TRY(check_model(config));
    TRY(check_stream(config));
    TRY(check_sae(config));
    TRY(check_schedule(config));
    TRY(check_endpoints(config));
    // What lib/sae asks for beyond that; the width is not known here.
    struct recipe recipe = settings_recipe(&config->set, 1);
    return recipe_check(&recipe, config->path[0] ? config->path : "settings");
}

static void advise(struct texts *out, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void
advise(struct texts *out, const char *format, ...)
{
    if (out->count == TEXTS_MOST)
        return;
    va_list args;
    va_start(args, format);
    vsnprintf(out->at[out->count++], TEXT_BYTES, format, args);
    va_end(args);
}

// Not the default, but nothing reads it while `reads` is false.
static void
advise_unread(const struct config *config, struct texts *out, const char *key, bool reads,
              const char *why)
{
    if (!reads && !settings_is_preset(&config->set, row_of(key)))
        advise(out, "%s: %s has no effect: %s", where_of(config, key), key, why);
}

void
rules_advise(const struct config *config, struct texts *out)
{
    const struct settings *set = &config->set;
    uint64_t steps = set->trainer.steps;
    int arch = set->sae.arch;
    bool picks = arch == ARCH_TOPK || arch == ARCH_BATCHTOPK;
    out->count = 0;
    if (set->curriculum.enabled) {
        if (!picks && set->loss.lambda_s > 0 && steps <= set->curriculum.recon_end)
            advise(out,
                   "%s: the run ends after %llu steps, before the sparsity term begins "
                   "(curriculum.recon_end is %llu)",
                   where_of(config, "trainer.steps"), (unsigned long long)steps,
                   (unsigned long long)set->curriculum.recon_end);
        else if ((set->loss.lambda_o > 0 || set->loss.lambda_t > 0) &&
                 steps <= set->curriculum.sparsity_end)
            advise(out,
                   "%s: the run ends after %llu steps, before the competition and temporal terms "
                   "begin (curriculum.sparsity_end is %llu)",
                   where_of(config, "trainer.steps"), (unsigned long long)steps,
                   (unsigned long long)set->curriculum.sparsity_end);
    }
    if (set->ckpt.every_s == 0 && set->ckpt.every_steps == 0)
        advise(out, "%s: no checkpoint before the end of the run",
               where_of(config, "ckpt.every_s"));
    static const char jumprelu_only[] = "sae.arch is not jumprelu";
    static const char *const of_jumprelu[] = {"sae.bandwidth", "sae.threshold",
                                              "sae.threshold_init", "optimiser.threshold_lr"};
    for (size_t i = 0; i < sizeof of_jumprelu / sizeof of_jumprelu[0]; i++)
        advise_unread(config, out, of_jumprelu[i], arch == ARCH_JUMPRELU, jumprelu_only);
    advise_unread(config, out, "sae.topk", picks, "sae.arch is neither topk nor batchtopk");
    if (set->loss.lambda_s > 0 && set->loss.sparsity == SPARSITY_AUTO)
        advise_unread(config, out, "loss.lambda_s", !picks,
                      "topk and batchtopk have no sparsity term");
    advise_unread(config, out, "loss.target_l0", set->loss.sparsity == SPARSITY_TARGET_L0,
                  "loss.sparsity is not target_l0");
}
