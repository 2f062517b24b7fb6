#include "lib/base/file.h"

#include "lib/base/fault.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(at, bytes) ((void)(at), (void)(bytes))
#define ASAN_UNPOISON_MEMORY_REGION(at, bytes) ((void)(at), (void)(bytes))
#endif

// The rest of a mapping's last page reads as zeros: under ASan a parser that runs over the end of
// its file shall be caught there, as it would be in memory from malloc.
static size_t
rest_of_page(size_t bytes)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    return (page - bytes % page) % page;
}

static enum status
why(const char *path, const char *what)
{
    int error = errno;
    if (error == ENOENT)
        return FAIL(MISSING, "%s: cannot %s: no such file or folder", path, what);
    if (error == EACCES || error == EPERM || error == EROFS)
        return FAIL(DENIED, "%s: cannot %s: %s", path, what, strerror(error));
    if (error == ENOSPC || error == EDQUOT)
        return FAIL(CREATE, "%s: cannot %s: %s", path, what, strerror(error));
    return FAIL(IO, "%s: cannot %s: %s", path, what, strerror(error));
}

enum status
path_join(char out[PATH_BYTES], const char *folder, const char *name)
{
    int length = snprintf(out, PATH_BYTES, "%s/%s", folder, name);
    if (length < 0 || length >= PATH_BYTES)
        return FAIL(CONFIG, "%.100s...: a path of %d bytes, wanted at most %d", folder, length,
                    PATH_BYTES - 1);
    return STATUS_OK;
}

bool
path_is_folder(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

bool
path_exists(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0;
}

enum status
path_make(const char *path, unsigned mode)
{
    char part[PATH_BYTES];
    size_t length = strlen(path);
    if (length == 0 || length >= sizeof part)
        return FAIL(CONFIG, "'%.100s': a folder's name of %zu bytes, wanted 1 to %d", path, length,
                    PATH_BYTES - 1);
    memcpy(part, path, length + 1);
    for (size_t i = 1; i <= length; i++) {
        if (part[i] != '/' && part[i] != '\0')
            continue;
        char held = part[i];
        part[i] = '\0';
        if (mkdir(part, mode) != 0 && errno != EEXIST) {
            if (errno == EACCES || errno == EPERM || errno == EROFS)
                return FAIL(DENIED, "%s: cannot make the folder: %s", part, strerror(errno));
            return FAIL(CREATE, "%s: cannot make the folder: %s", part, strerror(errno));
        }
        part[i] = held;
    }
    if (!path_is_folder(path))
        return FAIL(CREATE, "%s: exists and is not a folder", path);
    return STATUS_OK;
}

static int
remove_one(const char *path, const struct stat *info, int type, struct FTW *where)
{
    (void)info;
    (void)type;
    (void)where;
    return remove(path);
}

enum status
path_remove(const char *path)
{
    if (nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS) != 0 && errno != ENOENT)
        return why(path, "remove");
    return STATUS_OK;
}

enum status
path_free_bytes(uint64_t *out, const char *path)
{
    struct statvfs info;
    if (statvfs(path, &info) != 0)
        return why(path, "ask for free space");
    *out = (uint64_t)info.f_bavail * (uint64_t)info.f_frsize;
    return STATUS_OK;
}

enum status
file_read(char **out, size_t *bytes, const char *path, size_t most)
{
    *out = NULL;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return why(path, "open");
    enum status status = STATUS_OK;
    struct stat info;
    char *text = NULL;
    size_t used = 0;
    if (fstat(fd, &info) != 0) {
        status = why(path, "look at");
        goto done;
    }
    if (!S_ISREG(info.st_mode)) {
        status = FAIL(MISSING, "%s: is not a regular file", path);
        goto done;
    }
    if ((uint64_t)info.st_size > most) {
        status = FAIL(DAMAGED, "%s: has %lld bytes, wanted at most %zu", path,
                      (long long)info.st_size, most);
        goto done;
    }
    size_t size = (size_t)info.st_size;
    text = malloc(size + 1);
    if (!text) {
        status = FAIL(CREATE, "%s: no memory for its %zu bytes", path, size);
        goto done;
    }
    while (used < size) {
        ssize_t got = fault("file.read") ? (errno = EIO, -1) : read(fd, text + used, size - used);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0) {
            status = why(path, "read");
            goto done;
        }
        if (got == 0)
            break; // somebody cut it meanwhile: what is there now is the file
        used += (size_t)got;
    }
    text[used] = '\0';
    *out = text;
    *bytes = used;
    text = NULL;
done:
    free(text);
    close(fd);
    return status;
}

enum status
file_map_open(struct file_map *map, const char *path)
{
    *map = (struct file_map){NULL, 0};
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return why(path, "open");
    struct stat info;
    enum status status = STATUS_OK;
    if (fstat(fd, &info) != 0)
        status = why(path, "look at");
    else if (!S_ISREG(info.st_mode))
        status = FAIL(MISSING, "%s: is not a regular file", path);
    else if (info.st_size == 0)
        status = FAIL(DAMAGED, "%s: is empty", path);
    if (status == STATUS_OK) {
        void *at = mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (at == MAP_FAILED)
            status = why(path, "map");
        else {
            *map = (struct file_map){at, (size_t)info.st_size};
            ASAN_POISON_MEMORY_REGION(map->at + map->bytes, rest_of_page(map->bytes));
        }
    }
    close(fd);
    return status;
}

void
file_map_close(struct file_map *map)
{
    if (map->at) {
        ASAN_UNPOISON_MEMORY_REGION(map->at + map->bytes, rest_of_page(map->bytes));
        munmap((void *)(uintptr_t)map->at, map->bytes);
    }
    *map = (struct file_map){NULL, 0};
}

enum status
file_write_all(int fd, const char *path, const void *at, size_t bytes)
{
    const char *from = at;
    while (bytes > 0) {
        ssize_t put = fault("file.write") ? (errno = EIO, -1) : write(fd, from, bytes);
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0)
            return why(path, "write");
        from += put;
        bytes -= (size_t)put;
    }
    return STATUS_OK;
}

enum status
file_sync_folder(const char *folder)
{
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return why(folder, "open");
    int failed = fault("file.sync_folder") ? (errno = EIO, -1) : fsync(fd);
    enum status status = failed ? why(folder, "sync") : STATUS_OK;
    close(fd);
    return status;
}

enum status
file_replace(const char *path, const void *at, size_t bytes)
{
    char temporary[PATH_BYTES], folder[PATH_BYTES];
    int length = snprintf(temporary, sizeof temporary, "%s.tmp-%d", path, (int)getpid());
    if (length < 0 || length >= (int)sizeof temporary)
        return FAIL(CONFIG, "%.100s...: the path is too long", path);
    const char *slash = strrchr(path, '/');
    snprintf(folder, sizeof folder, "%.*s", slash ? (int)(slash - path) + (slash == path) : 1,
             slash ? path : ".");
    unlink(temporary);
    int fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return why(temporary, "create");
    enum status status = file_write_all(fd, temporary, at, bytes);
    if (status == STATUS_OK && (fault("file.sync") ? (errno = EIO, -1) : fsync(fd)) != 0)
        status = why(temporary, "sync");
    if (close(fd) != 0 && status == STATUS_OK)
        status = why(temporary, "close");
    if (status == STATUS_OK &&
        (fault("file.rename") ? (errno = EIO, -1) : rename(temporary, path)) != 0)
        status = why(path, "replace");
    if (status != STATUS_OK) {
        unlink(temporary);
        return status;
    }
    return file_sync_folder(folder);
}
