// textfile: the bytes of a text file, plain or compressed with zstd (any number of frames).
#ifndef LIB_LM_TEXTFILE_H
#define LIB_LM_TEXTFILE_H

#include "lib/base/status.h"
#include "lib/lm/grow.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct textfile;

CHECKED enum status textfile_open(struct textfile **out, const char *path, bool zstd);
void textfile_close(struct textfile **file); // NULL is fine; leaves NULL behind

// Appends up to about a megabyte to `out`; *more is false once the end has been reached, and then
// nothing was appended. DAMAGED when compressed data is broken or ends inside a frame.
CHECKED enum status textfile_read(struct textfile *file, struct text_list *out, bool *more);

// Bytes of the file itself that have been read so far.
uint64_t textfile_consumed(const struct textfile *file);

#endif
