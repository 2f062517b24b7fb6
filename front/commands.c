#include "front/commands.h"

#include "lib/base/field.h"
#include "lib/base/say.h"

#include <errno.h>

// clang-format off
const struct command commands[] = {
    {"init",   "write a commented config with every setting", init_command},
    {"config", "show settings and where they come from, explain one", config_command},
    {"run",    "train and score an SAE: start the three processes, show progress", run_command},
    {"status", "ask the processes of a run how they are", status_command},
    {"pause",  "let the trainer of a run stand still", pause_command},
    {"resume", "let it go on", resume_command},
    {"checkpoint", "write a checkpoint of a run now", checkpoint_command},
    {"set",    "change a setting of a run while it trains", set_command},
    {"stop",   "save, and stop the processes of a run", stop_command},
    {"data",   "fetch text and a small model out of packages, by name", data_command},
    {"eval",   "score any SAE on any model and text, as SAEBench does", eval_command},
    {"report", "scores, courses and the paper's tables of runs", report_command},
    {"fsck",   "check every file of a run's folder", fsck_command},
};
// clang-format on
const size_t commands_count = sizeof commands / sizeof commands[0];

enum { COMMANDS_MOST = 64 };

static const struct command *
command_named(const char *name)
{
    for (size_t i = 0; i < commands_count; i++)
        if (strcmp(commands[i].name, name) == 0)
            return &commands[i];
    return NULL;
}

enum status
commands_flush(FILE *out)
{
    errno = 0;
    if (fflush(out) != 0 || ferror(out))
        return FAIL(IO, "cannot write the output: %s", errno ? strerror(errno) : "write error");
    return STATUS_OK;
}

static void
print_help(FILE *out)
{
    fputs("osae trains sparse autoencoders on a language model's activations, and scores them.\n\n"
          "usage: osae COMMAND [ARGUMENTS]\n\n",
          out);
    for (size_t i = 0; i < commands_count; i++)
        fprintf(out, "  %-12s %s\n", commands[i].name, commands[i].doc);
    fputs("\n  osae help COMMAND   what it does and takes\n"
          "  osae --version      the version\n\n"
          "exit codes\n",
          out);
#define S(name, code, text) fprintf(out, "  %2d  %s\n", code, text);
    STATUS_LIST(S)
#undef S
}

static enum status
unknown_command(const char *name)
{
    const char *names[COMMANDS_MOST] = {NULL};
    for (size_t i = 0; i < commands_count && i < COMMANDS_MOST; i++)
        names[i] = commands[i].name;
    const char *near = name_nearest(names, commands_count, name);
    if (near)
        return FAIL(USAGE, "unknown command '%.60s', did you mean %s?", name, near);
    return FAIL(USAGE, "unknown command '%.60s' (osae --help lists them)", name);
}

static enum status
help_command(int argc, char *const *argv)
{
    static char flag[] = "--help";
    if (argc < 2) {
        print_help(stdout);
        return STATUS_OK;
    }
    const struct command *command = command_named(argv[1]);
    if (!command)
        return unknown_command(argv[1]);
    char *const with_flag[] = {argv[1], flag, NULL};
    return command->run(2, with_flag);
}

static enum status
dispatch(int argc, char *const *argv)
{
    if (argc < 2) {
        print_help(stderr);
        return FAIL(USAGE, "a command is missing");
    }
    const char *name = argv[1];
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0 || strcmp(name, "help") == 0)
        return help_command(argc - 1, argv + 1);
    if (strcmp(name, "--version") == 0 || strcmp(name, "version") == 0) {
        printf("osae %s\n", OSAE_VERSION);
        return STATUS_OK;
    }
    const struct command *command = command_named(name);
    return command ? command->run(argc - 1, argv + 1) : unknown_command(name);
}

int
commands_main(int argc, char *const *argv)
{
    say_as("osae");
    enum status status = dispatch(argc, argv);
    if (status == STATUS_OK)
        status = commands_flush(stdout);
    return status == STATUS_OK ? 0 : say_failure(status);
}
