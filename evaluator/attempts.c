#include "evaluator/attempts.h"

#include <stdio.h>
#include <string.h>

static size_t
find(const struct attempts *attempts, const char *ck, size_t row)
{
    size_t i = 0;
    while (i < attempts->count &&
           (attempts->at[i].row != row || strcmp(attempts->at[i].ck, ck) != 0))
        i++;
    return i;
}

static void
take_out(struct attempts *attempts, size_t i)
{
    attempts->count--;
    memmove(attempts->at + i, attempts->at + i + 1, (attempts->count - i) * sizeof *attempts->at);
}

unsigned
attempts_add(struct attempts *attempts, const char *ck, size_t row, int64_t now)
{
    size_t i = find(attempts, ck, row);
    if (i == attempts->count) {
        if (attempts->count == ATTEMPTS_MOST)
            take_out(attempts, 0);
        i = attempts->count++;
        attempts->at[i] = (struct attempt){.row = row};
        snprintf(attempts->at[i].ck, sizeof attempts->at[i].ck, "%s", ck);
    }
    struct attempt *attempt = &attempts->at[i];
    unsigned shift = attempt->made < 6 ? 2 * attempt->made : 12;
    attempt->not_before = now + ((int64_t)ATTEMPT_PAUSE_MS << shift);
    return ++attempt->made;
}

bool
attempts_pause(const struct attempts *attempts, const char *ck, size_t row, int64_t now)
{
    size_t i = find(attempts, ck, row);
    return i < attempts->count && now < attempts->at[i].not_before;
}

void
attempts_forget(struct attempts *attempts, const char *ck, size_t row)
{
    size_t i = find(attempts, ck, row);
    if (i < attempts->count)
        take_out(attempts, i);
}
