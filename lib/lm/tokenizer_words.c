#include "lib/lm/tokenizer_words.h"

#include <stdlib.h>

enum status
words_init(struct words *words)
{
    size_t bytes = WORD_SETS * sizeof *words->sets;
    words->sets = aligned_alloc(64, bytes);
    if (!words->sets)
        return FAIL(CREATE, "no memory for a word cache of %zu bytes", bytes);
    memset(words->sets, 0, bytes);
    return STATUS_OK;
}

void
words_release(struct words *words)
{
    free(words->sets);
    words->sets = NULL;
}
