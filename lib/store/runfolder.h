// runfolder: the folder of a training run, and the right to write it.
//     LOCK                one writer at a time (a lock of the open file, so a kill frees it)
//     incarnation         u32 as text: how often the run was opened
//     journal.jsonl       journal.h
//     checkpoints/        checkpoint.h
// What else lies there (config.yaml, metrics/, log/, eval/) belongs to others and is left alone.
//
// Opening, in this order: take LOCK; open the journal; incarnation + 1, durable; remove what an
// earlier incarnation left half done (*.tmp-*, here and in checkpoints/); record `start`.
//
// place of fault()   what fails there
// run.lock           the lock call (then as on a file system without locks)
// run.holder         the holder's name in LOCK
// run.incarnation    the replacement of `incarnation`
// run.sweep          the removal of left-overs
#ifndef LIB_STORE_RUNFOLDER_H
#define LIB_STORE_RUNFOLDER_H

#include "lib/base/status.h"
#include "lib/store/journal.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct runfolder;

struct runfolder_opener {
    const char *name;        // of the run; in every manifest
    const char *instance;    // of this process, for the message to whoever finds the run in use
    const char *build;       // version
    const char *environment; // what may change bits: device, libraries; in every manifest
    bool salvage;            // a damaged journal is mended instead of refused
};

// Folders are made with mode 0700, files with 0600. AGAIN, naming the holder: somebody else has it.
// On a network or user-space file system a warning is said: its locks and syncs promise less.
CHECKED enum status runfolder_open(struct runfolder **out, const char *path,
                                   const struct runfolder_opener *opener);
void runfolder_close(struct runfolder **run);

const char *runfolder_path(const struct runfolder *run);
const char *runfolder_checkpoints(const struct runfolder *run); // PATH/checkpoints
const char *runfolder_name(const struct runfolder *run);
const char *runfolder_environment(const struct runfolder *run);
uint32_t runfolder_incarnation(const struct runfolder *run); // from 1
struct journal *runfolder_journal(struct runfolder *run);

// The newest step known to be durable; false when none is. checkpoint.h keeps it.
bool runfolder_durable(const struct runfolder *run, uint64_t *step);
void runfolder_set_durable(struct runfolder *run, uint64_t step);
void runfolder_set_empty(struct runfolder *run);

#endif
