// packed: a corpus as contexts of token ids, on disk, made once and mapped from then on.
//
//     CACHE/tokens/KEY.u32     contexts x C ids, u32, little-endian: context c is at byte 4 C c
//     CACHE/tokens/KEY.json    what it holds: counts, hash of the ids
//     CACHE/tokens/KEY.lock    locked by who makes it; others wait and then find it made
//
// KEY is the hash of everything that decides the ids: the bytes of the text files, their kinds and
// order, the field, the tokenizer, how special tokens in text are read, BOS, separator, C, and the
// bound on tokens. Names and places of files do not matter, nor does the number of threads: it is
// the same file, byte for byte. It appears under its name only when whole; one that was damaged
// (its size or hash is not what the .json says) is made again.
#ifndef LIB_LM_PACKED_H
#define LIB_LM_PACKED_H

#include "lib/lm/corpus.h"
#include "lib/lm/tokenizer.h"

struct packed_settings {
    const struct texts *files;
    const char *field; // of JSONL; NULL is "text"
    enum tokenizer_special special;
    size_t context;          // C, from 2 to 2^20
    uint32_t bos, separator; // TOKEN_ABSENT: none
    uint64_t tokens;         // at most so many ids in whole contexts; 0: all
    int threads;             // 0: as many as OpenMP takes
    const char *cache;       // folder; made if it is missing
};

enum packed_phase { PACKED_HASHING, PACKED_WAITING, PACKED_TOKENISING };
struct packed_progress {
    enum packed_phase phase;
    uint64_t bytes_done, bytes_total; // of the files as they lie on disk
    uint64_t tokens;                  // packed so far
};
// Called several times a second from the thread that called packed_open; a status other than OK
// (made with FAIL) ends the work and is handed on, and nothing is left behind.
typedef enum status packed_watch(void *context, const struct packed_progress *progress);

// Opens the finished file, making it first if need be. `watch` may be NULL. The tokenizer and the
// settings are borrowed for this call. CONFIG: the text gives no whole context, or C is out of
// range; CREATE: too little disk; and whatever corpus.h says.
struct packed;
CHECKED enum status packed_open(struct packed **out, const struct tokenizer *t,
                                const struct packed_settings *settings, packed_watch *watch,
                                void *context);
void packed_close(struct packed **packed); // NULL is fine; leaves NULL behind

// [contexts x C], mapped read-only until packed_close; at least one context.
const uint32_t *packed_ids(const struct packed *packed);
size_t packed_contexts(const struct packed *packed);
size_t packed_context(const struct packed *packed); // C
// XXH3-128 of the bytes of the ids: what the identity of a stream is made from.
struct hash128 packed_hash(const struct packed *packed);
const char *packed_path(const struct packed *packed);
bool packed_was_made(const struct packed *packed); // by this call, or found

// Of the documents that went into it (the last may have gone in partly).
struct packed_counts {
    uint64_t documents, text_bytes;
    uint64_t invalid; // parts of UTF-8 that were replaced
    uint64_t added;   // added tokens found in text, whatever `special` made of them
};
struct packed_counts packed_counts(const struct packed *packed);

#endif
