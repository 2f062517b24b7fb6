#include "config/schedule.h"

#include <stdlib.h>
#include <string.h>

// A number of 1 to 16 digits; *text is moved behind it.
static bool
number(uint64_t *out, const char **text)
{
    size_t digits = strspn(*text, "0123456789");
    if (digits < 1 || digits > 16)
        return false;
    *out = strtoull(*text, NULL, 10);
    *text += digits;
    return true;
}

static bool
steps(struct schedule *out, const char *text)
{
    bool bracket = *text == '[';
    text += bracket;
    do {
        text += strspn(text, " ");
        if (out->count == SCHEDULE_STEPS || !number(&out->at[out->count++], &text))
            return false;
        text += strspn(text, " ");
    } while (*text++ == ',');
    text--;
    if (bracket && *text++ != ']')
        return false;
    return *text == '\0';
}

bool
schedule_parse(struct schedule *out, const char *text)
{
    *out = (struct schedule){.final = true};
    if (strcmp(text, "off") == 0)
        out->final = false;
    else if (strcmp(text, "all") == 0)
        out->every = 1;
    else if (strncmp(text, "every:", 6) == 0) {
        text += 6;
        return number(&out->every, &text) && out->every > 0 && *text == '\0';
    } else if (strncmp(text, "at:", 3) == 0) {
        out->final = false;
        return steps(out, text + 3);
    } else
        return strcmp(text, "final") == 0;
    return true;
}

bool
schedule_off(const struct schedule *schedule)
{
    return !schedule->final && schedule->every == 0 && schedule->count == 0;
}

bool
schedule_due(const struct schedule *schedule, uint64_t step, bool last)
{
    if ((schedule->final && last) || (schedule->every > 0 && step % schedule->every == 0))
        return true;
    for (size_t i = 0; i < schedule->count; i++)
        if (schedule->at[i] == step)
            return true;
    return false;
}
