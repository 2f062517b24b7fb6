// probing_chosen: a labelled set as the settings want it: texts drawn, one task a class, the stream
// of its texts, and what all SAEs are compared with.
//
// 1. What is drawn depends on the set and the settings alone; a task draws for itself, so that a
//    class more or less changes no other's.
#ifndef EVALUATOR_PROBING_CHOSEN_H
#define EVALUATOR_PROBING_CHOSEN_H

#include "config/settings.h"
#include "evaluator/probing.h"
#include "evaluator/probing_stream.h"
#include "lib/base/bytes.h"
#include "lib/interop/saebench_probing.h"

enum { PROBING_SEED = 42, PROBING_SETS = 64 };

struct probing_chosen {
    struct probing_set set;
    uint32_t *texts; // [count], of set.texts; rows of pooled are places here
    size_t count;
    struct probing_stream *stream;
    struct probing_task tasks[PROBING_CLASSES][PROBING_SIDES];
    struct probing_scores llm[PROBING_CLASSES]; // the stream's own, once `compared`
    bool compared;
};

// The files that eval.probe_sets names, and the .jsonl files of the folders it names, by name;
// CONFIG for none and for more than PROBING_SETS. The caller frees paths[0 .. *count), on failure
// too.
CHECKED enum status probing_chosen_paths(char *paths[PROBING_SETS], size_t *count,
                                         const struct texts *named);
CHECKED enum status probing_chosen_open(struct probing_chosen *out, const char *path,
                                        const struct settings *set, const struct probing_plan *plan,
                                        struct model *model, const struct tokenizer *tokenizer);
void probing_chosen_close(struct probing_chosen *chosen); // a zeroed one is fine
// Of all that is drawn, and of the stream.
void probing_chosen_hash(const struct probing_chosen *chosen, struct hasher *hasher);

#endif
