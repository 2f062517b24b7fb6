// baseline: what all SAEs of one model and text share, kept so that it is computed once: the stream
// at the hook and what the head reads, for the windows of the core and of the variance batches, and
// what the model itself predicts. Filled as the first SAE is scored; optionally a file in the cache
// folder, from which the next process, or the next run on the same model and text, maps it.
#ifndef EVALUATOR_BASELINE_H
#define EVALUATOR_BASELINE_H

#include "evaluator/downstream.h"

#include <stdbool.h>
#include <stddef.h>

// In the order in which memory is given to them.
enum baseline_part {
    BASELINE_PLAIN,    // struct plain_at of the core windows: always kept
    BASELINE_HEAD,     // [core rows x d], the model's own
    BASELINE_CORE,     // [core rows x d], the stream
    BASELINE_VARIANCE, // [variance rows x d], the stream
    BASELINE_PARTS
};

struct baseline;

// Rows of the core and of the variance windows; keep_most: bytes, but for PLAIN. cache: a folder or
// NULL; key: the hash of everything that decides the content. A file found there is mapped and
// verified; a damaged one is said and made again.
CHECKED enum status baseline_new(struct baseline **out, size_t core, size_t variance, size_t width,
                                 size_t keep_most, const char *cache, struct hash128 key);
void baseline_free(struct baseline **baseline);
size_t baseline_bytes(const struct baseline *baseline); // of memory; mapped files not counted

// Rows from `row` on, `rows` of them, to be read; NULL when they are not known yet or not kept.
const void *baseline_get(const struct baseline *baseline, enum baseline_part part, size_t row,
                         size_t rows);
// Room to write them to before baseline_put says that they are there; NULL when they are not kept.
void *baseline_room(struct baseline *baseline, enum baseline_part part, size_t row);
void baseline_put(struct baseline *baseline, enum baseline_part part, size_t row, size_t rows);
// Everything is there: writes the file, once, if a cache was given. Trouble is said, not returned:
// the numbers do not need the file.
void baseline_save(struct baseline *baseline);

#endif
