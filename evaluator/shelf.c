#include "evaluator/shelf.h"

#include "lib/base/say.h"
#include "lib/store/checkpoint.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

const char *const shelf_files[SHELF_FILES] = {"cfg.json", "sae_weights.safetensors"};

enum status
shelf_init(struct shelf *shelf, const struct settings *set, const char *name)
{
    char path[PATH_BYTES];
    TRY(path_join(path, set->storage.cache, "fetched"));
    TRY(path_join(shelf->path, path, name));
    shelf->reserve = set->storage.reserve;
    return STATUS_OK;
}

// Everything but one checkpoint, whole or in part.
static void
sweep(const struct shelf *shelf, const char *keep)
{
    DIR *entries = opendir(shelf->path);
    if (!entries)
        return;
    for (const struct dirent *entry; (entry = readdir(entries));) {
        char path[PATH_BYTES];
        if (entry->d_name[0] == '.' || strncmp(entry->d_name, keep, strlen(keep)) == 0 ||
            path_join(path, shelf->path, entry->d_name) != STATUS_OK)
            continue;
        if (path_remove(path) != STATUS_OK)
            say(SAY_WARN, "%s", status_words());
    }
    closedir(entries);
}

static enum status
verify(const char *folder, uint64_t manifest_hash)
{
    uint64_t mh;
    TRY(checkpoint_verify_files(folder, shelf_files, SHELF_FILES, NULL, &mh));
    return mh == manifest_hash
               ? STATUS_OK
               : FAIL(DAMAGED, "%s: its manifest is not the one that was announced", folder);
}

static enum status
fetch_part(struct shelf *shelf, const char *part, struct blobfetch *fetch,
           struct blobfetch_order *order, uint64_t bytes)
{
    TRY(path_make(part, 0700));
    memset(&order->names, 0, sizeof order->names);
    snprintf(order->names.at[order->names.count++], TEXT_BYTES, MANIFEST_NAME);
    for (size_t i = 0; i < SHELF_FILES; i++)
        snprintf(order->names.at[order->names.count++], TEXT_BYTES, "%s", shelf_files[i]);
    order->most =
        bytes > UINT64_MAX - MANIFEST_BYTES_MOST ? UINT64_MAX : bytes + MANIFEST_BYTES_MOST;
    order->reserve = shelf->reserve;
    order->folder = part;
    TRY(blobfetch_get(fetch, order));
    return verify(part, order->manifest_hash);
}

enum status
shelf_fetch(struct shelf *shelf, char folder[PATH_BYTES], struct blobfetch *fetch,
            struct blobfetch_order *order, uint64_t bytes)
{
    char name[32], hex[17], part[PATH_BYTES];
    hex64(hex, order->manifest_hash);
    snprintf(name, sizeof name, "%s.part", hex);
    TRY(path_join(folder, shelf->path, hex));
    TRY(path_join(part, shelf->path, name));
    sweep(shelf, hex);
    if (path_is_folder(folder)) {
        if (verify(folder, order->manifest_hash) == STATUS_OK)
            return STATUS_OK;
        say(SAY_WARN, "fetched again: %s", status_words());
        TRY(path_remove(folder));
    }
    enum status status = fetch_part(shelf, part, fetch, order, bytes);
    if (status == STATUS_DAMAGED) { // nothing of it can be gone on with
        struct status_note note;
        status_note_take(&note, status);
        if (path_remove(part) != STATUS_OK)
            say(SAY_WARN, "%s", status_words());
        return status_note_give(&note);
    }
    TRY(status);
    if (rename(part, folder) != 0)
        return FAIL(IO, "%s: cannot be renamed: %s", part, strerror(errno));
    return file_sync_folder(shelf->path);
}

void
shelf_drop(struct shelf *shelf, uint64_t manifest_hash)
{
    char hex[17], path[PATH_BYTES];
    hex64(hex, manifest_hash);
    if (path_join(path, shelf->path, hex) == STATUS_OK && path_remove(path) != STATUS_OK)
        say(SAY_WARN, "%s", status_words());
}
