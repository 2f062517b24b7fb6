// A checkpoint's manifest.json: what is accepted is printed and accepted again, byte for byte.
#include "lib/store/manifest.h"
#include "tests/fuzz/fuzz.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct manifest first, second;
    char *text = NULL, *again = NULL;
    size_t bytes, more;
    if (manifest_parse(&first, (const char *)data, size, "manifest.json") != STATUS_OK ||
        manifest_print(&text, &bytes, &first) != STATUS_OK)
        return 0;
    if (manifest_parse(&second, text, bytes, "printed") != STATUS_OK ||
        manifest_print(&again, &more, &second) != STATUS_OK)
        abort();
    assert(bytes == more && memcmp(text, again, bytes) == 0);
    free(text);
    free(again);
    return 0;
}
