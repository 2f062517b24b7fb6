#include "lib/store/checkpoint.h"

#include "lib/base/fault.h"
#include "lib/store/checkpoint_room.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { STEP_DIGITS = 12, PIECE = 4 << 20 };

uint32_t
checkpoint_incarnation(const char *ck)
{
    const char *slash = strchr(ck, '/'), *dash = slash ? strrchr(slash, '-') : NULL;
    return dash ? (uint32_t)strtoul(dash + 1, NULL, 10) : 0;
}

enum status
checkpoint_path(char out[PATH_BYTES], const char *checkpoints, uint64_t step)
{
    assert(step < 1000000000000);
    char name[32];
    snprintf(name, sizeof name, "step-%012llu", (unsigned long long)step);
    return path_join(out, checkpoints, name);
}

// step-<12 digits> and a rest; false for any other name.
bool
checkpoint_name_parse(uint64_t *step, const char **rest, const char *name)
{
    if (strncmp(name, "step-", 5) != 0)
        return false;
    *step = 0;
    for (int i = 0; i < STEP_DIGITS; i++) {
        char c = name[5 + i];
        if (c < '0' || c > '9')
            return false;
        *step = *step * 10 + (uint64_t)(c - '0');
    }
    *rest = name + 5 + STEP_DIGITS;
    return true;
}

static int
newest_first(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x < y) - (x > y);
}

enum status
checkpoint_list(struct checkpoint_list *out, const char *checkpoints)
{
    *out = (struct checkpoint_list){0};
    DIR *entries = fault("checkpoint.list") ? (errno = EIO, NULL) : opendir(checkpoints);
    if (!entries)
        return errno == ENOENT ? FAIL(MISSING, "%s: no such folder", checkpoints)
                               : FAIL(IO, "%s: cannot list: %s", checkpoints, strerror(errno));
    enum status status = STATUS_OK;
    size_t room = 0;
    for (;;) {
        errno = 0;
        const struct dirent *entry = readdir(entries);
        if (!entry) {
            if (errno != 0)
                status = FAIL(IO, "%s: cannot list: %s", checkpoints, strerror(errno));
            break;
        }
        uint64_t step;
        const char *rest;
        if (!checkpoint_name_parse(&step, &rest, entry->d_name))
            continue;
        if (strstr(rest, ".tmp-"))
            out->unfinished++;
        else if (strncmp(rest, ".bad-", 5) == 0)
            out->quarantined++;
        if (*rest != '\0')
            continue;
        if (out->count == room) {
            room = room * 2 + 64;
            uint64_t *steps = realloc(out->steps, room * sizeof *steps);
            if (!steps) {
                status = FAIL(CREATE, "%s: no memory for its list", checkpoints);
                break;
            }
            out->steps = steps;
        }
        out->steps[out->count++] = step;
    }
    closedir(entries);
    if (status != STATUS_OK)
        checkpoint_list_release(out);
    else if (out->count > 0)
        qsort(out->steps, out->count, sizeof *out->steps, newest_first);
    return status;
}

void
checkpoint_list_release(struct checkpoint_list *list)
{
    free(list->steps);
    *list = (struct checkpoint_list){0};
}

// Read, not mapped: a file that is cut meanwhile, or a bad sector, must be a status and no signal.
static enum status
verify_file(const char *folder, const struct manifest_file *file, const char **flaw)
{
    char path[PATH_BYTES];
    TRY(path_join(path, folder, file->name));
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    struct stat info;
    if (fd < 0 && (errno == ENOENT || errno == ELOOP)) {
        *flaw = "missing";
        return FAIL(MISSING, "%s: is named in the manifest and not there", path);
    }
    if (fd < 0 && (errno == EACCES || errno == EPERM))
        return FAIL(DENIED, "%s: cannot open: %s", path, strerror(errno));
    if (fd < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOMEM))
        return FAIL(CREATE, "%s: cannot open: %s", path, strerror(errno));
    if (fd < 0) {
        *flaw = "io";
        return FAIL(IO, "%s: cannot open: %s", path, strerror(errno));
    }
    enum status status = STATUS_OK;
    char *piece = NULL;
    struct hasher *hasher = NULL;
    uint64_t done = 0;
    if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
        *flaw = "missing";
        status = FAIL(DAMAGED, "%s: is not a regular file", path);
        goto done;
    }
    if ((uint64_t)info.st_size != file->bytes) {
        *flaw = "size";
        status = FAIL(DAMAGED, "%s: has %lld bytes, wanted %llu", path, (long long)info.st_size,
                      (unsigned long long)file->bytes);
        goto done;
    }
    size_t room = file->bytes < PIECE ? (size_t)file->bytes + 1 : PIECE;
    piece = malloc(room);
    hasher = hasher_new();
    if (!piece || !hasher) {
        status = FAIL(CREATE, "%s: no memory to read it", path);
        goto done;
    }
    while (done < file->bytes) {
        ssize_t got = fault("checkpoint.read") ? (errno = EIO, -1) : read(fd, piece, room);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0) {
            *flaw = "io";
            status = FAIL(IO, "%s: cannot read: %s", path, got ? strerror(errno) : "it was cut");
            goto done;
        }
        hasher_add(hasher, piece, (size_t)got);
        done += (uint64_t)got;
    }
    if (hasher_64(hasher) != file->hash) {
        *flaw = "hash";
        status = FAIL(DAMAGED, "%s: its hash is not the manifest's", path);
    }
done:
    hasher_free(&hasher);
    free(piece);
    close(fd);
    return status;
}

enum status
checkpoint_verify(const char *folder, struct checkpoint_facts *facts, uint64_t *mh,
                  const char **flaw)
{
    const char *unused;
    flaw = flaw ? flaw : &unused;
    *flaw = NULL;
    struct manifest manifest;
    enum status status = manifest_read(&manifest, mh, folder);
    if (status == STATUS_DAMAGED || status == STATUS_MISSING)
        *flaw = "manifest";
    if (status == STATUS_IO)
        *flaw = "io";
    TRY(status);
    const char *slash = strrchr(folder, '/'), *rest;
    uint64_t step;
    if (checkpoint_name_parse(&step, &rest, slash ? slash + 1 : folder) &&
        step != manifest.facts.step) {
        *flaw = "step";
        return FAIL(DAMAGED, "%s: its manifest is of step %llu", folder,
                    (unsigned long long)manifest.facts.step);
    }
    for (size_t i = 0; i < manifest.count; i++)
        TRY(verify_file(folder, &manifest.files[i], flaw));
    if (facts)
        *facts = manifest.facts;
    return STATUS_OK;
}

enum status
checkpoint_verify_files(const char *folder, const char *const *names, size_t count,
                        struct checkpoint_facts *facts, uint64_t *mh)
{
    struct manifest manifest;
    const char *flaw;
    TRY(manifest_read(&manifest, mh, folder));
    for (size_t n = 0; n < count; n++) {
        const struct manifest_file *file = NULL;
        for (size_t i = 0; i < manifest.count && !file; i++)
            if (strcmp(manifest.files[i].name, names[n]) == 0)
                file = &manifest.files[i];
        if (!file)
            return FAIL(MISSING, "%s: its manifest names no %s", folder, names[n]);
        TRY(verify_file(folder, file, &flaw));
    }
    if (facts)
        *facts = manifest.facts;
    return STATUS_OK;
}

static enum status
check_checkpoints(struct runfolder_report *out, const char *checkpoints)
{
    struct checkpoint_list list;
    TRY(checkpoint_list(&list, checkpoints));
    enum status status = STATUS_OK;
    out->quarantined = list.quarantined;
    out->unfinished = list.unfinished;
    for (size_t i = 0; i < list.count; i++) {
        char path[PATH_BYTES];
        const char *flaw = NULL;
        GOTRY(checkpoint_path(path, checkpoints, list.steps[i]));
        status = checkpoint_verify(path, NULL, NULL, &flaw);
        if (status == STATUS_OK) {
            out->sound++;
            continue;
        }
        if (!flaw)
            goto done;
        out->damaged++;
        if (out->words[0] == '\0')
            snprintf(out->words, sizeof out->words, "%s", status_words());
        status = STATUS_OK;
    }
done:
    checkpoint_list_release(&list);
    return status;
}

enum status
runfolder_check(struct runfolder_report *out, const char *path)
{
    *out = (struct runfolder_report){0};
    char part[PATH_BYTES];
    TRY(path_join(part, path, "checkpoints"));
    TRY(check_checkpoints(out, part));
    TRY(path_join(part, path, "journal.jsonl"));
    out->has_journal = path_exists(part);
    if (!out->has_journal)
        return STATUS_OK;
    enum status status = journal_check(&out->records, &out->torn_journal, part);
    if (status != STATUS_DAMAGED)
        return status;
    out->damaged++;
    if (out->words[0] == '\0')
        snprintf(out->words, sizeof out->words, "%s", status_words());
    return STATUS_OK;
}
