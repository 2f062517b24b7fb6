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

enum { TAIL_MOST = 16 << 10 };

struct journal {
    char *path;
    int fd;
    bool suspect;  // a write or sync on fd failed: fd is only read from now on
    size_t bytes;  // of the sound lines, as they stand in the file
    uint64_t next; // lsn
    // Their end, in memory: what shares a block of the disk with a line whose write fails.
    char tail[TAIL_MOST / 2 + JOURNAL_LINE_MOST];
    size_t tail_bytes;
    char window[JOURNAL_LINE_MOST + 1]; // what of them was read last
    size_t window_at, window_bytes;
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
open_file(int *fd, const char *path)
{
    *fd = open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (*fd < 0)
        return errno == EACCES || errno == EPERM || errno == EROFS
                   ? FAIL(DENIED, "%s: cannot open the journal: %s", path, strerror(errno))
                   : FAIL(CREATE, "%s: cannot open the journal: %s", path, strerror(errno));
    return STATUS_OK;
}

static enum status
read_back(const struct journal *j, char *out, size_t at, size_t bytes)
{
    for (size_t done = 0; done < bytes;) {
        ssize_t got = pread(j->fd, out + done, bytes - done, (off_t)(at + done));
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return FAIL(IO, "%s: cannot read: %s", j->path, strerror(errno));
        if (got == 0)
            return FAIL(IO, "%s: %zu bytes, wanted the %zu that were written", j->path, at + done,
                        at + bytes);
        done += (size_t)got;
    }
    return STATUS_OK;
}

// Sound lines that stand behind the others in the file.
static void
keep(struct journal *j, const char *text, size_t bytes)
{
    size_t more = bytes < JOURNAL_LINE_MOST ? bytes : JOURNAL_LINE_MOST;
    size_t before = more < bytes ? 0 : j->tail_bytes;
    if (before + more > TAIL_MOST && before > TAIL_MOST / 2) {
        memmove(j->tail, j->tail + before - TAIL_MOST / 2, TAIL_MOST / 2);
        before = TAIL_MOST / 2;
    }
    memcpy(j->tail + before, text + bytes - more, more);
    j->tail_bytes = before + more;
    j->bytes += bytes;
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

// The line of the next record. The caller frees it.
static enum status
print_line(char **line, size_t *bytes, const struct journal *j, uint64_t lsn, const char *type,
           json_t *fields)
{
    *line = NULL;
    json_t *record = json_object();
    enum status status;
    if (!record || json_object_set_new(record, "lsn", json_integer((json_int_t)lsn)) != 0 ||
        json_object_set_new(record, "type", json_string(type)) != 0 ||
        json_object_update(record, fields) != 0)
        status = FAIL(CREATE, "%s: no memory for a record", j->path);
    else
        status = sealed_print(line, bytes, record);
    json_decref(record);
    if (status == STATUS_OK && *bytes > JOURNAL_LINE_MOST)
        status = FAIL(INTERNAL, "%s: a record %s of %zu bytes", j->path, type, *bytes);
    return status;
}

// A new file with this text takes the place of the old one.
static enum status
replace(struct journal *j, const char *text, size_t bytes)
{
    int fd;
    TRY(file_replace(j->path, text, bytes));
    TRY(open_file(&fd, j->path));
    close(j->fd);
    j->fd = fd;
    j->suspect = false;
    return STATUS_OK;
}

// The sound lines and one more, into a new file.
static enum status
rewrite(struct journal *j, const char *line, size_t bytes)
{
    size_t head = j->bytes - j->tail_bytes;
    char *text = malloc(j->bytes + bytes);
    if (!text)
        return FAIL(CREATE, "%s: no memory for %zu bytes", j->path, j->bytes + bytes);
    enum status status = read_back(j, text, 0, head);
    if (status == STATUS_OK) {
        memcpy(text + head, j->tail, j->tail_bytes);
        memcpy(text + j->bytes, line, bytes);
        status = replace(j, text, j->bytes + bytes);
    }
    free(text);
    return status;
}

// A text that grows; lines are numbered from 1.
struct mended {
    char *text;
    size_t bytes, room;
    uint64_t next;
};

static enum status
mend_line(struct mended *out, const struct journal *j, const char *type, json_t *fields)
{
    char *line;
    size_t bytes;
    enum status status;
    GOTRY(print_line(&line, &bytes, j, out->next, type, fields));
    if (bytes > out->room - out->bytes) {
        size_t room = (out->bytes + bytes) * 2;
        char *text = realloc(out->text, room);
        if (!text)
            GOTRY(FAIL(CREATE, "%s: no memory for %zu bytes", j->path, room));
        out->text = text;
        out->room = room;
    }
    memcpy(out->text + out->bytes, line, bytes);
    out->bytes += bytes;
    out->next++;
done:
    free(line);
    return status;
}

static enum status
mend_lines(struct mended *out, const struct journal *j, const char *text, size_t bytes,
           size_t *dropped)
{
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
            status = mend_line(out, j, type, record);
        } else {
            ++*dropped;
        }
        json_decref(record);
        TRY(status);
        at += here + 1;
    }
    return STATUS_OK;
}

static enum status
salvage_lines(struct journal *j, const char *text, size_t bytes)
{
    char aside[PATH_BYTES];
    struct mended mended = {.next = 1};
    size_t dropped = 0;
    json_t *fields = NULL;
    enum status status;
    int length = snprintf(aside, sizeof aside, "%s.damaged", j->path);
    if (length < 0 || length >= (int)sizeof aside)
        return FAIL(CONFIG, "%s: the path is too long", j->path);
    GOTRY(file_replace(aside, text, bytes));
    GOTRY(mend_lines(&mended, j, text, bytes, &dropped));
    fields = json_pack("{s:I}", "dropped", (json_int_t)dropped);
    GOTRY(fields ? mend_line(&mended, j, "salvage", fields)
                 : FAIL(CREATE, "%s: no memory", j->path));
    say(SAY_WARN, "%s: dropped %zu damaged lines; the old file is %s", j->path, dropped, aside);
    GOTRY(replace(j, mended.text, mended.bytes));
    keep(j, mended.text, mended.bytes);
    j->next = mended.next;
done:
    json_decref(fields);
    free(mended.text);
    return status;
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
    GOTRY(open_file(&j->fd, path));
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
        keep(j, text, scan.sound);
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
        free(j->path);
        free(j);
    }
    *journal = NULL;
}

static enum status
write_line(const struct journal *j, const char *line, size_t bytes)
{
    TRY(fault("journal.write") ? FAIL(IO, "%s: cannot write: injected", j->path)
                               : file_write_all(j->fd, j->path, line, bytes));
    if ((fault("journal.sync") ? (errno = EIO, -1) : fdatasync(j->fd)) != 0)
        return FAIL(IO, "%s: cannot sync: %s", j->path, strerror(errno));
    return STATUS_OK;
}

static enum status
append_locked(struct journal *j, const char *type, json_t *fields)
{
    char *line;
    size_t bytes;
    enum status status;
    GOTRY(print_line(&line, &bytes, j, j->next, type, fields));
    if (bytes > JOURNAL_MOST - j->bytes)
        GOTRY(FAIL(CREATE, "%s: the journal is full: %zu bytes, wanted at most %d", j->path,
                   j->bytes + bytes, JOURNAL_MOST));
    status = j->suspect ? rewrite(j, line, bytes) : write_line(j, line, bytes);
    if (status == STATUS_OK) {
        keep(j, line, bytes);
        j->next++;
    } else {
        // What was refused should not come to life in another process: its bytes are taken back, if
        // the disk lets us. This process writes a new file with the next line anyway.
        if (ftruncate(j->fd, (off_t)j->bytes) != 0)
            say(SAY_WARN, "%s: cannot take back a line that failed: %s", j->path, strerror(errno));
        j->suspect = true;
    }
done:
    free(line);
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

// The line that begins at this byte, in the window. Sound lines never change, so neither does it.
static enum status
window_line(struct journal *j, const char **line, size_t *length, size_t at)
{
    const char *end = NULL;
    if (at >= j->window_at && at < j->window_at + j->window_bytes) {
        *line = j->window + (at - j->window_at);
        end = memchr(*line, '\n', j->window_at + j->window_bytes - at);
    }
    if (!end) {
        size_t left = j->bytes - at;
        j->window_at = at;
        j->window_bytes = 0;
        TRY(read_back(j, j->window, at, left < sizeof j->window ? left : sizeof j->window));
        j->window_bytes = left < sizeof j->window ? left : sizeof j->window;
        *line = j->window;
        end = memchr(*line, '\n', j->window_bytes);
    }
    if (!end)
        return FAIL(DAMAGED, "%s: somebody else has changed it", j->path);
    *length = (size_t)(end - *line);
    return STATUS_OK;
}

static enum status
next_locked(json_t **record, struct journal *j, size_t *at)
{
    const char *line;
    size_t length;
    bool starved = false;
    TRY(window_line(j, &line, &length, *at));
    *at += length + 1;
    *record = line_parse(line, length, 0, &starved);
    if (*record)
        return STATUS_OK;
    return starved ? FAIL(CREATE, "%s: no memory for a record", j->path)
                   : FAIL(DAMAGED, "%s: somebody else has changed it", j->path);
}

enum status
journal_next(json_t **record, struct journal *journal, size_t *at)
{
    *record = NULL;
    pthread_mutex_lock(&journal->lock);
    enum status status = *at < journal->bytes ? next_locked(record, journal, at) : STATUS_OK;
    pthread_mutex_unlock(&journal->lock);
    return status;
}
