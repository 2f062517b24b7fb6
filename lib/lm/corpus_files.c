#include "lib/lm/corpus_files.h"

#include "lib/base/file.h"
#include "lib/lm/grow.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { DEPTH_MOST = 32 };

static const struct ending {
    const char *text;
    enum corpus_kind kind;
    bool zstd, in_folders; // .json files of a folder are configurations more often than text
} endings[] = {
    {".jsonl", CORPUS_JSONL, false, true}, {".jsonl.zst", CORPUS_JSONL, true, true},
    {".json", CORPUS_JSONL, false, false}, {".json.zst", CORPUS_JSONL, true, true},
    {".txt", CORPUS_PLAIN, false, true},   {".txt.zst", CORPUS_PLAIN, true, true},
    {".md", CORPUS_PLAIN, false, true},    {".md.zst", CORPUS_PLAIN, true, true},
};

static const struct ending *
ending_of(const char *path)
{
    size_t bytes = strlen(path);
    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++) {
        size_t end = strlen(endings[i].text);
        if (bytes > end && strcmp(path + bytes - end, endings[i].text) == 0)
            return &endings[i];
    }
    return NULL;
}

void
corpus_list_release(struct corpus_list *list)
{
    for (size_t i = 0; i < list->count; i++)
        free((char *)(uintptr_t)list->files[i].path);
    free(list->files);
    *list = (struct corpus_list){0};
}

static enum status
put(struct corpus_list *list, const char *path, const struct ending *ending, uint64_t bytes)
{
    if (list->count == CORPUS_FILES_MOST)
        return FAIL(CONFIG, "%s: more than %d text files", path, CORPUS_FILES_MOST);
    void *at = list->files;
    TRY(grow_array(&at, &list->room, list->count + 1, sizeof *list->files));
    list->files = at;
    char *own = strdup(path);
    if (!own)
        return FAIL(CREATE, "%s: no memory for its name", path);
    list->files[list->count++] = (struct corpus_file){own, ending->kind, ending->zstd, bytes};
    return STATUS_OK;
}

static int
visible(const struct dirent *entry)
{
    return entry->d_name[0] != '.';
}

static int
by_name(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name); // not alphasort, which follows the locale
}

static enum status put_folder(struct corpus_list *list, const char *folder, int depth);

static enum status
put_entry(struct corpus_list *list, const char *path, int depth)
{
    struct stat info;
    if (lstat(path, &info) != 0)
        return errno == ENOENT ? STATUS_OK // gone meanwhile
                               : FAIL(IO, "%s: cannot look at: %s", path, strerror(errno));
    if (S_ISDIR(info.st_mode))
        return put_folder(list, path, depth + 1);
    const struct ending *ending = ending_of(path);
    if (!ending || !ending->in_folders)
        return STATUS_OK;
    if (S_ISLNK(info.st_mode) && stat(path, &info) != 0)
        return FAIL(MISSING, "%s: a link to nothing", path);
    return S_ISREG(info.st_mode) ? put(list, path, ending, (uint64_t)info.st_size) : STATUS_OK;
}

static enum status
put_folder(struct corpus_list *list, const char *folder, int depth)
{
    struct dirent **entries = NULL;
    if (depth > DEPTH_MOST)
        return FAIL(CONFIG, "%s: folders lie deeper than %d", folder, DEPTH_MOST);
    int count = scandir(folder, &entries, visible, by_name);
    if (count < 0 && errno == EACCES)
        return FAIL(DENIED, "%s: cannot list: %s", folder, strerror(errno));
    if (count < 0)
        return FAIL(IO, "%s: cannot list: %s", folder, strerror(errno));
    enum status status = STATUS_OK;
    for (int i = 0; i < count; i++) {
        char path[PATH_BYTES];
        if (status == STATUS_OK)
            status = path_join(path, folder, entries[i]->d_name);
        if (status == STATUS_OK)
            status = put_entry(list, path, depth);
        free(entries[i]);
    }
    free(entries);
    return status;
}

enum status
corpus_list_fill(struct corpus_list *list, const struct texts *paths)
{
    if (paths->count == 0)
        return FAIL(CONFIG, "no text: no file or folder is given");
    for (size_t i = 0; i < paths->count; i++) {
        const char *path = paths->at[i];
        struct stat info;
        if (stat(path, &info) != 0)
            return errno == EACCES ? FAIL(DENIED, "%s: cannot look at: %s", path, strerror(errno))
                                   : FAIL(MISSING, "%s: no such file or folder", path);
        if (S_ISDIR(info.st_mode)) {
            size_t before = list->count;
            TRY(put_folder(list, path, 0));
            if (list->count == before)
                return FAIL(MISSING,
                            "%s: no text in this folder, wanted files .jsonl .txt .md or one of "
                            "these with .zst",
                            path);
            continue;
        }
        const struct ending *ending = ending_of(path);
        if (!ending)
            return FAIL(CONFIG,
                        "%s: not a kind of text we know, wanted .jsonl .json .txt .md or one of "
                        "these with .zst",
                        path);
        if (!S_ISREG(info.st_mode))
            return FAIL(MISSING, "%s: is not a regular file", path);
        TRY(put(list, path, ending, (uint64_t)info.st_size));
    }
    return STATUS_OK;
}
