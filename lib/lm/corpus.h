// corpus: the documents of text files, one after the other, as valid UTF-8.
//
//     .jsonl .json      a JSON object a line, the text in one field     (also .jsonl.zst .json.zst)
//     .txt .md          the whole file is a document                    (also .txt.zst .md.zst)
//     a folder          its files and folders, sorted by name, deeper ones too
//
// In a folder, names that begin with a dot, other endings, plain .json files and links to folders
// are passed over. A text file of more than CORPUS_DOCUMENT_MOST bytes becomes several documents,
// cut after a blank line (else after a line, else after a character). Blank lines of JSONL are no
// documents; nor is an empty text file. A byte order mark at the beginning of a file is dropped.
//
// Each maximal invalid part of UTF-8, and each surrogate without a partner in a JSON escape,
// becomes U+FFFD; they are counted, and said once a file.
#ifndef LIB_LM_CORPUS_H
#define LIB_LM_CORPUS_H

#include "lib/base/field.h"
#include "lib/base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    CORPUS_LINE_MOST = 256 << 20,    // bytes of a line of JSONL; longer is DAMAGED
    CORPUS_DOCUMENT_MOST = 64 << 20, // bytes of a document of a plain file
    CORPUS_FILES_MOST = 1 << 20,
};

struct corpus;

// Looks at the paths now, opens the files one by one later. `field`: of JSONL files; NULL is
// "text". MISSING: no such path, or a folder without text files; CONFIG: no paths, or a file of
// unknown ending.
CHECKED enum status corpus_open(struct corpus **out, const struct texts *paths, const char *field);
void corpus_close(struct corpus **corpus); // NULL is fine; leaves NULL behind

struct corpus_document {
    const char *text; // valid until the next call
    size_t bytes;
    const char *path;
    uint64_t line;    // of JSONL, from 1; else 0
    uint64_t invalid; // parts that were replaced in it
};
// The next document; *more is false after the last. DAMAGED (file:line first): a line that is no
// JSON object or lacks the field, broken compression, UTF-16, or not one document in all the files.
CHECKED enum status corpus_next(struct corpus *corpus, struct corpus_document *document,
                                bool *more);

// Rows that are tokens already: {"input_ids": [5, 7]}, from JSONL files only (CONFIG otherwise).
// `field` of corpus_open names the field; NULL is "input_ids" or "tokens". Each row is cut to
// `most` ids; shorter ones come as they are.
struct corpus_row {
    const uint32_t *ids; // valid until the next call
    size_t count;
    const char *path;
    uint64_t line;
};
CHECKED enum status corpus_next_row(struct corpus *corpus, struct corpus_row *row, size_t most,
                                    bool *more);

struct corpus_counts {
    uint64_t files, documents, text_bytes, invalid; // done so far; rows count as documents
    uint64_t bytes_done, bytes_total;               // of the files as they lie on disk
};
struct corpus_counts corpus_counts(const struct corpus *corpus);

// The files it consists of, in order, and how each is read: what decides the documents besides
// their bytes. Index below corpus_files.
enum corpus_kind { CORPUS_JSONL, CORPUS_PLAIN };
struct corpus_file {
    const char *path;
    enum corpus_kind kind;
    bool zstd;
    uint64_t bytes;
};
size_t corpus_files(const struct corpus *corpus);
struct corpus_file corpus_file(const struct corpus *corpus, size_t i);

#endif
