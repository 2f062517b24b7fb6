// cfg.json of an SAE: what is accepted is written in our form and accepted again.
#include "lib/interop/card.h"
#include "tests/fuzz/fuzz.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct card first, second;
    char *text = NULL;
    if (card_read(&first, (const char *)data, size, "cfg.json") != STATUS_OK)
        return 0;
    if (card_write(&text, &first) != STATUS_OK)
        return 0;
    if (card_read(&second, text, strlen(text), "written") != STATUS_OK) {
        fprintf(stderr, "%s\n%s\n", status_words(), text);
        abort();
    }
    assert(second.arch == first.arch && second.width == first.width &&
           second.latents == first.latents && second.layer == first.layer &&
           second.context == first.context);
    free(text);
    return 0;
}
