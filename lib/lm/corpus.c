#include "lib/lm/corpus.h"

#include "lib/base/file.h"
#include "lib/base/say.h"
#include "lib/lm/corpus_files.h"
#include "lib/lm/jsonline.h"
#include "lib/lm/textfile.h"
#include "lib/lm/unicode.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct corpus {
    struct corpus_list list;
    char *field; // NULL: by what is asked for
    size_t next; // file to open; the one before it is open if `file` is not NULL
    struct textfile *file;
    // What has been read of the open file and not yet handed out is window[at..].
    struct text_list window;
    size_t at;
    bool at_end;
    uint64_t line, file_invalid;
    struct text_list text, repaired; // the document
    struct token_list ids;           // the row
    struct corpus_counts counts;     // bytes_done without the open file
};

enum status
corpus_open(struct corpus **out, const struct texts *paths, const char *field)
{
    *out = NULL;
    struct corpus *corpus = calloc(1, sizeof *corpus);
    if (!corpus)
        return FAIL(CREATE, "no memory for a corpus");
    enum status status = corpus_list_fill(&corpus->list, paths);
    if (status == STATUS_OK && field && !(corpus->field = strdup(field)))
        status = FAIL(CREATE, "no memory for a corpus");
    if (status != STATUS_OK) {
        corpus_close(&corpus);
        return status;
    }
    for (size_t i = 0; i < corpus->list.count; i++)
        corpus->counts.bytes_total += corpus->list.files[i].bytes;
    *out = corpus;
    return STATUS_OK;
}

void
corpus_close(struct corpus **corpus)
{
    struct corpus *c = *corpus;
    if (!c)
        return;
    corpus_list_release(&c->list);
    textfile_close(&c->file);
    text_list_release(&c->window);
    text_list_release(&c->text);
    text_list_release(&c->repaired);
    token_list_release(&c->ids);
    free(c->field);
    free(c);
    *corpus = NULL;
}

size_t
corpus_files(const struct corpus *corpus)
{
    return corpus->list.count;
}

struct corpus_file
corpus_file(const struct corpus *corpus, size_t i)
{
    assert(i < corpus->list.count);
    return corpus->list.files[i];
}

struct corpus_counts
corpus_counts(const struct corpus *corpus)
{
    struct corpus_counts counts = corpus->counts;
    if (corpus->file)
        counts.bytes_done += textfile_consumed(corpus->file);
    return counts;
}

static const struct corpus_file *
current(const struct corpus *c)
{
    return &c->list.files[c->next - 1];
}

// Reads some more behind the window; sets at_end when there is no more.
static enum status
fill(struct corpus *c)
{
    if (c->at > 0) { // what was handed out makes room
        memmove(c->window.at, c->window.at + c->at, c->window.bytes - c->at);
        c->window.bytes -= c->at;
        c->at = 0;
    }
    bool more;
    TRY(textfile_read(c->file, &c->window, &more));
    c->at_end = !more;
    return STATUS_OK;
}

static enum status
open_next(struct corpus *c)
{
    const struct corpus_file *file = &c->list.files[c->next++];
    c->window.bytes = c->at = 0;
    c->at_end = false;
    c->line = c->file_invalid = 0;
    TRY(textfile_open(&c->file, file->path, file->zstd));
    while (!c->at_end && c->window.bytes < 3)
        TRY(fill(c));
    if (c->window.bytes >= 2 &&
        (memcmp(c->window.at, "\xFF\xFE", 2) == 0 || memcmp(c->window.at, "\xFE\xFF", 2) == 0))
        return FAIL(DAMAGED, "%s: is UTF-16, wanted UTF-8", file->path);
    if (c->window.bytes >= 3 && memcmp(c->window.at, "\xEF\xBB\xBF", 3) == 0)
        c->at = 3;
    return STATUS_OK;
}

static void
close_current(struct corpus *c)
{
    if (c->file_invalid > 0)
        say(SAY_WARN, "%s: %llu invalid parts of UTF-8 were replaced by U+FFFD", current(c)->path,
            (unsigned long long)c->file_invalid);
    c->counts.bytes_done += textfile_consumed(c->file);
    c->counts.files++;
    textfile_close(&c->file);
}

// The next line that is not blank, without its end; NULL at the end of the file.
static enum status
next_line(struct corpus *c, const char **line, size_t *bytes)
{
    for (*line = NULL;;) {
        size_t seen = c->at;
        const char *end;
        while (!(end = c->window.bytes > seen
                           ? memchr(c->window.at + seen, '\n', c->window.bytes - seen)
                           : NULL) &&
               !c->at_end) {
            size_t held = c->window.bytes - c->at;
            if (held > CORPUS_LINE_MOST)
                return FAIL(DAMAGED, "%s:%llu: a line of more than %d bytes", current(c)->path,
                            (unsigned long long)c->line + 1, CORPUS_LINE_MOST);
            TRY(fill(c));
            seen = c->at + held;
        }
        if (!end && c->at == c->window.bytes)
            return STATUS_OK;
        const char *begin = c->window.at + c->at;
        *bytes = end ? (size_t)(end - begin) : c->window.bytes - c->at;
        c->at += *bytes + (end ? 1 : 0);
        c->line++;
        size_t blank = 0;
        while (blank < *bytes &&
               (begin[blank] == ' ' || begin[blank] == '\t' || begin[blank] == '\r'))
            blank++;
        if (blank < *bytes) {
            *line = begin;
            return STATUS_OK;
        }
    }
}

static bool
is_newline(const char *at, size_t i)
{
    return at[i] == '\n';
}

// Where to cut a document that is too long: at most `most`, after a blank line if there is one.
static size_t
cut_at(const char *text, size_t most)
{
    size_t line = 0;
    for (size_t i = most; i > 1; i--) {
        if (!is_newline(text, i - 1))
            continue;
        if (line == 0)
            line = i;
        size_t before = i - 1;
        if (before > 0 && text[before - 1] == '\r')
            before--;
        if (before > 0 && is_newline(text, before - 1))
            return i;
    }
    if (line > 0)
        return line;
    for (size_t back = 0; back < 3 && ((unsigned char)text[most] & 0xC0) == 0x80; back++)
        most--;
    return most;
}

// The next document of a plain file; 0 bytes at its end.
static enum status
next_part(struct corpus *c, const char **text, size_t *bytes)
{
    while (!c->at_end && c->window.bytes - c->at <= CORPUS_DOCUMENT_MOST)
        TRY(fill(c));
    *text = c->window.at ? c->window.at + c->at : ""; // NULL before the first byte
    *bytes = c->window.bytes - c->at;
    if (*bytes > CORPUS_DOCUMENT_MOST)
        *bytes = cut_at(*text, CORPUS_DOCUMENT_MOST);
    c->at += *bytes;
    return STATUS_OK;
}

// Invalid UTF-8 becomes U+FFFD; *text stays where it is when there is none.
static enum status
repair(struct corpus *c, const char **text, size_t *bytes, uint64_t *invalid)
{
    size_t parts, want = utf8_repaired_bytes(&parts, *text, *bytes);
    if (parts == 0)
        return STATUS_OK;
    c->repaired.bytes = 0;
    TRY(text_list_reserve(&c->repaired, want));
    utf8_repair(c->repaired.at, *text, *bytes);
    *text = c->repaired.at;
    *bytes = want;
    *invalid += parts;
    return STATUS_OK;
}

static void
name_line(char where[PATH_BYTES + 24], const struct corpus *c)
{
    snprintf(where, PATH_BYTES + 24, "%s:%llu", current(c)->path, (unsigned long long)c->line);
}

// A document of the open file; `text` NULL at its end.
static enum status
next_here(struct corpus *c, struct corpus_document *d)
{
    const char *line;
    char where[PATH_BYTES + 24];
    *d = (struct corpus_document){.path = current(c)->path};
    if (current(c)->kind == CORPUS_PLAIN) {
        TRY(next_part(c, &d->text, &d->bytes));
        if (d->bytes == 0)
            d->text = NULL;
    } else {
        size_t bytes, lone = 0;
        TRY(next_line(c, &line, &bytes));
        if (!line)
            return STATUS_OK;
        name_line(where, c);
        TRY(jsonline_text(&c->text, &lone, line, bytes, c->field ? c->field : "text", where));
        d->text = c->text.at ? c->text.at : "";
        d->bytes = c->text.bytes;
        d->line = c->line;
        d->invalid = lone;
    }
    return d->text ? repair(c, &d->text, &d->bytes, &d->invalid) : STATUS_OK;
}

// After the last file: was there anything?
static enum status
check_end(const struct corpus *c)
{
    if (c->counts.documents == 0)
        return FAIL(DAMAGED, "%s%s: no document: %s empty", c->list.files[0].path,
                    c->list.count > 1 ? " and the others" : "",
                    c->list.count > 1 ? "all files are" : "the file is");
    return STATUS_OK;
}

enum status
corpus_next(struct corpus *c, struct corpus_document *d, bool *more)
{
    *more = false;
    for (;;) {
        if (!c->file && c->next == c->list.count)
            return check_end(c);
        if (!c->file)
            TRY(open_next(c));
        TRY(next_here(c, d));
        if (d->text)
            break;
        close_current(c);
    }
    c->file_invalid += d->invalid;
    c->counts.invalid += d->invalid;
    c->counts.documents++;
    c->counts.text_bytes += d->bytes;
    *more = true;
    return STATUS_OK;
}

enum status
corpus_next_row(struct corpus *c, struct corpus_row *row, size_t most, bool *more)
{
    char where[PATH_BYTES + 24];
    const char *line = NULL;
    size_t bytes;
    *more = false;
    for (;;) {
        if (!c->file && c->next == c->list.count)
            return check_end(c);
        if (!c->file) {
            if (c->list.files[c->next].kind != CORPUS_JSONL)
                return FAIL(CONFIG, "%s: rows of tokens come from JSONL files only",
                            c->list.files[c->next].path);
            TRY(open_next(c));
        }
        TRY(next_line(c, &line, &bytes));
        if (line)
            break;
        close_current(c);
    }
    name_line(where, c);
    TRY(jsonline_ids(&c->ids, most, line, bytes, c->field ? c->field : "input_ids",
                     c->field ? NULL : "tokens", where));
    *row = (struct corpus_row){c->ids.ids, c->ids.count, current(c)->path, c->line};
    c->counts.documents++;
    *more = true;
    return STATUS_OK;
}
