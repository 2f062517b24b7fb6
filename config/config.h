// config: settings and where each of them came from.
//
//     default  <  file (and what it includes)  <  environment  <  --set on the command line
//
// Environment: OSAE_LOSS__LAMBDA_S=0.1 is loss.lambda_s; every OSAE_ variable with a double
// underscore must be a key; OSAE_CACHE is storage.cache. Lists are written [a, b] there and after
// --set; one word is a list of one. Relative paths are relative to the folder the program was
// started in, as in most tools (only `include:` is relative to the file it stands in); `~/` is the
// home folder, `cache://x` is x in storage.cache.
//
// Errors are one line, "run.yaml:14: loss.lambda_s is '-1', wanted a number from 0 to 1000", and
// CONFIG (exit 78), or what reading the file gave.
#ifndef CONFIG_CONFIG_H
#define CONFIG_CONFIG_H

#include "config/settings.h"
#include "lib/base/file.h"

enum source { SOURCE_PRESET, SOURCE_FILE, SOURCE_ENVIRONMENT, SOURCE_FLAG };

enum { WHERE_BYTES = 192 };
struct origin {
    enum source source;
    char where[WHERE_BYTES]; // "run.yaml:14", "OSAE_LOSS__LAMBDA_S", "--set", "default"
};

struct config {
    struct settings set;
    struct origin from[SETTINGS_MOST]; // of settings_rows[i]
    char path[PATH_BYTES];             // the file, "" for none
};

// The whole way: all sources, every check, `auto` and empty endpoints filled in, paths absolute.
// `path` NULL: no file. Gives a whole valid config or none. `sets` are the texts behind --set.
CHECKED enum status config_load(struct config **out, const char *path, const char *const *sets,
                                size_t count);
// The copy in a run's folder: the file alone, neither environment nor flags.
CHECKED enum status config_frozen(struct config **out, const char *path);
void config_free(struct config **config); // NULL is fine; leaves NULL behind

// Is a text or list that may be empty given? "run.yaml: model.path is not given, ...".
CHECKED enum status config_given(const struct config *config, const char *key);

// Steps of config_load, for those who need them apart. After a failure throw the config away.
CHECKED enum status config_new(struct config **out); // every default
CHECKED enum status config_flag(struct config *config, const char *key_is_value);
// One value from text; a list is replaced. `where` as in field_parse.
CHECKED enum status config_put(struct config *config, const struct field *row, const char *text,
                               enum source source, const char *where);
// Notes where a row's value came from (a long path keeps its end).
void config_note(struct config *config, const struct field *row, enum source source,
                 const char *where);
// Refuses a key that no row has, naming the nearest: "run.yaml:3: unknown key ..., did you mean".
CHECKED enum status config_unknown(const char *where, const char *section, const char *key);
const struct origin *config_origin(const struct config *config, const struct field *row);

#endif
