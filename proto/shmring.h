// shmring: a producer's ring of batches in memory that the trainers of the same machine map, so
// that a batch for any number of them is written once and copied never.
//
//   head, a page | slot heads, 64 bytes each, to the next page | payload 0 | payload 1 | ...
//
// 1. The memory has no name: it is a memfd, found as descriptor `fd` of process `pid`. When the
// last
//    process that holds it ends, however it ends, it is gone: nothing is left to sweep.
// 2. It is sealed against shrinking before anybody hears of it, so no reader can be made to touch
//    what is not there. Readers map it read-only and check size, seals, magic and key.
// 3. Each slot has a stamp: 0 while it is being written, then a number that no other filling ever
//    has. What was read between two looks that both found the stamp of BATCH is that batch;
//    anything else is to be thrown away (a sequence lock, of many readers and one writer).
#ifndef PROTO_SHMRING_H
#define PROTO_SHMRING_H

#include "proto/messages.h"

struct shmring;

// ---- the producer
// Memory for `slots` payloads of `bytes` each. CREATE: there is none, or this system cannot share.
CHECKED enum status shmring_new(struct shmring **out, uint16_t slots, uint64_t bytes);
// What the others must know to map it.
struct wire_shm shmring_place(const struct shmring *ring);
// The payload of a slot, aligned to a page.
unsigned char *shmring_at(const struct shmring *ring, uint16_t slot);
// Before the first write of a filling, and after its last one; one thread or one after the other.
void shmring_begin(struct shmring *ring, uint16_t slot);
void shmring_end(struct shmring *ring, uint16_t slot, uint64_t stamp);

// ---- a trainer
// MISSING, DAMAGED or CREATE, one line why: then batches come through the socket. `bytes`: of one
// payload, as the stream says.
CHECKED enum status shmring_map(struct shmring **out, const struct wire_shm *place, uint64_t bytes);
// Does the slot hold that filling (now, and so at every moment since it was last asked and did)?
// Ask before the first read and again after the last.
bool shmring_holds(const struct shmring *ring, uint16_t slot, uint64_t stamp);
bool shmring_is(const struct shmring *ring, const struct wire_shm *place);

// ---- both
void shmring_free(struct shmring **ring);

#endif
