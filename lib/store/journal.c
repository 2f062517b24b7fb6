#include "lib/store/journal.h"

#include "lib/base/fault.h"
#include "lib/base/file.h"
#include "lib/base/say.h"
#include "lib/store/sealed.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct journal {
    char *path;
    int fd;
    bool suspect; // a write or sync on fd failed: fd is not to be used again
    char *text;   // every sound line, as it stands in the file
    size_t bytes, room;
    uint64_t next; // lsn
    pthread_mutex_t lock;
};

// What the lines of a file are worth.
struct scan {
    size_t sound;   // bytes of the sound lines at the beginning
    size_t records; // and how many they are
    bool torn;      // something follows them, and it is not sound
    bool damaged;   // and something sound follows that
    bool starved;   // no memory to tell
};

// A sound line as an object, or NULL. lsn 0: any. *starved (only ever set): no memory was there,
// and NULL says nothing about the line.
static json_t *
line_parse(const char *line, size_t bytes, uint64_t lsn, bool *starved)
{
    if (bytes > JOURNAL_LINE_MOST || !sealed_is_sound(line, bytes))
        return NULL;
    json_error_t error;
    bool none;
    json_t *record = sealed_load(line, bytes, &error, &none);
    *starved = *starved || none;
    json_t *number = json_object_get(record, "lsn");
    if (json_is_integer(number) && json_is_string(json_object_get(record, "type")) &&
        (lsn == 0 || (uint64_t)json_integer_value(number) == lsn))
        return record;
    json_decref(record);
    return NULL;
}

static bool
line_is_sound(const char *line, size_t bytes, uint64_t lsn, bool *starved)
{
    json_t *record = line_parse(line, bytes, lsn, starved);
    bool sound = record != NULL;
    json_decref(record);
    return sound;
}

static enum status
scan_text(struct scan *scan, const char *text, size_t bytes, const char *path)
{
    *scan = (struct scan){0};
    for (size_t at = 0; at < bytes && !scan->damaged && !scan->starved;) {
        const char *end = memchr(text + at, '\n', bytes - at);
        size_t length = end ? (size_t)(end - text) - at : bytes - at;
        if (!scan->torn && end &&
            line_is_sound(text + at, length, scan->records + 1, &scan->starved)) {
            scan->records++;
            scan->sound = at + length + 1;
        } else {
            scan->torn = true; // damaged: also when a line before a sound one is gone
            scan->damaged = end && line_is_sound(text + at, length, 0, &scan->starved);
        }
        at += length + 1;
    }
    return scan->starved ? FAIL(CREATE, "%s: no memory to read it", path) : STATUS_OK;
}

static enum status
damaged(const char *path, const struct scan *scan)
{
    return FAIL(DAMAGED, "%s: line %zu is damaged or missing, and sound lines follow it", path,
                scan->records + 1);
}

enum status
journal_check(size_t *records, bool *torn, const char *path)
{
    char *text;
    size_t bytes;
    TRY(file_read(&text, &bytes, path, JOURNAL_MOST));
    struct scan scan;
    enum status status = scan_text(&scan, text, bytes, path);
    free(text);
    TRY(status);
    *records = scan.records;
    *torn = scan.torn;
    return scan.damaged ? damaged(path, &scan) : STATUS_OK;
}

static enum status
open_file(struct journal *j)
{
    j->fd = open(j->path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (j->fd < 0)
        return errno == EACCES || errno == EPERM || errno == EROFS
                   ? FAIL(DENIED, "%s: cannot open the journal: %s", j->path, strerror(errno))
                   : FAIL(CREATE, "%s: cannot open the journal: %s", j->path, strerror(errno));
    return STATUS_OK;
}

static enum status
make_room(struct journal *j, size_t more)
{
    if (more > JOURNAL_MOST - j->bytes)
        return FAIL(CREATE, "%s: the journal is full: %zu bytes, wanted at most %d", j->path,
                    j->bytes + more, JOURNAL_MOST);
    if (j->text && j->bytes + more <= j->room)
        return STATUS_OK;
    size_t room = (j->bytes + more) * 2 + 4096;
    char *text = realloc(j->text, room);
    if (!text)
        return FAIL(CREATE, "%s: no memory for %zu bytes", j->path, room);
    j->text = text;
    j->room = room;
    return STATUS_OK;
}

static enum status
cut_tail(struct journal *j, const struct scan *scan, size_t bytes)
{
    say(SAY_WARN, "%s: the last %zu bytes are a torn line, cut off", j->path, bytes - scan->sound);
    if ((fault("journal.cut") ? (errno = EIO, -1) : ftruncate(j->fd, (off_t)scan->sound)) != 0 ||
        fdatasync(j->fd) != 0)
        return FAIL(IO, "%s: cannot cut its torn tail: %s", j->path, strerror(errno));
    return STATUS_OK;
}

// The line of a record, behind the text.
static enum status
add_line(struct journal *j, const char *type, json_t *fields)
{
    enum status status = STATUS_OK;
    char *line = NULL;
    size_t bytes;
    json_t *record = json_object();
    if (!record || json_object_set_new(record, "lsn", json_integer((json_int_t)j->next)) != 0 ||
        json_object_set_new(record, "type", json_string(type)) != 0 ||
        json_object_update(record, fields) != 0) {
        status = FAIL(CREATE, "%s: no memory for a record", j->path);
        goto done;
    }
    GOTRY(sealed_print(&line, &bytes, record));
    if (bytes > JOURNAL_LINE_MOST) {
        status = FAIL(INTERNAL, "%s: a record %s of %zu bytes", j->path, type, bytes);
        goto done;
    }
    GOTRY(make_room(j, bytes));
    memcpy(j->text + j->bytes, line, bytes);
    j->bytes += bytes;
    j->next++;
done:
    free(line);
    json_decref(record);
    return status;
}

// The whole text into a new file, which takes the place of the old one.
static enum status
rewrite(struct journal *j)
{
    if (j->fd >= 0)
        close(j->fd);
    j->fd = -1;
    j->suspect = true;
    TRY(file_replace(j->path, j->text, j->bytes));
    TRY(open_file(j));
    j->suspect = false;
    return STATUS_OK;
}

static enum status
salvage_lines(struct journal *j, const char *text, size_t bytes)
{
    char aside[PATH_BYTES];
    int length = snprintf(aside, sizeof aside, "%s.damaged", j->path);
    if (length < 0 || length >= (int)sizeof aside)
        return FAIL(CONFIG, "%s: the path is too long", j->path);
    TRY(file_replace(aside, text, bytes));
    size_t dropped = 0;
    bool starved = false;
    for (size_t at = 0; at < bytes;) {
        const char *end = memchr(text + at, '\n', bytes - at);
        size_t here = end ? (size_t)(end - text) - at : bytes - at;
        json_t *record = end ? line_parse(text + at, here, 0, &starved) : NULL;
        enum status status =
            starved ? FAIL(CREATE, "%s: no memory to mend it", j->path) : STATUS_OK;
        if (record) {
            char type[64];
            snprintf(type, sizeof type, "%s", json_string_value(json_object_get(record, "type")));
            json_object_del(record, "lsn");
            json_object_del(record, "type");
            json_object_del(record, "sum");
            status = add_line(j, type, record);
        } else {
            dropped++;
        }
        json_decref(record);
        TRY(status);
        at += here + 1;
    }
    json_t *fields = json_pack("{s:I}", "dropped", (json_int_t)dropped);
    enum status status =
        fields ? add_line(j, "salvage", fields) : FAIL(CREATE, "%s: no memory", j->path);
    json_decref(fields);
    TRY(status);
    say(SAY_WARN, "%s: dropped %zu damaged lines; the old file is %s", j->path, dropped, aside);
    return rewrite(j);
}

enum status
journal_open(struct journal **out, const char *path, bool salvage)
{
    *out = NULL;
    enum status status = STATUS_OK;
    char *text = NULL;
    struct journal *j = calloc(1, sizeof *j);
    if (!j || !(j->path = strdup(path))) {
        free(j);
        return FAIL(CREATE, "%s: no memory to open it", path);
    }
    pthread_mutex_init(&j->lock, NULL);
    j->fd = -1;
    j->next = 1;
    size_t bytes;
    GOTRY(open_file(j));
    GOTRY(file_read(&text, &bytes, path, JOURNAL_MOST));
    struct scan scan;
    GOTRY(scan_text(&scan, text, bytes, path));
    if (scan.damaged && !salvage) {
        status = damaged(path, &scan);
        goto done;
    }
    if (scan.damaged) {
        GOTRY(salvage_lines(j, text, bytes));
    } else {
        if (scan.torn)
            GOTRY(cut_tail(j, &scan, bytes));
        GOTRY(make_room(j, scan.sound));
        memcpy(j->text, text, scan.sound);
        j->bytes = scan.sound;
        j->next = scan.records + 1;
    }
    *out = j;
    j = NULL;
done:
    free(text);
    journal_close(&j);
    return status;
}

void
journal_close(struct journal **journal)
{
    struct journal *j = *journal;
    if (j) {
        if (j->fd >= 0)
            close(j->fd);
        pthread_mutex_destroy(&j->lock);
        free(j->text);
        free(j->path);
        free(j);
    }
    *journal = NULL;
}

static enum status
append_locked(struct journal *j, const char *type, json_t *fields)
{
    size_t before = j->bytes;
    uint64_t lsn = j->next;
    TRY(add_line(j, type, fields));
    enum status status;
    if (j->suspect) {
        status = rewrite(j);
    } else {
        status = fault("journal.write")
                     ? FAIL(IO, "%s: cannot write: injected", j->path)
                     : file_write_all(j->fd, j->path, j->text + before, j->bytes - before);
        if (status == STATUS_OK &&
            (fault("journal.sync") ? (errno = EIO, -1) : fdatasync(j->fd)) != 0)
            status = FAIL(IO, "%s: cannot sync: %s", j->path, strerror(errno));
    }
    if (status != STATUS_OK) {
        j->suspect = true;
        j->bytes = before;
        j->next = lsn;
    }
    return status;
}

enum status
journal_append(struct journal *journal, const char *type, const char *fields, ...)
{
    json_error_t error;
    va_list args;
    va_start(args, fields);
    errno = 0;
    json_t *object = json_vpack_ex(&error, 0, fields, args);
    va_end(args);
    if (!object && errno == ENOMEM)
        return FAIL(CREATE, "%s: no memory for a record", journal->path);
    if (!object)
        return FAIL(INTERNAL, "%s: a record %s that cannot be packed: %s", journal->path, type,
                    error.text);
    assert(json_is_object(object) && !json_object_get(object, "sum"));
    pthread_mutex_lock(&journal->lock);
    enum status status = append_locked(journal, type, object);
    pthread_mutex_unlock(&journal->lock);
    json_decref(object);
    return status;
}

enum status
journal_next(json_t **record, struct journal *journal, size_t *at)
{
    *record = NULL;
    enum status status = STATUS_OK;
    pthread_mutex_lock(&journal->lock);
    if (*at < journal->bytes) {
        const char *line = journal->text + *at;
        const char *end = memchr(line, '\n', journal->bytes - *at);
        assert(end);
        bool starved = false;
        *record = line_parse(line, (size_t)(end - line), 0, &starved);
        if (!*record)
            status = FAIL(CREATE, "%s: no memory for a record", journal->path);
        *at += (size_t)(end - line) + 1;
    }
    pthread_mutex_unlock(&journal->lock);
    return status;
}
