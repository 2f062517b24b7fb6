// label: fault
// timeout: 300
// A crowd at one producer: 63 trainers attach, are granted a window, and never apply a batch; or
// stand still (SIGSTOP) with the messages to them half written. The real osae-producer and real
// sockets; a batch is larger than what the kernel buffers. The 64th is quick: in freerun it goes on
// as if it were alone, under the other policies as soon as the crowd is given up; and the
// producer's memory does not know how many they are.
//
// Invariants: R1 L2 L3
#include "lib/base/say.h"
#include "proto/datafeed.h"
#include "tests/proto/socket_kit.h"

#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>

enum { CROWD = 63, ROWS = 2048, SLOTS = 16, BATCHES = 400, LEASE_MS = 1500, DEAD_MS = 1000 };
enum { GROWTH_KIB = 8 << 10, SLACK_MS = 1000 }; // 63 connections; two busy cores
enum { BATCH_KIB = ROWS * 64 * 2 / 1024 };

static char producer_data[WIRE_ENDPOINT];

static pid_t
start_producer(unsigned slots)
{
    char yaml[8192], path[PATH_BYTES], ctl[WIRE_ENDPOINT], pub[WIRE_ENDPOINT];
    kit_endpoint(producer_data, "data");
    kit_endpoint(ctl, "ctl");
    kit_endpoint(pub, "pub");
    snprintf(yaml, sizeof yaml,
             "run: {name: r}\n"
             "storage: {runs: %s/runs, cache: %s/cache, reserve: 1MiB}\n"
             "producer: {data: '%s', ctl: '%s', pub: '%s'}\n"
             "model: {path: %s/golden/tiny-llama, layer: 1, context: 32, batch_contexts: 4}\n"
             "text: {files: [%s/../docs, %s/../proto]}\n"
             "stream: {rows: %d, shuffle_block: 1, ring_slots: %u, epochs: 20}\n"
             "trainer: {steps: %d}\n"
             "net: {hb_ms: 100, lease_ms: %d}\n"
             "pace: {dead_after_s: %d}\n",
             kit_folder, kit_folder, producer_data, ctl, pub, OSAE_TESTS, OSAE_TESTS, OSAE_TESTS,
             ROWS, slots, BATCHES, LEASE_MS, DEAD_MS / 1000);
    snprintf(path, sizeof path, "%s/run.yaml", kit_folder);
    assert_int_equal(file_replace(path, yaml, strlen(yaml)), STATUS_OK);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        execl(OSAE_BIN "/osae-producer", "osae-producer", path, (char *)NULL);
        _exit(99);
    }
    return pid;
}

// A number of /proc/PID/status, KiB.
static long
status_kib(pid_t pid, const char *key)
{
    char path[64], line[256];
    long kib = -1;
    snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    while (kib < 0 && fgets(line, sizeof line, file))
        if (strncmp(line, key, strlen(key)) == 0)
            kib = strtol(line + strlen(key) + 1, NULL, 10);
    fclose(file);
    return kib;
}

// ---- who attaches

struct policy {
    const char *name;
    int onlag;
    uint32_t lag;
    bool stopped;
    unsigned crowd;
};

static enum status
attach(struct datafeed **feed, struct channel *channel, const char *name,
       const struct policy *policy, uint16_t group_size)
{
    struct texts endpoints = {.count = 1};
    struct dataclient_settings set = {.link = link_presets,
                                      .win = 8,
                                      .lag = policy->lag,
                                      .onlag = policy->onlag,
                                      .group_size = group_size,
                                      .seed = random_seed()};
    snprintf(endpoints.at[0], TEXT_BYTES, "%s", producer_data);
    TRY(hello_fill(&set.link.me, ROLE_TRAINER, name, "run", 1));
    set.link.greet_ms = 50;
    set.link.backoff_cap_ms = 100;
    snprintf(set.group, sizeof set.group, "%s", group_size > 1 ? "all" : "alone");
    return datafeed_open(feed, channel, &endpoints, BATCH_KIB << 10, &set);
}

// The crowd's own process: all attach; one byte says so; nobody ever applies a batch.
static void
be_a_crowd(const struct policy *policy, int told)
{
    static struct datafeed *feeds[CROWD];
    static bool started[CROWD];
    struct channel *channel;
    if (channel_new(&channel, NULL) != STATUS_OK)
        return;
    for (unsigned i = 0; i < policy->crowd; i++) {
        char name[32];
        snprintf(name, sizeof name, "slow-%u-%d", i, (int)getpid());
        if (attach(&feeds[i], channel, name, policy, (uint16_t)(policy->crowd + 1)) != STATUS_OK)
            return;
    }
    for (bool said = false;;) {
        int64_t wake = tick_ms() + 200;
        unsigned attached = 0;
        for (unsigned i = 0; i < policy->crowd; i++) {
            struct wire_stream stream;
            struct dataclient_view view;
            int64_t then = datafeed_turn(feeds[i], tick_ms());
            wake = then < wake ? then : wake;
            if (!started[i] && datafeed_wait_stream(feeds[i], &stream, tick_ms())) {
                datafeed_start(feeds[i], (struct cursor){0}, stream.end);
                started[i] = true;
                wake = 0;
            }
            dataclient_look(datafeed_client(feeds[i]), &view);
            attached += view.attached;
        }
        if (attached == policy->crowd && !said)
            said = write(told, "", 1) == 1;
        kit_wait(channel, wake);
    }
}

static pid_t
start_crowd(const struct policy *policy)
{
    int ends[2];
    char byte;
    assert_int_equal(pipe(ends), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        close(ends[0]);
        be_a_crowd(policy, ends[1]);
        fprintf(stderr, "crowd: %s\n", status_words());
        _exit(1);
    }
    close(ends[1]);
    if (read(ends[0], &byte, 1) != 1)
        fail_msg("the crowd does not attach");
    close(ends[0]);
    if (policy->stopped)
        assert_int_equal(kill(pid, SIGSTOP), 0);
    return pid;
}

struct ride {
    int64_t ms, longest; // all the batches; the longest time without one
    long peak;           // KiB of the producer
};

// One trainer that applies what it gets at once, to the end.
static struct ride
ride(const char *name, const struct policy *policy, uint16_t group_size, uint64_t batches,
     pid_t producer)
{
    struct channel *channel;
    struct datafeed *feed;
    struct wire_stream stream;
    struct ride out = {0};
    bool started = false;
    uint64_t next = 0;
    int64_t last = 0, limit = tick_ms() + 20000, began = 0;
    fine(channel_new(&channel, NULL));
    fine(attach(&feed, channel, name, policy, group_size));
    while (next < batches) {
        struct feed_batch batch;
        int64_t now = tick_ms(), wake = datafeed_turn(feed, now);
        if (now > limit)
            fail_msg("%s: %llu of %d batches came in 20 s", name, (unsigned long long)next,
                     (int)batches);
        if (!started && (started = datafeed_wait_stream(feed, &stream, now))) {
            assert_int_equal(stream.bytes, BATCH_KIB << 10);
            datafeed_start(feed, (struct cursor){0}, batches);
            began = last = now;
            continue;
        }
        if (started && datafeed_next(feed, &batch, now) == FEED_BATCH) {
            assert_int_equal(batch.taken.seq, next);
            out.longest = now - last > out.longest ? now - last : out.longest;
            last = now;
            next++;
            datafeed_done(feed, &batch);
            if (next % 16 == 0) {
                long kib = status_kib(producer, "VmRSS");
                out.peak = kib > out.peak ? kib : out.peak;
            }
            continue;
        }
        kit_wait(channel, wake);
    }
    out.ms = tick_ms() - began;
    datafeed_leave(feed);
    for (int64_t wake; wake = datafeed_turn(feed, tick_ms()), !datafeed_gone(feed);)
        kit_wait(channel, wake);
    datafeed_close(&feed);
    channel_free(&channel);
    return out;
}

static void
end_crowd(pid_t crowd)
{
    int how;
    assert_int_equal(kill(crowd, SIGKILL), 0);
    assert_int_equal(waitpid(crowd, &how, 0), crowd);
    assert_true(WIFSIGNALED(how)); // it was there all the time
}

static void
end_producer(pid_t producer)
{
    int how;
    assert_int_equal(kill(producer, SIGTERM), 0);
    assert_int_equal(waitpid(producer, &how, 0), producer);
    assert_true(WIFEXITED(how) && WEXITSTATUS(how) == 0);
}

static void
a_crowd(const struct policy *policy)
{
    pid_t producer = start_producer(SLOTS);
    bool waits = policy->onlag == PACE_BLOCK;
    (void)ride("warm", policy, 1, BATCHES, producer); // what is computed once is computed
    struct ride alone = ride("alone", policy, 1, BATCHES, producer);
    pid_t crowd = start_crowd(policy);
    struct ride among = ride("quick", policy, CROWD + 1, BATCHES, producer);
    print_message("%s, %s: %d batches of %d KiB in %lld ms alone, in %lld among %d; longest wait "
                  "%lld and %lld ms; producer %ld and %ld KiB\n",
                  policy->name, policy->stopped ? "stopped" : "never applying", BATCHES, BATCH_KIB,
                  (long long)alone.ms, (long long)among.ms, CROWD, (long long)alone.longest,
                  (long long)among.longest, alone.peak, among.peak);
    end_crowd(crowd);
    end_producer(producer);
    // Zero-copy: what waits for the crowd is in the ring and its spare slots, once for all of them.
    assert_in_range(among.peak, 1, alone.peak + SLOTS * BATCH_KIB + GROWTH_KIB);
    assert_true(among.ms < 4 * alone.ms + (waits ? LEASE_MS + DEAD_MS : 0) + 1000);
    assert_in_range(among.longest, waits ? LEASE_MS / 2 : 0,
                    waits ? LEASE_MS + DEAD_MS + SLACK_MS : SLACK_MS);
}

static void
freerun_never_applying(void **unused)
{
    (void)unused;
    a_crowd(&(struct policy){"freerun", PACE_DETACH, SLOTS, false, CROWD});
}

static void
freerun_stopped(void **unused)
{
    (void)unused;
    a_crowd(&(struct policy){"freerun", PACE_DETACH, SLOTS, true, CROWD});
}

static void
bounded_stopped(void **unused)
{
    (void)unused;
    a_crowd(&(struct policy){"bounded", PACE_BLOCK, SLOTS, true, CROWD});
}

static void
lockstep_stopped(void **unused)
{
    (void)unused;
    a_crowd(&(struct policy){"lockstep", PACE_BLOCK, 1, true, CROWD});
}

// Each is sent what it never reads, until neither the ring of two nor its spare slots are left:
// then every connection is made anew, and who is quick goes on.
static void
one_after_the_other(void **unused)
{
    (void)unused;
    const struct policy policy = {"freerun", PACE_DETACH, 2, true, 1};
    pid_t producer = start_producer(2), stopped[3];
    for (size_t i = 0; i < 3; i++) {
        char name[16];
        snprintf(name, sizeof name, "quick-%zu", i);
        stopped[i] = start_crowd(&policy);
        struct ride among = ride(name, &policy, 2, 100, producer);
        print_message("%zu stopped: 100 batches in %lld ms, longest wait %lld ms\n", i + 1,
                      (long long)among.ms, (long long)among.longest);
    }
    for (size_t i = 0; i < 3; i++)
        end_crowd(stopped[i]);
    end_producer(producer);
}

#define CASE(test) cmocka_unit_test_setup_teardown(test, kit_begin, kit_end)

int
main(void)
{
    say_level(SAY_ERROR); // of 63, too many words
    const struct CMUnitTest tests[] = {
        CASE(freerun_never_applying), CASE(freerun_stopped),     CASE(bounded_stopped),
        CASE(lockstep_stopped),       CASE(one_after_the_other),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
