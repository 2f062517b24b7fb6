#include "lib/store/manifest.h"

#include "lib/base/file.h"
#include "lib/store/sealed.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

enum status
manifest_print(char **text, size_t *bytes, const struct manifest *manifest)
{
    const struct checkpoint_facts *f = &manifest->facts;
    char stream[33], chain[33], trajectory[33];
    hex128(stream, f->stream);
    hex128(chain, f->chain);
    hex128(trajectory, f->trajectory);
    json_t *files = json_array();
    for (size_t i = 0; i < manifest->count; i++) {
        const struct manifest_file *file = &manifest->files[i];
        char hash[17];
        hex64(hash, file->hash);
        json_t *entry = json_pack("{s:s, s:I, s:s}", "name", file->name, "bytes",
                                  (json_int_t)file->bytes, "xxh3", hash);
        if (json_array_append_new(files, entry) != 0) { // also when either is NULL
            json_decref(files);
            files = NULL;
        }
    }
    json_error_t error = {.text = "no memory"};
    json_t *object =
        !files ? NULL
               : json_pack_ex(&error, 0, "{s:i, s:s, s:I, s:I, s:s, s:I, s:s, s:s, s:s, s:s, s:o}",
                              "format", 1, "run", f->run, "step", (json_int_t)f->step,
                              "incarnation", (json_int_t)f->incarnation, "stream", stream, "next",
                              (json_int_t)f->next, "chain", chain, "trajectory", trajectory,
                              "environment", f->environment, "created", f->created, "files", files);
    if (!object)
        return FAIL(CONFIG, "manifest of step %llu: %s", (unsigned long long)f->step, error.text);
    enum status status = sealed_print(text, bytes, object);
    json_decref(object);
    return status;
}

static enum status
take_text(char *out, size_t room, const json_t *object, const char *key, const char *path)
{
    const char *text = json_string_value(json_object_get(object, key));
    if (!text || strlen(text) >= room)
        return FAIL(DAMAGED, "%s: %s is missing, no text, or longer than %zu bytes", path, key,
                    room - 1);
    memcpy(out, text, strlen(text) + 1);
    return STATUS_OK;
}

static enum status
take_count(uint64_t *out, const json_t *object, const char *key, uint64_t most, const char *path)
{
    const json_t *number = json_object_get(object, key);
    json_int_t value = json_integer_value(number);
    if (!json_is_integer(number) || value < 0 || (uint64_t)value > most)
        return FAIL(DAMAGED, "%s: %s is missing, or not a whole number from 0 to %llu", path, key,
                    (unsigned long long)most);
    *out = (uint64_t)value;
    return STATUS_OK;
}

static enum status
take_hash(struct hash128 *out, const json_t *object, const char *key, const char *path)
{
    const char *text = json_string_value(json_object_get(object, key));
    if (!text || strlen(text) != 32 || !hex128_parse(out, text))
        return FAIL(DAMAGED, "%s: %s is missing, or not 32 hex digits", path, key);
    return STATUS_OK;
}

// A file name that stays in its folder.
static bool
is_plain(const char *name)
{
    return name[0] != '\0' && name[0] != '.' && !strchr(name, '/') &&
           strcmp(name, MANIFEST_NAME) != 0;
}

static enum status
take_file(struct manifest *out, const json_t *entry, const char *path)
{
    struct manifest_file *file = &out->files[out->count];
    TRY(take_text(file->name, sizeof file->name, entry, "name", path));
    TRY(take_count(&file->bytes, entry, "bytes", INT64_MAX, path));
    const char *hash = json_string_value(json_object_get(entry, "xxh3"));
    if (!hash || strlen(hash) != 16 || !hex64_parse(&file->hash, hash))
        return FAIL(DAMAGED, "%s: file '%s': xxh3 is missing, or not 16 hex digits", path,
                    file->name);
    if (!is_plain(file->name))
        return FAIL(DAMAGED, "%s: file '%s' is not a plain name", path, file->name);
    for (size_t i = 0; i < out->count; i++)
        if (strcmp(out->files[i].name, file->name) == 0)
            return FAIL(DAMAGED, "%s: file '%s' is there twice", path, file->name);
    out->count++;
    return STATUS_OK;
}

static enum status
take_manifest(struct manifest *out, const json_t *object, const char *path)
{
    struct checkpoint_facts *f = &out->facts;
    uint64_t format, incarnation;
    TRY(take_count(&format, object, "format", UINT32_MAX, path));
    if (format != 1)
        return FAIL(DAMAGED, "%s: format is %llu, wanted 1", path, (unsigned long long)format);
    TRY(take_text(f->run, sizeof f->run, object, "run", path));
    TRY(take_count(&f->step, object, "step", 999999999999, path));
    TRY(take_count(&incarnation, object, "incarnation", UINT32_MAX, path));
    f->incarnation = (uint32_t)incarnation;
    TRY(take_hash(&f->stream, object, "stream", path));
    TRY(take_count(&f->next, object, "next", INT64_MAX, path));
    TRY(take_hash(&f->chain, object, "chain", path));
    TRY(take_hash(&f->trajectory, object, "trajectory", path));
    TRY(take_text(f->environment, sizeof f->environment, object, "environment", path));
    TRY(take_text(f->created, sizeof f->created, object, "created", path));
    const json_t *files = json_object_get(object, "files");
    if (!json_is_array(files) || json_array_size(files) > CHECKPOINT_FILES_MOST)
        return FAIL(DAMAGED, "%s: files is no list of at most %d", path, CHECKPOINT_FILES_MOST);
    for (size_t i = 0; i < json_array_size(files); i++)
        TRY(take_file(out, json_array_get(files, i), path));
    return STATUS_OK;
}

enum status
manifest_parse(struct manifest *out, const char *text, size_t bytes, const char *path)
{
    memset(out, 0, sizeof *out);
    if (bytes == 0 || text[bytes - 1] != '\n' || !sealed_is_sound(text, bytes - 1))
        return FAIL(DAMAGED, "%s: its sum is not that of its bytes", path);
    json_error_t error;
    bool starved;
    json_t *object = sealed_load(text, bytes, &error, &starved);
    if (starved)
        return FAIL(CREATE, "%s: no memory to read it", path);
    if (!object)
        return FAIL(DAMAGED, "%s: at byte %d: %s", path, error.position, error.text);
    enum status status = take_manifest(out, object, path);
    json_decref(object);
    return status;
}

enum status
manifest_read(struct manifest *out, uint64_t *mh, const char *folder)
{
    char path[PATH_BYTES];
    char *text;
    size_t bytes;
    TRY(path_join(path, folder, MANIFEST_NAME));
    TRY(file_read(&text, &bytes, path, MANIFEST_BYTES_MOST));
    enum status status = manifest_parse(out, text, bytes, path);
    if (mh)
        *mh = hash64(text, bytes);
    free(text);
    return status;
}
