// explain: what each key means, for `osae config --explain` and docs/config.md.
#ifndef CONFIG_EXPLAIN_H
#define CONFIG_EXPLAIN_H

#include "config/config.h"

#include <stdio.h>

// One key: value and source, doc, range, unit, the paper's equation, what changing it does, advice.
void explain_key(FILE *out, const struct config *config, const struct field *row);

// The page docs/config.md, from the rows alone.
void explain_page(FILE *out);

// The longer word on a key, or NULL.
const char *explain_note(const struct field *row);
// "1 to 16777216", "true or false", "one of relu, topk", "text of at most 64 bytes", ...
void explain_range(char *out, size_t room, const struct field *row);

#endif
