#include "config/settings.h"

#include <assert.h>
#include <stdlib.h>

static const char *const specials[] = {"split", "text", NULL};
static const char *const dtypes[] = {"f32", "bf16", NULL};
static const char *const shuffles[] = {"rows", "contexts", NULL};
static const char *const handovers[] = {"inline", "shm", "auto", NULL};
static const char *const paces[] = {"lockstep", "bounded", "freerun", NULL};
static const char *const barriers[] = {"fail", "start", NULL};
static const char *const dones[] = {"exit", "stay", NULL};
static const char *const fetches[] = {"auto", "always", NULL};
static const char *const profiles[] = {"full", "quick", NULL};
static const char *const pools[] = {"mean", "max", NULL};
static const char *const mismatches[] = {"fail", "warn", NULL};

#define ROW(member_, preset_, low_, high_, choices_, flags_, unit_, doc_)                          \
    {                                                                                              \
        .name = #member_, .type = FIELD_TYPE(((struct settings *)NULL)->member_),                  \
        .flags = (flags_), .offset = offsetof(struct settings, member_),                           \
        .bytes = sizeof(((struct settings *)NULL)->member_), .preset = (preset_), .low = (low_),   \
        .high = (high_), .choices = (choices_), .doc = (doc_), .unit = (unit_)                     \
    }
#define NUMBER(member, preset, low, high, flags, unit, doc)                                        \
    ROW(member, preset, low, high, NULL, flags, unit, doc)
#define SWITCH(member, preset, flags, doc) ROW(member, preset, 0, 1, NULL, flags, NULL, doc)
#define WORD(member, preset, flags, doc) ROW(member, preset, 0, 0, NULL, flags, NULL, doc)
#define PICK(member, preset, choices, flags, doc)                                                  \
    ROW(member, preset, 0, 0, choices, flags, NULL, doc)

enum {
    T = FIELD_TRAJECTORY,
    H = FIELD_HOT,
    SIZE = FIELD_SIZE,
    AUTO = FIELD_AUTO,
    PATH = FIELD_PATH,
};

// Bounds of what we count in steps, tokens and batches: exact in a double.
#define MANY 9e15
#define DAY_S 86400

// clang-format off
const struct field settings_rows[] = {
    WORD  (run.name,             "", 0, "name of the run and of its folder; empty: the config's file name"),

    WORD  (text.files,           "", PATH, "training text: .jsonl, .txt, .md (each also .zst), or folders of them"),
    WORD  (text.field,           "text", 0, "key of the text in a JSON line"),
    NUMBER(text.tokens,          "0", 0, MANY, 0, "tokens", "read at most this many; 0: all"),
    PICK  (text.special,         "split", specials, 0, "special tokens spelled out in text: split into text, or text as the token itself"),

    WORD  (model.path,           "", PATH, "the language model: a .gguf file, or a folder of safetensors with its tokenizer"),
    NUMBER(model.layer,          "12", 0, 1023, 0, NULL, "tap the residual stream after this block, counted from 0"),
    NUMBER(model.context,        "128", 2, 65536, 0, "tokens", "length of a context"),
    WORD  (model.bos,            "auto", AUTO, "first token of every context: auto (the model's), none, or an id"),
    WORD  (model.separator,      "bos", 0, "token between two documents of a context: bos, eos, none, or an id"),
    NUMBER(model.batch_contexts, "16", 1, 4096, 0, "contexts", "contexts in one forward pass of the producer"),
    PICK  (model.dtype,          "f32", dtypes, 0, "arithmetic of the forward pass"),

    PICK  (stream.dtype,         "bf16", dtypes, 0, "how activations travel"),
    NUMBER(stream.rows,          "2048", 1, 65536, 0, "rows", "B, activations (tokens) in a batch"),
    PICK  (stream.shuffle,       "rows", shuffles, 0, "shuffle single rows, or whole contexts"),
    NUMBER(stream.shuffle_block, "16", 1, 65536, 0, "batches", "batches shuffled together; the first one waits for all of them"),
    NUMBER(stream.seed,          "0", 0, MANY, 0, NULL, "of the shuffle"),
    NUMBER(stream.epochs,        "1", 1, 1e6, 0, NULL, "how often the text may be gone through"),
    SWITCH(stream.drop_first,    "true", 0, "leave out position 0 of every context (its norm is massive)"),
    SWITCH(stream.drop_special,  "true", 0, "leave out bos, eos and pad tokens"),
    NUMBER(stream.drop_norm_above, "10", 0, 1e6, 0, "x median", "leave out rows longer than this many median norms; 0: keep all"),
    NUMBER(stream.ring_slots,    "16", 2, 4096, 0, "batches", "batches the producer keeps ready"),

    PICK  (sae.arch,             "relu", arch_names, T, "sigma of eq. (1): what turns z into features"),
    NUMBER(sae.latents,          "16384", 1, 16777216, T, NULL, "k, the number of latents"),
    NUMBER(sae.topk,             "40", 1, 16777216, T, "latents", "active latents in a row (topk) or on average (batchtopk)"),
    NUMBER(sae.bandwidth,        "0.001", 1e-9, 1e6, T, NULL, "jumprelu: width of the straight-through kernel"),
    PICK  (sae.threshold,        "value", threshold_names, T, "jumprelu: train the threshold itself, or its logarithm"),
    NUMBER(sae.threshold_init,   "0.01", 1e-12, 1e6, T, NULL, "jumprelu: every latent's threshold at the start"),
    SWITCH(sae.pre_bias,         "false", T, "subtract b_d before the encoder, as most other libraries do"),
    PICK  (sae.normalize,        "none", normalize_names, T, "scale inputs to a mean norm of sqrt(d), measured on batch 0"),
    PICK  (sae.unit_norm,        "both", unit_norm_names, T, "rows brought back to norm 1 after each step: of W_e and W_d, of W_d, of neither"),
    SWITCH(sae.tie_init,         "false", T, "start with W_e = W_d"),
    PICK  (sae.b_dec_init,       "zero", b_dec_init_names, T, "b_d at the start: zero, or mean or geometric median of batch 0"),
    NUMBER(sae.seed,             "0", 0, MANY, T, NULL, "of the initial weights"),

    NUMBER(loss.lambda_s,        "0.04", 0, 1000, T | H, NULL, "weight of the sparsity term, eq. (4)"),
    NUMBER(loss.lambda_o,        "0.01", 0, 1000, T | H, NULL, "weight of the competition term, eq. (4); 0: off"),
    NUMBER(loss.lambda_t,        "0.001", 0, 1000, T, NULL, "weight of the temporal term, eq. (7); 0: off"),
    PICK  (loss.sparsity,        "auto", sparsity_names, T, "form of the sparsity term; auto: l1 for relu, l0 for jumprelu, none for topk and batchtopk"),
    NUMBER(loss.target_l0,       "40", 1e-6, 16777216, T, "latents", "target_l0: the L0 that (L0/target - 1)^2 pulls towards"),

    SWITCH(curriculum.enabled,   "true", T, "the three phases of eq. (5) and (6); false: everything from step 0, at theta_end"),
    NUMBER(curriculum.recon_end, "1200", 0, MANY, T, "steps", "t1: reconstruction alone until here, eq. (5)"),
    NUMBER(curriculum.sparsity_end, "2000", 0, MANY, T, "steps", "t2: alpha has grown to 1, competition and temporal terms begin, eq. (6)"),
    NUMBER(curriculum.theta_start, "0.7", 0, 1, T, "cosine", "competition threshold at t2, eq. (6)"),
    NUMBER(curriculum.theta_end, "0.3", 0, 1, T, "cosine", "competition threshold from t2 + theta_steps on, eq. (6)"),
    NUMBER(curriculum.theta_steps, "400", 1, MANY, T, "steps", "T, the time theta takes from start to end, eq. (6)"),

    PICK  (competition.gradient, "detached", gradient_names, T, "are the coefficients c_ij of eq. (3) constants of the step, or differentiated through"),
    NUMBER(competition.every,    "1", 1, 1e6, T, "steps", "compute the competition term of eq. (4) every so many steps"),

    PICK  (temporal.pairing,     "step", pairing_names, T, "E(x_{t-1}) of eq. (7): the step before, or the position before in the same context"),

    NUMBER(optimiser.lr,         "7e-6", 0, 10, T | H, NULL, "learning rate of Adam"),
    NUMBER(optimiser.threshold_lr, "auto", 0, 10, T | AUTO, NULL, "jumprelu: learning rate of the thresholds"),
    NUMBER(optimiser.beta1,      "0", 0, 0.999999, T, NULL, "Adam's first decay; 0: no momentum"),
    NUMBER(optimiser.beta2,      "0.999", 0, 0.9999999, T, NULL, "Adam's second decay"),
    NUMBER(optimiser.eps,        "1e-8", 1e-30, 1, T, NULL, "Adam's epsilon"),
    NUMBER(optimiser.clip,       "1", 0, 1e12, T, NULL, "clip the global gradient norm here; 0: off"),
    NUMBER(optimiser.warmup,     "0", 0, MANY, T, "steps", "the rate grows linearly over the first steps"),
    NUMBER(optimiser.decay,      "0", 0, MANY, T, "steps", "the rate falls linearly to 0 over the last steps"),

    WORD  (trainer.device,       "auto", 0, "where to compute: auto, ref (slow, to compare), cpu, cuda:N"),
    NUMBER(trainer.threads,      "auto", 0, 1024, AUTO, NULL, "threads of the kernels; auto: one per core"),
    NUMBER(trainer.steps,        "2441", 1, MANY, 0, "steps", "length of the run; may be raised later"),
    PICK  (trainer.when_done,    "exit", dones, 0, "after the last step: leave, or stay and answer until told to stop"),
    PICK  (trainer.precision,    "f32", precision_names, T, "arithmetic of the products"),
    NUMBER(trainer.dead_after,   "auto", 0, MANY, AUTO, "tokens", "a latent is dead when silent this long; auto: a tenth of the run, at most 10 M"),
    WORD  (trainer.ctl,          "", 0, "endpoint it binds for control; empty: an ipc socket of the run"),
    WORD  (trainer.pub,          "", 0, "endpoint it binds for metrics and announcements"),
    WORD  (trainer.blob,         "", 0, "endpoint it binds for checkpoints to evaluators"),
    WORD  (trainer.producers,    "", 0, "data endpoints of the producers; empty: producer.data"),

    WORD  (producer.device,      "auto", 0, "where the language model runs: auto, cpu, cuda:N"),
    NUMBER(producer.threads,     "auto", 0, 1024, AUTO, NULL, "threads of the kernels; auto: one per core"),
    WORD  (producer.data,        "", 0, "endpoint it binds for batches; empty: an ipc socket of the run"),
    WORD  (producer.ctl,         "", 0, "endpoint it binds for control"),
    WORD  (producer.pub,         "", 0, "endpoint it binds for metrics"),
    NUMBER(producer.shard,       "0", 0, 1023, 0, NULL, "this producer makes the blocks b with b mod shards = shard"),
    NUMBER(producer.shards,      "1", 1, 1024, 0, NULL, "producers that share the stream"),

    WORD  (evaluator.device,     "auto", 0, "where to compute: auto, ref (slow, to compare), cpu, cuda:N"),
    NUMBER(evaluator.threads,    "auto", 0, 1024, AUTO, NULL, "threads of the kernels; auto: one per core"),
    WORD  (evaluator.ctl,        "", 0, "endpoint it binds for control; empty: an ipc socket of the run"),
    WORD  (evaluator.pub,        "", 0, "endpoint it binds for metrics"),
    WORD  (evaluator.trainers,   "", 0, "ctl endpoints of the trainers to follow; empty: trainer.ctl"),

    WORD  (eval.text,            "", PATH, "held-out text, as text.files"),
    WORD  (eval.out,             "", PATH, "folder of the results; empty: eval/ of the run"),
    NUMBER(eval.core_batches,    "10", 1, 1e6, 0, "batches", "batches of contexts for CE and KL"),
    NUMBER(eval.core_variance_batches, "32", 1, 1e6, 0, "batches", "batches of contexts for MSE, FVU, L0 and densities"),
    NUMBER(eval.batch_contexts,  "16", 1, 4096, 0, "contexts", "contexts in a batch; some published scores depend on it"),
    SWITCH(eval.exclude_special, "true", 0, "keep bos, eos and pad positions as they are when splicing"),
    WORD  (eval.absorption,      "final", 0, "first-letter absorption: off, final, all, every:N or at:STEP,STEP,..."),
    PICK  (eval.profile,         "full", profiles, 0, "of absorption: full (SAEBench's), or quick (8000 words, 3 examples: not comparable)"),
    WORD  (eval.probing,         "off", 0, "sparse probing: off, final, all, every:N or at:STEP,STEP,..."),
    WORD  (eval.probe_sets,      "", PATH, "labelled texts to probe: .jsonl files, or folders of them"),
    WORD  (eval.probing_k,       "1, 2, 5", 0, "probe the best K latents, for each of these K: 1, 2, 5, 10, 20, 50, 100"),
    PICK  (eval.probing_pool,    "mean", pools, 0, "of a text: the mean over its tokens, or the largest value"),
    NUMBER(eval.probing_train,   "4000", 2, 1e6, 0, "texts", "of a task, to train on"),
    NUMBER(eval.probing_test,    "1000", 2, 1e6, 0, "texts", "of a task, to test on"),
    NUMBER(eval.probing_classes, "0", 0, 64, 0, "classes", "at most so many of a set, the largest; 0: all"),
    NUMBER(eval.probing_share,   "0.5", 0.01, 0.99, 0, NULL, "share of positives in a task"),
    NUMBER(eval.probing_skip,    "0", 0, 1e6, 0, "bytes", "dropped from the front of texts of the sets named code"),
    NUMBER(eval.poll_s,          "30", 1, DAY_S, 0, "s", "look for new checkpoints at least this often"),
    NUMBER(eval.max_attempts,    "3", 1, 100, 0, NULL, "give an evaluation up after so many failures or deaths of its evaluator"),
    NUMBER(eval.claim_ttl_s,     "120", 1, 3600, 0, "s", "a silent evaluator's checkpoint is another's after so long"),
    PICK  (eval.fetch,           "auto", fetches, 0, "fetch a checkpoint's files from its trainer: where its folder is not seen, or always"),

    NUMBER(ckpt.every_s,         "600", 0, 30 * DAY_S, 0, "s", "checkpoint this often; 0: off"),
    NUMBER(ckpt.every_steps,     "0", 0, MANY, 0, "steps", "checkpoint this often; 0: off"),
    NUMBER(ckpt.keep_last,       "3", 1, 1e6, 0, "checkpoints", "the newest are kept"),
    NUMBER(ckpt.keep_best,       "1", 0, 1e6, 0, "checkpoints", "the best by score are kept"),
    NUMBER(ckpt.keep_every,      "0", 0, MANY, 0, "steps", "keep those whose step is a multiple; 0: off"),
    NUMBER(ckpt.keep_unevaluated, "8", 0, 1e6, 0, "checkpoints", "the newest without scores are kept"),
    NUMBER(ckpt.max_unsaved_s,   "1800", 1, 30 * DAY_S, 0, "s", "pause when saving has failed for so long"),

    WORD  (storage.runs,         "runs", PATH, "folder of the runs"),
    WORD  (storage.cache,        "auto", AUTO | PATH, "folder of models, text and token files; auto: $XDG_CACHE_HOME/osae or ~/.cache/osae"),
    NUMBER(storage.reserve,      "256MiB", 0, MANY, SIZE, "bytes", "disk space left free by checkpoints"),

    NUMBER(metrics.every_steps,  "10", 1, 1e9, 0, "steps", "measure and publish every so many steps"),
    NUMBER(metrics.segment,      "64MiB", 65536, 1e12, SIZE, "bytes", "a metrics file is closed at this size"),
    NUMBER(metrics.fsync_ms,     "1000", 0, 3600000, 0, "ms", "a line of metrics is on disk so soon; 0: when the system likes"),

    NUMBER(net.hb_ms,            "2000", 50, 600000, 0, "ms", "say something on every link at least this often"),
    NUMBER(net.lease_ms,         "15000", 150, 3600000, 0, "ms", "a link silent for so long is gone"),
    NUMBER(net.min_rate,         "4MiB", 1024, 1e12, SIZE, "bytes/s", "slowest link for which big frames get time"),
    NUMBER(net.backoff_cap_ms,   "10000", 100, 3600000, 0, "ms", "longest pause between two tries to connect"),

    PICK  (data.xf,              "auto", handovers, 0, "batches from a producer on the same machine: in frames, or read where they are"),
    NUMBER(data.win,             "8", 1, 64, 0, "batches", "batches a trainer may hold ahead"),
    SWITCH(data.check_finite,    "true", 0, "refuse a batch with a NaN or an infinity: the run ends, its last checkpoint stays"),
    NUMBER(data.max_payload,     "64MiB", 4096, 2147483648, SIZE, "bytes", "largest batch accepted"),
    NUMBER(data.io_threads,      "1", 1, 16, 0, NULL, "I/O threads of ZeroMQ in each daemon"),

    PICK  (pace.mode,            "bounded", paces, 0, "trainers of one producer: step by step together, apart by at most lag, or each at its own pace"),
    NUMBER(pace.lag,             "0", 0, 4096, 0, "batches", "how far behind the fastest; 0: 1 in lockstep, else stream.ring_slots"),
    WORD  (pace.group,           "default", 0, "trainers of one group wait for each other"),
    NUMBER(pace.group_size,      "0", 0, 64, 0, "trainers", "nothing is sent before so many have come; 0: no waiting"),
    NUMBER(pace.dead_after_s,    "60", 0, 30 * DAY_S, 0, "s", "how long a lost trainer still holds the others"),
    NUMBER(pace.barrier_timeout_s, "300", 1, 30 * DAY_S, 0, "s", "how long to wait for group_size trainers"),
    PICK  (pace.barrier_on_timeout, "fail", barriers, 0, "then give up, or start without the missing"),

    PICK  (replay.on_mismatch,   "fail", mismatches, 0, "a batch made again that differs in its bits: stop, or warn"),
    NUMBER(replay.rejoin_wait_s, "5", 0, 3600, 0, "s", "a restarted producer waits so long for its trainers"),

    SWITCH(security.plain_loopback, "true", 0, "allow tcp on 127.0.0.1 and [::1] without encryption"),

    NUMBER(stop.deadline_s,      "60", 1, 3600, 0, "s", "a stop finishes the step and saves within this time"),

    SWITCH(ready.without_producer, "false", 0, "a trainer tells systemd it is ready before it has met a producer"),
    NUMBER(ready.give_up_after_s, "0", 0, 30 * DAY_S, 0, "s", "a trainer without any producer for so long saves and exits (69); 0: waits for ever"),
};

const struct section settings_sections[] = {
    {"run", "the run"},
    {"text", "what the language model reads"},
    {"model", "the language model and where it is tapped"},
    {"stream", "the numbered batches; these keys, text and model decide every bit of them"},
    {"sae", "the sparse autoencoder, eq. (1)"},
    {"loss", "the terms of eq. (4) and (7)"},
    {"curriculum", "when the terms begin, eq. (5) and (6)"},
    {"competition", "the competition term, eq. (3) and (4)"},
    {"temporal", "the temporal term, eq. (7)"},
    {"optimiser", "Adam and its schedule"},
    {"trainer", "the process that trains"},
    {"producer", "the process that runs the language model"},
    {"evaluator", "the process that scores checkpoints"},
    {"eval", "what it measures, on which text"},
    {"ckpt", "when checkpoints are written, which are kept"},
    {"storage", "folders"},
    {"metrics", "numbers along the way"},
    {"net", "links between the processes"},
    {"data", "batches on the wire"},
    {"pace", "several trainers on one producer"},
    {"replay", "batches asked for again"},
    {"security", "who may connect; beyond this host nobody may, in this version"},
    {"stop", "how a process ends"},
    {"ready", "how a process begins"},
};
// clang-format on

const size_t settings_count = sizeof settings_rows / sizeof settings_rows[0];
const size_t settings_section_count = sizeof settings_sections / sizeof settings_sections[0];
static_assert(sizeof settings_rows / sizeof settings_rows[0] <= SETTINGS_MOST,
              "SETTINGS_MOST bounds the rows");

const struct section *
settings_section(const struct field *row)
{
    size_t length = strcspn(row->name, ".");
    for (size_t i = 0; i < settings_section_count; i++)
        if (strncmp(settings_sections[i].name, row->name, length) == 0 &&
            settings_sections[i].name[length] == '\0')
            return &settings_sections[i];
    assert(!"a row without a section");
    return NULL;
}

const char *
settings_key(const struct field *row)
{
    return strchr(row->name, '.') + 1;
}

const struct field *
settings_row(const char *name)
{
    return field_find(settings_rows, settings_count, name);
}

size_t
settings_index(const struct field *row)
{
    return (size_t)(row - settings_rows);
}

void
settings_presets(struct settings *set)
{
    memset(set, 0, sizeof *set);
    enum status status = field_presets(set, settings_rows, settings_count);
    assert(status == STATUS_OK);
}

bool
settings_is_preset(const struct settings *set, const struct field *row)
{
    // Presets are written as field_print writes them (a test holds them to it).
    char text[2 * TEXT_BYTES];
    field_print(text, sizeof text, set, row);
    if (row->type == FIELD_TEXT && (row->flags & FIELD_AUTO) && !text[0])
        return strcmp(row->preset, "auto") == 0;
    return strcmp(text, row->preset) == 0;
}

enum token_word
token_word(uint32_t *id, const char *word)
{
    if (*word == '\0' || strcmp(word, "auto") == 0)
        return TOKEN_AUTO;
    if (strcmp(word, "none") == 0)
        return TOKEN_NONE;
    if (strcmp(word, "bos") == 0)
        return TOKEN_BOS;
    if (strcmp(word, "eos") == 0)
        return TOKEN_EOS;
    if (strspn(word, "0123456789") != strlen(word) || strlen(word) > 9)
        return TOKEN_BAD;
    *id = (uint32_t)strtoul(word, NULL, 10);
    return TOKEN_ID;
}

struct recipe
settings_recipe(const struct settings *set, size_t width)
{
    return (struct recipe){
        .sae = set->sae,
        .loss = set->loss,
        .curriculum = set->curriculum,
        .competition = set->competition,
        .temporal = set->temporal,
        .optimiser = set->optimiser,
        .width = width,
        .rows = set->stream.rows,
        .steps = set->trainer.steps,
        .precision = set->trainer.precision,
        .dead_after = set->trainer.dead_after,
    };
}

uint32_t
settings_lag(const struct settings *set)
{
    if (set->pace.lag)
        return set->pace.lag;
    return set->pace.mode == SET_PACE_LOCKSTEP ? 1 : set->stream.ring_slots;
}
