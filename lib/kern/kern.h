// kern: the numeric kernels, one table per backend.
//     ref   naive and double-summed, to be read beside the paper: the oracle
//     cpu   the same numbers fast: oneDNN products, OpenMP, sparse paths
// KERN_LIST names each kernel once; the table, every backend and the test grow from it.
//
// Rules of all kernels: outputs come first; shapes are asserted; nothing is allocated; nothing
// fails. An output may alias an input only where said. Every sum has one order whatever the number
// of threads, so one thread and many give the same bits. Totals are summed in fp64.
//
// Letters as in docs/maths.md: B rows of a batch, d model width, k latents. Feature i is row i of
// W_e [k x d] and of W_d [k x d]. "eq." are the paper's equations.
#ifndef LIB_KERN_KERN_H
#define LIB_KERN_KERN_H

#include "lib/base/status.h"
#include "lib/kern/active.h"
#include "lib/kern/mat.h"

// Memory a kernel may scribble on; kern->scratch_bytes says how much suffices for all of them.
struct scratch {
    void *at; // 64-byte aligned
    size_t bytes;
};

// JumpReLU's straight-through estimators (paper reference: Rajamanoharan et al. 2024), with the
// rectangle K(u) = 1[|u| < 1/2]:
//     d f / d tau         = -(tau / width) K((z - tau) / width)
//     d 1[z > tau]/d tau  = -(1 / width)   K((z - tau) / width)
struct jump {
    struct mat z;     // [B x k], before the jump
    const float *tau; // [k] thresholds
    float width;      // the bandwidth
    float step;       // dL / d 1[z > tau], the same for every entry (the L0 term's weight)
    float *gtau;      // [k] out of gate and gate_active: dL/dtau; not used by gather
};

// What pulls on f beside the reconstruction: the sparsity term and eq. (7).
struct pull {
    float l1;          // dL/df of an L1 term: alpha lambda_s / B
    float tanh;        // weight of sum tanh(4 f): alpha lambda_s / B, or 0
    float temporal;    // 2 lambda_t / B, or 0: no temporal term
    struct mat before; // f that came before, [B x k], a constant
    // NULL: row b of `before` precedes row b. Else `before` may be f itself, and row b - 1 precedes
    // row b where bit b (byte b / 8, low bit first) is 1; other rows feel no pull.
    const unsigned char *follows;
};

// The competition term, eq. (3) and (4):
//     weight * sum over i != j with c_ij > theta of c_ij (w_i . w_j)^2,  c_ij = cos(f_i, f_j)
struct rivals {
    struct mat f; // [B x k]
    struct mat w; // [k x d], W_d
    float theta;  // >= 0
    float weight; // lambda_o
    bool through; // differentiate c as well; else c is a constant of the step
};
struct rivalry {
    double loss;  // as it enters the loss
    double pairs; // unordered pairs with c_ij > theta
};

struct adam_rates {
    double lr, beta1, beta2, eps;    // in fp64: 1 - beta2 is small
    double scale;                    // of the gradient: the clip
    double correction1, correction2; // 1 - beta^t, t counted from 1
};

// clang-format off
// K(result, name, arguments)
#define KERN_LIST(K)                                                                               \
    /* Inputs: out = scale x - bias; bias may be NULL; out may be x. */                            \
    K(void, shift, (struct mat out, struct mat x, float scale, const float *bias))                 \
    /* sum_b |x_b - mean x|^2: what an FVU of 1 would leave; mean_norm, if not NULL: mean |x_b| */ \
    K(double, spread, (struct mat x, double *mean_norm))                                           \
                                                                                                   \
    /* Eq. (1): z [B x k] = x w^T + bias [k]. */                                                   \
    K(void, encode, (struct mat z, struct mat x, struct mat w, const float *bias))                 \
    /* Eq. (1): sigma. f may be z. Kept values are > 0, all else is 0. */                          \
    K(void, relu, (struct mat f, struct mat z))                                                    \
    /* The n largest of relu(z) in each row; equal values: the lower index first. */               \
    K(void, topk, (struct mat f, struct mat z, size_t n, struct scratch tmp))                      \
    /* The n largest of the whole relu(z), ties in row-major order. Yields the least kept, or 0. */\
    K(float, batchtopk, (struct mat f, struct mat z, size_t n, struct scratch tmp))                \
    /* z where z > tau_i and z > 0. */                                                             \
    K(void, jumprelu, (struct mat f, struct mat z, const float *tau))                              \
    /* Counts the active entries and lists them if there is room. jump NULL: entries are f > 0. */ \
    K(void, gather, (struct active *a, struct mat f, const struct jump *jump))                     \
    /* Eq. (1): xhat [B x d] = f w + bias [d]. Looks at the density of f itself. */                \
    K(void, decode, (struct mat xhat, struct mat f, struct mat w, const float *bias))              \
                                                                                                   \
    /* Eq. (2): yields mean_b |x - xhat|^2; g = dL/dxhat = (2 weight / B) (xhat - x), which may   */\
    /* be xhat; gbias [d] = its column sums. */                                                    \
    K(double, residual, (struct mat g, float *gbias, struct mat xhat, struct mat x, float weight)) \
    /* gf [B x k] = g w^T, or += */                                                                \
    K(void, features_back, (struct mat gf, struct mat g, struct mat w, bool add))                  \
    /* gf = dL/df becomes dL/dz: adds `pull`, yields gtau (jump may be NULL), closes the gate     */\
    /* where f = 0; gbias [k] = column sums. */                                                    \
    K(void, gate, (struct mat gf, float *gbias, struct mat f, struct pull pull,                    \
                   const struct jump *jump))                                                       \
    /* gw [k x d] = a^T b, or +=; a [B x k], b [B x d] */                                          \
    K(void, weights, (struct mat gw, struct mat a, struct mat b, bool add))                        \
    /* The same along lists. reconstruct = decode, residual and features_back (into a->grad).     */\
    K(double, reconstruct_active, (struct active *a, struct mat g, float *gbias, struct mat x,     \
                                   struct mat w, const float *bias, float weight))                 \
    K(void, gate_active, (struct active *a, float *gbias, struct mat f, struct pull pull,          \
                          const struct jump *jump))                                                \
    /* gw = sum over the entries of `of` (a->value or a->grad) times rows of b, or += */           \
    K(void, weights_active, (struct mat gw, const struct active *a, const float *of, struct mat b, \
                             bool add))                                                            \
    /* gbias [d] -= sum_i coefficient_i w_i: the way from dL/dz to b_d when pre_bias is on */      \
    K(void, pre_bias_back, (float *gbias, const float *coefficients, struct mat w))                \
                                                                                                   \
    /* sum over entries of tanh(4 f) */                                                            \
    K(double, tanh_sum, (struct mat f))                                                            \
    /* Eq. (7) without its weight: sum_b |f_b - before_b|^2 over the rows that count. */           \
    K(double, temporal, (struct mat f, struct mat before, const unsigned char *follows))           \
    /* Eq. (3), (4). gw [k x d] += dL/dW_d. gf [B x k] is scratch, and if `through` becomes dL/df */\
    /* of this term (then turned [k x B] is scratch too). Never holds a k x k matrix. */           \
    K(struct rivalry, compete, (struct mat gw, struct mat gf, struct mat turned,                   \
                                const struct rivals *rivals, struct scratch tmp))                  \
    /* The same by co-activations along lists; if `through`, a->grad += dL/df of this term. */     \
    K(struct rivalry, compete_active, (struct mat gw, struct active *a,                            \
                                       const struct rivals *rivals, struct scratch tmp))           \
                                                                                                   \
    K(double, square_sum, (struct mat g))                                                          \
    /* m.at NULL means beta1 = 0. If unit_rows, every row of w then gets norm 1. */                \
    K(void, adam, (struct mat w, struct mat m, struct mat v, struct mat g,                         \
                   struct adam_rates rates, bool unit_rows))                                       \
    K(void, unit_rows, (struct mat w))
// clang-format on

// clang-format off
struct kern {
    const char *name;
    // Scratch that suffices for every kernel at these shapes and the present number of threads;
    // SIZE_MAX on overflow.
    size_t (*scratch_bytes)(size_t B, size_t d, size_t k);
#define K(result, name, arguments) result(*name) arguments;
    KERN_LIST(K)
#undef K
};
// clang-format on

extern const struct kern kern_ref, kern_cpu;

// "auto" (the fastest there is), "ref", "cpu" or "cuda:N". The table is static. CONFIG for a device
// that this build lacks or a word that means none. `where` begins the message ("run.yaml:3").
CHECKED enum status kern_open(const struct kern **out, const char *device, const char *where);

// Bytes of memory the backend's machine has.
size_t kern_memory(void);
// Zeroed memory, 64-byte aligned, on huge pages where they help. NULL: there is none. kern_give
// takes what kern_take gave, or NULL.
void *kern_take(size_t bytes);
void kern_give(void *at);

#endif
