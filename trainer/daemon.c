#include "trainer/daemon_inside.h"

#include "lib/base/say.h"
#include "lib/base/tick.h"
#include "lib/host/notify.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { SECOND_MS = 1000 };

static void
enter(struct trainer *t, const char *state)
{
    if (strcmp(t->state, state) == 0)
        return;
    t->state = state;
    control_state(t->control, state);
    publisher_event(t->publisher, SAY_INFO, "state", "%s at step %" PRIu64, state, t->place.next);
}

// ---------------------------------------------------------------- what the compute thread tells

// The numbers of a step, once: the metrics file and the METRIC message are filled from here.
struct metric_row {
    const char *name;
    double value;
};
enum { METRIC_ROWS = 20 };

static size_t
metric_rows(struct metric_row rows[METRIC_ROWS], const struct trainer *t, const struct told *told)
{
    const struct step_log *log = &told->log;
    const struct metric_row all[] = {
        {"loss", log->loss},
        {"mse_sum", log->mse_sum},
        {"sparsity", log->sparsity},
        {"competition", log->competition},
        {"temporal", log->temporal},
        {"l0", log->l0},
        {"l1", log->l1},
        {"fvu", log->fvu},
        {"pairs", log->pairs},
        {"alpha", log->alpha},
        {"theta", log->theta},
        {"grad_norm", log->grad_norm},
        {"lr", log->lr},
        {"lambda_s", log->lambda_s},
        {"lambda_o", log->lambda_o},
        {"dead_latents", (double)log->dead},
        {"tokens_trained", (double)(told->place.next * t->stream.rows)},
        {"step_seconds", told->step_seconds},
        {"wait_seconds", told->wait_seconds},
        {"wait_share", told->wait_seconds / (told->wait_seconds + told->step_seconds)},
    };
    size_t count = sizeof all / sizeof all[0];
    memcpy(rows, all, sizeof all);
    return count;
}

static void
take_step(struct trainer *t, const struct told *told)
{
    t->log = told->log;
    t->has_log = true;
    t->step_seconds += told->step_seconds;
    t->wait_seconds += told->wait_seconds;
    t->steps_here++;
    uint64_t steps = t->set->trainer.steps;
    if (told->place.next % t->set->metrics.every_steps != 0 && told->place.next != steps)
        return;
    struct metric_row rows[METRIC_ROWS];
    struct reading readings[METRIC_ROWS];
    static struct msg_metric metric;
    memset(&metric, 0, sizeof metric);
    size_t count = metric_rows(rows, t, told);
    for (size_t i = 0; i < count; i++) {
        readings[i] = (struct reading){rows[i].name, rows[i].value};
        named_real(&metric.values, rows[i].name, rows[i].value);
    }
    metric.step = told->place.next;
    // First to disk: what was ever published can be read again.
    if (meter_write(t->meter, metric.step, readings, count) != STATUS_OK)
        say(SAY_WARN, "metrics could not be written: %s", status_words());
    publisher_send(t->publisher, MESSAGE_METRIC, &metric);
}

// Evaluators may hand results in before the producer has been heard of, and so before there is a
// persist thread; the list is then told once there is one.
static void
spare_and_retain(struct trainer *t)
{
    if (!t->saver_watched)
        return;
    uint64_t pins[BOARD_PINS];
    size_t best = t->set->ckpt.keep_best, unevaluated = t->set->ckpt.keep_unevaluated;
    size_t count = board_pins(t->board, tick_ms(), pins, best < 8 ? best : 8,
                              unevaluated < 40 ? unevaluated : 40);
    saver_retain(training_saver(t->training), pins, count);
    board_sweep(t->board, t->run);
}

static void
take_told(struct trainer *t, const struct told *told)
{
    t->place = told->place;
    switch (told->kind) {
    case TOLD_STARTED:
        t->stream = told->stream;
        loop_add(t->loop, saver_fd(training_saver(t->training)));
        t->saver_watched = true;
        if (told->place.next > 0)
            datafeed_durable(t->feed, told->place.next);
        t->saved_at = tick_ms();
        spare_and_retain(t);
        t->started = true;
        enter(t, "running");
        if (!t->set->ready.without_producer)
            notify("READY=1");
        break;
    case TOLD_STEP:
        take_step(t, told);
        break;
    case TOLD_STATE:
        enter(t, told->paused ? "paused" : "running");
        if (told->paused)
            orders_paused(t, told->asked);
        break;
    case TOLD_CHANGED:
        orders_changed(t, told);
        break;
    case TOLD_ENDED:
        t->ended = true;
        break;
    case TOLD_FAILED:
        t->ended = true;
        t->failed = true;
        t->why = told->why;
        break;
    }
    if (t->ended) {
        orders_refuse(t, WAIT_PAUSED, REFUSAL_STATE, "training has ended");
        orders_refuse(t, WAIT_CHANGED, REFUSAL_STATE, "training has ended");
    }
}

// ---------------------------------------------------------------- checkpoints

static void
announce(struct trainer *t, const struct kept *kept)
{
    static struct msg_ckpt message;
    memset(&message, 0, sizeof message);
    char name[WIRE_TOPIC];
    snprintf(name, sizeof name, "%.60s/%" PRIu64 "-%" PRIu32, t->set->run.name, kept->step,
             kept->incarnation);
    snprintf(message.ck, sizeof message.ck, "%s", name);
    message.step = kept->step;
    message.bytes = kept->bytes;
    message.manifest_hash = kept->mh;
    message.files = 4;
    if (strlen(kept->path) < sizeof message.path)
        snprintf(message.path, sizeof message.path, "%.255s", kept->path);
    publisher_send(t->publisher, MESSAGE_CKPT, &message);
}

static void
take_saved(struct trainer *t, const struct saved *saved)
{
    if (saved->why.code != STATUS_OK) {
        int64_t delay = 10000LL << (t->save_failures < 5 ? t->save_failures : 5);
        t->save_failures++;
        t->retry_at = tick_ms() + (delay < 300000 ? delay : 300000);
        say(SAY_ERROR, "checkpoint failed: %s", saved->why.words);
        publisher_event(t->publisher, SAY_ERROR, "ckpt.failed", "%.500s", saved->why.words);
        if (t->ended && !t->failed) { // it was the last one: the run is not saved
            t->failed = true;
            t->why = saved->why;
        }
        orders_refuse(t, WAIT_SAVED, REFUSAL_IO, saved->why.words);
    } else {
        t->save_failures = 0;
        t->retry_at = 0;
        t->saved_at = tick_ms();
        say(SAY_INFO, "checkpoint of step %" PRIu64 " is durable (%.1f MiB in %.2f s)",
            saved->kept.step, (double)saved->kept.bytes / (1 << 20), saved->seconds);
        datafeed_durable(t->feed, saved->kept.next);
        board_add(t->board, &saved->kept);
        announce(t, &saved->kept);
        spare_and_retain(t);
        if (t->held) {
            say(SAY_INFO, "training goes on");
            t->held = false;
            (void)orders_pause(t);
        }
        orders_saved(t, &saved->kept);
    }
}

// Training goes on without a durable checkpoint for a while, then stands still until one succeeds.
static void
mind_unsaved(struct trainer *t, int64_t now)
{
    if (t->retry_at && now >= t->retry_at) {
        t->retry_at = 0;
        training_ask_checkpoint(t->training);
    }
    int64_t most = (int64_t)t->set->ckpt.max_unsaved_s * 1000;
    if (!t->held && t->save_failures > 0 && most > 0 && now - t->saved_at > most) {
        t->held = true;
        (void)orders_pause(t);
        say(SAY_ERROR, "no durable checkpoint for %u s: training stands still until one succeeds",
            (unsigned)t->set->ckpt.max_unsaved_s);
        publisher_event(t->publisher, SAY_ERROR, "ckpt.held",
                        "no durable checkpoint for %u s: training stands still until one succeeds",
                        (unsigned)t->set->ckpt.max_unsaved_s);
    }
}

// ---------------------------------------------------------------- producers

// Nobody to get batches from for too long: what was learned is saved, and we leave.
static void
mind_producers(struct trainer *t, int64_t now)
{
    struct dataclient_view feed;
    int64_t most = (int64_t)t->set->ready.give_up_after_s * 1000;
    dataclient_look(datafeed_client(t->feed), &feed);
    if (feed.up > 0 || t->met_at == 0)
        t->met_at = now;
    if (most == 0 || t->ended || t->gave_up || now - t->met_at <= most)
        return;
    t->gave_up = true;
    enter(t, "stopping");
    training_ask_stop(t->training, true);
}

// ---------------------------------------------------------------- the loop

static void
take_request(struct trainer *t, const struct request *request)
{
    if (request->type == MESSAGE_CMD)
        orders_take(t, request);
    else if (clerk_take(t->clerk, request, tick_ms()))
        spare_and_retain(t);
}

static void
each_second(struct trainer *t, int64_t now)
{
    static struct msg_beat beat;
    if (now < t->second_at)
        return;
    t->second_at = now + SECOND_MS;
    memset(&beat, 0, sizeof beat);
    snprintf(beat.state, sizeof beat.state, "%s", t->state);
    beat.step = t->place.next;
    beat.chain = t->place.chain;
    beat.up_ms = (uint64_t)(now - t->started_at);
    publisher_send(t->publisher, MESSAGE_BEAT, &beat);
    notify("WATCHDOG=1");
}

static int64_t
turn(struct trainer *t, int64_t now)
{
    int64_t wake_at = datafeed_turn(t->feed, now), at;
    struct notice notice;
    while (datafeed_notice(t->feed, &notice))
        publisher_event(t->publisher, notice.level, notice.event, "%s", notice.words);
    struct told told;
    while (t->training && training_told(t->training, &told))
        take_told(t, &told);
    struct saved saved;
    while (t->saver_watched && saver_news(training_saver(t->training), &saved))
        take_saved(t, &saved);
    at = control_turn(t->control, now);
    struct request request;
    while (control_next(t->control, &request)) {
        take_request(t, &request);
        at = control_turn(t->control, now);
    }
    int64_t send_at = clerk_turn(t->clerk, now);
    at = send_at < at ? send_at : at;
    publisher_turn(t->publisher);
    each_second(t, now);
    mind_unsaved(t, now);
    mind_producers(t, now);
    if (loop_checkpoint_asked(t->loop) && !t->ended)
        training_ask_checkpoint(t->training);
    wake_at = at < wake_at ? at : wake_at;
    wake_at = t->second_at < wake_at ? t->second_at : wake_at;
    return channel_pending(t->channel) ? now : wake_at;
}

// Is everything the compute thread left behind on disk?
static bool
settled(struct trainer *t)
{
    return t->ended && (!t->saver_watched || !saver_busy(training_saver(t->training)));
}

static enum status
run(struct trainer *t)
{
    bool stay = t->set->trainer.when_done == SET_DONE_STAY, asked = false;
    int64_t deadline = INT64_MAX;
    enter(t, "waiting_producer");
    if (t->set->ready.without_producer)
        notify("READY=1");
    for (;;) {
        int64_t wake_at = turn(t, tick_ms());
        enum loop_stop stop = loop_stopping(t->loop);
        if (stop == LOOP_LEAVE) {
            t->hurried = true;
            return FAIL(AGAIN, "left at once; the newest durable checkpoint is where it goes on");
        }
        if (stop == LOOP_STOP && !asked) {
            asked = true;
            deadline = tick_ms() + (int64_t)t->set->stop.deadline_s * 1000;
            enter(t, "stopping");
            training_ask_stop(t->training, true);
        }
        if (tick_ms() >= deadline && !settled(t)) {
            t->hurried = true;
            say(SAY_WARN, "no last checkpoint within stop.deadline_s (%u s): leaving without it",
                (unsigned)t->set->stop.deadline_s);
            return FAIL(AGAIN,
                        "the last checkpoint was not durable within stop.deadline_s: left; an "
                        "earlier one is where it goes on");
        }
        if (settled(t)) {
            turn(t, tick_ms()); // what the saver said last
            orders_refuse(t, WAIT_SAVED, REFUSAL_STATE,
                          "training has ended: nothing more is saved");
            if (t->failed)
                return status_note_give(&t->why);
            if (t->gave_up)
                return FAIL(UNREACHABLE, "no producer for %u s (ready.give_up_after_s): %s",
                            (unsigned)t->set->ready.give_up_after_s,
                            t->set->trainer.producers.count ? t->set->trainer.producers.at[0]
                                                            : t->set->producer.data);
            if (asked || !stay)
                return STATUS_OK;
            enter(t, "finished");
        }
        loop_wait(t->loop, wake_at);
    }
}

static void
leave(struct trainer *t, enum status status)
{
    notify("STOPPING=1");
    loop_leave(t->loop, t->hurried ? LOOP_HURRY_S : t->set->stop.deadline_s);
    if (t->publisher && status != STATUS_OK)
        publisher_event(t->publisher, SAY_ERROR, "failed", "%s", status_words());
    else if (t->publisher)
        publisher_event(t->publisher, SAY_INFO, "stopped", "at step %" PRIu64, t->place.next);
    if (t->training)
        training_ask_stop(t->training, false);
    if (t->feed) {
        datafeed_leave(t->feed);
        datafeed_turn(t->feed, tick_ms());
    }
    training_free(&t->training);
    changes_free(&t->changes);
    datafeed_close(&t->feed);
    clerk_close(&t->clerk);
    control_close(&t->control);
    publisher_close(&t->publisher);
    channel_free(&t->channel);
    meter_close(&t->meter);
    board_free(&t->board);
    runfolder_close(&t->run);
}

enum status
trainer_run(const struct config *config, const struct trainer_options *options)
{
    struct trainer *t = calloc(1, sizeof *t);
    if (!t)
        return FAIL(CREATE, "no memory for the trainer");
    t->config = config;
    t->set = &config->set;
    t->options = options;
    t->state = "recovering";
    t->started_at = tick_ms();
    enum status status;
    GOTRY(loop_new(&t->loop));
    GOTRY(trainer_open(t));
    GOTRY(run(t));
done:;
    struct status_note why;
    status_note_take(&why, status);
    leave(t, status);
    loop_free(&t->loop);
    free(t);
    return status_note_give(&why);
}
