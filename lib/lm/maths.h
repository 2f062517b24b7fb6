// maths: the functions of a transformer on rows of floats. Plain loops that compilers vectorise;
// fixed formulas instead of the C library's, so that bits do not change with it, accurate to a few
// units in the last place. Every sum has one order.
#ifndef LIB_LM_MATHS_H
#define LIB_LM_MATHS_H

#include "lib/lm/arch.h"

#include <stddef.h>

// e^x to 2e-7 relative for -87 < x < 88; beyond that the value at the border; NaN stays NaN.
void maths_exp(float *x, size_t n);

// x = cap tanh(x / cap)
void maths_softcap(float *x, size_t n, float cap);

// h = act(h), or y = act(h) * up, where y may be h:  silu(x) = x / (1 + e^-x);  gelu_tanh(x) = x /
// (1 + e^-2u) with u = sqrt(2/pi) (x + 0.044715 x^3), which is 0.5 x (1 + tanh u);  gelu_erf(x) =
// 0.5 x (1 + erf(x / sqrt 2)).
void maths_activate(float *h, size_t n, enum activation activation);
void maths_gate(float *y, const float *h, const float *up, size_t n, enum activation activation);

// y = x / sqrt(mean(x^2) + eps) * w; y may be x.
void maths_rms(float *y, const float *x, const float *w, size_t n, double eps);
// y = (x - mean) / sqrt(var + eps) * w + b; y may be x.
void maths_layer_norm(float *y, const float *x, const float *w, const float *b, size_t n,
                      double eps);

// The first 2 * half dimensions of a head turn by the angles whose cosines and sines [half] are
// given: dimension i pairs with i + half.
void maths_rope(float *x, const float *cosine, const float *sine, size_t half);

#endif
