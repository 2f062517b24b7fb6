// attention: causal attention of one head over one context, in fp32.
//     s_tj = q_t . k_j  (the scale is already in q), softcapped if asked
//     keys t - window < j <= t (window 0: all up to t)
//     o_t = sum_j softmax(s_t)_j v_j
// The scores of four positions are computed at a time; nothing of size C x C is kept.
#ifndef LIB_LM_ATTENTION_H
#define LIB_LM_ATTENTION_H

#include <stddef.h>

struct attention {
    size_t context; // C
    size_t dim;     // D
    size_t window;  // 0: none
    float cap;      // 0: none
};

// Floats that one call may scribble on, aligned to 64 bytes.
size_t attention_scratch(const struct attention *how);

// q, k, v: row t at t * stride; o: row t at t * o_stride.
void attention_head(float *o, size_t o_stride, const float *q, const float *k, const float *v,
                    size_t stride, const struct attention *how, float *scratch);

#endif
