#include "front/family.h"

#include "lib/base/file.h"
#include "lib/base/say.h"
#include "lib/base/tick.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static enum status
program_path(char out[PATH_BYTES], const struct family *family, const char *name)
{
    char program[64];
    snprintf(program, sizeof program, "osae-%s", name);
    return path_join(out, family->folder, program);
}

enum status
family_init(struct family *family, const char *const *names, size_t count, const char *const *args,
            size_t arg_count)
{
    assert(count <= FAMILY_MOST && arg_count < FAMILY_ARGS);
    *family = (struct family){.count = count};
    // They share the cores: a thread that spins while it waits for its like takes time from another
    // process (a probe of the evaluator took 70 s beside a busy trainer, and 5 s so).
    setenv("OMP_WAIT_POLICY", "passive", 0);
    ssize_t length = readlink("/proc/self/exe", family->folder, sizeof family->folder - 1);
    char *slash = length > 0 ? strrchr(family->folder, '/') : NULL;
    if (!slash)
        return FAIL(INTERNAL, "cannot find the folder of this program: %s", strerror(errno));
    *slash = '\0';
    memcpy(family->args, args, arg_count * sizeof *args);
    for (size_t i = 0; i < count; i++) {
        char path[PATH_BYTES];
        family->members[i].name = names[i];
        TRY(program_path(path, family, names[i]));
        if (access(path, X_OK) != 0)
            return FAIL(MISSING, "%s: the program is not there: %s", path, strerror(errno));
    }
    return STATUS_OK;
}

static enum status
start(struct family *family, struct member *member)
{
    char path[PATH_BYTES];
    TRY(program_path(path, family, member->name));
    // posix_spawn takes char *const[] but changes nothing of it.
    const char *argv[FAMILY_ARGS + 8] = {path};
    size_t count = 1;
    for (size_t i = 0; family->args[i]; i++)
        argv[count++] = family->args[i];
    for (size_t i = 0; i < 3 && member->extra[i]; i++)
        argv[count++] = member->extra[i];

    posix_spawnattr_t attributes;
    posix_spawnattr_init(&attributes);
    sigset_t none;
    sigemptyset(&none);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setpgroup(&attributes, 0);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK);
    int error =
        posix_spawn(&member->pid, path, NULL, &attributes, (char *const *)(uintptr_t)argv, environ);
    posix_spawnattr_destroy(&attributes);
    if (error != 0) {
        member->pid = 0;
        return FAIL(CREATE, "%s: cannot start: %s", path, strerror(error));
    }
    member->again_ms = 0;
    return STATUS_OK;
}

enum status
family_start(struct family *family)
{
    for (size_t i = 0; i < family->count; i++)
        TRY(start(family, &family->members[i]));
    return STATUS_OK;
}

static void
reap(struct family *family)
{
    for (size_t i = 0; i < family->count; i++) {
        struct member *member = &family->members[i];
        int how;
        if (member->pid == 0 || waitpid(member->pid, &how, WNOHANG) != member->pid)
            continue;
        member->pid = 0;
        member->exit_code = WIFEXITED(how) ? WEXITSTATUS(how) : 128 + WTERMSIG(how);
        bool again = WIFSIGNALED(how) || member->exit_code == 75;
        if (family->stopping || member->ended || !again) {
            member->ended = true;
            continue;
        }
        member->restarts++;
        int64_t delay = 200 << (member->restarts < 6 ? member->restarts - 1 : 5);
        member->again_ms = tick_ms() + delay;
        say(SAY_WARN, "the %s ended (%s %d), starting it again", member->name,
            WIFSIGNALED(how) ? "signal" : "exit",
            WIFSIGNALED(how) ? WTERMSIG(how) : member->exit_code);
    }
}

// The status whose exit code this is; INTERNAL for codes that are none of ours.
static enum status
status_of(int exit_code)
{
    for (int status = 1; status < STATUS_COUNT; status++)
        if (status_exit_code((enum status)status) == exit_code)
            return (enum status)status;
    return STATUS_INTERNAL;
}

enum status
family_watch(struct family *family)
{
    reap(family);
    for (size_t i = 0; i < family->count; i++) {
        struct member *member = &family->members[i];
        if (member->ended && !family->stopping)
            return status_fail(member->exit_code ? status_of(member->exit_code) : STATUS_AGAIN,
                               __FILE__, __LINE__, "the %s ended with exit code %d", member->name,
                               member->exit_code);
        if (member->again_ms == 0 || member->again_ms > tick_ms())
            continue;
        if (member->restarts > FAMILY_RESTARTS)
            return FAIL(INTERNAL, "the %s died %u times in a row", member->name, member->restarts);
        TRY(start(family, member));
    }
    return STATUS_OK;
}

static struct member *
find(struct family *family, const char *name)
{
    for (size_t i = 0; i < family->count; i++)
        if (strcmp(family->members[i].name, name) == 0)
            return &family->members[i];
    return NULL;
}

void
family_alive(struct family *family, const char *name)
{
    struct member *member = find(family, name);
    if (member)
        member->restarts = 0;
}

void
family_stop(struct family *family, const char *name, int signal_number)
{
    if (!name)
        family->stopping = true;
    for (size_t i = 0; i < family->count; i++) {
        struct member *member = &family->members[i];
        if (name && strcmp(member->name, name) != 0)
            continue;
        member->ended = true;
        member->again_ms = 0;
        if (member->pid > 0)
            kill(member->pid, signal_number);
    }
}

bool
family_wait(struct family *family, const char *name, int64_t limit_ms)
{
    int64_t until = tick_ms() + limit_ms;
    for (;;) {
        reap(family);
        bool any = false;
        for (size_t i = 0; i < family->count; i++)
            any |= family->members[i].pid != 0 &&
                   (!name || strcmp(family->members[i].name, name) == 0);
        if (!any || tick_ms() >= until)
            return !any;
        poll(NULL, 0, 20);
    }
}
