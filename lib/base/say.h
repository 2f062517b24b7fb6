// say: what a process tells about itself. One line to stderr for people; the same as one JSON
// object a line in a log file when say_open_log was called (run folder, log/*.jsonl).
#ifndef LIB_BASE_SAY_H
#define LIB_BASE_SAY_H

#include "lib/base/status.h"

enum say_level { SAY_DEBUG, SAY_INFO, SAY_WARN, SAY_ERROR };

// Who speaks ("trainer"): borrowed for the life of the process. Default "osae".
void say_as(const char *name);
void say_level(enum say_level least);
// Appends to a file from now on; the folder must exist.
CHECKED enum status say_open_log(const char *path);
void say(enum say_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

// Says the words of this thread's failure ("trainer: run.yaml:14: ...") and yields its exit code.
int say_failure(enum status code);

#endif
