#include "lib/host/loop.h"

#include "lib/base/tick.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

struct loop {
    struct pollfd fds[LOOP_FDS + 1]; // [0] is the signalfd
    size_t count;
    unsigned stops;
    bool checkpoint;
};

enum status
loop_new(struct loop **out)
{
    *out = NULL;
    struct loop *loop = calloc(1, sizeof *loop);
    if (!loop)
        return FAIL(CREATE, "no memory for the event loop");
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    sigaddset(&set, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
    int fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (fd < 0) {
        free(loop);
        return FAIL(CREATE, "cannot make a signalfd: %s", strerror(errno));
    }
    loop->fds[0] = (struct pollfd){.fd = fd, .events = POLLIN};
    loop->count = 1;
    *out = loop;
    return STATUS_OK;
}

void
loop_free(struct loop **loop)
{
    if (*loop) {
        close((*loop)->fds[0].fd);
        free(*loop);
    }
    *loop = NULL;
}

void
loop_add(struct loop *loop, int fd)
{
    assert(loop->count <= LOOP_FDS);
    loop->fds[loop->count++] = (struct pollfd){.fd = fd, .events = POLLIN};
}

static void
take_signals(struct loop *loop)
{
    struct signalfd_siginfo info;
    while (read(loop->fds[0].fd, &info, sizeof info) == (ssize_t)sizeof info) {
        if (info.ssi_signo == SIGUSR1)
            loop->checkpoint = true;
        else if (info.ssi_signo != SIGHUP)
            loop->stops++;
    }
}

void
loop_wait(struct loop *loop, int64_t until)
{
    int64_t left = until - tick_ms();
    int timeout = left < 0 ? 0 : left > 60000 ? 60000 : (int)left;
    if (poll(loop->fds, (nfds_t)loop->count, timeout) > 0 && loop->fds[0].revents)
        take_signals(loop);
}

enum loop_stop
loop_stopping(const struct loop *loop)
{
    return loop->stops == 0 ? LOOP_GOES_ON : loop->stops == 1 ? LOOP_STOP : LOOP_LEAVE;
}

void
loop_ask_stop(struct loop *loop)
{
    if (loop->stops == 0)
        loop->stops = 1;
}

// ---- the way out

static volatile sig_atomic_t leaving_stops; // as a handler sees them

static void
end_at_once(int number)
{
    static const char words[] = "left at once; what is not durable is done again\n";
    if (number != SIGALRM && ++leaving_stops < 2)
        return;
    ssize_t said = write(STDERR_FILENO, words, sizeof words - 1);
    (void)said;
    _exit(75);
}

void
loop_leave(const struct loop *loop, unsigned seconds)
{
    if (!loop)
        return;
    leaving_stops = (sig_atomic_t)loop->stops;
    struct sigaction action = {.sa_handler = end_at_once, .sa_flags = SA_RESTART};
    sigset_t set;
    sigemptyset(&set);
    static const int numbers[] = {SIGTERM, SIGINT, SIGALRM};
    for (size_t i = 0; i < 3; i++) {
        sigaction(numbers[i], &action, NULL);
        sigaddset(&set, numbers[i]);
    }
    alarm(seconds);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
}

bool
loop_checkpoint_asked(struct loop *loop)
{
    bool asked = loop->checkpoint;
    loop->checkpoint = false;
    return asked;
}
