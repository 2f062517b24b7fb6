#include "lib/lm/textfile.h"

#include "lib/base/fault.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>

enum { READ_BYTES = 256 << 10, OUT_BYTES = 1 << 20 };

struct textfile {
    char *path;
    int fd;
    uint64_t consumed;
    bool at_end;
    ZSTD_DStream *zstd; // NULL: plain
    ZSTD_inBuffer in;   // into `raw`
    bool inside;        // a frame has begun and not ended
    char raw[READ_BYTES];
};

enum status
textfile_open(struct textfile **out, const char *path, bool zstd)
{
    *out = NULL;
    struct textfile *file = calloc(1, sizeof *file);
    if (!file)
        return FAIL(CREATE, "%s: no memory to read it", path);
    enum status status = STATUS_OK;
    struct stat info;
    file->fd = open(path, O_RDONLY | O_CLOEXEC);
    file->path = strdup(path);
    if (zstd)
        file->zstd = ZSTD_createDStream();
    if (file->fd < 0 && errno == ENOENT)
        status = FAIL(MISSING, "%s: cannot open: no such file", path);
    else if (file->fd < 0 && (errno == EACCES || errno == EPERM))
        status = FAIL(DENIED, "%s: cannot open: %s", path, strerror(errno));
    else if (file->fd < 0 || fstat(file->fd, &info) != 0)
        status = FAIL(IO, "%s: cannot open: %s", path, strerror(errno));
    else if (!S_ISREG(info.st_mode))
        status = FAIL(MISSING, "%s: is not a regular file", path);
    else if (!file->path || (zstd && !file->zstd))
        status = FAIL(CREATE, "%s: no memory to read it", path);
    if (status != STATUS_OK)
        textfile_close(&file);
    *out = file;
    return status;
}

void
textfile_close(struct textfile **file)
{
    if (!*file)
        return;
    if ((*file)->fd >= 0)
        close((*file)->fd);
    ZSTD_freeDStream((*file)->zstd);
    free((*file)->path);
    free(*file);
    *file = NULL;
}

static enum status
read_raw(struct textfile *file, char *out, size_t room, size_t *got)
{
    for (;;) {
        ssize_t bytes = fault("textfile.read") ? (errno = EIO, -1) : read(file->fd, out, room);
        if (bytes < 0 && errno == EINTR)
            continue;
        if (bytes < 0)
            return FAIL(IO, "%s: cannot read: %s", file->path, strerror(errno));
        *got = (size_t)bytes;
        file->consumed += *got;
        file->at_end = bytes == 0;
        return STATUS_OK;
    }
}

static enum status
read_zstd(struct textfile *file, struct text_list *out)
{
    size_t begin = out->bytes;
    while (out->bytes == begin) {
        if (file->in.pos == file->in.size) {
            size_t got;
            TRY(read_raw(file, file->raw, sizeof file->raw, &got));
            file->in = (ZSTD_inBuffer){file->raw, got, 0};
            if (file->at_end && file->inside)
                return FAIL(DAMAGED, "%s: ends inside a zstd frame: it has been cut off",
                            file->path);
            if (file->at_end)
                return STATUS_OK;
        }
        TRY(text_list_reserve(out, OUT_BYTES));
        ZSTD_outBuffer to = {out->at + out->bytes, OUT_BYTES, 0};
        size_t hint = ZSTD_decompressStream(file->zstd, &to, &file->in);
        if (ZSTD_isError(hint))
            return FAIL(DAMAGED, "%s: zstd: %s before byte %llu", file->path,
                        ZSTD_getErrorName(hint), (unsigned long long)file->consumed);
        file->inside = hint != 0;
        out->bytes += to.pos;
    }
    return STATUS_OK;
}

enum status
textfile_read(struct textfile *file, struct text_list *out, bool *more)
{
    size_t begin = out->bytes, got = 0;
    *more = false;
    if (file->at_end)
        return STATUS_OK;
    if (file->zstd) {
        TRY(read_zstd(file, out));
    } else {
        TRY(text_list_reserve(out, OUT_BYTES));
        TRY(read_raw(file, out->at + out->bytes, OUT_BYTES, &got));
        out->bytes += got;
    }
    *more = out->bytes > begin;
    return STATUS_OK;
}

uint64_t
textfile_consumed(const struct textfile *file)
{
    return file->consumed;
}
