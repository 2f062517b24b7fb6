// fault: the named places where the world can fail, for tests.
//     if (fault("keeper.rename")) { errno = EIO; ... as if rename had failed ... }
// OSAE_FAULT=name:n[:crash] makes the n-th visit (from 1) of that place fail, or kills the process
// there; n = 0 means every visit. Unset: every call is false and costs one load.
#ifndef LIB_BASE_FAULT_H
#define LIB_BASE_FAULT_H

#include <stdbool.h>

bool fault(const char *place);

// For tests in one process: the plan from now on (NULL: none), its visits counted from 0; and how
// often the place of the plan was visited since. Not while other threads run.
void fault_set(const char *plan);
long fault_visits(void);

#endif
