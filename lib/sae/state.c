#include "lib/sae/state.h"

#include <string.h>

size_t
state_bytes(const struct state_tensor *tensor)
{
    size_t bytes = tensor->type == STATE_F32 ? 4 : 8;
    for (size_t n = 0; n < tensor->rank; n++)
        bytes *= tensor->shape[n];
    return bytes;
}

const struct state_tensor *
state_find(const struct state_tensor *list, size_t count, const char *name)
{
    for (size_t n = 0; n < count; n++)
        if (!strcmp(list[n].name, name))
            return &list[n];
    return NULL;
}
