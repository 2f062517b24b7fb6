// label: fault
// timeout: 300
// A thousand commands at one time to a real osae-trainer: while it trains, over connections that
// are cut all along question and answer; while it stands still; while it stops. Each takes effect
// at most once however often it is repeated, each is answered or told why not, what was answered is
// durable, and an admin who finds all links taken is told so in one line.
//
// Invariants: C1 D5 L3 L4
#include "lib/base/file.h"
#include "lib/base/say.h"
#include "lib/store/checkpoint.h"
#include "tests/proto/callers.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

enum { MANY = 1000, STOP_S = 10 };

static char run_yaml[PATH_BYTES], ctl[WIRE_ENDPOINT], door[WIRE_ENDPOINT], fifo[PATH_BYTES];
static char checkpoints[PATH_BYTES];
static pid_t producer, trainer, proxy;

static void
in_folder(char out[PATH_BYTES], const char *name)
{
    fine(path_join(out, kit_folder, name));
}

// Its words go to the end of the file NAME.log.
static pid_t
start(const char *name, char *const argv[])
{
    char path[PATH_BYTES], log[64];
    snprintf(log, sizeof log, "%s.log", name);
    in_folder(path, log);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (fd >= 0 && dup2(fd, 1) >= 0 && dup2(fd, 2) >= 0)
            execv(argv[0], argv);
        _exit(99);
    }
    return pid;
}

static pid_t
start_daemon(const char *program)
{
    char path[PATH_BYTES], config[PATH_BYTES];
    snprintf(path, sizeof path, "%s/%s", OSAE_BIN, program);
    snprintf(config, sizeof config, "%s", run_yaml);
    return start(program, (char *[]){path, config, NULL});
}

static void
start_proxy(void)
{
    char program[] = OSAE_BIN "/chaosproxy";
    proxy = start("proxy", (char *[]){program, fifo, door, ctl, NULL});
    struct stat info;
    for (int64_t until = tick_ms() + 10000; stat(fifo, &info) != 0 || !S_ISFIFO(info.st_mode);) {
        assert_true(tick_ms() < until);
        usleep(10000);
    }
}

static void
chaos(const char *order)
{
    int fd = open(fifo, O_WRONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, order, strlen(order)), strlen(order));
    close(fd);
}

static void
end(pid_t *pid, int64_t limit_ms)
{
    int how = 0;
    int64_t until = tick_ms() + limit_ms;
    while (waitpid(*pid, &how, WNOHANG) == 0) {
        assert_true(tick_ms() < until);
        usleep(10000);
    }
    *pid = 0;
    if (!WIFEXITED(how) || WEXITSTATUS(how) != 0)
        fail_msg("it ended with status %d", how);
}

// ---- one question, past the proxy

static struct msg_reply reply;

static enum status
ask(const char *op, int64_t limit_ms)
{
    struct channel *channel;
    struct caller *caller;
    fine(channel_new(&channel, NULL));
    fine(caller_open(&caller, channel, ctl, ROLE_ADMIN, "test", 100));
    enum status status = caller_command(caller, op, NULL, &reply, limit_ms);
    caller_close(&caller);
    channel_free(&channel);
    return status;
}

static int64_t
step_now(const char *state)
{
    for (int64_t until = tick_ms() + 120000;;) {
        if (ask("status", 10000) == STATUS_OK &&
            strcmp(named_get_words(&reply.data, "state", ""), state) == 0)
            return named_get_whole(&reply.data, "step", -1);
        if (tick_ms() > until)
            fail_msg("it is %s, wanted %s", named_get_words(&reply.data, "state", "?"), state);
        usleep(20000);
    }
}

static void
trains(void)
{
    int64_t step = step_now("running");
    for (int64_t until = tick_ms() + 120000; step_now("running") <= step;)
        assert_true(tick_ms() < until);
}

static size_t
count_checkpoints(void)
{
    struct checkpoint_list list;
    fine(checkpoint_list(&list, checkpoints));
    size_t count = list.count;
    checkpoint_list_release(&list);
    return count;
}

// ---- the processes

// `lease_ms`: a crowd that has been answered does not beat.
static void
write_config(unsigned lease_ms)
{
    char data[WIRE_ENDPOINT], pub[WIRE_ENDPOINT], more[3][WIRE_ENDPOINT];
    static char yaml[8192];
    kit_endpoint(data, "data");
    kit_endpoint(pub, "pub");
    kit_endpoint(ctl, "ctl");
    kit_endpoint(door, "door");
    kit_endpoint(more[0], "producer-ctl");
    kit_endpoint(more[1], "producer-pub");
    kit_endpoint(more[2], "blob");
    in_folder(run_yaml, "run.yaml");
    in_folder(fifo, "fifo");
    in_folder(checkpoints, "runs/r/checkpoints");
    snprintf(yaml, sizeof yaml,
             "run: {name: r}\n"
             "storage: {runs: %s/runs, cache: %s/cache, reserve: 1MiB}\n"
             "producer: {data: '%s', ctl: '%s', pub: '%s'}\n"
             "trainer: {ctl: '%s', pub: '%s', blob: '%s', steps: 900000}\n"
             "model: {path: %s/golden/tiny-llama, layer: 1, context: 32, batch_contexts: 4}\n"
             "text: {files: [%s/../docs, %s/../proto]}\n"
             "stream: {rows: 64, shuffle_block: 4, seed: 7, epochs: 1000}\n"
             "sae: {latents: 128}\n"
             "optimiser: {lr: 1e-4}\n"
             "ckpt: {every_steps: 0, every_s: 0, keep_last: 1000}\n"
             "stop: {deadline_s: %d}\n"
             "net: {backoff_cap_ms: 100, lease_ms: %u}\n",
             kit_folder, kit_folder, data, more[0], more[1], ctl, pub, more[2], OSAE_TESTS,
             OSAE_TESTS, OSAE_TESTS, STOP_S, lease_ms);
    fine(file_replace(run_yaml, yaml, strlen(yaml)));
}

static int
begin(void **state)
{
    if (kit_begin(state) != 0)
        return -1;
    write_config(15000);
    producer = start_daemon("osae-producer");
    trainer = start_daemon("osae-trainer");
    start_proxy();
    trains();
    return 0;
}

static int
finish(void **state)
{
    const pid_t all[] = {trainer, producer, proxy};
    for (size_t i = 0; i < 3; i++)
        if (all[i] > 0 && kill(all[i], SIGKILL) == 0)
            (void)waitpid(all[i], NULL, 0);
    trainer = producer = proxy = 0;
    return kit_end(state);
}

static void
show_log(const char *name)
{
    char path[PATH_BYTES], *text;
    size_t bytes;
    in_folder(path, name);
    if (file_read(&text, &bytes, path, 1 << 24) == STATUS_OK) {
        fprintf(stderr, "%s\n", text + (bytes > 2000 ? bytes - 2000 : 0));
        free(text);
    }
}

static const char *const orders[] = {"status", "checkpoint", "pause", "resume"};

static void
give_orders(struct callers *all)
{
    for (size_t i = 0; i < all->count; i++)
        snprintf(all->at[i].cmd->op, sizeof all->at[i].cmd->op, "%s", orders[i % 4]);
}

static bool
is(const struct asker *a, const char *op)
{
    return strcmp(a->cmd->op, op) == 0;
}

static void
a_thousand_while_it_trains(void **unused)
{
    (void)unused;
    static int64_t steps[MANY];
    static enum status how[MANY];
    struct callers *all = callers_new(MANY);
    give_orders(all);
    chaos("down cut 60 1 460\nup cut 60 1 460\n");
    callers_connect(all, door);
    int64_t began = tick_ms();
    callers_ask(all, 60000);
    int64_t took = tick_ms() - began;
    callers_disconnect(all);
    chaos("pass\nstats\n");
    for (size_t i = 0; i < MANY; i++) {
        const struct asker *a = &all->at[i];
        bool overtaken = is(a, "pause") && strstr(a->words, "resumed before it stood");
        if (a->status != STATUS_OK && !overtaken) {
            show_log("osae-trainer.log");
            fail_msg("%zu, %s: %s", i, a->cmd->op, a->words);
        }
        how[i] = a->status;
        steps[i] = is(a, "checkpoint") ? named_get_whole(&a->reply.data, "step", -1) : 0;
    }
    // It stands, so that nothing is saved any more; then it goes on.
    fine(ask("pause", 30000));
    fine(ask("checkpoint", 30000));
    size_t saved = count_checkpoints();
    fine(ask("resume", 10000));
    trains();
    // Everything again: as if every reply had been lost.
    callers_connect(all, door);
    callers_ask(all, 60000);
    callers_disconnect(all);
    trains();
    for (size_t i = 0; i < MANY; i++) {
        const struct asker *a = &all->at[i];
        assert_int_equal(a->status, how[i]);
        if (is(a, "checkpoint"))
            assert_int_equal(named_get_whole(&a->reply.data, "step", -1), steps[i]);
    }
    assert_int_equal(count_checkpoints(), saved);
    print_message("%d commands in %lld ms, %zu checkpoints for a quarter of them\n", MANY,
                  (long long)took, saved);
    callers_free(&all);
}

static void
a_thousand_while_it_stands(void **unused)
{
    (void)unused;
    fine(ask("pause", 30000));
    int64_t step = step_now("paused");
    size_t before = count_checkpoints();
    struct callers *all = callers_new(MANY);
    for (size_t i = 0; i < MANY; i++)
        snprintf(all->at[i].cmd->op, sizeof all->at[i].cmd->op, "%s", orders[i % 3]);
    callers_connect(all, door);
    callers_ask(all, 60000);
    callers_disconnect(all);
    for (size_t i = 0; i < MANY; i++) {
        const struct asker *a = &all->at[i];
        if (a->status != STATUS_OK)
            fail_msg("%zu, %s: %s", i, a->cmd->op, a->words);
        if (!is(a, "pause"))
            assert_int_equal(named_get_whole(&a->reply.data, "step", -1), step);
    }
    assert_int_equal(step_now("paused"), step);
    assert_in_range(count_checkpoints(), before, before + 1);
    fine(ask("resume", 10000));
    trains();
    callers_free(&all);
}

static void
a_thousand_while_it_stops(void **unused)
{
    (void)unused;
    enum { LIMIT_MS = 8000 };
    size_t refused = 0, silent = 0;
    int64_t newest = 0, longest = 0;
    struct callers *all = callers_new(MANY);
    give_orders(all);
    snprintf(all->at[MANY / 2].cmd->op, sizeof all->at[0].cmd->op, "stop");
    callers_connect(all, door);
    callers_ask(all, LIMIT_MS);
    callers_disconnect(all);
    end(&trainer, STOP_S * 1000 + 5000);
    for (size_t i = 0; i < MANY; i++) {
        const struct asker *a = &all->at[i];
        longest = a->ms > longest ? a->ms : longest;
        if (a->status == STATUS_CONFIG || a->status == STATUS_UNREACHABLE) {
            assert_true(a->words[0] != '\0'); // in words
            refused += a->status == STATUS_CONFIG;
            silent += a->status == STATUS_UNREACHABLE;
        } else {
            assert_int_equal(a->status, STATUS_OK);
        }
        if (a->status == STATUS_OK && is(a, "checkpoint")) {
            int64_t step = named_get_whole(&a->reply.data, "step", -1);
            newest = step > newest ? step : newest;
        }
    }
    assert_int_equal(all->at[MANY / 2].status, STATUS_OK);
    assert_true(longest < LIMIT_MS + 3000);
    print_message("%zu answered, %zu refused, %zu without an answer\n", MANY - refused - silent,
                  refused, silent);
    // What was answered is there, for whoever goes on.
    write_config(60000);
    trainer = start_daemon("osae-trainer");
    assert_true(step_now("running") >= newest);
    callers_free(&all);
}

// The exit code of `osae OP`, its words into `out`.
static int
osae(const char *op, char *out, size_t room)
{
    char line[2 * PATH_BYTES];
    snprintf(line, sizeof line, "%s/osae %s %s 2>&1", OSAE_BIN, op, run_yaml);
    FILE *pipe = popen(line, "r"); // NOLINT(cert-env33-c): our own program
    assert_non_null(pipe);
    size_t got = fread(out, 1, room - 1, pipe);
    out[got] = '\0';
    int how = pclose(pipe);
    return WIFEXITED(how) ? WEXITSTATUS(how) : -1;
}

static void
an_admin_who_finds_no_link_is_told_so(void **unused)
{
    (void)unused;
    static char words[8192];
    struct callers *all = callers_new(1024);
    for (size_t i = 0; i < all->count; i++)
        snprintf(all->at[i].cmd->op, sizeof all->at[i].cmd->op, "status");
    callers_connect(all, ctl);
    callers_ask(all, 60000);
    assert_int_equal(callers_with(all, STATUS_OK), 1024);
    static const char *const ops[] = {"status", "pause", "checkpoint"};
    for (size_t i = 0; i < 3; i++) {
        int64_t began = tick_ms();
        // A status has the producer's at least.
        assert_int_equal(osae(ops[i], words, sizeof words), i == 0 ? 0 : 69);
        if (!strstr(words, "1024 links, no more"))
            fail_msg("%s: %s", ops[i], words);
        assert_true(tick_ms() - began < 5000);
    }
    callers_disconnect(all);
    assert_int_equal(osae("status", words, sizeof words), 0);
    assert_non_null(strstr(words, "running"));
    callers_free(&all);
}

int
main(void)
{
    say_level(SAY_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_thousand_while_it_trains),
        cmocka_unit_test(a_thousand_while_it_stands),
        cmocka_unit_test(a_thousand_while_it_stops),
        cmocka_unit_test(an_admin_who_finds_no_link_is_told_so),
    };
    return cmocka_run_group_tests(tests, begin, finish);
}
