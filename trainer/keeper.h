// keeper: from the state of a training run to a checkpoint folder and back, in two phases, so that
// training stands still only while memory is copied.
//
//   keeper_snapshot   the compute thread, between two steps: copies the complete state  (arena:
//   full) keeper_persist    the persist thread: writes it as a SAELens folder plus our state
//   (arena: free)
//
//   step-N/cfg.json, sae_weights.safetensors   a SAELens folder as it stands
//   step-N/train_state.safetensors             all else: moments, counters, scale, cursor, clock
//
// 1. The arena is taken once, at start. Between snapshot and persist it belongs to neither thread's
//    caller: keeper_busy says so, and a snapshot while busy is a bug.
// 2. What keeper_restore gives back continues with the same bits as if the run had never stopped.
#ifndef TRAINER_KEEPER_H
#define TRAINER_KEEPER_H

#include "lib/interop/saelens.h"
#include "lib/sae/train.h"
#include "lib/store/checkpoint.h"

// The trainer's place in its run, beside the state of lib/sae.
struct place {
    struct hash128 stream; // whose batches
    uint64_t next;         // first batch not applied = steps done
    uint64_t last_hash;    // of batch next - 1; 0 when next is 0
    struct hash128 chain;  // over the batches applied; chain_0 = stream
    double seconds;        // spent training, over all lives of the run
};

struct keeper_settings {
    struct hash128 trajectory;
    struct card card; // of the SAE; what changes from step to step is filled in
    struct checkpoint_policy policy;
};

struct keeper;

// `run` and `train` are borrowed and must outlive the keeper.
CHECKED enum status keeper_new(struct keeper **out, const struct keeper_settings *set,
                               struct runfolder *run, struct train *train);
void keeper_free(struct keeper **keeper);
// Bytes of the arena for such a run; SIZE_MAX on overflow.
size_t keeper_bytes(const struct recipe *recipe);

// Compute thread. The state must not be stepping.
void keeper_snapshot(struct keeper *keeper, const struct place *place);
bool keeper_busy(const struct keeper *keeper);

// Persist thread: makes the snapshot durable and frees the arena if it succeeded; after a failure
// it may be tried again. What was written is told for the announcement.
struct kept {
    uint64_t step, mh, bytes, next;
    uint32_t incarnation;
    char path[PATH_BYTES];
};
CHECKED enum status keeper_persist(struct keeper *keeper, struct kept *out);
// Is the state of this step in a durable checkpoint, written or restored by this keeper? Any
// thread.
bool keeper_has(const struct keeper *keeper, uint64_t step);
// Gives a snapshot up that cannot be written.
void keeper_forget(struct keeper *keeper);
// Deletes what the policy does not keep, except `pinned` steps.
CHECKED enum status keeper_retain(struct keeper *keeper, const uint64_t *pinned, size_t count);

// Before the first step: the state of a checkpoint folder found by checkpoint_recover into the
// train and the place. DAMAGED when a tensor is missing, misshapen or not finite.
CHECKED enum status keeper_restore(struct keeper *keeper, const struct checkpoint_found *found,
                                   struct place *place);

#endif
