// A line of JSONL text: the text of a field, and ids.
#include "lib/lm/jsonline.h"
#include "tests/fuzz/fuzz.h"

#include <assert.h>

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct text_list text = {0};
    struct token_list ids = {0};
    size_t lone = 0;
    const char *line = (const char *)data;
    if (jsonline_text(&text, &lone, line, size, "text", "fuzz:1") == STATUS_OK) {
        assert(text.bytes <= 3 * size);
        fuzz_read(text.at, text.bytes);
    }
    if (jsonline_ids(&ids, 100, line, size, "input_ids", "tokens", "fuzz:1") == STATUS_OK) {
        assert(ids.count <= 100);
        fuzz_read(ids.ids, ids.count * sizeof *ids.ids);
    }
    text_list_release(&text);
    token_list_release(&ids);
    return 0;
}
