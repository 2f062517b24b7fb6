// The writing of a checkpoint, W1 to W9 of checkpoint.h.
#include "lib/base/fault.h"
#include "lib/base/say.h"
#include "lib/base/tick.h"
#include "lib/store/checkpoint.h"
#include "lib/store/checkpoint_room.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { ATTEMPTS = 3 };

static enum status
why(const char *path, const char *what)
{
    int error = errno;
    if (error == ENOSPC || error == EDQUOT)
        return FAIL(CREATE, "%s: cannot %s: %s", path, what, strerror(error));
    if (error == EACCES || error == EPERM || error == EROFS)
        return FAIL(DENIED, "%s: cannot %s: %s", path, what, strerror(error));
    return FAIL(IO, "%s: cannot %s: %s", path, what, strerror(error));
}

static size_t
file_bytes(const struct checkpoint_file *file)
{
    return file->text ? file->text_bytes
                      : safetensors_size(file->tensors, file->tensor_count, file->metadata,
                                         file->metadata_count);
}

// ---- W1: space ----

static enum status
space_for(const struct runfolder *run, uint64_t bytes, const struct checkpoint_policy *policy)
{
    uint64_t space = 0, want = bytes + bytes / 20 + policy->reserve_bytes;
    TRY(path_free_bytes(&space, runfolder_checkpoints(run)));
    if (fault("checkpoint.space"))
        space = 0;
    if (space < want)
        return FAIL(CREATE, "%s: %llu bytes free, a checkpoint wants %llu with the reserve",
                    runfolder_checkpoints(run), (unsigned long long)space,
                    (unsigned long long)want);
    return STATUS_OK;
}

static enum status
find_space(struct runfolder *run, uint64_t bytes, const struct checkpoint_policy *policy)
{
    if (space_for(run, bytes, policy) == STATUS_OK)
        return STATUS_OK;
    say(SAY_WARN, "%s; deleting old ones first", status_words());
    TRY(checkpoint_retain(run, policy));
    return space_for(run, bytes, policy);
}

// ---- W2 to W6: a temporary folder with everything in it, synced ----

// Sync and close of a file that was written, and its close in any case.
static enum status
finish_file(int fd, const char *path, enum status status)
{
    if (status == STATUS_OK && (fault("checkpoint.sync") ? (errno = EIO, -1) : fsync(fd)) != 0)
        status = why(path, "sync");
    int failed = close(fd);
    if (status == STATUS_OK && (failed || fault("checkpoint.close")))
        status = why(path, "close");
    return status;
}

static enum status
open_file(int *fd, char path[PATH_BYTES], const char *folder, const char *name)
{
    *fd = -1;
    TRY(path_join(path, folder, name));
    *fd = fault("checkpoint.create")
              ? (errno = EIO, -1)
              : open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    return *fd < 0 ? why(path, "create") : STATUS_OK;
}

// The disk says now that it is full, not in the middle. Where it cannot say, W1 was the check.
static enum status
allocate(int fd, const char *path, size_t bytes)
{
    int failed = fault("checkpoint.allocate") ? (errno = ENOSPC, -1)
                 : bytes > 0                  ? fallocate(fd, 0, 0, (off_t)bytes)
                                              : 0;
    if (failed && errno != EOPNOTSUPP && errno != ENOSYS && errno != EINTR)
        return why(path, "reserve its bytes");
    return STATUS_OK;
}

static enum status
write_content(int fd, const char *path, const struct checkpoint_file *file,
              struct manifest_file *entry)
{
    TRY(allocate(fd, path, file_bytes(file)));
    if (fault("checkpoint.write"))
        return FAIL(IO, "%s: cannot write: injected", path);
    if (!file->text)
        return safetensors_write(fd, path, file->tensors, file->tensor_count, file->metadata,
                                 file->metadata_count, &entry->hash, &entry->bytes);
    entry->bytes = file->text_bytes;
    entry->hash = hash64(file->text, file->text_bytes);
    return file_write_all(fd, path, file->text, file->text_bytes);
}

static enum status
write_file(const char *folder, const struct checkpoint_file *file, struct manifest_file *entry)
{
    int fd;
    char path[PATH_BYTES];
    TRY(open_file(&fd, path, folder, file->name));
    snprintf(entry->name, sizeof entry->name, "%s", file->name);
    return finish_file(fd, path, write_content(fd, path, file, entry));
}

static enum status
write_manifest(const char *folder, const struct manifest *manifest, uint64_t *mh)
{
    int fd;
    char path[PATH_BYTES];
    char *text;
    size_t bytes;
    TRY(manifest_print(&text, &bytes, manifest));
    *mh = hash64(text, bytes);
    enum status status = open_file(&fd, path, folder, MANIFEST_NAME);
    if (status == STATUS_OK) {
        status = fault("checkpoint.manifest") ? FAIL(IO, "%s: cannot write: injected", path)
                                              : file_write_all(fd, path, text, bytes);
        status = finish_file(fd, path, status);
    }
    free(text);
    return status;
}

static enum status
fill_folder(const char *folder, const struct checkpoint_facts *facts,
            const struct checkpoint_file *files, size_t count, uint64_t *mh)
{
    struct manifest manifest = {.facts = *facts, .count = count};
    for (size_t i = 0; i < count; i++)
        TRY(write_file(folder, &files[i], &manifest.files[i]));
    TRY(write_manifest(folder, &manifest, mh));
    if (fault("checkpoint.sync_folder"))
        return FAIL(IO, "%s: cannot sync: injected", folder);
    return file_sync_folder(folder);
}

// After a failure, whose words stay. Should the removal fail too, the next start repeats it.
static void
remove_folder(const char *temporary, enum status *status)
{
    struct status_note note;
    status_note_take(&note, *status);
    if (path_remove(temporary) != STATUS_OK)
        say(SAY_WARN, "%s", status_words());
    *status = status_note_give(&note);
}

static enum status
write_folder(char temporary[PATH_BYTES], const struct runfolder *run, const char *final,
             const struct checkpoint_facts *facts, const struct checkpoint_file *files,
             size_t count, uint64_t *mh)
{
    uint32_t dice = 0;
    if (getrandom(&dice, sizeof dice, GRND_NONBLOCK) != sizeof dice)
        dice = (uint32_t)tick_label_ns();
    int length =
        snprintf(temporary, PATH_BYTES, "%s.tmp-%u-%08x", final, runfolder_incarnation(run), dice);
    if (length < 0 || length >= PATH_BYTES)
        return FAIL(CONFIG, "%s: the path is too long", final);
    if ((fault("checkpoint.folder") ? (errno = EIO, -1) : mkdir(temporary, 0700)) != 0)
        return why(temporary, "make the folder");
    enum status status = fill_folder(temporary, facts, files, count, mh);
    if (status != STATUS_OK)
        remove_folder(temporary, &status);
    return status;
}

// ---- W7: the final name ----

// Another checkpoint of this step is there: the two change places in one instant, and the old one
// goes aside. Without such a call it goes aside first; a crash in between leaves the step before.
static enum status
replace(struct runfolder *run, const char *temporary, const char *final, uint64_t step)
{
    int failed = fault("checkpoint.noreplace")
                     ? (errno = ENOSYS, -1)
                     : renameat2(AT_FDCWD, temporary, AT_FDCWD, final, RENAME_EXCHANGE);
    if (!failed) {
        if (checkpoint_quarantine(run, temporary, step, "replaced") != STATUS_OK)
            say(SAY_WARN, "%s", status_words()); // the new one is in place all the same
        return STATUS_OK;
    }
    TRY(checkpoint_quarantine(run, final, step, "replaced"));
    return checkpoint_rename(temporary, final) != 0 ? why(temporary, "rename") : STATUS_OK;
}

static enum status
place(struct runfolder *run, const char *temporary, const char *final, uint64_t step)
{
    int failed =
        fault("checkpoint.rename") ? (errno = EIO, -1) : checkpoint_rename(temporary, final);
    enum status status = !failed           ? STATUS_OK
                         : errno == EEXIST ? replace(run, temporary, final, step)
                                           : why(temporary, "rename");
    if (status != STATUS_OK)
        remove_folder(temporary, &status);
    return status;
}

// ---- W8, W9: durable, and known ----

static enum status
sync_name(const struct runfolder *run)
{
    enum status status = STATUS_OK;
    for (int i = 0; i < ATTEMPTS; i++) {
        status = fault("checkpoint.sync_parent")
                     ? FAIL(IO, "%s: cannot sync: injected", runfolder_checkpoints(run))
                     : file_sync_folder(runfolder_checkpoints(run));
        if (status == STATUS_OK)
            break;
    }
    return status;
}

static enum status
record(struct runfolder *run, const struct checkpoint_facts *facts, uint64_t mh)
{
    char text[17];
    hex64(text, mh);
    return journal_append(runfolder_journal(run), "checkpoint", "{s:I, s:I, s:I, s:s, s:s}", "step",
                          (json_int_t)facts->step, "next", (json_int_t)facts->next, "inc",
                          (json_int_t)facts->incarnation, "mh", text, "created", facts->created);
}

// ---- the whole ----

static bool
same_state(const struct checkpoint_facts *a, const struct checkpoint_facts *b)
{
    return a->step == b->step && a->next == b->next && hash128_same(a->stream, b->stream) &&
           hash128_same(a->chain, b->chain) && hash128_same(a->trajectory, b->trajectory) &&
           strcmp(a->run, b->run) == 0;
}

static void
complete(struct checkpoint_facts *out, const struct checkpoint_facts *facts,
         const struct runfolder *run)
{
    *out = *facts;
    out->incarnation = runfolder_incarnation(run);
    snprintf(out->run, sizeof out->run, "%s", runfolder_name(run));
    snprintf(out->environment, sizeof out->environment, "%s", runfolder_environment(run));
    time_t now = (time_t)(tick_label_ns() / 1000000000);
    struct tm utc;
    if (!gmtime_r(&now, &utc) ||
        strftime(out->created, sizeof out->created, "%Y-%m-%dT%H:%M:%SZ", &utc) == 0)
        out->created[0] = '\0';
}

static enum status
make_folder(uint64_t *mh, struct runfolder *run, const char *final,
            const struct checkpoint_facts *facts, const struct checkpoint_file *files, size_t count,
            const struct checkpoint_policy *policy)
{
    uint64_t bytes = MANIFEST_BYTES_MOST / 16;
    for (size_t i = 0; i < count; i++)
        bytes += file_bytes(&files[i]);
    TRY(find_space(run, bytes, policy));
    char temporary[PATH_BYTES];
    enum status status = STATUS_OK;
    for (int i = 0; i < ATTEMPTS; i++) {
        status = write_folder(temporary, run, final, facts, files, count, mh);
        if (status == STATUS_OK)
            status = place(run, temporary, final, facts->step);
        if (status == STATUS_OK)
            break;
        say(SAY_WARN, "checkpoint of step %llu: %s", (unsigned long long)facts->step,
            status_words());
        if (status != STATUS_IO)
            break;
    }
    return status;
}

enum status
checkpoint_write(uint64_t *mh, struct runfolder *run, const struct checkpoint_facts *facts,
                 const struct checkpoint_file *files, size_t count,
                 const struct checkpoint_policy *policy)
{
    assert(count > 0 && count <= CHECKPOINT_FILES_MOST);
    struct checkpoint_facts full, there;
    complete(&full, facts, run);
    char final[PATH_BYTES];
    uint64_t hash;
    TRY(checkpoint_path(final, runfolder_checkpoints(run), facts->step));
    if (path_exists(final) && checkpoint_verify(final, &there, &hash, NULL) == STATUS_OK &&
        same_state(&there, &full))
        full = there;
    else
        TRY(make_folder(&hash, run, final, &full, files, count, policy));
    TRY(sync_name(run));
    TRY(record(run, &full, hash));
    runfolder_set_durable(run, facts->step);
    if (mh)
        *mh = hash;
    return STATUS_OK;
}
