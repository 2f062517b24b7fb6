#include "lib/interop/sae_folder.h"

#include "lib/base/bytes.h"
#include "lib/interop/sae_peers.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// card NULL: the format has none.
static const struct kind {
    const char *name, *card, *weights;
    sae_peer_read *read; // NULL: SAELens' own
} kinds[SAE_KINDS] = {
    [SAE_SAELENS] = {"SAELens", "cfg.json", "sae_weights.safetensors", NULL},
    [SAE_SPARSIFY] = {"sparsify", "cfg.json", "sae.safetensors", sae_peer_sparsify},
    [SAE_DICTIONARY_LEARNING] = {"dictionary_learning", "config.json", "ae.pt",
                                 sae_peer_dictionary_learning},
    [SAE_GEMMA_SCOPE] = {"Gemma Scope", NULL, "params.npz", sae_peer_gemma_scope},
    [SAE_GEMMA_SCOPE_2] = {"Gemma Scope 2", "config.json", "params.safetensors",
                           sae_peer_gemma_scope_2},
};

// Some names of a folder, for a message.
static void
names_in(char *out, size_t room, const char *path)
{
    DIR *folder = opendir(path);
    size_t at = 0, more = 0;
    out[0] = '\0';
    for (struct dirent *entry; folder && (entry = readdir(folder));) {
        if (entry->d_name[0] == '.')
            continue;
        if (at > room / 2) {
            more++;
            continue;
        }
        int length = snprintf(out + at, room - at, "%s%.60s", at ? ", " : "", entry->d_name);
        at += length > 0 ? (size_t)length : 0;
    }
    if (folder)
        closedir(folder);
    if (at == 0)
        snprintf(out, room, "nothing");
    else if (more)
        snprintf(out + at, room - at, " and %zu more", more);
}

static enum status
unknown(const char *path)
{
    char found[256], wanted[512];
    size_t at = 0;
    names_in(found, sizeof found, path);
    for (size_t k = 0; k < SAE_KINDS; k++)
        at += (size_t)snprintf(wanted + at, sizeof wanted - at, "%s%s%s%s (%s)", k ? ", " : "",
                               kinds[k].card ? kinds[k].card : "", kinds[k].card ? " with " : "",
                               kinds[k].weights, kinds[k].name);
    return FAIL(MISSING, "%s: no SAE: found %s; wanted %s", path, found, wanted);
}

enum status
sae_folder_find(struct sae_folder *out, const char *path)
{
    if (!path_exists(path))
        return FAIL(MISSING, "%s: %s", path, strerror(ENOENT));
    char folder[PATH_BYTES];
    const char *given = NULL; // a file of weights was named
    size_t length = strlen(path);
    if (length >= sizeof folder)
        return FAIL(CONFIG, "%.100s...: too long for a path", path);
    memcpy(folder, path, length + 1);
    while (length > 1 && folder[length - 1] == '/')
        folder[--length] = '\0';
    if (!path_is_folder(path)) {
        char *slash = strrchr(folder, '/');
        given = slash ? path + (slash - folder) + 1 : path;
        if (slash)
            *slash = '\0';
        else
            memcpy(folder, ".", 2);
    }
    for (size_t k = 0; k < SAE_KINDS; k++) {
        struct sae_folder found = {.kind = (enum sae_kind)k};
        memcpy(found.path, folder, sizeof found.path);
        TRY(path_join(found.weights, folder, kinds[k].weights));
        if (kinds[k].card)
            TRY(path_join(found.card, folder, kinds[k].card));
        if ((given && strcmp(given, kinds[k].weights) != 0) || !path_exists(found.weights) ||
            (kinds[k].card && !path_exists(found.card)))
            continue;
        *out = found;
        return STATUS_OK;
    }
    return unknown(folder);
}

// The card of a SAELens folder without its weights; of the others only both together say what the
// SAE is, but their weights are mapped, not read.
enum status
sae_folder_card(struct card *out, const struct sae_folder *folder)
{
    enum { MOST = 16 << 20 };
    if (kinds[folder->kind].read) {
        struct sae_parts parts = {0};
        TRY(sae_parts_open(&parts, kinds[folder->kind].read, folder));
        *out = parts.card;
        sae_parts_close(&parts);
        return STATUS_OK;
    }
    char *text = NULL;
    size_t bytes;
    TRY(file_read(&text, &bytes, folder->card, MOST));
    enum status status = card_read(out, text, bytes, folder->card);
    free(text);
    return status;
}

enum status
sae_folder_open(struct saelens *out, const struct sae_folder *folder, size_t rows_most,
                const struct kern *kern)
{
    if (!kinds[folder->kind].read)
        return saelens_open(out, folder->path, rows_most, kern);
    struct sae_parts parts = {0};
    TRY(sae_parts_open(&parts, kinds[folder->kind].read, folder));
    enum status status = sae_parts_build(out, &parts, folder->path, rows_most, kern);
    sae_parts_close(&parts);
    return status;
}

enum status
sae_folder_hash(uint64_t *out, const struct sae_folder *folder)
{
    struct hasher *hasher = hasher_new();
    if (!hasher)
        return FAIL(CREATE, "%s: no memory to hash it", folder->path);
    const char *const paths[] = {folder->card, folder->weights};
    enum status status = STATUS_OK;
    for (size_t i = 0; i < 2 && status == STATUS_OK; i++) {
        struct file_map map;
        if (!paths[i][0])
            continue;
        status = file_map_open(&map, paths[i]);
        if (status != STATUS_OK)
            break;
        hasher_add(hasher, map.at, map.bytes);
        file_map_close(&map);
    }
    *out = hasher_64(hasher);
    hasher_free(&hasher);
    return status;
}
