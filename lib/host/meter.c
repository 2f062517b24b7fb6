#include "lib/host/meter.h"

#include "lib/base/file.h"
#include "lib/base/tick.h"
#include "lib/host/syncer.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { LINE_BYTES = 16 * 1024, READINGS_MOST = 256 };

struct meter {
    char folder[PATH_BYTES], path[PATH_BYTES];
    uint64_t segment, used;
    int fd;                // -1: the next line begins a segment
    bool torn;             // the last line may be there in part
    struct syncer *syncer; // NULL: nobody syncs
};

enum status
meter_open(struct meter **out, const char *folder, uint64_t segment, uint32_t sync_ms)
{
    *out = NULL;
    TRY(path_make(folder, 0700));
    struct meter *meter = calloc(1, sizeof *meter);
    if (!meter)
        return FAIL(CREATE, "no memory for the metrics");
    snprintf(meter->folder, sizeof meter->folder, "%s", folder);
    meter->segment = segment;
    meter->fd = -1;
    *out = meter;
    enum status status = sync_ms ? syncer_new(&meter->syncer, sync_ms) : STATUS_OK;
    if (status != STATUS_OK)
        meter_close(out);
    return status;
}

void
meter_close(struct meter **meter)
{
    if (*meter) {
        syncer_free(&(*meter)->syncer);
        if ((*meter)->fd >= 0)
            close((*meter)->fd);
        free(*meter);
    }
    *meter = NULL;
}

// A torn line, of an earlier life or of a full disk, is closed, so that the next stands alone.
static enum status
close_line(struct meter *meter)
{
    off_t end = lseek(meter->fd, 0, SEEK_END);
    char last = '\n';
    meter->used = end > 0 ? (uint64_t)end : 0;
    if (end > 0 && pread(meter->fd, &last, 1, end - 1) == 1 && last != '\n')
        TRY(file_write_all(meter->fd, meter->path, "\n", 1));
    meter->torn = false;
    return STATUS_OK;
}

static enum status
segment_begin(struct meter *meter, uint64_t step)
{
    char name[64];
    snprintf(name, sizeof name, "m-%012" PRIu64 ".jsonl", step);
    TRY(path_join(meter->path, meter->folder, name));
    meter->fd = open(meter->path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (meter->fd < 0)
        return FAIL(CREATE, "%s: cannot open: %s", meter->path, strerror(errno));
    TRY(close_line(meter));
    return meter->syncer ? syncer_file(meter->syncer, meter->fd) : STATUS_OK;
}

enum status
meter_write(struct meter *meter, uint64_t step, const struct reading *readings, size_t count)
{
    if (meter->fd >= 0 && meter->used >= meter->segment) {
        close(meter->fd);
        meter->fd = -1;
    }
    if (meter->fd < 0)
        TRY(segment_begin(meter, step));
    else if (meter->torn)
        TRY(close_line(meter));
    char line[LINE_BYTES];
    size_t used = (size_t)snprintf(line, sizeof line, "{\"t\":%.3f,\"step\":%" PRIu64,
                                   (double)(tick_label_ns() / 1000000) * 1e-3, step);
    for (size_t i = 0; i < count && used + 128 < sizeof line; i++) {
        if (isfinite(readings[i].value))
            used += (size_t)snprintf(line + used, sizeof line - used, ",\"%s\":%.9g",
                                     readings[i].name, readings[i].value);
        else
            used +=
                (size_t)snprintf(line + used, sizeof line - used, ",\"%s\":null", readings[i].name);
    }
    used += (size_t)snprintf(line + used, sizeof line - used, "}\n");
    meter->used += used;
    meter->torn = true; // until it is there whole
    TRY(file_write_all(meter->fd, meter->path, line, used));
    meter->torn = false;
    if (meter->syncer)
        syncer_wrote(meter->syncer);
    return STATUS_OK;
}

static void
take_line(const char *line, size_t bytes,
          void (*take)(void *to, double t, uint64_t step, const struct reading *readings,
                       size_t count),
          void *to)
{
    json_t *object = json_loadb(line, bytes, 0, NULL);
    json_t *step = json_object_get(object, "step");
    if (!json_is_integer(step)) {
        json_decref(object); // torn by a crash
        return;
    }
    struct reading readings[READINGS_MOST];
    size_t count = 0;
    const char *name;
    json_t *value;
    json_object_foreach(object, name, value)
    {
        if (strcmp(name, "t") == 0 || strcmp(name, "step") == 0 || count == READINGS_MOST)
            continue;
        readings[count++] =
            (struct reading){name, json_is_number(value) ? json_number_value(value) : (double)NAN};
    }
    take(to, json_number_value(json_object_get(object, "t")), (uint64_t)json_integer_value(step),
         readings, count);
    json_decref(object);
}

static int
is_segment(const struct dirent *entry)
{
    size_t length = strlen(entry->d_name);
    return strncmp(entry->d_name, "m-", 2) == 0 && length > 8 &&
           strcmp(entry->d_name + length - 6, ".jsonl") == 0;
}

enum status
meter_read(const char *folder,
           void (*take)(void *to, double t, uint64_t step, const struct reading *readings,
                        size_t count),
           void *to)
{
    struct dirent **names;
    int count = scandir(folder, &names, is_segment, alphasort);
    if (count < 0)
        return FAIL(MISSING, "%s: cannot list the metrics: %s", folder, strerror(errno));
    enum status status = STATUS_OK;
    for (int i = 0; i < count; i++) {
        char path[PATH_BYTES], *text = NULL;
        size_t bytes;
        if (status == STATUS_OK)
            status = path_join(path, folder, names[i]->d_name);
        if (status == STATUS_OK)
            status = file_read(&text, &bytes, path, SIZE_MAX / 2);
        for (char *at = text, *end; text && (end = strchr(at, '\n')) != NULL; at = end + 1)
            take_line(at, (size_t)(end - at), take, to);
        free(text);
        free(names[i]);
    }
    free(names);
    return status;
}
