#include "evaluator/settled.h"

#include "lib/base/bytes.h"

#include <string.h>

static uint64_t
key_of(const struct msg_ck_entry *entry)
{
    uint64_t parts[2] = {hash64(entry->ck, strlen(entry->ck)), entry->manifest_hash};
    return hash64(parts, sizeof parts);
}

bool
settled_has(const struct settled *settled, const struct msg_ck_entry *entry)
{
    uint64_t key = key_of(entry);
    size_t n = settled->count < SETTLED_MOST ? settled->count : SETTLED_MOST;
    for (size_t i = 0; i < n; i++)
        if (settled->keys[i] == key)
            return true;
    return false;
}

void
settled_add(struct settled *settled, const struct msg_ck_entry *entry)
{
    settled->keys[settled->count++ % SETTLED_MOST] = key_of(entry);
}
