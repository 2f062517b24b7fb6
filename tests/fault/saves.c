// saves: a trainer's life with its disk and nothing else, to be run under libfaultio.so: it opens
// the run folder, recovers, and saves the states FIRST .. LAST (tests/store/training.h), each
// twice if the first try fails, clearing up behind itself.
//     fault_saves FOLDER FIRST LAST        (LAST below FIRST: recovers, and that is all)
// What it has recovered and what it announces goes to stdout, one line each, and to the log of
// libfaultio; the exit code is that of our processes.
#include "lib/base/say.h"
#include "tests/fault/faultio.h"
#include "tests/store/training.h"

static void
announce(const char *what, uint64_t next)
{
    char line[64];
    int length = snprintf(line, sizeof line, "%s %llu\n", what, (unsigned long long)next);
    if (faultio_mark)
        faultio_mark(next);
    if (write(STDOUT_FILENO, line, (size_t)length) != length)
        abort();
}

static enum status
life(const char *folder, uint64_t first, uint64_t last)
{
    struct runfolder *run;
    struct checkpoint_found found;
    enum status status, kept = STATUS_OK;
    TRY(training_open(&run, folder));
    GOTRY(checkpoint_recover(&found, run, false));
    if (found.found) {
        if (!faultio_mark && !training_is_whole(found.path, &found.facts)) {
            status = FAIL(INTERNAL, "%s: not whole, and yet it was taken", found.path);
            goto done;
        }
        announce("found", found.facts.next);
    }
    for (uint64_t next = first; next <= last; next++) {
        status = STATUS_IO;
        for (int i = 0; i < 2 && status != STATUS_OK; i++)
            status = training_save(run, 100 * next, next, &keep_two, NULL);
        if (status != STATUS_OK) { // an event: the trainer goes on with a later state
            kept = status;
            say(SAY_WARN, "%s", status_words());
            continue;
        }
        announce("saved", next);
        if (checkpoint_retain(run, &keep_two) != STATUS_OK)
            say(SAY_WARN, "%s", status_words());
    }
    status = kept == STATUS_OK ? STATUS_OK : FAIL(IO, "%s: not all was saved", folder);
done:
    runfolder_close(&run);
    return status;
}

int
main(int argc, char **argv)
{
    say_as("saves");
    enum status status =
        argc != 4 ? FAIL(USAGE, "usage: fault_saves FOLDER FIRST LAST")
                  : life(argv[1], strtoull(argv[2], NULL, 10), strtoull(argv[3], NULL, 10));
    return say_failure(status);
}
