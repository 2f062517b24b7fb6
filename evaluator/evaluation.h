// evaluation: what can be found out about a checkpoint, one row per kind. The work thread
// (follow.h) opens the rows once, then asks each of every checkpoint: is it due, is there a result
// of an earlier time, else run it. It hands the finding to the trainer, repeats what failed, and
// records what fails for good; a row knows nothing of trainers.
//
// A row is a file of its own, evaluation_KIND.c, and a line in evaluation.c.
//
// 1. What is due depends on the settings and the subject alone: asked again after a restart, or by
//    another evaluator, it is the same.
// 2. A result is a file under SUBJECT.results/KIND/ before `run` returns, whole or not at all,
//    keyed by (mh, spec); evaluation_find sees it.
// 3. `open` and `run` call watch->stop at most some seconds apart and leave with AGAIN when told.
#ifndef EVALUATOR_EVALUATION_H
#define EVALUATOR_EVALUATION_H

#include "config/settings.h"
#include "evaluator/score.h"
#include "lib/interop/saebench.h"
#include "proto/named.h"

// What all rows share; it outlives them.
struct desk {
    const struct settings *set;
    const struct kern *kern;
    struct model *model;        // opened whole: model.layer, model.context, model.batch_contexts
    char model_name[CARD_TEXT]; // as result files name it
    char eval_id[37];           // UUID of this run of the evaluator
    const char *rows;           // JSONL of token ids to be used instead of eval.text, or NULL
    const char *state;          // folder for what a score was made of (rows that can), or NULL
    const char *given;          // such a folder to be scored again, or NULL; no result file then
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
    // The setting that holds its schedule; NULL: every checkpoint.
    const char *key;                                         // eval.absorption
    const char *(*schedule)(const struct settings_eval *of); // its value
    enum status (*open)(void **state, const struct desk *desk, const struct score_watch *watch);
    void (*close)(void **state);
    struct hash128 (*spec)(void *state); // of all that decides its numbers but the SAE
    bool states;                         // run fills desk->state too
    // What a result file says.
    enum status (*tell)(struct finding *finding, const char *path);
    enum status (*run)(void *state, const struct subject *subject, struct finding *finding,
                       const struct score_watch *watch);
};

// *state NULL with OK: switched off by the settings, the row is left out.
CHECKED enum status evaluation_open(void **state, const struct evaluation *evaluation,
                                    const struct desk *desk, const struct score_watch *watch);
bool evaluation_due(const struct evaluation *evaluation, const struct desk *desk,
                    const struct subject *subject);
// Is there a result of an earlier time? A damaged one counts as none.
CHECKED enum status evaluation_find(bool *found, const struct evaluation *evaluation, void *state,
                                    const struct subject *subject, struct finding *finding);

// For the rows: whose result it is going to be, all but the seconds, and the file's name.
CHECKED enum status subject_head(struct saebench_head *out, char path[PATH_BYTES], const char *kind,
                                 const struct subject *subject, const struct desk *desk,
                                 const struct saelens *sae, struct hash128 spec,
                                 const char *profile);

extern const struct evaluation evaluation_core, evaluation_probing, evaluation_absorption;

// Cheap ones first: a checkpoint's evaluations are made in this order.
enum { EVALUATIONS = 3 };
extern const struct evaluation *const evaluations[EVALUATIONS];

#endif
