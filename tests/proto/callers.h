// callers: a crowd of control clients that ask at the same time, each over a link of its own, in
// one thread. What each is answered, or why it is not, is kept.
#ifndef TESTS_PROTO_CALLERS_H
#define TESTS_PROTO_CALLERS_H

#include "proto/caller.h"
#include "tests/proto/socket_kit.h"

#include <string.h>

enum { CALLERS_MOST = 1040, OF_CHANNEL = 104, CHANNELS = CALLERS_MOST / OF_CHANNEL };

struct asker {
    struct caller *caller;
    struct msg_cmd *cmd;
    bool asks, over;
    // when it is over
    enum status status; // CONFIG: refused
    struct msg_reply reply;
    char words[256];
    int64_t ms;
};
struct callers {
    size_t count;
    struct channel *channels[CHANNELS];
    struct asker at[CALLERS_MOST];
};

// Each command with a name of its own and no arguments yet; nobody is connected.
static struct callers *
callers_new(size_t count)
{
    struct callers *all = calloc(1, sizeof *all);
    assert_non_null(all);
    assert_in_range(count, 1, CALLERS_MOST);
    all->count = count;
    for (size_t i = 0; i < count; i++) {
        all->at[i].cmd = calloc(1, sizeof *all->at[i].cmd);
        assert_non_null(all->at[i].cmd);
        all->at[i].cmd->idem = (struct hash128){random_seed(), random_seed()};
    }
    return all;
}

static void
callers_disconnect(struct callers *all)
{
    for (size_t i = 0; i < all->count; i++)
        caller_close(&all->at[i].caller);
    for (size_t i = 0; i < CHANNELS; i++)
        channel_free(&all->channels[i]);
}

static void
callers_free(struct callers **callers)
{
    callers_disconnect(*callers);
    for (size_t i = 0; i < (*callers)->count; i++)
        free((*callers)->at[i].cmd);
    free(*callers);
    *callers = NULL;
}

static void
callers_connect(struct callers *all, const char *endpoint)
{
    for (size_t i = 0; i < all->count; i++) {
        struct channel **channel = &all->channels[i / OF_CHANNEL];
        char name[32];
        snprintf(name, sizeof name, "asker-%zu", i);
        if (!*channel)
            fine(channel_new(channel, NULL));
        fine(caller_open(&all->at[i].caller, *channel, endpoint, ROLE_ADMIN, name, 100));
    }
}

static void
asker_begin(struct asker *a, int64_t limit_ms)
{
    caller_begin(a->caller, &(struct caller_question){MESSAGE_CMD, MESSAGE_REPLY, a->cmd, &a->reply,
                                                      limit_ms});
    a->asks = true;
    a->over = false;
    a->words[0] = '\0';
    a->ms = tick_ms();
}

// False: it goes on asking.
static bool
asker_turn(struct asker *a)
{
    bool answered;
    int64_t wake;
    if (!a->asks || a->over)
        return true;
    a->status = caller_turn(a->caller, &answered, &wake);
    if (a->status == STATUS_OK && !answered)
        return false;
    a->over = true;
    a->ms = tick_ms() - a->ms;
    if (a->status != STATUS_OK) {
        snprintf(a->words, sizeof a->words, "%s", status_words());
    } else if (!a->reply.ok) {
        a->status = STATUS_CONFIG;
        snprintf(a->words, sizeof a->words, "%.255s", a->reply.words);
    }
    return true;
}

// All their turns once; how many go on asking.
static size_t
callers_turn(struct callers *all)
{
    size_t open = 0;
    for (size_t i = 0; i < all->count; i++)
        open += !asker_turn(&all->at[i]);
    return open;
}

static void
callers_sleep(const struct callers *all)
{
    struct pollfd fds[CHANNELS];
    nfds_t count = 0;
    for (size_t i = 0; i < CHANNELS; i++)
        if (all->channels[i])
            fds[count++] = (struct pollfd){.fd = channel_fd(all->channels[i]), .events = POLLIN};
    (void)poll(fds, count, 10); // edges may have been missed: look again soon
}

// Everybody asks, until each is answered or refused or has run out of time.
static void
callers_ask(struct callers *all, int64_t limit_ms)
{
    for (size_t i = 0; i < all->count; i++)
        asker_begin(&all->at[i], limit_ms);
    while (callers_turn(all) > 0)
        callers_sleep(all);
}

static size_t
callers_with(const struct callers *all, enum status status)
{
    size_t count = 0;
    for (size_t i = 0; i < all->count; i++)
        count += all->at[i].status == status;
    return count;
}

#endif
