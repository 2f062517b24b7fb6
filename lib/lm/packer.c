#include "lib/lm/packer.h"

#include "lib/lm/tokenizer.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum status
packer_init(struct packer *p, size_t context, uint32_t bos, uint32_t separator)
{
    assert(context >= 2); // with one place, BOS would leave none for text
    *p = (struct packer){.context = context, .bos = bos, .separator = separator, .begins = true};
    p->open = calloc(context, sizeof *p->open);
    if (!p->open)
        return FAIL(CREATE, "no memory for a context of %zu ids", context);
    return STATUS_OK;
}

void
packer_release(struct packer *p)
{
    free(p->open);
    *p = (struct packer){0};
}

void
packer_begin(struct packer *p)
{
    p->begins = true;
}

static enum status
emit_if_full(struct packer *p, struct token_list *out)
{
    assert(p->held <= p->context);
    if (p->held < p->context)
        return STATUS_OK;
    p->held = 0;
    return token_list_append(out, p->open, p->context);
}

enum status
packer_add(struct packer *p, struct token_list *out, const uint32_t *ids, size_t count)
{
    while (count > 0) {
        uint32_t front = TOKEN_ABSENT;
        if (p->held == 0)
            front = p->bos;
        else if (p->begins)
            front = p->separator;
        if (front != TOKEN_ABSENT && front != ids[0]) {
            p->open[p->held++] = front;
            // The document begins in the next context then, which needs no separator.
            TRY(emit_if_full(p, out));
            if (p->held == 0)
                continue;
        }
        p->begins = false;
        size_t room = p->context - p->held, taken = count < room ? count : room;
        memcpy(p->open + p->held, ids, taken * sizeof *ids);
        p->held += taken;
        ids += taken;
        count -= taken;
        TRY(emit_if_full(p, out));
    }
    return STATUS_OK;
}
