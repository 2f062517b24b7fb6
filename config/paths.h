// paths: what `auto`, `~/` and `cache://` come to on this machine.
#ifndef CONFIG_PATHS_H
#define CONFIG_PATHS_H

#include "config/config.h"

// Every FIELD_PATH row becomes absolute; storage.cache is chosen when it is auto. Touches no file.
CHECKED enum status paths_resolve(struct config *config);

// A folder the environment names, or NULL: one that is not absolute does not count (as the XDG
// rules say).
const char *folder_from(const char *variable);

#endif
