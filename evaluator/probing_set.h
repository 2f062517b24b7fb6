// probing_set: labelled texts for sparse probing, one JSONL file a set:
//     {"text": "...", "label": "fr", "split": "train"}
// `label` is words or a whole number. `split` is train or test; where it is missing a fifth of the
// texts, chosen by their hash, are for testing. The set is called after its file.
#ifndef EVALUATOR_PROBING_SET_H
#define EVALUATOR_PROBING_SET_H

#include "lib/base/bytes.h"
#include "lib/base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { PROBING_NAME = 64, PROBING_CLASSES = 64, PROBING_SIDES = 2 };
enum probing_side { PROBING_TRAIN, PROBING_TEST };

struct probing_text {
    const char *at; // in probing_set.bytes
    size_t bytes;
    uint16_t class;
    uint16_t side; // enum probing_side
};

struct probing_set {
    char name[PROBING_NAME];
    char classes[PROBING_CLASSES][PROBING_NAME]; // by name, ascending
    size_t class_count;
    struct probing_text *texts; // in the file's order, those of the classes above
    size_t count;
    size_t counts[PROBING_CLASSES][PROBING_SIDES];
    char *bytes;
};

struct probing_choice {
    size_t classes; // at most so many, those with most training rows; 0: all
    size_t skip;    // bytes, at a character, dropped from the front of each text
};

// DAMAGED: a line that is no such object, more than PROBING_CLASSES labels. CONFIG: fewer than two
// classes with rows on both sides (the others are said and left out).
CHECKED enum status probing_set_open(struct probing_set *out, const char *path,
                                     const struct probing_choice *choice);
void probing_set_close(struct probing_set *set); // a zeroed one is fine

#endif
