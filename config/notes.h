// notes: the longer word on those keys whose one line is not enough.
#ifndef CONFIG_NOTES_H
#define CONFIG_NOTES_H

#include <stddef.h>

struct note {
    const char *key, *text;
};
extern const struct note notes[];
extern const size_t notes_count;

#endif
