// family: the processes that `osae run` starts and looks after. Each is started from the folder of
// this executable in a process group of its own, so that Ctrl-C reaches us alone and we stop them
// in order. A child that dies by a signal or asks to be started again (exit 75) is started again,
// at most `FAMILY_RESTARTS` times without a sign of life in between; one that ends with another
// failure ends the run with its exit code.
#ifndef FRONT_FAMILY_H
#define FRONT_FAMILY_H

#include "lib/base/status.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum { FAMILY_MOST = 8, FAMILY_ARGS = 64, FAMILY_RESTARTS = 5 };

struct member {
    const char *name;     // "trainer"; its program is osae-NAME
    const char *extra[4]; // arguments of this one alone, after the common ones; NULL-terminated
    pid_t pid;            // 0: not running
    int exit_code;        // of its last end; 128 + signal when killed
    bool ended;           // with exit 0, or told to stop: not started again
    unsigned restarts;
    int64_t again_ms; // tick_ms at which it is started again; 0: not due
};

struct family {
    struct member members[FAMILY_MOST];
    size_t count;
    char folder[4096];             // of our own executable
    const char *args[FAMILY_ARGS]; // what follows the program's name, NULL-terminated; borrowed
    bool stopping;
};

// Finds the folder of our executable and checks that the programs are there.
CHECKED enum status family_init(struct family *family, const char *const *names, size_t count,
                                const char *const *args, size_t arg_count);
CHECKED enum status family_start(struct family *family);
// Reaps and restarts; call it several times a second. A member that failed for good is the status
// that has its exit code; its own last line on stderr has said why.
CHECKED enum status family_watch(struct family *family);
// A sign of life: the member's restarts are forgotten.
void family_alive(struct family *family, const char *name);
// Sends a signal to one member (name) or to all that run (NULL); they will not be started again.
void family_stop(struct family *family, const char *name, int signal_number);
// Waits until all (or the one) have ended, at most so long. true when they have.
bool family_wait(struct family *family, const char *name, int64_t limit_ms);

#endif
