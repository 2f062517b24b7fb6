#include "lib/store/runfolder.h"

#include "lib/base/fault.h"
#include "lib/base/field.h"
#include "lib/base/file.h"
#include "lib/base/say.h"
#include "lib/store/manifest.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/vfs.h>
#include <unistd.h>

struct runfolder {
    char path[PATH_BYTES], checkpoints[PATH_BYTES];
    char *name, *environment;
    int lock; // open as long as we hold it
    uint32_t incarnation;
    struct journal *journal;
    bool is_durable;
    uint64_t durable;
};

static void
warn_of_weak_file_system(const char *path)
{
    static const struct {
        unsigned long type;
        const char *name;
    } weak[] = {
        {0x6969, "NFS"},     {0x517b, "SMB"},      {0xff534d42, "SMB"},
        {0xfe534d42, "SMB"}, {0x65735546, "FUSE"}, {0x01021997, "9p"},
    };
    struct statfs info;
    if (statfs(path, &info) != 0)
        return;
    for (size_t i = 0; i < sizeof weak / sizeof weak[0]; i++)
        if (((unsigned long)info.f_type & 0xffffffffu) == weak[i].type)
            say(SAY_WARN, "%s: is on %s, whose locks and syncs promise less than a local disk's",
                path, weak[i].name);
}

// Who holds the lock, as the text in the file says.
static enum status
in_use(const struct runfolder *run)
{
    char text[1024];
    ssize_t bytes = pread(run->lock, text, sizeof text, 0);
    json_t *holder = bytes > 0 ? json_loadb(text, (size_t)bytes, 0, NULL) : NULL;
    const char *host = json_string_value(json_object_get(holder, "host"));
    const char *instance = json_string_value(json_object_get(holder, "instance"));
    json_int_t pid = json_integer_value(json_object_get(holder, "pid"));
    json_int_t incarnation = json_integer_value(json_object_get(holder, "incarnation"));
    enum status status =
        host ? FAIL(AGAIN, "%s: is in use by process %lld on %.100s (%.100s, incarnation %lld)",
                    run->path, (long long)pid, host, instance ? instance : "?",
                    (long long)incarnation)
             : FAIL(AGAIN, "%s: is in use by another process", run->path);
    json_decref(holder);
    return status;
}

static enum status
take_lock(struct runfolder *run)
{
    char path[PATH_BYTES];
    TRY(path_join(path, run->path, "LOCK"));
    run->lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (run->lock < 0)
        return errno == EACCES || errno == EPERM || errno == EROFS
                   ? FAIL(DENIED, "%s: cannot open: %s", path, strerror(errno))
                   : FAIL(CREATE, "%s: cannot open: %s", path, strerror(errno));
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    int failed = fault("run.lock") ? (errno = ENOLCK, -1) : fcntl(run->lock, F_OFD_SETLK, &whole);
    if (failed && errno != EAGAIN && errno != EACCES) {
        say(SAY_WARN, "%s: no lock of open files here (%s), trying flock", path, strerror(errno));
        failed = flock(run->lock, LOCK_EX | LOCK_NB);
    }
    if (failed && (errno == EAGAIN || errno == EACCES))
        return in_use(run);
    if (failed)
        return FAIL(IO, "%s: cannot lock: %s", path, strerror(errno));
    return STATUS_OK;
}

// In place, for the lock is on this file. For people only: no sync, and a torn text does no harm.
static enum status
write_holder(struct runfolder *run, const char *instance)
{
    char host[256] = "";
    gethostname(host, sizeof host - 1);
    errno = 0;
    json_t *holder =
        json_pack("{s:I, s:s%, s:s, s:I}", "pid", (json_int_t)getpid(), "host", host, strlen(host),
                  "instance", instance, "incarnation", (json_int_t)run->incarnation);
    char *text = holder ? json_dumps(holder, JSON_COMPACT) : NULL;
    json_decref(holder);
    if (!text && errno == ENOMEM)
        return FAIL(CREATE, "%s: no memory to open it", run->path);
    if (!text)
        return FAIL(CONFIG, "%s: the name of host or instance is no valid UTF-8", run->path);
    size_t bytes = strlen(text);
    bool written = !fault("run.holder") && ftruncate(run->lock, 0) == 0 &&
                   pwrite(run->lock, text, bytes, 0) == (ssize_t)bytes;
    free(text);
    if (!written)
        say(SAY_WARN, "%s: cannot name the holder in LOCK", run->path);
    return STATUS_OK;
}

// One more than the file and the journal know: either may have been lost.
static enum status
count_incarnation(struct runfolder *run)
{
    char path[PATH_BYTES];
    TRY(path_join(path, run->path, "incarnation"));
    uint64_t last = 0;
    char *text = NULL;
    size_t bytes;
    enum status status = file_read(&text, &bytes, path, 64);
    if (status == STATUS_OK) {
        char *end;
        errno = 0;
        last = strtoull(text, &end, 10);
        if (errno != 0 || end == text || (*end != '\n' && *end != '\0') || last >= UINT32_MAX)
            last = 0;
        free(text);
    } else if (status != STATUS_MISSING && status != STATUS_DAMAGED) {
        return status_pass(status, __FILE__, __LINE__);
    }
    json_t *record;
    for (size_t at = 0;;) {
        TRY(journal_next(&record, run->journal, &at));
        if (!record)
            break;
        json_int_t inc = json_integer_value(json_object_get(record, "inc"));
        if (strcmp(json_string_value(json_object_get(record, "type")), "start") == 0 &&
            inc > (json_int_t)last && inc < UINT32_MAX)
            last = (uint64_t)inc;
        json_decref(record);
    }
    run->incarnation = (uint32_t)last + 1;
    char number[16];
    int length = snprintf(number, sizeof number, "%u\n", run->incarnation);
    if (fault("run.incarnation"))
        return FAIL(IO, "%s: cannot replace: injected", path);
    return file_replace(path, number, (size_t)length); // syncs the folder: so all names in it stay
}

// Removes everything named *.tmp-* in a folder. What stays is in nobody's way: a warning.
static enum status
sweep(const char *folder)
{
    DIR *entries = opendir(folder);
    if (!entries)
        return FAIL(IO, "%s: cannot list: %s", folder, strerror(errno));
    const struct dirent *entry;
    while ((entry = readdir(entries))) {
        char path[PATH_BYTES];
        if (!strstr(entry->d_name, ".tmp-"))
            continue;
        enum status status = path_join(path, folder, entry->d_name);
        if (status == STATUS_OK && fault("run.sweep"))
            status = FAIL(IO, "%s: cannot remove: injected", path);
        if (status == STATUS_OK)
            status = path_remove(path);
        if (status != STATUS_OK)
            say(SAY_WARN, "%s", status_words());
    }
    closedir(entries);
    return STATUS_OK;
}

// What stands in every manifest must fit there.
static enum status
check_opener(const struct runfolder_opener *opener, const char *path)
{
    const struct checkpoint_facts *facts = NULL;
    size_t name = strlen(opener->name), environment = strlen(opener->environment);
    if (name == 0 || name >= sizeof facts->run || !utf8_valid(opener->name, name))
        return FAIL(CONFIG, "%s: a run's name of %zu bytes, wanted 1 to %zu of UTF-8", path, name,
                    sizeof facts->run - 1);
    if (environment >= sizeof facts->environment || !utf8_valid(opener->environment, environment))
        return FAIL(CONFIG, "%s: an environment of %zu bytes, wanted at most %zu of UTF-8", path,
                    environment, sizeof facts->environment - 1);
    return STATUS_OK;
}

// The run folder's own name. A parent that we may not read was there before us.
static enum status
sync_parent(const char *path)
{
    char parent[PATH_BYTES];
    TRY(path_join(parent, path, ".."));
    enum status status = file_sync_folder(parent);
    return status == STATUS_DENIED ? STATUS_OK : status;
}

enum status
runfolder_open(struct runfolder **out, const char *path, const struct runfolder_opener *opener)
{
    *out = NULL;
    enum status status = STATUS_OK;
    char journal[PATH_BYTES];
    TRY(check_opener(opener, path));
    struct runfolder *run = calloc(1, sizeof *run);
    if (!run)
        return FAIL(CREATE, "%s: no memory to open it", path);
    run->lock = -1;
    run->name = strdup(opener->name);
    run->environment = strdup(opener->environment);
    if (!run->name || !run->environment) {
        status = FAIL(CREATE, "%s: no memory to open it", path);
        goto done;
    }
    snprintf(run->path, sizeof run->path, "%s", path);
    GOTRY(path_join(run->checkpoints, path, "checkpoints"));
    GOTRY(path_join(journal, path, "journal.jsonl"));
    GOTRY(path_make(path, 0700));
    warn_of_weak_file_system(path);
    GOTRY(take_lock(run));
    GOTRY(path_make(run->checkpoints, 0700));
    GOTRY(journal_open(&run->journal, journal, opener->salvage));
    GOTRY(count_incarnation(run));
    GOTRY(write_holder(run, opener->instance));
    GOTRY(sweep(run->path));
    GOTRY(sweep(run->checkpoints));
    GOTRY(sync_parent(run->path));
    GOTRY(journal_append(run->journal, "start", "{s:I, s:s, s:s}", "inc",
                         (json_int_t)run->incarnation, "build", opener->build, "environment",
                         opener->environment));
    *out = run;
    run = NULL;
done:
    runfolder_close(&run);
    return status;
}

void
runfolder_close(struct runfolder **run)
{
    struct runfolder *r = *run;
    if (r) {
        journal_close(&r->journal);
        if (r->lock >= 0)
            close(r->lock);
        free(r->name);
        free(r->environment);
        free(r);
    }
    *run = NULL;
}

const char *
runfolder_path(const struct runfolder *run)
{
    return run->path;
}

const char *
runfolder_checkpoints(const struct runfolder *run)
{
    return run->checkpoints;
}

const char *
runfolder_name(const struct runfolder *run)
{
    return run->name;
}

const char *
runfolder_environment(const struct runfolder *run)
{
    return run->environment;
}

uint32_t
runfolder_incarnation(const struct runfolder *run)
{
    return run->incarnation;
}

struct journal *
runfolder_journal(struct runfolder *run)
{
    return run->journal;
}

bool
runfolder_durable(const struct runfolder *run, uint64_t *step)
{
    *step = run->durable;
    return run->is_durable;
}

void
runfolder_set_durable(struct runfolder *run, uint64_t step)
{
    run->is_durable = true;
    run->durable = step;
}

void
runfolder_set_empty(struct runfolder *run)
{
    run->is_durable = false;
}
