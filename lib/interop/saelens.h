// saelens: SAELens folders (cfg.json + sae_weights.safetensors), out and in. Version 6.x;
// architectures standard, topk, jumprelu. Names and shapes are strict both ways.
//     W_enc [d x k]   b_enc [k]   W_dec [k x d]   b_dec [d]   jumprelu: threshold [k]
// W_enc is our W_e transposed. All values are fp32 on the way out; F32, F16, BF16 and F64 are read.
#ifndef LIB_INTEROP_SAELENS_H
#define LIB_INTEROP_SAELENS_H

#include "lib/interop/card.h"
#include "lib/sae/sae.h"
#include "lib/store/safetensors.h"

// Out. The weights of a run as they stand in our layout: borrowed.
struct saelens_source {
    enum arch arch;
    size_t k, d;
    const float *w_enc, *b_enc, *w_dec, *b_dec; // [k x d], [k], [k x d], [d]
    const float *tau;                           // jumprelu: values, [k]
    double running_threshold;                   // batchtopk; below 0 counts as 0
    double scale; // s of `normalize`: the SAE is of s x. Biases and thresholds are divided by it,
                  // W_e and W_d are not: the same SAE on x, rows still of norm 1. 1: off
};
enum { SAELENS_TENSORS = 5 };
// Bytes of the copy that saelens_fill makes; SIZE_MAX on overflow.
size_t saelens_bytes(enum arch arch, size_t k, size_t d);
// Copies everything into `room` (saelens_bytes, aligned for float), lists it for
// safetensors_write and returns how many tensors: afterwards the source may change.
size_t saelens_fill(struct tensor_out out[SAELENS_TENSORS], float *room,
                    const struct saelens_source *from);
// cfg.json and sae_weights.safetensors in a folder that it makes; each file is replaced whole.
// For exports: checkpoints have their own writer. `card` as for card_write.
CHECKED enum status saelens_write(const char *folder, const struct card *card,
                                  const struct saelens_source *from);

// In: weights in the file's form into our layout. tau [k] may be NULL unless arch is jumprelu.
// Refuses wrong names and shapes and values that are not finite (DAMAGED, with the place of the
// first). A negative threshold, which SAELens' relu makes the same as 0, becomes 0.
CHECKED enum status saelens_weights(float *w_enc, float *b_enc, float *w_dec, float *b_dec,
                                    float *tau, const struct safetensors *file, enum arch arch,
                                    size_t k, size_t d);

// An SAE to run: read it with saelens_open, use it with saelens_encode and saelens_decode.
struct saelens {
    struct card card;
    struct sae *sae; // decoder rows of norm 1 (but for rows of zeros)
    // Rows of norm n_i != 1 were folded into the encoder, so that activations have the size they
    // have in the output. A topk that selects by unscaled values gets them by `stretch` [k], after
    // the selection; NULL elsewhere.
    bool folded;
    float *stretch;
};
// Encoding is for up to rows_most rows at a time without further memory. `kern` is borrowed.
CHECKED enum status saelens_open(struct saelens *out, const char *folder, size_t rows_most,
                                 const struct kern *kern);
void saelens_close(struct saelens *saelens);
// For readers of other formats: once the parameters of saelens->sae are filled, brings the decoder
// rows to norm 1 as `folded` and `stretch` say. `where` names it in messages.
CHECKED enum status saelens_unit_rows(struct saelens *saelens, const char *where);
void saelens_encode(struct saelens *saelens, struct mat f, struct mat x);
void saelens_decode(const struct saelens *saelens, struct mat xhat, struct mat f);

// Is it an SAE of the output of block `layer` of a model of this width? CONFIG with one line.
CHECKED enum status saelens_fits(const struct saelens *saelens, const char *folder, uint64_t layer,
                                 size_t width);

#endif
