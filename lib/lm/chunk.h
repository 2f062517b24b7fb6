// chunk: some documents of a corpus, tokenised by several threads, kept in order.
//
// Long documents are cut where that changes no id (tokenizer_cut), short ones are gathered, so the
// threads get parts of like size; the ids do not depend on how many threads there are.
#ifndef LIB_LM_CHUNK_H
#define LIB_LM_CHUNK_H

#include "lib/lm/corpus.h"
#include "lib/lm/tokenizer.h"

struct chunk_part {
    size_t at, bytes;       // in the text
    size_t job, ids, count; // its ids: count of them from `ids` in the list of that job
    size_t added;           // added tokens found
};
struct chunk_document {
    size_t bytes, first, last; // parts first..last - 1
    uint64_t invalid;
};
struct chunk_job;

struct chunk {
    const struct tokenizer *tokenizer;
    enum tokenizer_special special;
    int threads;
    struct tokenizer_cache **caches; // [threads]
    struct text_list text;
    struct chunk_document *documents;
    size_t document_count, document_room;
    struct chunk_part *parts;
    size_t part_count, part_room;
    struct chunk_job *jobs;
    size_t job_count, job_room; // jobs beyond job_count keep their memory
};

// `threads` 0: OpenMP's number. The tokenizer is borrowed.
CHECKED enum status chunk_init(struct chunk *c, const struct tokenizer *t,
                               enum tokenizer_special special, int threads);
void chunk_release(struct chunk *c);

void chunk_clear(struct chunk *c);
CHECKED enum status chunk_put(struct chunk *c, const struct corpus_document *document); // copied
bool chunk_is_full(const struct chunk *c); // a few megabytes: time to tokenise

CHECKED enum status chunk_tokenise(struct chunk *c);
// After that: the ids of a part, valid until chunk_clear.
const uint32_t *chunk_ids(const struct chunk *c, const struct chunk_part *part);

#endif
