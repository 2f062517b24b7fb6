// osae status, pause, resume, checkpoint, set, stop: one word to the processes of a run.
#include "config/config.h"
#include "front/commands.h"
#include "lib/base/flags.h"
#include "lib/base/tick.h"
#include "proto/caller.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

// A pause and a changed setting wait for the step under way, a checkpoint for the disk; for
// somebody to be there at all, neither waits longer than REACH_MS.
enum { ANSWER_MS = 1500, REACH_MS = 5000, STEP_MS = 60000, SAVE_MS = 120000 };

struct target {
    const char *name, *endpoint;
    uint32_t backoff_ms;
};

static void
print_value(const struct named *data, const struct named_value *value)
{
    printf("  %-20s ", value->name);
    switch ((enum named_type)value->type) {
    case NAMED_REAL:
        printf("%.6g\n", value->real);
        break;
    case NAMED_WHOLE:
        printf("%" PRId64 "\n", value->whole);
        break;
    case NAMED_FLAG:
        printf("%s\n", value->flag ? "true" : "false");
        break;
    case NAMED_WORDS:
        printf("%s\n", data->text + value->text);
        break;
    }
}

static enum status
ask(const struct target *target, const char *op, const struct named *args, int64_t limit_ms,
    struct msg_reply *reply)
{
    struct channel *channel = NULL;
    struct caller *caller = NULL;
    enum status status;
    GOTRY(channel_new(&channel, NULL));
    GOTRY(caller_open(&caller, channel, target->endpoint, ROLE_ADMIN, "osae", target->backoff_ms));
    caller_set_reach(caller, REACH_MS);
    GOTRY(caller_command(caller, op, args, reply, limit_ms));
done:
    caller_close(&caller);
    channel_free(&channel);
    return status;
}

// One of several processes asked at the same time: those that are gone cost one time-out together.
enum { TARGETS = 3 };
struct question {
    struct target target;
    struct caller *caller;
    struct msg_cmd cmd;
    struct msg_reply reply;
    bool over, answered;
    char words[256]; // why not
};

static enum status
ask_all(struct question questions[TARGETS], const char *op)
{
    struct channel *channel = NULL;
    enum status status;
    GOTRY(channel_new(&channel, NULL));
    for (size_t i = 0; i < TARGETS; i++) {
        struct question *q = &questions[i];
        GOTRY(caller_open(&q->caller, channel, q->target.endpoint, ROLE_ADMIN, "osae",
                          q->target.backoff_ms));
        snprintf(q->cmd.op, sizeof q->cmd.op, "%s", op);
        q->cmd.idem = (struct hash128){random_seed(), random_seed()};
        caller_begin(q->caller, &(struct caller_question){MESSAGE_CMD, MESSAGE_REPLY, &q->cmd,
                                                          &q->reply, ANSWER_MS});
    }
    for (size_t open = TARGETS; open > 0;) {
        int64_t wake = INT64_MAX;
        for (size_t i = 0; i < TARGETS; i++) {
            struct question *q = &questions[i];
            int64_t at = INT64_MAX;
            if (q->over)
                continue;
            bool failed = caller_turn(q->caller, &q->answered, &at) != STATUS_OK;
            if (failed)
                snprintf(q->words, sizeof q->words, "%s", status_words());
            q->over = failed || q->answered;
            if (q->over)
                caller_close(&q->caller);
            open -= q->over;
            wake = at < wake ? at : wake;
        }
        int64_t wait = wake - tick_ms();
        struct pollfd fd = {.fd = channel_fd(channel), .events = POLLIN};
        if (open > 0 && wait > 0 && !channel_pending(channel))
            poll(&fd, 1, wait < ANSWER_MS ? (int)wait : ANSWER_MS);
    }
done:
    for (size_t i = 0; i < TARGETS; i++)
        caller_close(&questions[i].caller);
    channel_free(&channel);
    return status;
}

static enum status
load(struct config **config, const char *who, int argc, char *const *argv, const char *manual,
     bool *helped)
{
    struct words sets = {0}, rest = {0};
    const struct flag flags[] = {
        {"--set", "KEY=VALUE", "a setting, over the file's", .words = &sets},
    };
    *helped = flags_help_wanted(argc, argv);
    if (*helped) {
        fputs(manual, stdout);
        flags_print(stdout, flags, FLAGS_COUNT(flags));
        return STATUS_OK;
    }
    TRY(flags_read(flags, FLAGS_COUNT(flags), who, argc, argv, &rest));
    if (rest.count != 1)
        return FAIL(USAGE, "%s: wanted the run's config file (%s --help)", who, who);
    return config_load(config, rest.at[0], sets.at, sets.count);
}

enum status
status_command(int argc, char *const *argv)
{
    static struct question questions[TARGETS];
    struct config *config = NULL;
    bool helped;
    TRY(load(&config, "osae status", argc, argv,
             "usage: osae status CONFIG\n\nAsks the processes of a run how they are.\n\n",
             &helped));
    if (helped)
        return STATUS_OK;
    const struct settings *set = &config->set;
    uint32_t cap = set->net.backoff_cap_ms;
    size_t answers = 0;
    questions[0].target = (struct target){"producer", set->producer.ctl, cap};
    questions[1].target = (struct target){"trainer", set->trainer.ctl, cap};
    questions[2].target = (struct target){"evaluator", set->evaluator.ctl, cap};
    enum status asked = ask_all(questions, "status");
    for (size_t i = 0; asked == STATUS_OK && i < TARGETS; i++) {
        const struct question *q = &questions[i];
        printf(q->answered ? "%s\n" : "%s: does not answer (%s)\n", q->target.name, q->words);
        for (uint32_t v = 0; q->answered && v < q->reply.data.count; v++)
            print_value(&q->reply.data, &q->reply.data.at[v]);
        answers += q->answered;
    }
    char name[NAME_BYTES];
    snprintf(name, sizeof name, "%s", set->run.name);
    config_free(&config);
    TRY(asked);
    TRY(commands_flush(stdout));
    if (answers == 0)
        return FAIL(UNREACHABLE, "no process of run %s answers: osae run starts it", name);
    return STATUS_OK;
}

// One operation to the trainer, or to all three (stop: the trainer first, so that it saves).
static enum status
steer(const char *op, const char *manual, bool everybody, int argc, char *const *argv)
{
    static struct msg_reply reply;
    char who[32];
    snprintf(who, sizeof who, "osae %s", op);
    struct config *config = NULL;
    bool helped;
    TRY(load(&config, who, argc, argv, manual, &helped));
    if (helped)
        return STATUS_OK;
    const struct settings *set = &config->set;
    uint32_t cap = set->net.backoff_cap_ms;
    const struct target targets[TARGETS] = {{"trainer", set->trainer.ctl, cap},
                                            {"producer", set->producer.ctl, cap},
                                            {"evaluator", set->evaluator.ctl, cap}};
    int64_t limit = strcmp(op, "checkpoint") == 0 ? SAVE_MS
                    : strcmp(op, "pause") == 0    ? STEP_MS
                                                  : ANSWER_MS;
    enum status status = ask(&targets[0], op, NULL, limit, &reply);
    if (status == STATUS_OK) {
        printf("trainer: %s\n", op);
        for (uint32_t v = 0; v < reply.data.count; v++)
            print_value(&reply.data, &reply.data.at[v]);
    }
    for (size_t i = 1; everybody && i < TARGETS; i++)
        if (ask(&targets[i], op, NULL, ANSWER_MS, &reply) == STATUS_OK)
            printf("%s: %s\n", targets[i].name, op);
    config_free(&config);
    return status;
}

enum status
pause_command(int argc, char *const *argv)
{
    return steer("pause",
                 "usage: osae pause CONFIG\n\nThe trainer stands still after its step.\n\n", false,
                 argc, argv);
}

enum status
resume_command(int argc, char *const *argv)
{
    return steer("resume", "usage: osae resume CONFIG\n\nThe trainer goes on.\n\n", false, argc,
                 argv);
}

enum status
checkpoint_command(int argc, char *const *argv)
{
    return steer("checkpoint",
                 "usage: osae checkpoint CONFIG\n\nWrites a checkpoint now; returns when it is "
                 "durable.\n\n",
                 false, argc, argv);
}

// "optimiser.lr=1e-5" and a step, or NULL, as the arguments of `set`.
static enum status
read_change(struct named *args, const char *text, const char *at)
{
    const char *equals = strchr(text, '=');
    char *end, key[64];
    double value = equals ? strtod(equals + 1, &end) : 0;
    if (!equals || equals == text || end == equals + 1 || *end || !isfinite(value) ||
        (size_t)(equals - text) >= sizeof key)
        return FAIL(USAGE, "osae set: %.60s: wanted KEY=VALUE, as optimiser.lr=1e-5", text);
    snprintf(key, sizeof key, "%.*s", (int)(equals - text), text);
    named_words(args, "k", key);
    named_real(args, "v", value);
    if (!at)
        return STATUS_OK;
    errno = 0;
    long long step = strtoll(at, &end, 10);
    if (end == at || *end || step < 0 || errno)
        return FAIL(USAGE, "osae set: --at %.40s: wanted a step, 0 or more", at);
    named_whole(args, "at", step);
    return STATUS_OK;
}

enum status
set_command(int argc, char *const *argv)
{
    static struct msg_reply reply;
    static struct named args;
    struct words sets = {0}, rest = {0};
    const char *at = NULL;
    struct config *config = NULL;
    const struct flag flags[] = {
        {"--at", "STEP", "the first step (from 0) with it; default: the next one", .text = &at},
        {"--set", "KEY=VALUE", "a setting that says which run, over the file's", .words = &sets},
    };
    if (flags_help_wanted(argc, argv)) {
        fputs("usage: osae set CONFIG KEY=VALUE [--at STEP]\n\nChanges optimiser.lr, loss.lambda_s "
              "or loss.lambda_o of a run while it trains. The change\nis kept with the run: one "
              "that goes on from an earlier checkpoint makes it again at the\nsame step. CONFIG "
              "stays as it is, and must.\n\n",
              stdout);
        flags_print(stdout, flags, FLAGS_COUNT(flags));
        return STATUS_OK;
    }
    TRY(flags_read(flags, FLAGS_COUNT(flags), "osae set", argc, argv, &rest));
    if (rest.count != 2)
        return FAIL(USAGE,
                    "osae set: wanted the run's config file and KEY=VALUE (osae set --help)");
    named_clear(&args);
    TRY(read_change(&args, rest.at[1], at));
    TRY(config_load(&config, rest.at[0], sets.at, sets.count));
    const struct target trainer = {"trainer", config->set.trainer.ctl,
                                   config->set.net.backoff_cap_ms};
    enum status status = ask(&trainer, "set", &args, STEP_MS, &reply);
    char words[256];
    snprintf(words, sizeof words, "%s", status_words());
    if (status == STATUS_UNREACHABLE) // it may have heard us
        status = FAIL(UNREACHABLE,
                      "%s; `osae report`, or the run's journal, says whether it was "
                      "changed all the same",
                      words);
    for (uint32_t v = 0; status == STATUS_OK && v < reply.data.count; v++)
        print_value(&reply.data, &reply.data.at[v]);
    config_free(&config);
    return status;
}

enum status
stop_command(int argc, char *const *argv)
{
    return steer("stop",
                 "usage: osae stop CONFIG\n\nSaves, and stops every process of the run.\n\n", true,
                 argc, argv);
}
