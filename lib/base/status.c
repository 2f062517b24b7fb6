#include "lib/base/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static _Thread_local char words[1024];
static _Thread_local char trail[512];

static void
trail_add(const char *file, int line)
{
    size_t used = strlen(trail);
    if (used + 1 < sizeof trail)
        snprintf(trail + used, sizeof trail - used, "%s%s:%d", used ? " < " : "", file, line);
}

enum status
status_fail(enum status code, const char *file, int line, const char *format, ...)
{
    char text[sizeof words]; // the old words may be among the arguments
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    for (char *c = text; *c; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7f)
            *c = ' '; // one line, and no control bytes of hostile input on a terminal
    memcpy(words, text, sizeof words);
    trail[0] = '\0';
    trail_add(file, line);
    return code;
}

enum status
status_pass(enum status code, const char *file, int line)
{
    trail_add(file, line);
    return code;
}

const char *
status_words(void)
{
    return words;
}

const char *
status_trail(void)
{
    return trail;
}

const char *
status_name(enum status code)
{
    static const char *const names[] = {
#define S(name, exit_code, text) #name,
        STATUS_LIST(S)
#undef S
    };
    return (unsigned)code < STATUS_COUNT ? names[code] : "?";
}

int
status_exit_code(enum status code)
{
    static const int codes[] = {
#define S(name, exit_code, text) exit_code,
        STATUS_LIST(S)
#undef S
    };
    return (unsigned)code < STATUS_COUNT ? codes[code] : 70;
}

void
status_note_take(struct status_note *note, enum status code)
{
    note->code = code;
    memcpy(note->words, words, sizeof words);
    memcpy(note->trail, trail, sizeof trail);
}

enum status
status_note_give(const struct status_note *note)
{
    memcpy(words, note->words, sizeof words);
    memcpy(trail, note->trail, sizeof trail);
    return note->code;
}
