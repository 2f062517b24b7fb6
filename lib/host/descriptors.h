// descriptors: how many files and sockets this process may have open.
#ifndef LIB_HOST_DESCRIPTORS_H
#define LIB_HOST_DESCRIPTORS_H

#include <stdint.h>

// Raises the limit as far as the system lets us (RLIMIT_NOFILE, soft to hard) and returns what it
// is then. Called at start; a daemon says it, and warns where its own bounds do not fit.
uint64_t descriptors_raise(void);

#endif
