// sae: the sparse autoencoder.  Its parameters and the two maps of eq. (1); nothing about training.
//     f    = sigma(W_e x + b_e)     x [B x d] -> f    [B x k]
//     xhat = W_d f + b_d            f [B x k] -> xhat [B x d]
// W_d is stored transposed, [k x d]: latent i is row i of both matrices. With pre_bias the encoder
// sees x - b_d.
#ifndef LIB_SAE_SAE_H
#define LIB_SAE_SAE_H

#include "lib/kern/kern.h"
#include "lib/sae/recipe.h"

enum sae_param {
    SAE_W_ENC,     // [k x d]
    SAE_B_ENC,     // [1 x k]
    SAE_W_DEC,     // [k x d]
    SAE_B_DEC,     // [1 x d]
    SAE_THRESHOLD, // [1 x k] jumprelu: tau or log tau, as recipe_sae.threshold says
    SAE_PARAMS
};
// "W_enc", "b_enc", "W_dec", "b_dec", "threshold" or "log_threshold"
const char *sae_param_name(const struct recipe_sae *set, enum sae_param param);
// Rows and columns; 0 x 0 for a parameter that the architecture does not have.
void sae_param_shape(size_t *rows, size_t *cols, const struct recipe_sae *set, size_t d,
                     enum sae_param param);

struct sae;

// Takes all the memory it will ever need: the parameters (zero until start_weights or a copy into
// sae_param) and a little scratch for encoding up to rows_most rows at a time (more rows are done
// in pieces). `kern` is borrowed and must outlive the sae. CREATE when there is no memory.
CHECKED enum status sae_new(struct sae **out, const struct recipe_sae *set, size_t d,
                            size_t rows_most, const struct kern *kern);
void sae_free(struct sae **sae); // NULL is fine; leaves NULL behind
size_t sae_bytes(const struct recipe_sae *set, size_t d, size_t rows_most); // SIZE_MAX: overflow

const struct recipe_sae *sae_settings(const struct sae *sae);
size_t sae_width(const struct sae *sae); // d

// A view of a parameter: ours to keep, the caller's to read and fill. rows is 0 where there is
// none.
struct mat sae_param(const struct sae *sae, enum sae_param param);
// BatchTopK: what z must exceed at inference; negative until a batch has been seen.
double *sae_running_threshold(struct sae *sae);

// Inference. Outputs come first. x and f may have any number of rows; these cannot fail.
// BatchTopK uses its running threshold (an unset one counts as 0).
void sae_encode(struct sae *sae, struct mat f, struct mat x);
void sae_decode(const struct sae *sae, struct mat xhat, struct mat f);
// tau as values, whatever form is kept: [k], valid until the next call; NULL but for jumprelu.
const float *sae_tau(struct sae *sae);

#endif
