// absorption: is "starts with this letter" carried by other latents than those that stand for it?
// The rules of SAEBench's first-letter evaluation for a letter and for a word, on numbers that
// others have measured (docs/evaluation.md, "Absorption").
#ifndef EVALUATOR_ABSORPTION_H
#define EVALUATOR_ABSORPTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// How many latents stand for a letter: f1[i] is the F1 of the probe on the best i + 1 latents. The
// first always counts; each further one must beat the best so far by `jump`; the first that does
// not ends it. At least 1, at most count.
size_t absorption_split(const double *f1, size_t count, double jump);

// A word: x projected on the letter's unit probe direction u, the share of it each latent carries.
//     p = x . u        q_j = f_j c_j        c_j = cos(u, w_j), right for decoder rows of norm 1
//     M = sum of q over the main latents
//     A = the 3 largest q_j > 0 of other latents with c_j >= 0.1, together
//     fraction = 0 where M >= p or A < 0.4 p; 1 where M <= 0; else min(A, p - M) over itself + M
//     full: every main latent silent, and the latent with the largest q_j has c_j >= 0.025 and
//           carries at least 0.4 p, with p > 0
struct absorbed {
    double projection; // p
    double fraction;   // 0 .. 1
    bool full;
    size_t top; // the latent with the largest q_j
    double top_projection;
};
// cosines [latents]; f as its non-zero entries: index ascending, value [active].
struct absorbed absorption_word(double projection, const double *cosines, size_t latents,
                                const uint32_t *index, const float *value, size_t active,
                                const uint32_t *main, size_t mains);

// c_j of a probe direction [d] with decoder rows [latents x d]; the direction's norm comes back.
double absorption_cosines(double *cosines, const float *direction, const float *decoder,
                          size_t latents, size_t d);

#endif
