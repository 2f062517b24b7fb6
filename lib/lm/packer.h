// packer: documents of token ids -> contexts of C ids, as SAELens packs them
// (`concat_and_batch_sequences`; docs/models.md).
//
// One context is open at a time, empty or holding 1..C-1 ids. Of each document, until it is used
// up:
//     the open context is empty       put BOS, unless the document's next id is BOS already
//     not empty (a document begins)   put the separator, unless the document begins with it
//     then as many ids as fit; a full context is emitted
// So a separator may take the last place, and every context begins with BOS. The unfinished context
// at the end of the data is dropped. A document without ids adds nothing. No mask is kept: a
// context is one sequence for attention.
#ifndef LIB_LM_PACKER_H
#define LIB_LM_PACKER_H

#include "lib/lm/grow.h"

#include <stdbool.h>

struct packer {
    size_t context;          // C, at least 2
    uint32_t bos, separator; // TOKEN_ABSENT: none
    uint32_t *open;          // [C]
    size_t held;
    bool begins; // the next id is the first of a document
};

CHECKED enum status packer_init(struct packer *p, size_t context, uint32_t bos, uint32_t separator);
void packer_release(struct packer *p);

// A document begins; packer_add then brings its ids, in as many pieces as is convenient. Full
// contexts are appended to `out`, C ids each.
void packer_begin(struct packer *p);
CHECKED enum status packer_add(struct packer *p, struct token_list *out, const uint32_t *ids,
                               size_t count);

#endif
