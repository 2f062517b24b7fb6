// What checkpoint.c, checkpoint_write.c and checkpoint_recover.c share; not for others.
#ifndef LIB_STORE_CHECKPOINT_ROOM_H
#define LIB_STORE_CHECKPOINT_ROOM_H

#include "lib/store/checkpoint.h"

// step-<12 digits> and a rest; false for any other name.
bool checkpoint_name_parse(uint64_t *step, const char **rest, const char *name);

// Renames the folder at `path` to checkpoints/step-N.bad-FLAW (-2, -3 ... when taken), syncs the
// name, records it and says so.
CHECKED enum status checkpoint_quarantine(struct runfolder *run, const char *path, uint64_t step,
                                          const char *flaw);

// rename that never replaces: errno EEXIST instead, also where the system lacks renameat2.
int checkpoint_rename(const char *from, const char *to);

#endif
