// flags: the command line of every program, as a table.
//
//     bool all = false;
//     const char *to = NULL;
//     struct words sets = {0}, rest = {0};
//     const struct flag flags[] = {
//         {"--all", NULL, "everything", .on = &all},
//         {"--to", "DIR", "where to write", .text = &to},
//         {"--set", "KEY=VALUE", "a setting, over the file's", .words = &sets},
//     };
//     TRY(flags_read(flags, FLAGS_COUNT(flags), "osae export", argc, argv, &rest));
//
// `--to DIR` and `--to=DIR` are the same; `--` ends the flags; a flag with one value may be given
// once. Texts point into argv.
#ifndef LIB_BASE_FLAGS_H
#define LIB_BASE_FLAGS_H

#include "lib/base/status.h"

#include <stdbool.h>
#include <stdio.h>

enum { WORDS_MOST = 64 };
struct words {
    size_t count;
    const char *at[WORDS_MOST];
};

struct flag {
    const char *name;  // "--set"
    const char *value; // how --help shows its value; NULL: a switch
    const char *doc;
    // Where it goes: exactly one of these.
    bool *on;
    const char **text;
    struct words *words; // may be repeated
};
#define FLAGS_COUNT(flags) (sizeof(flags) / sizeof(flags)[0])

// argv[0] is skipped. What is no flag goes to `rest`. USAGE with "osae run: unknown flag --alll,
// did you mean --all?".
CHECKED enum status flags_read(const struct flag *flags, size_t count, const char *who, int argc,
                               char *const *argv, struct words *rest);
// Is --help (or -h) among the arguments before `--`? Ask before flags_read.
bool flags_help_wanted(int argc, char *const *argv);
// One line a flag, as --help shows them.
void flags_print(FILE *out, const struct flag *flags, size_t count);

#endif
