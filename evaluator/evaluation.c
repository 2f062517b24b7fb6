#include "evaluator/evaluation.h"

const struct evaluation *const evaluations[EVALUATIONS] = {
    &evaluation_core,
};
