// What happens to checkpoints that are there: recovery, quarantine, retention.
#include "lib/base/fault.h"
#include "lib/base/say.h"
#include "lib/store/checkpoint.h"
#include "lib/store/checkpoint_room.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { QUARANTINED_MOST = 3, SAME_FLAW_MOST = 100 };

int
checkpoint_rename(const char *from, const char *to)
{
    int failed = fault("checkpoint.noreplace")
                     ? (errno = ENOSYS, -1)
                     : renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE);
    if (!failed || (errno != ENOSYS && errno != EINVAL && errno != EOPNOTSUPP))
        return failed;
    // One process writes here, so nobody makes `to` in between; and rename replaces no folder that
    // has something in it.
    struct stat info;
    if (lstat(to, &info) == 0) {
        errno = EEXIST;
        return -1;
    }
    return rename(from, to);
}

enum status
checkpoint_quarantine(struct runfolder *run, const char *path, uint64_t step, const char *flaw)
{
    char good[PATH_BYTES], to[PATH_BYTES];
    TRY(checkpoint_path(good, runfolder_checkpoints(run), step));
    int failed = -1;
    for (int i = 1; failed && i <= SAME_FLAW_MOST; i++) {
        char again[16] = "";
        if (i > 1)
            snprintf(again, sizeof again, "-%d", i);
        int length = snprintf(to, sizeof to, "%s.bad-%s%s", good, flaw, again);
        if (length < 0 || length >= (int)sizeof to)
            return FAIL(CONFIG, "%s: the path is too long", good);
        failed = fault("checkpoint.quarantine") ? (errno = EIO, -1) : checkpoint_rename(path, to);
        if (failed && errno != EEXIST)
            break;
    }
    if (failed)
        return FAIL(IO, "%s: cannot put it aside: %s", path, strerror(errno));
    say(SAY_WARN, "%s: put aside as %s", good, strrchr(to, '/') + 1);
    TRY(file_sync_folder(runfolder_checkpoints(run)));
    return journal_append(runfolder_journal(run), "quarantined", "{s:I, s:s}", "step",
                          (json_int_t)step, "flaw", flaw);
}

// Does the journal know of a checkpoint that was made since the last start from scratch? Of
// anything else that would be taken up again?
static enum status
journal_knows(bool *checkpoint, bool *more, struct journal *journal)
{
    *checkpoint = *more = false;
    json_t *record;
    for (size_t at = 0;;) {
        TRY(journal_next(&record, journal, &at));
        if (!record)
            return STATUS_OK;
        const char *type = json_string_value(json_object_get(record, "type"));
        if (strcmp(type, "checkpoint") == 0)
            *checkpoint = true;
        if (strcmp(type, "set") == 0)
            *more = true;
        if (strcmp(type, "abandoned") == 0)
            *checkpoint = *more = false;
        json_decref(record);
    }
}

// Puts checkpoints/ aside, whole, in one rename.
static enum status
abandon(struct runfolder *run)
{
    char to[PATH_BYTES];
    const char *from = runfolder_checkpoints(run);
    int length = snprintf(to, sizeof to, "%s.abandoned-%u", from, runfolder_incarnation(run));
    if (length < 0 || length >= (int)sizeof to)
        return FAIL(CONFIG, "%s: the path is too long", from);
    if ((fault("checkpoint.abandon") ? (errno = EIO, -1) : rename(from, to)) != 0)
        return FAIL(IO, "%s: cannot put it aside: %s", from, strerror(errno));
    TRY(path_make(from, 0700));
    TRY(file_sync_folder(runfolder_path(run)));
    say(SAY_WARN, "%s: starting from scratch; what was there is now %s", from, to);
    return journal_append(runfolder_journal(run), "abandoned", "{s:s}", "to", strrchr(to, '/') + 1);
}

// A failed read may be a passing trouble: it gets a second chance.
static enum status
verify_twice(struct checkpoint_found *out, const char **flaw)
{
    enum status status = checkpoint_verify(out->path, &out->facts, &out->mh, flaw);
    if (status == STATUS_IO) {
        say(SAY_WARN, "%s; reading again", status_words());
        status = checkpoint_verify(out->path, &out->facts, &out->mh, flaw);
    }
    return status;
}

enum status
checkpoint_recover(struct checkpoint_found *out, struct runfolder *run, bool from_scratch)
{
    memset(out, 0, sizeof *out);
    runfolder_set_empty(run);
    struct checkpoint_list list;
    TRY(checkpoint_list(&list, runfolder_checkpoints(run)));
    enum status status = STATUS_OK;
    bool known, more;
    GOTRY(journal_knows(&known, &more, runfolder_journal(run)));
    known = known || list.count > 0 || list.quarantined > 0;
    size_t unreadable = 0;
    if (from_scratch) {
        if (known || more)
            GOTRY(abandon(run));
        goto done;
    }
    for (size_t i = 0; i < list.count; i++) {
        const char *flaw;
        GOTRY(checkpoint_path(out->path, runfolder_checkpoints(run), list.steps[i]));
        status = verify_twice(out, &flaw);
        if (status == STATUS_OK) {
            out->found = true;
            // Its files were synced before it had this name; the name may be newer than the crash.
            if (file_sync_folder(runfolder_checkpoints(run)) == STATUS_OK)
                runfolder_set_durable(run, list.steps[i]);
            else
                say(SAY_WARN, "%s", status_words());
            goto done;
        }
        if (!flaw)
            GOTRY(status); // says nothing about the checkpoint: do not judge it
        say(SAY_WARN, "%s", status_words());
        if (status == STATUS_IO) { // the disk's trouble, which may pass: it stays what it is
            unreadable++;
            continue;
        }
        status = checkpoint_quarantine(run, out->path, list.steps[i], flaw);
        if (status != STATUS_OK)
            say(SAY_WARN, "%s", status_words()); // it must not block an older one
        status = STATUS_OK;
    }
    out->path[0] = '\0';
    status = STATUS_OK;
    if (unreadable)
        status = FAIL(IO,
                      "%s: %zu checkpoints cannot be read and no other is sound: mend the disk and "
                      "start again, or give --from-scratch",
                      runfolder_path(run), unreadable);
    else if (known)
        status = FAIL(DAMAGED,
                      "%s: the run has history (%zu damaged checkpoints, %zu put aside before), "
                      "but no sound checkpoint: refusing to start over without --from-scratch",
                      runfolder_path(run), list.count, list.quarantined);
done:
    checkpoint_list_release(&list);
    return status;
}

// ---- retention ----

static bool
is_kept(const struct checkpoint_policy *policy, const struct checkpoint_list *list, size_t i)
{
    if (i < policy->keep_last || i == 0)
        return true;
    uint64_t step = list->steps[i];
    if (policy->keep_every > 0 && step % policy->keep_every == 0)
        return true;
    for (size_t p = 0; p < policy->pinned_count; p++)
        if (policy->pinned[p] == step)
            return true;
    return false;
}

// First out of the way under a name that recovery sweeps, so a crash leaves no half of a
// checkpoint.
static enum status
delete_folder(const struct runfolder *run, const char *path)
{
    char gone[PATH_BYTES];
    int length = snprintf(gone, sizeof gone, "%s.tmp-%u-gone", path, runfolder_incarnation(run));
    if (length < 0 || length >= (int)sizeof gone)
        return FAIL(CONFIG, "%s: the path is too long", path);
    if ((fault("checkpoint.forget") ? (errno = EIO, -1) : rename(path, gone)) != 0)
        return FAIL(IO, "%s: cannot rename: %s", path, strerror(errno));
    if (fault("checkpoint.remove"))
        return FAIL(IO, "%s: cannot remove: injected", gone);
    return path_remove(gone);
}

// The name of the quarantined folder with the lowest step, and how many there are.
static enum status
oldest_quarantined(char name[256], size_t *count, const char *checkpoints)
{
    *count = 0;
    DIR *entries = opendir(checkpoints);
    if (!entries)
        return FAIL(IO, "%s: cannot list: %s", checkpoints, strerror(errno));
    const struct dirent *entry;
    while ((entry = readdir(entries))) {
        uint64_t step;
        const char *rest;
        if (!checkpoint_name_parse(&step, &rest, entry->d_name) || strncmp(rest, ".bad-", 5) != 0 ||
            strstr(rest, ".tmp-"))
            continue;
        if ((*count)++ == 0 || strcmp(entry->d_name, name) < 0)
            snprintf(name, 256, "%s", entry->d_name);
    }
    closedir(entries);
    return STATUS_OK;
}

static enum status
trim_quarantine(struct runfolder *run, size_t *removed)
{
    for (;;) {
        char name[256], path[PATH_BYTES];
        size_t count;
        TRY(oldest_quarantined(name, &count, runfolder_checkpoints(run)));
        if (count <= QUARANTINED_MOST)
            return STATUS_OK;
        TRY(path_join(path, runfolder_checkpoints(run), name));
        say(SAY_WARN, "%s: deleted, the oldest of %zu quarantined", path, count);
        TRY(delete_folder(run, path));
        TRY(journal_append(runfolder_journal(run), "deleted", "{s:s}", "name", name));
        ++*removed;
    }
}

enum status
checkpoint_retain(struct runfolder *run, const struct checkpoint_policy *policy)
{
    uint64_t durable;
    if (!runfolder_durable(run, &durable))
        return STATUS_OK; // nothing may be deleted before something is known to be safe
    struct checkpoint_list list;
    TRY(checkpoint_list(&list, runfolder_checkpoints(run)));
    enum status status = STATUS_OK;
    size_t removed = 0;
    for (size_t i = list.count; i-- > 0;) {
        char path[PATH_BYTES];
        if (list.steps[i] >= durable || is_kept(policy, &list, i))
            continue;
        GOTRY(checkpoint_path(path, runfolder_checkpoints(run), list.steps[i]));
        GOTRY(delete_folder(run, path));
        removed++;
        GOTRY(journal_append(runfolder_journal(run), "deleted", "{s:I}", "step",
                             (json_int_t)list.steps[i]));
    }
    GOTRY(trim_quarantine(run, &removed));
done:
    if (removed > 0 && status == STATUS_OK)
        status = file_sync_folder(runfolder_checkpoints(run));
    checkpoint_list_release(&list);
    return status;
}
