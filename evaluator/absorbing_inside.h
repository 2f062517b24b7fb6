// absorbing_inside: what absorbing.c (words and means) and absorbing_mains.c (which latents stand
// for a letter) share; nobody else includes it.
#ifndef EVALUATOR_ABSORBING_INSIDE_H
#define EVALUATOR_ABSORBING_INSIDE_H

#include "evaluator/absorbing.h"

// Of one class.
struct absorbing_mains {
    uint32_t main[ABSORPTION_MAINS]; // the best first
    size_t count;                    // of them are main latents
    double f1[ABSORPTION_MAINS];     // of the best i + 1
    size_t tried;
    bool *heard; // [test]: does the k-sparse probe of the main latents say yes?
};

// One SAE being measured.
struct absorbing {
    const struct absorbing_plan *plan;
    const struct letters *letters;
    struct saelens *sae;
    const struct score_watch *watch;
    size_t latents, slice;
    float *f, *x;    // [slice x latents], [slice x d]
    uint32_t *index; // [latents], the active ones of a row
    float *value;
    struct absorbing_mains mains[LETTERS];
};

// AGAIN when the watch says so.
CHECKED enum status absorbing_go_on(const struct absorbing *job, const char *what, double share);
// job->f [rows x latents] of x [rows x d], rows <= slice. DAMAGED where it is not finite.
CHECKED enum status absorbing_encode(struct absorbing *job, const float *x, size_t rows);
// Fills job->mains.
CHECKED enum status absorbing_find_mains(struct absorbing *job);

#endif
