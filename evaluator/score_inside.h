// score_inside: what score.c (what is held) and score_sae.c (how it is measured) share; of its
// functions evaluation_probing.c uses the two that take memory.
#ifndef EVALUATOR_SCORE_INSIDE_H
#define EVALUATOR_SCORE_INSIDE_H

#include "evaluator/baseline.h"
#include "evaluator/score.h"

struct score {
    struct score_plan plan;
    struct model *model;
    const uint32_t *windows;
    size_t count, width, vocab, rows; // rows: of a batch, B C
    struct hash128 spec;
    struct baseline *baseline;
    char memory[256];
    size_t bytes;
    // one batch
    uint32_t *ids;          // [rows]
    uint32_t *kept;         // [rows], the places of tokens that count
    uint64_t *window;       // [rows], of those
    float *x, *y, *head;    // [rows x d]: the stream, what replaces it, the model's own head input
    struct plain_at *plain; // [rows]
    // one slice of kept rows
    size_t slice;
    float *z, *moved;          // [slice x V]
    float *head_at, *moved_at; // [slice x d]
    uint32_t *next;            // [slice]
    struct moved_at *values;   // [slice]
    float *abl;                // [V], where zeros do not make zeros
    double abl_normaliser;
    struct moved_at *zeros; // [slice]
};

// Zeroed memory for *(T **)pointer; adds its size to *total. CREATE when there is none.
CHECKED enum status score_take(void *pointer, size_t count, size_t size, size_t *total);
// Rows of activations that are held at a time.
size_t score_latent_rows(size_t latents, size_t rows);

#endif
