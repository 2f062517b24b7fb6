#include "config/paths.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static void *
member(struct config *config, const struct field *row)
{
    return (char *)&config->set + row->offset;
}

// A folder the environment names, or NULL: one that is not absolute does not count (as the XDG
// rules say).
static const char *
folder_from(const char *variable)
{
    const char *value = getenv(variable);
    return value && value[0] == '/' ? value : NULL;
}

static enum status
too_long(const struct config *config, const struct field *row, size_t most)
{
    return FAIL(CONFIG, "%s: %s becomes a path of more than %zu bytes",
                config_origin(config, row)->where, row->name, most);
}

// One path, in place.
static enum status
expand(struct config *config, const struct field *row, char *path, size_t room)
{
    static const char cache[] = "cache://";
    char here[PATH_BYTES], whole[2 * PATH_BYTES];
    const char *where = config_origin(config, row)->where;
    if (path[0] == '\0' || path[0] == '/')
        return STATUS_OK;
    const char *base = here, *rest = path;
    if (strncmp(path, cache, sizeof cache - 1) == 0) {
        if (strncmp(row->name, "storage.", 8) == 0)
            return FAIL(CONFIG, "%s: %s is '%.200s', which is relative to storage.cache itself",
                        where, row->name, path);
        base = config->set.storage.cache;
        rest = path + sizeof cache - 1;
    } else if (path[0] == '~' && (path[1] == '/' || path[1] == '\0')) {
        base = folder_from("HOME");
        rest = path + (path[1] ? 2 : 1);
        if (!base)
            return FAIL(CONFIG, "%s: %s is '%.200s', but HOME is not set", where, row->name, path);
    } else if (!getcwd(here, sizeof here)) {
        return FAIL(IO, "%s: %s is relative, but the current folder is unknown: %s", where,
                    row->name, strerror(errno));
    }
    while (strncmp(rest, "./", 2) == 0)
        rest += 2 + strspn(rest + 2, "/");
    if (strcmp(rest, ".") == 0)
        rest = "";
    const char *bar = strcmp(base, "/") == 0 || !*rest ? "" : "/";
    int length = snprintf(whole, sizeof whole, "%s%s%s", base, bar, rest);
    if (length < 0 || (size_t)length >= room || (size_t)length >= sizeof whole)
        return too_long(config, row, room - 1);
    memset(path, 0, room);
    memcpy(path, whole, (size_t)length);
    return STATUS_OK;
}

static enum status
choose_cache(struct config *config)
{
    const struct field *row = settings_row("storage.cache");
    char *cache = config->set.storage.cache;
    if (cache[0])
        return expand(config, row, cache, FOLDER_BYTES);
    const char *xdg = folder_from("XDG_CACHE_HOME"), *home = folder_from("HOME");
    int length;
    if (xdg)
        length = snprintf(cache, FOLDER_BYTES, "%s/osae", xdg);
    else if (home)
        length = snprintf(cache, FOLDER_BYTES, "%s/.cache/osae", home);
    else
        return FAIL(CONFIG, "storage.cache is auto, but neither XDG_CACHE_HOME nor HOME is set");
    if (length < 0 || length >= FOLDER_BYTES)
        return too_long(config, row, FOLDER_BYTES - 1);
    config_note(config, row, SOURCE_PRESET, xdg ? "XDG_CACHE_HOME" : "HOME");
    return STATUS_OK;
}

enum status
paths_resolve(struct config *config)
{
    TRY(choose_cache(config));
    for (size_t i = 0; i < settings_count; i++) {
        const struct field *row = &settings_rows[i];
        if (!(row->flags & FIELD_PATH) || strcmp(row->name, "storage.cache") == 0)
            continue;
        if (row->type == FIELD_TEXT) {
            TRY(expand(config, row, member(config, row), row->bytes));
            continue;
        }
        struct texts *list = member(config, row);
        for (size_t j = 0; j < list->count; j++)
            TRY(expand(config, row, list->at[j], TEXT_BYTES));
    }
    return STATUS_OK;
}
