// osae status, pause, resume, checkpoint, stop: one word to the processes of a run.
#include "config/config.h"
#include "front/commands.h"
#include "lib/base/flags.h"
#include "proto/caller.h"

#include <assert.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { ANSWER_MS = 1500, SAVE_MS = 120000 };

struct target {
    const char *name, *endpoint;
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

// Asks one process; *reached tells whether it answered at all.
static enum status
ask(const struct target *target, const char *op, const struct named *args, int64_t limit_ms,
    struct msg_reply *reply, bool *reached)
{
    struct channel *channel = NULL;
    struct caller *caller = NULL;
    *reached = false;
    enum status status;
    GOTRY(channel_new(&channel, NULL));
    GOTRY(caller_open(&caller, channel, target->endpoint, ROLE_ADMIN, "osae"));
    GOTRY(caller_command(caller, op, args, reply, limit_ms));
    *reached = true;
done:
    caller_close(&caller);
    channel_free(&channel);
    return status;
}

// One of several processes asked at the same time, each by a thread with a context of its own:
// those that are gone cost one time-out together.
struct question {
    struct target target;
    struct msg_reply reply;
    bool answered;
    pthread_t thread;
};

static void *
ask_one(void *from)
{
    struct question *q = from;
    bool reached;
    q->answered = ask(&q->target, "status", NULL, ANSWER_MS, &q->reply, &reached) == STATUS_OK;
    return NULL;
}

static void
ask_all(struct question *questions, size_t count)
{
    bool started[8];
    assert(count <= sizeof started);
    for (size_t i = 0; i < count; i++) {
        started[i] = pthread_create(&questions[i].thread, NULL, ask_one, &questions[i]) == 0;
        if (!started[i])
            ask_one(&questions[i]);
    }
    for (size_t i = 0; i < count; i++)
        if (started[i])
            pthread_join(questions[i].thread, NULL);
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
    static struct question questions[3];
    struct config *config = NULL;
    bool helped;
    TRY(load(&config, "osae status", argc, argv,
             "usage: osae status CONFIG\n\nAsks the processes of a run how they are.\n\n",
             &helped));
    if (helped)
        return STATUS_OK;
    const struct settings *set = &config->set;
    const struct target targets[] = {{"producer", set->producer.ctl},
                                     {"trainer", set->trainer.ctl},
                                     {"evaluator", set->evaluator.ctl}};
    size_t answers = 0;
    for (size_t i = 0; i < 3; i++)
        questions[i].target = targets[i];
    ask_all(questions, 3);
    for (size_t i = 0; i < 3; i++) {
        const struct question *q = &questions[i];
        printf("%s%s\n", q->target.name, q->answered ? "" : ": does not answer");
        for (uint32_t v = 0; q->answered && v < q->reply.data.count; v++)
            print_value(&q->reply.data, &q->reply.data.at[v]);
        answers += q->answered;
    }
    char name[NAME_BYTES];
    snprintf(name, sizeof name, "%s", set->run.name);
    config_free(&config);
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
    bool helped, reached;
    TRY(load(&config, who, argc, argv, manual, &helped));
    if (helped)
        return STATUS_OK;
    const struct settings *set = &config->set;
    const struct target targets[] = {{"trainer", set->trainer.ctl},
                                     {"producer", set->producer.ctl},
                                     {"evaluator", set->evaluator.ctl}};
    int64_t limit = strcmp(op, "checkpoint") == 0 ? SAVE_MS : ANSWER_MS;
    enum status status = ask(&targets[0], op, NULL, limit, &reply, &reached);
    if (status == STATUS_OK) {
        printf("trainer: %s\n", op);
        for (uint32_t v = 0; v < reply.data.count; v++)
            print_value(&reply.data, &reply.data.at[v]);
    }
    for (size_t i = 1; everybody && i < 3; i++)
        if (ask(&targets[i], op, NULL, ANSWER_MS, &reply, &reached) == STATUS_OK)
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

enum status
stop_command(int argc, char *const *argv)
{
    return steer("stop",
                 "usage: osae stop CONFIG\n\nSaves, and stops every process of the run.\n\n", true,
                 argc, argv);
}
