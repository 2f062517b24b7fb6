#include "config/config.h"

#include "config/address.h"
#include "config/paths.h"
#include "config/rules.h"
#include "config/yaml.h"

#include <assert.h>
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum status
config_new(struct config **out)
{
    struct config *config = calloc(1, sizeof *config);
    *out = NULL;
    if (!config)
        return FAIL(CREATE, "no memory for the settings (%zu bytes)", sizeof *config);
    settings_presets(&config->set);
    for (size_t i = 0; i < settings_count; i++)
        config_note(config, &settings_rows[i], SOURCE_PRESET, "default");
    *out = config;
    return STATUS_OK;
}

void
config_free(struct config **config)
{
    free(*config);
    *config = NULL;
}

void
config_note(struct config *config, const struct field *row, enum source source, const char *where)
{
    struct origin *origin = &config->from[settings_index(row)];
    size_t length = strlen(where), skip = length < WHERE_BYTES ? 0 : length - (WHERE_BYTES - 1);
    origin->source = source;
    memcpy(origin->where, where + skip, length - skip + 1);
}

const struct origin *
config_origin(const struct config *config, const struct field *row)
{
    return &config->from[settings_index(row)];
}

enum status
config_put(struct config *config, const struct field *row, const char *text, enum source source,
           const char *where)
{
    if (row->type == FIELD_TEXTS) {
        struct texts *list = (struct texts *)(void *)((char *)&config->set + row->offset);
        memset(list, 0, sizeof *list);
        if (text[0] == '[')
            TRY(yaml_list(config, row, text, where));
        else if (text[0])
            TRY(field_parse(&config->set, row, text, where));
    } else {
        TRY(field_parse(&config->set, row, text, where));
    }
    config_note(config, row, source, where);
    return STATUS_OK;
}

// The nearest row: among the keys of a known section first, then by the key alone (a key under the
// wrong section), then by the whole name.
static const struct field *
nearest_row(const char *section, const char *key)
{
    const char *names[SETTINGS_MOST] = {NULL}, *near;
    size_t at[SETTINGS_MOST], count = 0;
    for (size_t i = 0; i < settings_count; i++)
        if (strcmp(settings_section(&settings_rows[i])->name, section) == 0) {
            at[count] = i;
            names[count++] = settings_key(&settings_rows[i]);
        }
    for (size_t i = 0; !*section && i < settings_count; i++) { // a key alone
        at[i] = count = i;
        names[count++] = settings_key(&settings_rows[i]);
    }
    if ((near = name_nearest(names, count, key)) != NULL)
        for (size_t i = 0; i < count; i++)
            if (names[i] == near)
                return &settings_rows[at[i]];
    for (size_t i = 0; i < settings_count; i++)
        if (strcmp(settings_key(&settings_rows[i]), key) == 0)
            return &settings_rows[i];
    char whole[128];
    snprintf(whole, sizeof whole, "%.50s.%.50s", section, key);
    near = field_nearest(settings_rows, settings_count, whole);
    return near ? settings_row(near) : NULL;
}

enum status
config_unknown(const char *where, const char *section, const char *key)
{
    const struct field *row = nearest_row(section, key);
    const char *dot = *section ? "." : "";
    if (row)
        return FAIL(CONFIG, "%s: unknown key %.60s%s%.60s, did you mean %s?", where, section, dot,
                    key, row->name);
    return FAIL(CONFIG, "%s: unknown key %.60s%s%.60s (osae config lists the known ones)", where,
                section, dot, key);
}

// "loss.lambda_s" -> its row.
static enum status
row_named(const struct field **out, const char *name, const char *where)
{
    *out = settings_row(name);
    if (*out)
        return STATUS_OK;
    char section[64];
    const char *dot = strchr(name, '.');
    if (!dot || (size_t)(dot - name) >= sizeof section)
        return config_unknown(where, "", name);
    memcpy(section, name, (size_t)(dot - name));
    section[dot - name] = '\0';
    return config_unknown(where, section, dot + 1);
}

// OSAE_LOSS__LAMBDA_S -> "loss.lambda_s"; false for variables that are none of ours.
static bool
name_of_variable(char out[64], const char *variable, size_t length)
{
    static const char prefix[] = "OSAE_";
    size_t skip = sizeof prefix - 1;
    if (length <= skip || strncmp(variable, prefix, skip) != 0)
        return false;
    size_t used = 0;
    bool split = false;
    for (size_t i = skip; i < length && used < 63; i++) { // no key is longer
        if (!split && variable[i] == '_' && i + 1 < length && variable[i + 1] == '_') {
            out[used++] = '.';
            split = true;
            i++;
        } else {
            out[used++] = (char)tolower((unsigned char)variable[i]);
        }
    }
    out[used] = '\0';
    return split;
}

static enum status
take_environment(struct config *config, char *const *environment)
{
    static const char cache[] = "OSAE_CACHE="; // the short name the fetching scripts know too
    for (; *environment; environment++) {
        const char *is = strchr(*environment, '=');
        char name[64], variable[128];
        if (strncmp(*environment, cache, sizeof cache - 1) == 0) {
            if (is[1])
                TRY(config_put(config, settings_row("storage.cache"), is + 1, SOURCE_ENVIRONMENT,
                               "OSAE_CACHE"));
            continue;
        }
        if (!is || !name_of_variable(name, *environment, (size_t)(is - *environment)))
            continue;
        snprintf(variable, sizeof variable, "%.*s", (int)(is - *environment), *environment);
        const struct field *row;
        TRY(row_named(&row, name, variable));
        TRY(config_put(config, row, is + 1, SOURCE_ENVIRONMENT, variable));
    }
    return STATUS_OK;
}

enum status
config_flag(struct config *config, const char *key_is_value)
{
    const char *is = strchr(key_is_value, '=');
    char name[64];
    if (!is || (size_t)(is - key_is_value) >= sizeof name)
        return FAIL(USAGE, "--set %.80s: wanted section.key=value, as in loss.lambda_s=0.1",
                    key_is_value);
    memcpy(name, key_is_value, (size_t)(is - key_is_value));
    name[is - key_is_value] = '\0';
    const struct field *row;
    TRY(row_named(&row, name, "--set"));
    return config_put(config, row, is + 1, SOURCE_FLAG, "--set");
}

enum status
config_given(const struct config *config, const char *key)
{
    const struct field *row = settings_row(key);
    const char *at = (const char *)&config->set + row->offset;
    assert(row->type == FIELD_TEXT || row->type == FIELD_TEXTS);
    const void *list = at;
    if (row->type == FIELD_TEXT ? *at != '\0' : ((const struct texts *)list)->count > 0)
        return STATUS_OK;
    return FAIL(CONFIG, "%s: %s is not given (%s); write it there or add --set %s=...",
                config->path[0] ? config->path : "settings", key, row->doc, key);
}

// The run is named after its file unless it has a name.
static void
name_run(struct config *config)
{
    const struct field *row = settings_row("run.name");
    if (config->set.run.name[0])
        return;
    const char *slash = strrchr(config->path, '/');
    const char *base = slash ? slash + 1 : config->path;
    size_t length = strlen(base), used = 0;
    static const char *const endings[] = {".yaml", ".yml"};
    for (size_t i = 0; i < 2; i++) {
        size_t tail = strlen(endings[i]);
        if (length > tail && strcmp(base + length - tail, endings[i]) == 0) {
            length -= tail;
            break;
        }
    }
    char *name = config->set.run.name;
    for (size_t i = 0; i < length && used < NAME_BYTES - 1; i++) {
        bool fine = isalnum((unsigned char)base[i]) || base[i] == '-' || base[i] == '_' ||
                    (base[i] == '.' && used > 0);
        name[used++] = fine ? base[i] : '-';
    }
    if (used == 0)
        snprintf(name, NAME_BYTES, "run");
    config_note(config, row, SOURCE_PRESET, "the file's name");
}

static enum status
load(struct config **out, const char *path, bool alone, const char *const *sets, size_t count)
{
    enum status status;
    struct config *config = NULL;
    *out = NULL;
    GOTRY(config_new(&config));
    if (path)
        GOTRY(yaml_read(config, path));
    if (!alone)
        GOTRY(take_environment(config, environ));
    for (size_t i = 0; i < count; i++)
        GOTRY(config_flag(config, sets[i]));
    GOTRY(rules_check(config));
    name_run(config);
    GOTRY(paths_resolve(config));
    GOTRY(address_fill(config));
    *out = config;
    config = NULL;
done:
    config_free(&config);
    return status;
}

enum status
config_load(struct config **out, const char *path, const char *const *sets, size_t count)
{
    return load(out, path, false, sets, count);
}

enum status
config_frozen(struct config **out, const char *path)
{
    return load(out, path, true, NULL, 0);
}
