// paths: what `auto`, `~/` and `cache://` come to on this machine.
#ifndef CONFIG_PATHS_H
#define CONFIG_PATHS_H

#include "config/config.h"

// Every FIELD_PATH row becomes absolute; storage.cache is chosen when it is auto. Touches no file.
CHECKED enum status paths_resolve(struct config *config);

#endif
