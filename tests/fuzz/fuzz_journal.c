// A journal: checked, opened as it is and salvaged; a salvaged one is sound.
#include "lib/base/say.h"
#include "lib/store/journal.h"
#include "tests/fuzz/fuzz.h"

#include <assert.h>
#include <stdlib.h>

static size_t
count_records(struct journal *journal)
{
    size_t count = 0, at = 0;
    json_t *record;
    while (journal_next(&record, journal, &at) == STATUS_OK && record) {
        count++;
        json_decref(record);
    }
    return count;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    say_level(SAY_ERROR);
    const char *path = fuzz_file("journal.jsonl", data, size);
    size_t before, after;
    bool torn;
    bool sound = journal_check(&before, &torn, path) == STATUS_OK;
    struct journal *journal;
    if (journal_open(&journal, path, false) == STATUS_OK) {
        assert(sound && count_records(journal) == before);
        journal_close(&journal);
    } else {
        assert(!sound);
    }
    if (journal_open(&journal, path, true) != STATUS_OK)
        return 0;
    size_t records = count_records(journal);
    journal_close(&journal);
    if (journal_check(&after, &torn, path) != STATUS_OK)
        abort();
    assert(after == records && !torn);
    return 0;
}
