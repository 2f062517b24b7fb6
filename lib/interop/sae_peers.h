// sae_peers: how each peer's file says what our SAE is: which array is which matrix, turned which
// way. Used by sae_folder, which knows the files; docs/formats.md has the formulas.
#ifndef LIB_INTEROP_SAE_PEERS_H
#define LIB_INTEROP_SAE_PEERS_H

#include "lib/interop/arrays.h"
#include "lib/interop/sae_folder.h"

#include <jansson.h>

struct sae_parts {
    struct card card; // arch, width, latents, topk, apply_b_dec_to_input, origin
    const struct array *w_enc, *b_enc, *w_dec, *b_dec;
    bool enc_turned;               // W_enc is [d x k], not [k x d]
    bool dec_turned;               // W_dec is [d x k], not [k x d]
    const struct array *threshold; // [k], or NULL:
    double running;                // one for all of jumprelu
    struct arrays arrays;
    json_t *json; // of the card's file, or NULL
};

// Fills everything but arrays and json, which are open.
typedef enum status sae_peer_read(struct sae_parts *parts, const struct sae_folder *folder);
sae_peer_read sae_peer_dictionary_learning, sae_peer_sparsify, sae_peer_gemma_scope,
    sae_peer_gemma_scope_2;

CHECKED enum status sae_parts_open(struct sae_parts *out, sae_peer_read *read,
                                   const struct sae_folder *folder);
void sae_parts_close(struct sae_parts *parts);
CHECKED enum status sae_parts_build(struct saelens *out, const struct sae_parts *parts,
                                    const char *where, size_t rows_most, const struct kern *kern);

#endif
