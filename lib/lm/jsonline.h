// jsonline: one field of a JSON object that stands on one line.
//
// The whole line is checked (RFC 8259), but only the field is kept, so a hostile line costs no more
// memory than it has bytes. Strings may hold bytes that are not UTF-8: the caller repairs them.
// Failures are DAMAGED and begin with `where` ("corpus.jsonl:17").
#ifndef LIB_LM_JSONLINE_H
#define LIB_LM_JSONLINE_H

#include "lib/lm/grow.h"

// Nesting deeper than this is refused.
enum { JSONLINE_DEPTH = 128 };

// The string in the field, its escapes resolved, replaces what is in `out`. *lone is raised by the
// number of surrogates without a partner, which become U+FFFD. A field that comes twice counts
// where it comes last, as elsewhere.
CHECKED enum status jsonline_text(struct text_list *out, size_t *lone, const char *line,
                                  size_t bytes, const char *field, const char *where);

// The list of ids (integers from 0 to 2^32 - 2) in the field, or, when it is absent, in the field
// `other` (NULL: none), replaces what is in `out`; at most `most` of them, the rest is dropped.
CHECKED enum status jsonline_ids(struct token_list *out, size_t most, const char *line,
                                 size_t bytes, const char *field, const char *other,
                                 const char *where);

#endif
