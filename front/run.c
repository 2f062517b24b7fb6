// osae run: the three processes of a run on this machine, one line of progress, and an orderly end.
#include "config/config.h"
#include "front/commands.h"
#include "front/family.h"
#include "front/watch.h"
#include "lib/base/flags.h"
#include "lib/base/say.h"
#include "lib/base/tick.h"
#include "lib/host/loop.h"
#include "proto/caller.h"

#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char manual[] =
    "usage: osae run CONFIG [--set KEY=VALUE]... [--from-scratch] [--accept-config-change]\n\n"
    "Starts producer, trainer and evaluator, shows how far they are, and ends when every step is\n"
    "trained and the last checkpoint is scored. Ctrl-C saves and stops within seconds; the same\n"
    "command goes on from there. A process that is killed is started again.\n\n";

enum { LINE_BYTES = 256, TURN_MS = 200, PLAIN_MS = 10000, ASK_MS = 1000 };

struct run {
    const struct settings *set;
    struct loop *loop;
    struct family family;
    struct channel *channel;
    struct watch *watch;
    struct caller *trainer;
    bool terminal, evaluates;
    char shown[LINE_BYTES];
    int64_t shown_at, asked_at;
};

// On a terminal one line that changes; elsewhere a line now and then.
static void
show(struct run *r, bool last)
{
    char line[LINE_BYTES];
    watch_line(r->watch, line, sizeof line);
    int64_t now = tick_ms();
    if (r->terminal) {
        if (strcmp(line, r->shown) != 0)
            fprintf(stderr, "\r\033[K%s", line);
        if (last)
            fputc('\n', stderr);
        fflush(stderr);
    } else if (strcmp(line, r->shown) != 0 && (last || now - r->shown_at >= PLAIN_MS)) {
        say(SAY_INFO, "%s", line);
        r->shown_at = now;
    } else {
        return;
    }
    snprintf(r->shown, sizeof r->shown, "%s", line);
}

// Are all steps trained, durable and, where there is an evaluator, scored? The trainer knows whose
// results it was told of, the evaluator whether these are what the settings ask for now.
static bool
complete(struct run *r)
{
    static struct msg_reply reply;
    if (strcmp(watch_trainer_state(r->watch), "finished") != 0 || tick_ms() < r->asked_at + ASK_MS)
        return false;
    r->asked_at = tick_ms();
    if (!r->evaluates)
        return true;
    return caller_command(r->trainer, "status", NULL, &reply, ASK_MS) == STATUS_OK &&
           named_get_flag(&reply.data, "evaluated", false) &&
           strcmp(watch_evaluator_state(r->watch), "idle") == 0;
}

static enum status
watch_over(struct run *r)
{
    static const char *const names[] = {"producer", "trainer", "evaluator"};
    while (loop_stopping(r->loop) == LOOP_GOES_ON) {
        TRY(family_watch(&r->family));
        watch_turn(r->watch);
        for (size_t i = 0; i < 3; i++)
            if (watch_heard(r->watch, names[i]))
                family_alive(&r->family, names[i]);
        show(r, false);
        if (complete(r))
            return STATUS_OK;
        loop_wait(r->loop, channel_pending(r->channel) ? 0 : tick_ms() + TURN_MS);
    }
    return STATUS_OK;
}

// The trainer saves first; a second Ctrl-C makes everybody leave at once.
static void
stop_all(struct run *r)
{
    int64_t limit = (int64_t)r->set->stop.deadline_s * 1000 + 5000, until = tick_ms() + limit;
    family_stop(&r->family, NULL, SIGTERM);
    bool hurried = false;
    while (!family_wait(&r->family, NULL, 100)) {
        watch_turn(r->watch);
        loop_wait(r->loop, 0);
        if (!hurried && (loop_stopping(r->loop) == LOOP_LEAVE || tick_ms() >= until)) {
            hurried = true;
            family_stop(&r->family, NULL, SIGTERM);
            until = tick_ms() + 3000;
        } else if (hurried && tick_ms() >= until) {
            family_stop(&r->family, NULL, SIGKILL);
        }
    }
}

static enum status
start(struct run *r, const struct words *sets, const char *config, bool from_scratch, bool accept)
{
    static const char *const names[] = {"producer", "trainer", "evaluator"};
    const char *args[FAMILY_ARGS];
    size_t count = 0;
    args[count++] = config;
    for (size_t i = 0; i < sets->count && count + 4 < FAMILY_ARGS; i++) {
        args[count++] = "--set";
        args[count++] = sets->at[i];
    }
    TRY(family_init(&r->family, names, r->evaluates ? 3 : 2, args, count));
    struct member *trainer = &r->family.members[1];
    size_t extra = 0;
    trainer->extra[extra++] = "--set=trainer.when_done=stay";
    if (from_scratch)
        trainer->extra[extra++] = "--from-scratch";
    if (accept && extra < 3)
        trainer->extra[extra++] = "--accept-config-change";
    return family_start(&r->family);
}

static enum status
run(struct run *r)
{
    TRY(channel_new(&r->channel, NULL));
    TRY(watch_open(&r->watch, r->channel, r->set));
    TRY(caller_open(&r->trainer, r->channel, r->set->trainer.ctl, ROLE_MONITOR, "osae-run",
                    r->set->net.backoff_cap_ms));
    loop_add(r->loop, channel_fd(r->channel));
    return watch_over(r);
}

enum status
run_command(int argc, char *const *argv)
{
    bool from_scratch = false, accept = false;
    struct words sets = {0}, rest = {0};
    const struct flag flags[] = {
        {"--set", "KEY=VALUE", "a setting, over the file's", .words = &sets},
        {"--from-scratch", NULL, "put the run's checkpoints aside and begin anew",
         .on = &from_scratch},
        {"--accept-config-change", NULL, "go on although deciding settings differ", .on = &accept},
    };
    if (flags_help_wanted(argc, argv)) {
        fputs(manual, stdout);
        flags_print(stdout, flags, FLAGS_COUNT(flags));
        return STATUS_OK;
    }
    TRY(flags_read(flags, FLAGS_COUNT(flags), "osae run", argc, argv, &rest));
    if (rest.count != 1)
        return FAIL(USAGE, "osae run: wanted one config file (osae run --help)");

    struct config *config = NULL;
    struct run *r = calloc(1, sizeof *r);
    enum status status = r ? STATUS_OK : FAIL(CREATE, "no memory for the run");
    GOTRY(status);
    GOTRY(config_load(&config, rest.at[0], sets.at, sets.count));
    r->set = &config->set;
    r->terminal = isatty(STDERR_FILENO);
    r->evaluates = config->set.eval.text.count > 0;
    GOTRY(loop_new(&r->loop));
    GOTRY(start(r, &sets, rest.at[0], from_scratch, accept));
    status = run(r);
    bool stopped = status == STATUS_OK && loop_stopping(r->loop) != LOOP_GOES_ON;
    struct status_note why;
    status_note_take(&why, status);
    if (r->watch)
        show(r, true);
    stop_all(r);
    status = status_note_give(&why);
    if (stopped)
        say(SAY_INFO, "stopped at step %" PRIu64 "; the same command goes on from there",
            watch_step(r->watch));
    else if (status == STATUS_OK)
        say(SAY_INFO, "done: %s/%s (osae report shows its scores)", config->set.storage.runs,
            config->set.run.name);
done:
    if (r) {
        caller_close(&r->trainer);
        watch_close(&r->watch);
        channel_free(&r->channel);
        loop_free(&r->loop);
    }
    free(r);
    config_free(&config);
    return status;
}
