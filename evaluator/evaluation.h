// evaluation: what can be found out about a checkpoint, one row per kind. The work thread
// (follow.h) opens the rows once, then asks each of every checkpoint: is it due, is there a result
// of an earlier time, else run it. It hands the finding to the trainer, repeats what failed, and
// records what fails for good; a row knows nothing of trainers.
//
// A row is a file of its own, evaluation_KIND.c, and a line in evaluation.c.
//
// 1. `due` depends on the settings and the subject alone: asked again after a restart, or by
//    another evaluator, it says the same.
// 2. A result is a file under SUBJECT.results/KIND/ before `run` returns, whole or not at all,
//    keyed by (mh, spec); `find` sees it.
// 3. `open` and `run` call watch->stop at most some seconds apart and leave with AGAIN when told.
#ifndef EVALUATOR_EVALUATION_H
#define EVALUATOR_EVALUATION_H

#include "config/settings.h"
#include "evaluator/score.h"
#include "proto/named.h"

// What all rows share; it outlives them.
struct desk {
    const struct settings *set;
    const struct kern *kern;
    struct model *model;        // opened whole: model.layer, model.context, model.batch_contexts
    char model_name[CARD_TEXT]; // as result files name it
    char eval_id[37];           // UUID of this run of the evaluator
    const char *rows;           // JSONL of token ids to be used instead of eval.text, or NULL
};
// Opens the model. `set` and `rows` are borrowed.
CHECKED enum status desk_open(struct desk *desk, const struct settings *set, const char *rows);
void desk_close(struct desk *desk); // a zeroed one is fine

// One checkpoint: its folder is readable here, cfg.json and sae_weights.safetensors in it have the
// manifest's hashes. Or any SAE of anybody's (once.h).
struct subject {
    const char *folder;
    const char *run, *ck; // "<run>/<step>-<incarnation>"
    uint64_t step, mh;    // mh: XXH3_64 of its manifest, or of the SAE's files
    bool last;            // the run ends with it
    const char *results;  // the eval folder: files go to results/KIND/
};
// The SAE, ready to run, if it is of the output of the desk's block. saelens_close it.
CHECKED enum status subject_open(struct saelens *out, const struct subject *subject,
                                 const struct desk *desk, size_t rows_most);

// What the trainer is told, and a person reads.
struct finding {
    struct named *values; // at most 256; cleared by the caller
    double seconds;       // it took, also when it was found
    char line[128];       // "CE score 0.9512, L0 71.3"
};

struct evaluation {
    const char *kind; // also the name of its folder: core, absorption, ...
    // *state NULL with OK: switched off by the settings, the row is left out.
    enum status (*open)(void **state, const struct desk *desk, const struct score_watch *watch);
    void (*close)(void **state);
    bool (*due)(void *state, const struct subject *subject);
    struct hash128 (*spec)(void *state); // of all that decides its numbers but the SAE
    enum status (*find)(bool *found, void *state, const struct subject *subject,
                        struct finding *finding);
    enum status (*run)(void *state, const struct subject *subject, struct finding *finding,
                       const struct score_watch *watch);
};

extern const struct evaluation evaluation_core, evaluation_probing, evaluation_absorption;

// Cheap ones first: a checkpoint's evaluations are made in this order.
enum { EVALUATIONS = 3 };
extern const struct evaluation *const evaluations[EVALUATIONS];

#endif
