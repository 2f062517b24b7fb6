#include "front/watch.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PROCESSES = 3 };
static const char *const processes[PROCESSES] = {"producer", "trainer", "evaluator"};
enum { PRODUCER, TRAINER, EVALUATOR };

struct watch {
    struct subscriber *subscribers[PROCESSES];
    bool heard[PROCESSES];
    uint64_t steps, rows;
    // the producer
    char phase[64];
    double phase_share, block_share;
    // the trainer
    char state[33];
    uint64_t step;
    double loss, l0, fvu, dead;
    bool has_step;
    double pace; // seconds a step, computing and waiting: the mean at first, then smoothed
    unsigned paced;
    // the evaluator
    char eval_state[33];
    double eval_share;
    uint64_t eval_step;
};

enum status
watch_open(struct watch **out, struct channel *channel, const struct settings *set)
{
    *out = NULL;
    struct watch *w = calloc(1, sizeof *w);
    if (!w)
        return FAIL(CREATE, "no memory for the progress line");
    const char *endpoints[PROCESSES] = {set->producer.pub, set->trainer.pub, set->evaluator.pub};
    w->steps = set->trainer.steps;
    w->rows = set->stream.rows;
    for (size_t i = 0; i < PROCESSES; i++) {
        enum status status = subscriber_open(&w->subscribers[i], channel, endpoints[i], "");
        if (status != STATUS_OK) {
            watch_close(&w);
            return status;
        }
    }
    *out = w;
    return STATUS_OK;
}

void
watch_close(struct watch **watch)
{
    if (*watch)
        for (size_t i = 0; i < PROCESSES; i++)
            subscriber_close(&(*watch)->subscribers[i]);
    free(*watch);
    *watch = NULL;
}

static void
hear_producer(struct watch *w, const struct heard *heard)
{
    if (heard->type != MESSAGE_METRIC)
        return;
    const struct named *values = &heard->metric->values;
    snprintf(w->phase, sizeof w->phase, "%s", named_get_words(values, "phase", ""));
    w->phase_share = named_get_real(values, "share", -1);
    w->block_share = named_get_real(values, "block_share", -1);
}

static void
hear_trainer(struct watch *w, const struct heard *heard)
{
    if (heard->type == MESSAGE_BEAT) {
        snprintf(w->state, sizeof w->state, "%s", heard->beat->state);
        w->step = heard->beat->step;
    }
    if (heard->type != MESSAGE_METRIC)
        return;
    const struct named *values = &heard->metric->values;
    double seconds =
        named_get_real(values, "step_seconds", 0) + named_get_real(values, "wait_seconds", 0);
    // The first batch waited for a whole block of model work: it says nothing about the rest.
    if (w->has_step && w->paced < 20)
        w->paced++;
    w->pace += (seconds - w->pace) / (w->paced ? w->paced : 1);
    w->step = heard->metric->step;
    w->loss = named_get_real(values, "loss", (double)NAN);
    w->l0 = named_get_real(values, "l0", (double)NAN);
    w->fvu = named_get_real(values, "fvu", (double)NAN);
    w->dead = named_get_real(values, "dead_latents", 0);
    w->has_step = true;
}

static void
hear_evaluator(struct watch *w, const struct heard *heard)
{
    if (heard->type == MESSAGE_BEAT) {
        snprintf(w->eval_state, sizeof w->eval_state, "%s", heard->beat->state);
        w->eval_step = heard->beat->step;
    } else if (heard->type == MESSAGE_METRIC) {
        w->eval_share = named_get_real(&heard->metric->values, "share", -1);
    }
}

void
watch_turn(struct watch *w)
{
    struct heard heard;
    for (size_t i = 0; i < PROCESSES; i++)
        for (int n = 0; n < 1000 && subscriber_next(w->subscribers[i], &heard); n++) {
            w->heard[i] = true;
            if (i == PRODUCER)
                hear_producer(w, &heard);
            else if (i == TRAINER)
                hear_trainer(w, &heard);
            else
                hear_evaluator(w, &heard);
        }
}

static void
print_left(char *out, size_t room, double seconds)
{
    long whole = seconds > 0 && seconds < 1e8 ? lround(seconds) : 0;
    if (whole >= 3600)
        snprintf(out, room, "%ld:%02ld:%02ld left", whole / 3600, whole / 60 % 60, whole % 60);
    else
        snprintf(out, room, "%ld:%02ld left", whole / 60, whole % 60);
}

static void
training_line(const struct watch *w, char *out, size_t room)
{
    char left[32];
    print_left(left, sizeof left, (double)(w->steps - w->step) * w->pace);
    snprintf(out, room,
             "step %" PRIu64 "/%" PRIu64 "  %.0f %%  %.0f tok/s  loss %.4g  L0 %.1f  FVU %.3f  "
             "dead %.0f  %s",
             w->step, w->steps, 100.0 * (double)w->step / (double)w->steps,
             w->pace > 0 ? (double)w->rows / w->pace : 0, w->loss, w->l0, w->fvu, w->dead, left);
}

void
watch_line(const struct watch *w, char *out, size_t room)
{
    bool evaluating = strcmp(w->eval_state, "evaluating") == 0;
    if (strcmp(w->state, "finished") == 0 || strcmp(w->state, "stopping") == 0) {
        if (evaluating)
            snprintf(out, room, "%s at step %" PRIu64 ", evaluating step %" PRIu64 ": %.0f %%",
                     w->state, w->step, w->eval_step, 100 * fmax(w->eval_share, 0));
        else
            snprintf(out, room, "%s at step %" PRIu64, w->state, w->step);
    } else if (strcmp(w->state, "running") == 0 && w->has_step && w->step > 0) {
        training_line(w, out, room);
        size_t used = strlen(out);
        if (evaluating && used < room)
            snprintf(out + used, room - used, "  (evaluating step %" PRIu64 ": %.0f %%)",
                     w->eval_step, 100 * fmax(w->eval_share, 0));
    } else if (w->phase[0]) {
        if (w->phase_share >= 0)
            snprintf(out, room, "producer: %s, %.0f %%", w->phase, 100 * w->phase_share);
        else
            snprintf(out, room, "producer: %s", w->phase);
    } else if (strcmp(w->state, "paused") == 0) {
        snprintf(out, room, "paused at step %" PRIu64 " (osae resume)", w->step);
    } else if (w->block_share >= 0 && w->block_share < 1) {
        snprintf(out, room, "producer: the model reads the first block, %.0f %%",
                 100 * w->block_share);
    } else {
        snprintf(out, room, "trainer: %s", w->state[0] ? w->state : "starting");
    }
}

const char *
watch_trainer_state(const struct watch *watch)
{
    return watch->state;
}

const char *
watch_evaluator_state(const struct watch *watch)
{
    return watch->eval_state;
}

uint64_t
watch_step(const struct watch *watch)
{
    return watch->step;
}

bool
watch_heard(struct watch *watch, const char *process)
{
    for (size_t i = 0; i < PROCESSES; i++)
        if (strcmp(processes[i], process) == 0) {
            bool heard = watch->heard[i];
            watch->heard[i] = false;
            return heard;
        }
    return false;
}
