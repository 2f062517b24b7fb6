// commands: the subcommands of `osae`. Each is one function in a file of its own; a new one is a
// declaration here and a row in commands.c.
#ifndef FRONT_COMMANDS_H
#define FRONT_COMMANDS_H

#include "lib/base/status.h"

#include <stdio.h>

// argv[0] is the subcommand's name. With --help it prints its manual on stdout and succeeds. The
// status becomes the exit code; its words go to stderr.
typedef enum status command_run(int argc, char *const *argv);

struct command {
    const char *name;
    const char *doc; // one line for `osae --help`
    command_run *run;
};
extern const struct command commands[];
extern const size_t commands_count;

command_run init_command;   // front/init.c
command_run config_command; // front/knobs.c
command_run run_command;    // front/run.c
command_run status_command; // front/steer.c
command_run pause_command, resume_command, checkpoint_command, set_command, stop_command;
command_run data_command;   // front/data.c
command_run eval_command;   // front/eval.c
command_run report_command; // front/report.c
command_run fsck_command;   // front/fsck.c

// The whole program: `argv` as main has it. Returns the exit code.
int commands_main(int argc, char *const *argv);

// stdout is flushed and all of it was taken, or IO: for commands that print much.
CHECKED enum status commands_flush(FILE *out);

#endif
