// journal: what happened in a run, one JSON object a line.
//     {"lsn":7,"type":"checkpoint","step":100,"mh":"...","sum":"0123456789abcdef"}
// lsn counts from 1 without gaps; sum is XXH3_64 of the line's bytes before `,"sum"`. A record is
// durable when journal_append returns OK, and takes effect only then.
//
// A crash can tear the last line, and nothing else: opening cuts a torn tail, and refuses a file
// whose damage has a sound line behind it. The folder is the truth about checkpoints, the journal
// is the history.
//
// The history grows, its memory does not: opening reads the file through, and keeps the last lines,
// which a failing write might take along; older ones are read back when they are asked for.
//
// Any thread may append or read; one process holds a journal (the run folder's lock sees to it).
//
// place of fault()   what fails there
// journal.write      the write of a line
// journal.sync       its fdatasync
// journal.cut        the truncation of a torn tail
#ifndef LIB_STORE_JOURNAL_H
#define LIB_STORE_JOURNAL_H

#include "lib/base/status.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { JOURNAL_MOST = 64 << 20, JOURNAL_LINE_MOST = 64 << 10 }; // bytes

struct journal;

// Makes the file when it is missing. Damage in the middle: DAMAGED, unless `salvage`, which keeps a
// copy beside it (PATH.damaged), drops the lines that are not sound, counts the rest anew and says
// so in a record `salvage`.
CHECKED enum status journal_open(struct journal **out, const char *path, bool salvage);
void journal_close(struct journal **journal);

// `fields` and what follows as in json_pack, an object: "{s:I, s:s}", "step", (json_int_t)7, ...
// After a failure nothing was recorded. A line whose write or sync failed is never synced again:
// the next append writes the whole journal into a new file.
CHECKED enum status journal_append(struct journal *journal, const char *type, const char *fields,
                                   ...);

// *at begins as 0. *record is the next record, a new reference for the caller; NULL at the end. IO,
// DAMAGED: somebody else cut or changed the file meanwhile.
CHECKED enum status journal_next(json_t **record, struct journal *journal, size_t *at);

// The same check without touching the file (DAMAGED for damage in the middle): how many records,
// and is the tail torn?
CHECKED enum status journal_check(size_t *records, bool *torn, const char *path);

#endif
