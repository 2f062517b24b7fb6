// checkpoint: a folder of files that appears whole or not at all.
//     checkpoints/step-000000000100/            sound when the manifest parses and every file it
//         cfg.json, sae_weights.safetensors,    names has its size and hash; others are ignored
//         train_state.safetensors, manifest.json
//     checkpoints/step-000000000200.tmp-3-1b2c3d4e/   being written, or being deleted
//     checkpoints/step-000000000150.bad-hash/         quarantined
//     checkpoints.abandoned-4/                        before a start from scratch
//
//        write            sync, rename, sync        journal
//  none -------> tmp ----------------------> sound --------> announced by the caller
//                                              | damaged (found at start)  | checkpoint_retain
//                                              v                           v
//                                             bad                  tmp, then gone
//
// Rules
//  1. At any instant a crash leaves a folder from which checkpoint_recover finds the newest
//     checkpoint announced or a newer one.
//  2. A damaged checkpoint is never loaded, never blocks an older one, and is not deleted but by
//     checkpoint_retain, which keeps three and says which it deletes.
//  3. A run with history never starts from scratch by itself.
//  4. A file whose sync failed is never synced again: it is removed, and written anew.
//  5. The newest durable checkpoint is never deleted.
//
// Functions that take a struct runfolder are called by one thread at a time. The others only read.
//
// place of fault()          what fails there
// checkpoint.space          W1  the question for free space (then: none)
// checkpoint.folder         W2  mkdir of the temporary folder
// checkpoint.create         W2  open of a file in it
// checkpoint.allocate       W2  the reservation of its bytes (disk full)
// checkpoint.write          W3  its first byte
// checkpoint.manifest       W4  the writing of the manifest
// checkpoint.sync           W5  fsync of a file
// checkpoint.sync_folder    W5  fsync of the temporary folder
// checkpoint.close          W6  close of a file
// checkpoint.rename         W7  the rename to the final name
// checkpoint.noreplace      W7  renameat2 (then as on a system without it)
// checkpoint.sync_parent    W8  fsync of checkpoints/
// journal.*                 W9  the record
// checkpoint.forget         W11 the rename of a checkpoint to be deleted
// checkpoint.remove         W11 its removal
// checkpoint.list           R5  the listing of checkpoints/
// checkpoint.read           R6  the read of a file to be verified
// checkpoint.quarantine     R6  the rename of a damaged one
// checkpoint.abandon        R7  the rename of checkpoints/ before a start from scratch
#ifndef LIB_STORE_CHECKPOINT_H
#define LIB_STORE_CHECKPOINT_H

#include "lib/base/file.h"
#include "lib/store/manifest.h"
#include "lib/store/runfolder.h"
#include "lib/store/safetensors.h"

// ---- writing ----

// One file: a text, or tensors (text NULL). Borrowed until checkpoint_write returns.
struct checkpoint_file {
    const char *name;
    const char *text;
    size_t text_bytes;
    const struct tensor_out *tensors;
    size_t tensor_count;
    const struct text_pair *metadata;
    size_t metadata_count;
};

struct checkpoint_policy {
    uint64_t reserve_bytes; // stay free on the disk
    size_t keep_last;       // the newest so many are kept, at least one
    uint64_t keep_every;    // and every step divisible by it; 0: none
    const uint64_t *pinned; // and these steps (the best, the unevaluated); borrowed for the call
    size_t pinned_count;
};

// Writes, syncs, renames, records in the journal (W1 to W9). OK: durable, may be announced. *mh
// (may be NULL): XXH3_64 of its manifest. When space is short, checkpoint_retain is tried first.
//     CREATE   too little disk; nothing was left behind
//     IO       three attempts failed, each with new files; or the folder is there and sound, but
//              its name or its record could not be made durable: not to be announced
// A sound checkpoint of the same facts is already there: only made durable and recorded. Another
// one of this step is put aside as `.bad-replaced`.
CHECKED enum status checkpoint_write(uint64_t *mh, struct runfolder *run,
                                     const struct checkpoint_facts *facts,
                                     const struct checkpoint_file *files, size_t count,
                                     const struct checkpoint_policy *policy);

// Deletes what the policy does not keep, oldest first (W11); call it after announcing. Also deletes
// the oldest quarantined folders beyond three.
CHECKED enum status checkpoint_retain(struct runfolder *run,
                                      const struct checkpoint_policy *policy);

// ---- recovery ----

// R5 to R7: the newest sound checkpoint; damaged ones that are newer are quarantined, those that
// cannot be read are passed over and stay. *found false: the run is fresh. DAMAGED: it has history
// but no sound checkpoint, and `from_scratch` is false; IO: so it is, but some could not be read.
// from_scratch: checkpoints/ is put aside whole, and the run is fresh.
struct checkpoint_found {
    bool found;
    struct checkpoint_facts facts;
    uint64_t mh;
    char path[PATH_BYTES]; // of the folder
};
CHECKED enum status checkpoint_recover(struct checkpoint_found *out, struct runfolder *run,
                                       bool from_scratch);

// ---- reading, without holding the run ----

// Steps of the checkpoints in a folder (RUN/checkpoints), newest first, sound or not.
struct checkpoint_list {
    size_t count;
    uint64_t *steps;    // free with checkpoint_list_release
    size_t quarantined; // folders with .bad-
    size_t unfinished;  // with .tmp-
};
CHECKED enum status checkpoint_list(struct checkpoint_list *out, const char *checkpoints);
void checkpoint_list_release(struct checkpoint_list *list);

// The incarnation in "run/step-incarnation", which is what a checkpoint is called; 0 in other names.
// Of one step there are two when the first was damaged, and the step written again by a later life.
uint32_t checkpoint_incarnation(const char *ck);

// RUN/checkpoints/step-<12 digits>; the step must be below 10^12 (asserted).
CHECKED enum status checkpoint_path(char out[PATH_BYTES], const char *checkpoints, uint64_t step);

// Reads every byte of a checkpoint folder. Not sound: DAMAGED, MISSING or IO; *flaw (may be NULL)
// is then a word for it: manifest, step, missing, size, hash, io. Other statuses say nothing about
// the checkpoint (no memory, no permission), and *flaw is NULL. facts and mh may be NULL.
CHECKED enum status checkpoint_verify(const char *folder, struct checkpoint_facts *facts,
                                      uint64_t *mh, const char **flaw);

// The same for some of its files, those read by whoever has no use for the rest. A name that the
// manifest lacks: MISSING. The folder may have any name: who fetched it knows whose it is.
CHECKED enum status checkpoint_verify_files(const char *folder, const char *const *names,
                                            size_t count, struct checkpoint_facts *facts,
                                            uint64_t *mh);

// A whole run folder: for `osae fsck`, and for tests after a crash. Touches nothing.
struct runfolder_report {
    size_t sound, damaged, quarantined, unfinished, records;
    bool torn_journal, has_journal;
    char words[1024]; // of the first damage
};
CHECKED enum status runfolder_check(struct runfolder_report *out, const char *path);

#endif
