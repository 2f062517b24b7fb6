#include "config/render.h"
#include "lib/base/say.h"
#include "lib/host/descriptors.h"
#include "trainer/daemon_inside.h"

#include <inttypes.h>
#include <stdio.h>

static enum status
freeze_config(struct trainer *t)
{
    char path[PATH_BYTES];
    TRY(path_join(path, runfolder_path(t->run), "config.yaml"));
    // A run that has begun keeps the settings it began with: what decides the numbers cannot
    // change, and the check of the trajectory compares with this copy.
    if (t->found.found && path_exists(path) && !t->options->accept_change)
        return STATUS_OK;
    return render_freeze(t->config, path);
}

static enum status
open_run(struct trainer *t)
{
    const struct settings *set = t->set;
    char path[PATH_BYTES], folder[PATH_BYTES], environment[128], instance[33];
    TRY(path_join(path, set->storage.runs, set->run.name));
    hex128(instance, t->me.inst);
    snprintf(environment, sizeof environment, "osae-%s %s", OSAE_VERSION, set->trainer.device);
    struct runfolder_opener opener = {.name = set->run.name,
                                      .instance = instance,
                                      .build = OSAE_VERSION,
                                      .environment = environment,
                                      .salvage = t->options->salvage};
    TRY(runfolder_open(&t->run, path, &opener));
    TRY(path_join(folder, path, "log"));
    TRY(path_make(folder, 0700));
    TRY(path_join(folder, path, "log/trainer.jsonl"));
    TRY(say_open_log(folder));
    TRY(checkpoint_recover(&t->found, t->run, t->options->from_scratch));
    if (t->found.found && strcmp(t->found.facts.environment, environment) != 0)
        say(SAY_WARN,
            "the run was written in another environment (%s, now %s): the bits may differ",
            t->found.facts.environment, environment);
    TRY(freeze_config(t));
    TRY(board_new(&t->board, set->run.name));
    TRY(board_read(t->board, t->run));
    TRY(changes_new(&t->changes, runfolder_journal(t->run)));
    TRY(path_join(folder, path, "metrics"));
    return meter_open(&t->meter, folder, set->metrics.segment, set->metrics.fsync_ms);
}

static const struct operation operations[] = {
    {"status", ROLES_ALL, true},
    {"peers", ROLES_ALL, true},
    {"pause", 1u << ROLE_ADMIN, false},
    {"resume", 1u << ROLE_ADMIN, false},
    {"checkpoint", 1u << ROLE_ADMIN, false},
    {"set", 1u << ROLE_ADMIN, false},
    {"stop", 1u << ROLE_ADMIN, false},
    {NULL, 0, false},
};

static enum status
open_sockets(struct trainer *t)
{
    const struct settings *set = t->set;
    TRY(channel_new(&t->channel, NULL));
    channel_io_threads(t->channel, set->data.io_threads);
    struct control_settings control = {.name = t->me.name,
                                       .inst = t->me.inst,
                                       .host = t->me.host,
                                       .hb_ms = set->net.hb_ms,
                                       .lease_ms = set->net.lease_ms,
                                       .operations = operations,
                                       .lists = true,
                                       .results = true};
    TRY(control_open(&t->control, t->channel, set->trainer.ctl, &control));
    TRY(publisher_open(&t->publisher, t->channel, set->trainer.pub, set->run.name, "trainer",
                       t->me.inc));
    struct clerk_settings clerk = {.set = set,
                                   .run = t->run,
                                   .board = t->board,
                                   .control = t->control,
                                   .publisher = t->publisher,
                                   .me = &t->me};
    TRY(clerk_open(&t->clerk, t->channel, &clerk));
    struct dataclient_settings feed = {.link = link_presets,
                                       .win = set->data.win,
                                       .lag = settings_lag(set),
                                       .onlag = set->pace.mode == SET_PACE_FREERUN ? PACE_DETACH
                                                                                   : PACE_BLOCK,
                                       .handover = (enum handover)set->data.xf,
                                       .group_size = set->pace.group_size,
                                       .seed = random_seed()};
    feed.link.me = t->me;
    feed.link.backoff_cap_ms = set->net.backoff_cap_ms;
    // A socket over which no greeting gets through in the time of a lease is as dead as a silent
    // one.
    if (set->net.lease_ms < feed.link.greet_limit_ms)
        feed.link.greet_limit_ms = set->net.lease_ms < 1000 ? 1000 : set->net.lease_ms;
    if (t->found.found)
        feed.stream = t->found.facts.stream;
    snprintf(feed.group, sizeof feed.group, "%s", set->pace.group);
    static struct texts endpoints;
    endpoints = set->trainer.producers;
    if (endpoints.count == 0)
        snprintf(endpoints.at[endpoints.count++], TEXT_BYTES, "%s", set->producer.data);
    say(SAY_INFO,
        "bounds: %zu producers, a window of %u batches of at most %.0f MiB, messages of 64 KiB, "
        "%" PRIu64 " descriptors",
        endpoints.count, (unsigned)set->data.win, (double)set->data.max_payload / (1 << 20),
        descriptors_raise());
    TRY(datafeed_open(&t->feed, t->channel, &endpoints, set->data.max_payload, &feed));
    loop_add(t->loop, channel_fd(t->channel));
    return STATUS_OK;
}

static enum status
open_training(struct trainer *t)
{
    const struct kern *kern;
    TRY(kern_open(&kern, t->set->trainer.device, "trainer.device"));
    struct training_settings training = {.config = t->config,
                                         .kern = kern,
                                         .run = t->run,
                                         .found = &t->found,
                                         .feed = t->feed,
                                         .changes = t->changes,
                                         .accept_change = t->options->accept_change};
    TRY(training_new(&t->training, &training));
    loop_add(t->loop, training_fd(t->training));
    return STATUS_OK;
}

enum status
trainer_open(struct trainer *t)
{
    TRY(hello_fill(&t->me, ROLE_TRAINER, t->set->run.name, t->set->run.name, 0));
    TRY(open_run(t));
    t->me.inc = runfolder_incarnation(t->run);
    TRY(open_sockets(t));
    return open_training(t);
}
