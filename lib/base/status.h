// status: what can go wrong in the world, as a value that travels upward.
//
// A status is made once, with words, by whoever noticed (FAIL); everyone above hands it on (TRY).
// The words and the trail of file:line are kept per thread until the next FAIL.
// A bug is not a status: it is asserted, and assert stays on in release builds.
#ifndef LIB_BASE_STATUS_H
#define LIB_BASE_STATUS_H

#include <stddef.h>

// name, exit code of a process that ends with it (sysexits), what it means
#define STATUS_LIST(S)                                                                             \
    S(OK, 0, "done")                                                                               \
    S(USAGE, 64, "the command line is wrong")                                                      \
    S(DAMAGED, 65, "weights, text, tokenizer, checkpoint or message are damaged or hostile")       \
    S(MISSING, 66, "an input is not there")                                                        \
    S(UNREACHABLE, 69, "a peer did not answer in time")                                            \
    S(INTERNAL, 70, "a fault of this program")                                                     \
    S(CREATE, 73, "cannot create or bind: folder, busy port, too little disk or memory")           \
    S(IO, 74, "a read, write or sync failed")                                                      \
    S(AGAIN, 75, "stopped before the end, start again to go on")                                   \
    S(DENIED, 77, "permission denied")                                                             \
    S(CONFIG, 78, "the configuration is wrong, or does not fit the model or the run")

enum status {
#define S(name, code, text) STATUS_##name,
    STATUS_LIST(S)
#undef S
        STATUS_COUNT
};

#define CHECKED __attribute__((warn_unused_result))

// Makes a status: prints the words (one line, cut at 1023 bytes) and begins the trail. The value
// stands in the macro, so the compiler sees that a failed call returns no OK (and -O3 does not warn
// of outputs that are unset then).
#define FAIL(name, ...)                                                                            \
    ((void)status_fail(STATUS_##name, __FILE__, __LINE__, __VA_ARGS__), (enum status)STATUS_##name)

// Hands a status on. TRY returns it; GOTRY stores it in the local `status` and jumps to `done`.
#define TRY(call)                                                                                  \
    do {                                                                                           \
        enum status tried_ = (call);                                                               \
        if (tried_ != STATUS_OK)                                                                   \
            return (void)status_pass(tried_, __FILE__, __LINE__), tried_;                          \
    } while (0)
#define GOTRY(call)                                                                                \
    do {                                                                                           \
        status = (call);                                                                           \
        if (status != STATUS_OK) {                                                                 \
            status_pass(status, __FILE__, __LINE__);                                               \
            goto done;                                                                             \
        }                                                                                          \
    } while (0)

enum status status_fail(enum status code, const char *file, int line, const char *format, ...)
    __attribute__((format(printf, 4, 5), cold));
enum status status_pass(enum status code, const char *file, int line) __attribute__((cold));

// The words of this thread's last FAIL; "" if there was none.
const char *status_words(void);
// The trail, "file:line < file:line < ...", of this thread's last FAIL.
const char *status_trail(void);
const char *status_name(enum status code); // "DAMAGED"
// The code a process exits with.
int status_exit_code(enum status code);

// Words and trail as a value, to hand a failure from a worker thread to the one that joins it.
struct status_note {
    enum status code;
    char words[1024];
    char trail[512];
};
void status_note_take(struct status_note *note, enum status code);
enum status status_note_give(const struct status_note *note);

#endif
