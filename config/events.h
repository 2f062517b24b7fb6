// events: libyaml's events under bounds. Bytes are looked at before libyaml sees them (size,
// control bytes, UTF-8), and every event before anybody uses it: number, depth, length of a word,
// NUL; no anchors, aliases, tags. Without that, 20,000 brackets cost libyaml 0.2.5 seconds.
#ifndef CONFIG_EVENTS_H
#define CONFIG_EVENTS_H

#include "lib/base/file.h"

#include <yaml.h>

enum {
    YAML_BYTES_MOST = 256 * 1024,
    YAML_DEPTH_MOST = 8,
    YAML_EVENTS_MOST = 4096,
    YAML_WORD_MOST = 4096,
};

struct events {
    yaml_parser_t parser;
    const char *name;            // of the file, as messages show it; borrowed
    bool one_line;               // a flag's value: line numbers would say nothing
    size_t count, depth;         // so far; brackets open now
    char where[PATH_BYTES + 32]; // "run.yaml:14" of the event last taken
};

// The bytes are borrowed until events_close. CONFIG; after a failure there is nothing to close.
CHECKED enum status events_open(struct events *events, const char *name, const char *at,
                                size_t bytes);
void events_close(struct events *events);

// The next event; the caller deletes it. After a failure there is nothing to delete.
CHECKED enum status events_next(struct events *events, yaml_event_t *event);

#endif
