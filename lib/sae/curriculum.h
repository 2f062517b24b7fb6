// curriculum: the three phases of the paper, as a function of the step alone.
//     reconstruction   t < t1         alpha = 0
//     sparsity         t1 <= t < t2   alpha = (t - t1) / (t2 - t1), eq. (5)
//     competition      t >= t2        alpha = 1; theta falls from theta_start to theta_end in T
//                                     steps, eq. (6); competition and temporal terms are on
#ifndef LIB_SAE_CURRICULUM_H
#define LIB_SAE_CURRICULUM_H

#include "lib/sae/recipe.h"

struct phase {
    double alpha;   // weight of the sparsity term
    double theta;   // competition threshold (theta_start before its phase)
    bool competing; // competition and temporal terms are on
};

struct phase curriculum_at(const struct recipe_curriculum *curriculum, uint64_t step);
// "reconstruction", "sparsity", "competition"
const char *curriculum_name(const struct recipe_curriculum *curriculum, uint64_t step);

#endif
