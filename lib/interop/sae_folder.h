// sae_folder: an SAE by whoever made it. The format is known by what lies in the folder, not by its
// name; docs/formats.md, "SAEs of others", lists the formats and what of each can be run.
#ifndef LIB_INTEROP_SAE_FOLDER_H
#define LIB_INTEROP_SAE_FOLDER_H

#include "lib/base/file.h"
#include "lib/interop/saelens.h"

enum sae_kind {
    SAE_SAELENS,             // cfg.json + sae_weights.safetensors: SAELens, our own checkpoints
    SAE_SPARSIFY,            // cfg.json + sae.safetensors
    SAE_DICTIONARY_LEARNING, // config.json + ae.pt
    SAE_GEMMA_SCOPE,         // params.npz
    SAE_GEMMA_SCOPE_2,       // config.json + params.safetensors
    SAE_KINDS
};

struct sae_folder {
    enum sae_kind kind;
    char path[PATH_BYTES]; // the folder
    char card[PATH_BYTES]; // its JSON file; "" where the format has none
    char weights[PATH_BYTES];
};

// Looks at a folder, or at the file of weights in one; reads no content. MISSING or DAMAGED say
// what is there and what would do.
CHECKED enum status sae_folder_find(struct sae_folder *out, const char *path);
// What it is and of which hook, without the weights.
CHECKED enum status sae_folder_card(struct card *out, const struct sae_folder *folder);
// Ready to run, as saelens_open.
CHECKED enum status sae_folder_open(struct saelens *out, const struct sae_folder *folder,
                                    size_t rows_most, const struct kern *kern);
// XXH3_64 of the files' bytes: which SAE this is, whatever its folder is called.
CHECKED enum status sae_folder_hash(uint64_t *out, const struct sae_folder *folder);

#endif
