// yaml: reading the files people write. libyaml's event interface alone: no tree is ever built.
//
// A file is a map of sections, each a map of keys; a value is a word or, for lists, a list of words
// or one word. `include: base.yaml` as the very first key reads that file first (its path is
// relative to the file it stands in); what follows overrides it. Text is bounded before it is
// looked at (config/events.h). Anchors, aliases, tags, merge keys, a second document, duplicate
// keys, NUL bytes and what is not UTF-8 are refused.
#ifndef CONFIG_YAML_H
#define CONFIG_YAML_H

#include "config/config.h"

enum { YAML_INCLUDES_MOST = 4 };

// Reads a file over what the config holds, and notes file:line of each value. CONFIG with file,
// line, field, found and expected; MISSING, DENIED, IO for the file itself.
CHECKED enum status yaml_read(struct config *config, const char *path);
// The same for bytes in memory; `name` stands for the file in messages and for include's folder.
CHECKED enum status yaml_read_bytes(struct config *config, const char *name, const char *at,
                                    size_t bytes);
// "[a, b]" into a list row.
CHECKED enum status yaml_list(struct config *config, const struct field *row, const char *text,
                              const char *where);

#endif
