#include "lib/base/say.h"

#include "lib/base/tick.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static struct {
    const char *name;
    enum say_level least;
    int log; // -1: none
} self = {"osae", SAY_INFO, -1};

void
say_as(const char *name)
{
    self.name = name;
}

void
say_level(enum say_level least)
{
    self.least = least;
}

enum status
say_open_log(const char *path)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return FAIL(CREATE, "%s: cannot open the log: %s", path, strerror(errno));
    if (self.log >= 0)
        close(self.log);
    self.log = fd;
    return STATUS_OK;
}

// JSON string escapes; what is not plain ASCII control stays as it is.
static size_t
escape(char *out, size_t room, const char *text)
{
    size_t used = 0;
    for (; *text && used + 7 < room; text++) {
        unsigned char c = (unsigned char)*text;
        if (c == '"' || c == '\\') {
            out[used++] = '\\';
            out[used++] = (char)c;
        } else if (c < 0x20) {
            used += (size_t)snprintf(out + used, room - used, "\\u%04x", c);
        } else {
            out[used++] = (char)c;
        }
    }
    out[used] = '\0';
    return used;
}

void
say(enum say_level level, const char *format, ...)
{
    static const char *const tags[] = {"debug: ", "", "warning: ", "error: "};
    static const char *const words[] = {"debug", "info", "warn", "error"};
    if (level < self.least)
        return;
    char text[2048], line[2200];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    int length = snprintf(line, sizeof line, "%s: %s%s\n", self.name, tags[level], text);
    // One write a line, so lines of several processes on one terminal do not mix. Where stderr or
    // the log cannot be written there is nobody left to tell.
    if (length > 0 && write(STDERR_FILENO, line, (size_t)length) < 0)
        return;
    if (self.log >= 0) {
        char body[4096], entry[4400];
        escape(body, sizeof body, text);
        length = snprintf(
            entry, sizeof entry, "{\"t\":%.3f,\"who\":\"%s\",\"level\":\"%s\",\"text\":\"%s\"}\n",
            (double)(tick_label_ns() / 1000000u) * 1e-3, self.name, words[level], body);
        if (length > 0 && write(self.log, entry, (size_t)length) < 0)
            return;
    }
}

int
say_failure(enum status code)
{
    if (code == STATUS_OK)
        return 0;
    say(SAY_ERROR, "%s", status_words());
    say(SAY_DEBUG, "%s at %s", status_name(code), status_trail());
    return status_exit_code(code);
}
