// saebench_absorption: result files of the first-letter absorption evaluation in SAEBench's shape,
// out and in (docs/evaluation.md, "Absorption"). SAEBench's own means and letters stand under its
// names; what only we have stands under eval_result_unstructured.osae.
#ifndef LIB_INTEROP_SAEBENCH_ABSORPTION_H
#define LIB_INTEROP_SAEBENCH_ABSORPTION_H

#include "lib/interop/saebench.h"

#include <stddef.h>

enum { ABSORPTION_LETTERS = 26, ABSORPTION_MAINS = 10 };

// A letter that has words. NaN: undefined.
struct absorption_letter {
    char letter;             // 'a'
    bool used;               // in the means: its truth probe is good enough
    double f1;               // of the truth probe, on test words
    uint64_t true_positives; // test words that it gets right: what is looked at
    double fraction;         // mean over them
    uint64_t full;           // of them
    uint64_t missed;         // of those, also missed by the k-sparse probe: SAEBench before 2025
    uint64_t mains;          // split latents, and how good the best k are for k = 1, 2, ...
    uint32_t main[ABSORPTION_MAINS];
    uint64_t tried;
    double k_f1[ABSORPTION_MAINS];
};

// A mean over letters, the sample standard deviation over them, and the 95 % interval of the mean
// when the words of each letter are drawn anew (the letters stay). NaN: undefined.
struct absorption_mean {
    double value, std_dev, low, high;
};

struct absorption {
    struct absorption_mean fraction, full, splits; // over the letters that are used
    struct absorption_mean missed;                 // over all letters with true positives
    struct absorption_letter letters[ABSORPTION_LETTERS];
    size_t count;  // of them, ascending
    uint64_t used; // of them
    uint64_t words, train, test, unfit, examples, resamples;
    double mean_f1; // of the letters used
};

struct absorption_file {
    struct saebench_head head;
    struct absorption absorption;
    // eval_config
    uint64_t seed, batch;
    double jump, least_f1;
    uint64_t most_latents, least_letters;
};

// Makes the folder, replaces the file in one rename.
CHECKED enum status saebench_absorption_write(const char *path, const struct absorption_file *file);
// DAMAGED unless it is a whole absorption file; ours or SAEBench's own (then what only ours has is
// NaN, 0 or empty, and only the letters in the means are there). On failure *out is undefined.
CHECKED enum status saebench_absorption_read(struct absorption_file *out, const char *path);

#endif
