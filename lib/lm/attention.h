// attention: causal attention of one head over one context, in fp32.
//     s_tj = q_t . k_j  (the scale is already in q), softcapped if asked
//     keys t - window < j <= t (window 0: all up to t)
//     o_t = sum_j softmax(s_t)_j v_j
// The scores of four positions are computed at a time; nothing of size C x C is kept. The bits of
// o_t depend on q_t and on the keys and values it sees alone, in contexts of at least four.
#ifndef LIB_LM_ATTENTION_H
#define LIB_LM_ATTENTION_H

#include <stddef.h>

enum { ATTENTION_ROWS = 4 };

struct attention {
    size_t context; // C
    size_t dim;     // D
    size_t window;  // 0: none
    float cap;      // 0: none
    size_t first;   // < C: the first position whose o is wanted
    size_t count;   // and how many are; 0: all that follow
};

// Floats that one call may scribble on, aligned to 64 bytes.
size_t attention_scratch(const struct attention *how);

// q, k, v: row t at t * stride; o: row t at (t - first) * o_stride.
void attention_head(float *o, size_t o_stride, const float *q, const float *k, const float *v,
                    size_t stride, const struct attention *how, float *scratch);

#endif
