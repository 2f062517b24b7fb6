// settings: every knob of a run, as one plain struct and one table of rows.
//
// One file serves all processes; each reads the whole and uses its part. A row's name is
// "section.key". docs/config.md is printed from the rows, and so are `osae init`, `osae config`
// and every message about a wrong value.
//
// The sections that decide a run's numbers are lib/sae's own structs (lib/sae/recipe.h); the others
// are below. Choices are ints that hold the enum named beside them.
#ifndef CONFIG_SETTINGS_H
#define CONFIG_SETTINGS_H

#include "config/schedule.h"
#include "lib/base/field.h"
#include "lib/sae/recipe.h"

enum {
    NAME_BYTES = 65,      // [A-Za-z0-9._-]{1,64}, not beginning with '.'
    ENDPOINT_BYTES = 128, // ipc:///path of at most 100 bytes, tcp://127.0.0.1:5560
    FOLDER_BYTES = 1024,  // paths
    WORD_BYTES = 16,
};

struct settings_run {
    char name[NAME_BYTES]; // "" until config_load has filled it in
};

struct settings_producer {
    char device[WORD_BYTES]; // as kern_open takes it
    uint32_t threads;        // 0: one per core
    char data[ENDPOINT_BYTES], ctl[ENDPOINT_BYTES], pub[ENDPOINT_BYTES];
    uint16_t shard, shards;
};

enum set_done { SET_DONE_EXIT, SET_DONE_STAY };
enum set_fetch { SET_FETCH_AUTO, SET_FETCH_ALWAYS };

struct settings_trainer {
    char device[WORD_BYTES];
    uint32_t threads;
    char ctl[ENDPOINT_BYTES], pub[ENDPOINT_BYTES], blob[ENDPOINT_BYTES];
    struct texts producers; // data endpoints; none: producer.data
    uint64_t steps;
    int when_done;       // enum set_done
    int precision;       // enum precision
    uint64_t dead_after; // tokens; 0: see recipe_dead_after
};

struct settings_evaluator {
    char device[WORD_BYTES];
    uint32_t threads;
    char ctl[ENDPOINT_BYTES], pub[ENDPOINT_BYTES];
    struct texts trainers; // ctl endpoints; none: trainer.ctl
};

enum set_special { SET_SPECIAL_SPLIT, SET_SPECIAL_TEXT };

struct settings_text {
    struct texts files;
    char field[NAME_BYTES];
    uint64_t tokens; // 0: all
    int special;     // enum set_special
};

enum set_dtype { SET_DTYPE_F32, SET_DTYPE_BF16 };

struct settings_model {
    char path[FOLDER_BYTES];
    uint32_t layer, context;
    char bos[WORD_BYTES], separator[WORD_BYTES]; // read them with token_word()
    uint32_t batch_contexts;
    int dtype; // enum set_dtype
};

enum set_shuffle { SET_SHUFFLE_ROWS, SET_SHUFFLE_CONTEXTS };

struct settings_stream {
    int dtype; // enum set_dtype
    uint32_t rows;
    int shuffle; // enum set_shuffle
    uint32_t shuffle_block;
    uint64_t seed;
    uint32_t epochs;
    bool drop_first, drop_special;
    double drop_norm_above; // 0: keep all
    uint32_t ring_slots;
};

struct settings_net {
    uint32_t hb_ms, lease_ms;
    uint64_t min_rate; // bytes per second
    uint32_t backoff_cap_ms;
};

struct settings_data {
    int xf; // enum handover of proto/dataclient.h
    uint16_t win;
    bool check_finite;
    uint64_t max_payload;
    uint32_t io_threads;
};

enum set_pace { SET_PACE_LOCKSTEP, SET_PACE_BOUNDED, SET_PACE_FREERUN };
enum set_barrier { SET_BARRIER_FAIL, SET_BARRIER_START };

struct settings_pace {
    int mode;     // enum set_pace
    uint32_t lag; // 0: stream.ring_slots (bounded) or 1 (lockstep)
    char group[NAME_BYTES];
    uint16_t group_size; // 0: no barrier
    uint32_t dead_after_s, barrier_timeout_s;
    int barrier_on_timeout; // enum set_barrier
};

enum set_mismatch { SET_MISMATCH_FAIL, SET_MISMATCH_WARN };

struct settings_replay {
    int on_mismatch; // enum set_mismatch
    uint32_t rejoin_wait_s;
};

struct settings_ckpt {
    uint32_t every_s; // 0: off
    uint64_t every_steps;
    uint32_t keep_last, keep_best;
    uint64_t keep_every;
    uint32_t keep_unevaluated, max_unsaved_s;
};

struct settings_storage {
    char runs[FOLDER_BYTES];
    char cache[FOLDER_BYTES]; // "" until config_load has filled it in
    uint64_t reserve;
};

struct settings_metrics {
    uint32_t every_steps;
    uint64_t segment;
    uint32_t fsync_ms;
};

enum set_profile { SET_PROFILE_FULL, SET_PROFILE_QUICK };
enum set_pool { SET_POOL_MEAN, SET_POOL_MAX };

struct settings_eval {
    struct texts text;
    char out[FOLDER_BYTES];
    uint32_t core_batches, core_variance_batches, batch_contexts;
    bool exclude_special;
    uint32_t poll_s, max_attempts, claim_ttl_s;
    int fetch; // enum set_fetch
    char probing[SCHEDULE_BYTES]; // read it with schedule_parse
    struct texts probe_sets, probing_k;
    int probing_pool; // enum set_pool
    uint32_t probing_train, probing_test, probing_classes, probing_skip;
    double probing_share;
    char absorption[SCHEDULE_BYTES]; // read it with schedule_parse
    int profile;                     // enum set_profile
};

struct settings_security {
    bool plain_loopback;
};

struct settings_stop {
    uint32_t deadline_s;
};

struct settings_ready {
    bool without_producer;
    uint32_t give_up_after_s; // 0: wait for ever
};

// About 85 KiB: keep it on the heap (config_load does).
struct settings {
    struct settings_run run;
    struct settings_text text;
    struct settings_model model;
    struct settings_stream stream;
    struct recipe_sae sae;
    struct recipe_loss loss;
    struct recipe_curriculum curriculum;
    struct recipe_competition competition;
    struct recipe_temporal temporal;
    struct recipe_optimiser optimiser;
    struct settings_trainer trainer;
    struct settings_producer producer;
    struct settings_evaluator evaluator;
    struct settings_eval eval;
    struct settings_ckpt ckpt;
    struct settings_storage storage;
    struct settings_metrics metrics;
    struct settings_net net;
    struct settings_data data;
    struct settings_pace pace;
    struct settings_replay replay;
    struct settings_security security;
    struct settings_stop stop;
    struct settings_ready ready;
};

// The rows, section after section in the order of the struct.
enum { SETTINGS_MOST = 160 };
extern const struct field settings_rows[];
extern const size_t settings_count; // <= SETTINGS_MOST

struct section {
    const char *name, *doc;
};
extern const struct section settings_sections[];
extern const size_t settings_section_count;
// The section of a row ("loss" of "loss.lambda_s"), and its key behind the dot.
const struct section *settings_section(const struct field *row);
const char *settings_key(const struct field *row);
// The row of that full name, or NULL; its index.
const struct field *settings_row(const char *name);
size_t settings_index(const struct field *row);

// Every default. Cannot fail: a test reads each of them.
void settings_presets(struct settings *set);

// Does a row hold its default?
bool settings_is_preset(const struct settings *set, const struct field *row);

// What model.bos and model.separator mean.
enum token_word { TOKEN_AUTO, TOKEN_NONE, TOKEN_BOS, TOKEN_EOS, TOKEN_ID, TOKEN_BAD };
enum token_word token_word(uint32_t *id, const char *word); // *id is set for TOKEN_ID

// What decides a run's numbers, for lib/sae: all of it but the model's width d.
struct recipe settings_recipe(const struct settings *set, size_t width);
// The lag that pace.lag and pace.mode come to, in batches.
uint32_t settings_lag(const struct settings *set);

#endif
