#include "lib/store/failure.h"

#include "lib/store/checkpoint.h"

#include <dirent.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { RECORD_MOST = 64 << 10 };
static const char ending[] = "_failed.json", begun_ending[] = "_begun.json";

bool
failure_name(const char *name)
{
    size_t length = strlen(name), end = sizeof ending - 1;
    return length > end && strcmp(name + length - end, ending) == 0;
}

static enum status
path_of(char out[PATH_BYTES], const struct failure_key *key, const char *end)
{
    char folder[PATH_BYTES], name[512], spec[33], mh[17];
    hex128(spec, key->spec);
    hex64(mh, key->mh);
    int length = snprintf(name, sizeof name, "%.200s_step-%012llu_spec-%.8s_mh-%s%s", key->run,
                          (unsigned long long)key->step, spec, mh, end);
    for (int i = 0; i < length && i < (int)sizeof name; i++)
        if (name[i] == '/')
            name[i] = '_';
    TRY(path_join(folder, key->results, key->kind));
    return path_join(out, folder, name);
}

static enum status
write_record(const char *results, const struct failure *failure, const char *end)
{
    char path[PATH_BYTES], folder[PATH_BYTES], mh[17], spec[33], created[32] = "";
    const struct failure_key key = {results,     failure->kind, failure->run, failure->step,
                                    failure->mh, failure->spec, NULL};
    TRY(path_of(path, &key, end));
    TRY(path_join(folder, results, failure->kind));
    TRY(path_make(folder, 0700));
    hex64(mh, failure->mh);
    hex128(spec, failure->spec);
    time_t now = time(NULL);
    struct tm utc;
    if (gmtime_r(&now, &utc))
        strftime(created, sizeof created, "%Y-%m-%dT%H:%M:%SZ", &utc);
    json_t *record = json_pack(
        "{s:s, s:s, s:I, s:s, s:s, s:s, s:I, s:s, s:s}", "ck", failure->ck, "run", failure->run,
        "step", (json_int_t)failure->step, "mh", mh, "kind", failure->kind, "spec", spec,
        "attempts", (json_int_t)failure->attempts, "created", created, "reason", failure->reason);
    char *text = record ? json_dumps(record, JSON_INDENT(1)) : NULL;
    json_decref(record);
    if (!text)
        return FAIL(CREATE, "%s: cannot be printed (no memory, or a text that is no UTF-8)", path);
    enum status status = file_replace(path, text, strlen(text));
    free(text);
    return status;
}

enum status
failure_write(const char *results, const struct failure *failure)
{
    return write_record(results, failure, ending);
}

static enum status
take_text(char *out, size_t room, const json_t *record, const char *key, const char *path)
{
    const char *text = json_string_value(json_object_get(record, key));
    if (!text || strlen(text) >= room)
        return FAIL(DAMAGED, "%s: %s is missing, no text, or longer than %zu bytes", path, key,
                    room - 1);
    memcpy(out, text, strlen(text) + 1);
    return STATUS_OK;
}

static enum status
take_count(uint64_t *out, const json_t *record, const char *key, const char *path)
{
    const json_t *number = json_object_get(record, key);
    if (!json_is_integer(number) || json_integer_value(number) < 0)
        return FAIL(DAMAGED, "%s: %s is missing, or no whole number from 0", path, key);
    *out = (uint64_t)json_integer_value(number);
    return STATUS_OK;
}

static enum status
take_record(struct failure *out, const json_t *record, const char *path)
{
    char mh[17], spec[33];
    TRY(take_text(out->ck, sizeof out->ck, record, "ck", path));
    TRY(take_text(out->run, sizeof out->run, record, "run", path));
    TRY(take_count(&out->step, record, "step", path));
    TRY(take_text(mh, sizeof mh, record, "mh", path));
    TRY(take_text(out->kind, sizeof out->kind, record, "kind", path));
    TRY(take_text(spec, sizeof spec, record, "spec", path));
    TRY(take_count(&out->attempts, record, "attempts", path));
    TRY(take_text(out->created, sizeof out->created, record, "created", path));
    TRY(take_text(out->reason, sizeof out->reason, record, "reason", path));
    if (!hex64_parse(&out->mh, mh) || !hex128_parse(&out->spec, spec))
        return FAIL(DAMAGED, "%s: mh or spec are not 16 and 32 hex digits", path);
    return STATUS_OK;
}

enum status
failure_read(struct failure *out, const char *path)
{
    char *text;
    size_t bytes;
    memset(out, 0, sizeof *out);
    TRY(file_read(&text, &bytes, path, RECORD_MOST));
    json_error_t error;
    json_t *record = json_loadb(text, bytes, JSON_REJECT_DUPLICATES, &error);
    free(text);
    if (!record)
        return FAIL(DAMAGED, "%s: at byte %d: %s", path, error.position, error.text);
    enum status status = take_record(out, record, path);
    json_decref(record);
    return status;
}

static bool
is_of(struct failure *out, const char *path, const struct failure_key *key)
{
    return path_exists(path) && failure_read(out, path) == STATUS_OK && out->mh == key->mh &&
           hash128_same(out->spec, key->spec);
}

enum status
failure_find(bool *found, struct failure *out, const struct failure_key *key)
{
    char path[PATH_BYTES];
    *found = false;
    TRY(path_of(path, key, ending));
    *found = is_of(out, path, key);
    return STATUS_OK;
}

static enum status
take_away(const char *path)
{
    if (path_exists(path) && unlink(path) != 0)
        return FAIL(IO, "%s: cannot remove it", path);
    return STATUS_OK;
}

// Is this the record of an older checkpoint of the step, failed or begun?
static bool
is_older(struct failure *record, const char *path, const struct failure_key *key)
{
    return failure_read(record, path) == STATUS_OK && record->step == key->step &&
           strcmp(record->run, key->run) == 0 && hash128_same(record->spec, key->spec) &&
           checkpoint_incarnation(record->ck) < checkpoint_incarnation(key->ck);
}

enum status
failure_clear(const struct failure_key *key)
{
    char path[PATH_BYTES], folder[PATH_BYTES];
    TRY(path_of(path, key, ending));
    TRY(take_away(path));
    TRY(path_join(folder, key->results, key->kind));
    // The names of one step and specification begin alike.
    size_t alike = (size_t)(strrchr(path, '/') + 1 - path);
    const char *mh = strstr(path + alike, "_mh-");
    char begins[PATH_BYTES];
    snprintf(begins, sizeof begins, "%.*s", (int)(mh - path - (ptrdiff_t)alike), path + alike);
    struct failure *record = malloc(sizeof *record);
    DIR *entries = key->ck && record ? opendir(folder) : NULL;
    enum status status = STATUS_OK;
    for (const struct dirent *entry; entries && (entry = readdir(entries));)
        if (strncmp(entry->d_name, begins, strlen(begins)) == 0 && strstr(entry->d_name, "_mh-") &&
            path_join(path, folder, entry->d_name) == STATUS_OK && is_older(record, path, key) &&
            status == STATUS_OK)
            status = take_away(path);
    if (entries)
        closedir(entries);
    free(record);
    return status;
}

enum status
failure_begin(const char *results, const struct failure *attempt)
{
    return write_record(results, attempt, begun_ending);
}

enum status
failure_begun(uint64_t *attempts, const struct failure_key *key)
{
    char path[PATH_BYTES];
    struct failure *record = malloc(sizeof *record);
    *attempts = 0;
    enum status status = record ? path_of(path, key, begun_ending)
                                : FAIL(CREATE, "no memory for the record of an attempt");
    if (status == STATUS_OK && is_of(record, path, key))
        *attempts = record->attempts;
    free(record);
    return status;
}

enum status
failure_hold(int *held, const struct failure_key *key)
{
    char path[PATH_BYTES];
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    *held = -1;
    TRY(path_of(path, key, begun_ending));
    int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (fd >= 0 && fcntl(fd, F_OFD_SETLK, &whole) == 0)
        *held = fd;
    else if (fd >= 0)
        close(fd);
    return STATUS_OK;
}

enum status
failure_is_held(bool *held, const struct failure_key *key)
{
    char path[PATH_BYTES];
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    *held = false;
    TRY(path_of(path, key, begun_ending));
    int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return STATUS_OK;
    *held = fcntl(fd, F_OFD_GETLK, &whole) == 0 && whole.l_type != F_UNLCK;
    close(fd);
    return STATUS_OK;
}

enum status
failure_ended(const struct failure_key *key)
{
    char path[PATH_BYTES];
    TRY(path_of(path, key, begun_ending));
    return take_away(path);
}
