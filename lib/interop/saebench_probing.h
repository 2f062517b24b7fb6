// saebench_probing: result files of sparse probing in SAEBench's shape, out and in
// (docs/evaluation.md, "Sparse probing").
#ifndef LIB_INTEROP_SAEBENCH_PROBING_H
#define LIB_INTEROP_SAEBENCH_PROBING_H

#include "lib/interop/saebench.h"

#include <stddef.h>

// The K's that the format has room for.
enum { PROBING_KS = 7 };
extern const unsigned probing_ks[PROBING_KS]; // 1, 2, 5, 10, 20, 50, 100

// Test accuracies; NaN: not asked for.
struct probing_scores {
    double all;             // a probe on every column
    double top[PROBING_KS]; // on the best K
};
enum probing_side_of { PROBING_LLM, PROBING_SAE, PROBING_OF }; // channels of the stream, latents

struct probing_class_result {
    char name[64];
    uint64_t train, test; // rows of the task, both sides
    struct probing_scores of[PROBING_OF];
};
struct probing_set_result {
    char name[64];
    struct probing_scores of[PROBING_OF]; // means over the classes
    size_t count;
    struct probing_class_result *classes;
};

struct probing_file {
    struct saebench_head head;
    struct probing_scores of[PROBING_OF]; // means over the sets
    size_t count;
    struct probing_set_result *sets;
    // eval_config, and what it has no room for
    char pool[16];
    uint64_t seed, context, batch, train, test;
    double share;
};
void probing_file_release(struct probing_file *file); // frees the sets
// Means over classes and over sets, from the classes.
void probing_file_means(struct probing_file *file);

// Makes the folder, replaces the file in one rename.
CHECKED enum status saebench_probing_write(const char *path, const struct probing_file *file);
// DAMAGED unless it is a whole file of this kind; ours or SAEBench's own. probing_file_release it.
CHECKED enum status saebench_probing_read(struct probing_file *out, const char *path);

#endif
