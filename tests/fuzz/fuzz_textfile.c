// Compressed text as a corpus: broken zstd, broken lines, broken UTF-8.
#include "lib/base/say.h"
#include "lib/lm/corpus.h"
#include "tests/fuzz/fuzz.h"

#include <stdio.h>

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct texts paths;
    static const char *const names[] = {"text.jsonl.zst", "text.txt.zst", "text.jsonl", "text.txt"};
    say_level(SAY_ERROR);
    if (size == 0)
        return 0;
    const char *path = fuzz_file(names[data[0] % 4], data + 1, size - 1);
    snprintf(paths.at[0], sizeof paths.at[0], "%.500s", path);
    paths.count = 1;
    struct corpus *corpus;
    if (corpus_open(&corpus, &paths, NULL) != STATUS_OK)
        return 0;
    struct corpus_document document;
    bool more = true;
    size_t total = 0;
    while (total < 1 << 22 && corpus_next(corpus, &document, &more) == STATUS_OK && more) {
        fuzz_read(document.text, document.bytes);
        total += document.bytes + 1;
    }
    corpus_close(&corpus);
    return 0;
}
