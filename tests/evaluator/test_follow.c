// The evaluator's work thread on the folder of a run whose trainer is gone: sound checkpoints are
// scored, bad ones recorded with the reason, nothing is done twice, and it says at once what keeps
// it from working at all; a checkpoint that kills the process is given up after so many deaths.
//
// Invariants: E1 E2
#include "evaluator/attempts.h"
#include "evaluator/follow.h"
#include "lib/base/tick.h"
#include "lib/interop/saebench_core.h"
#include "lib/interop/saelens.h"
#include "lib/store/checkpoint.h"
#include "lib/store/failure.h"
#include "proto/control.h"

#include <dirent.h>
#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum { WIDTH = 64, LATENTS = 32 };
static char root[64];

#define fine(call)                                                                                 \
    do {                                                                                           \
        if ((call) != STATUS_OK)                                                                   \
            fail_msg("%s:%d: %s", __FILE__, __LINE__, status_words());                             \
    } while (0)

static int
setup(void **unused)
{
    (void)unused;
    snprintf(root, sizeof root, "/tmp/osae-follow-XXXXXX");
    return mkdtemp(root) == NULL;
}

static int
teardown(void **unused)
{
    (void)unused;
    return path_remove(root) != STATUS_OK;
}

enum flaw { SOUND, NAN_WEIGHT, WRONG_WIDTH, WRONG_LAYER, BROKEN_CARD, FLIPPED, FLAWS };
static const char *const reasons[FLAWS] = {NULL,    "wanted finite", "width",
                                           "layer", "cfg.json:",     "hash"};

// A checkpoint as a trainer writes it, sound in itself.
static void
save_at(struct runfolder *run, enum flaw flaw, uint64_t step)
{
    size_t d = flaw == WRONG_WIDTH ? 32 : WIDTH;
    float *room = calloc(4 * LATENTS * WIDTH, sizeof *room), *w = room + 2 * LATENTS * WIDTH;
    static const float zeros[LATENTS + WIDTH];
    assert_non_null(room);
    for (size_t i = 0; i < LATENTS * d; i++)
        w[i] = (i / d) % d == i % d ? 1 : 0; // rows of norm 1
    if (flaw == NAN_WEIGHT)
        w[5] = (float)NAN;
    struct saelens_source source = {.arch = ARCH_RELU,
                                    .k = LATENTS,
                                    .d = d,
                                    .w_enc = w,
                                    .b_enc = zeros,
                                    .w_dec = w,
                                    .b_dec = zeros,
                                    .scale = 1};
    struct card card = {.arch = ARCH_RELU,
                        .width = d,
                        .latents = LATENTS,
                        .model_name = "tiny-llama",
                        .context = 32,
                        .prepend_bos = true,
                        .architecture = "standard"};
    card_hook(&card, flaw == WRONG_LAYER ? 0 : 1, false);
    char *text;
    fine(card_write(&text, &card));
    if (flaw == BROKEN_CARD)
        text[strlen(text) / 2] = '\0';
    struct tensor_out tensors[SAELENS_TENSORS];
    size_t count = saelens_fill(tensors, room, &source);
    struct checkpoint_file files[] = {
        {.name = "cfg.json", .text = text, .text_bytes = strlen(text)},
        {.name = "sae_weights.safetensors", .tensors = tensors, .tensor_count = count},
        {.name = "train_state.safetensors", .text = "state", .text_bytes = 5}};
    struct checkpoint_facts facts = {.step = step};
    struct checkpoint_policy policy = {.keep_last = 100};
    fine(checkpoint_write(NULL, run, &facts, files, 3, &policy));
    free(text);
    free(room);
    if (flaw == FLIPPED) {
        char folder[PATH_BYTES], path[PATH_BYTES];
        fine(checkpoint_path(folder, runfolder_checkpoints(run), facts.step));
        fine(path_join(path, folder, "sae_weights.safetensors"));
        FILE *file = fopen(path, "r+");
        assert_non_null(file);
        fseek(file, -1, SEEK_END);
        fputc(77, file);
        fclose(file);
    }
}

static void
save(struct runfolder *run, enum flaw flaw)
{
    save_at(run, flaw, 10 + (uint64_t)flaw);
}

static void
make_run(void)
{
    char path[PATH_BYTES];
    struct runfolder *run;
    struct runfolder_opener opener = {"gone", "test", "0", "test", false};
    fine(path_join(path, root, "runs/gone"));
    fine(path_make(path, 0700));
    fine(runfolder_open(&run, path, &opener));
    for (int flaw = 0; flaw < FLAWS; flaw++)
        save(run, (enum flaw)flaw);
    runfolder_close(&run);
}

static struct config *
configure(const char *text, unsigned batches)
{
    char sets[10][512];
    const char *list[10];
    struct config *config;
    size_t n = 0;
    snprintf(sets[n++], 512, "storage.runs=%s/runs", root);
    snprintf(sets[n++], 512, "storage.cache=%s/cache", root);
    snprintf(sets[n++], 512, "run.name=gone");
    snprintf(sets[n++], 512, "trainer.ctl=ipc://%s/nobody", root);
    snprintf(sets[n++], 512, "model.path=%s/golden/tiny-llama", OSAE_TESTS);
    snprintf(sets[n++], 512, "model.layer=1");
    snprintf(sets[n++], 512, "model.context=32");
    snprintf(sets[n++], 512, "eval.text=%s", text);
    snprintf(sets[n++], 512, "eval.core_batches=%u", batches);
    snprintf(sets[n++], 512, "eval.max_attempts=2");
    for (size_t i = 0; i < n; i++)
        list[i] = sets[i];
    fine(config_load(&config, NULL, list, n));
    config->set.eval.core_variance_batches = 1;
    config->set.eval.batch_contexts = 2;
    return config;
}

// Until so many are done and failed and nothing is left, or it has ended.
static struct follow_view
wait_for(struct follow *follow, uint64_t done, uint64_t failed)
{
    struct follow_view view;
    for (int64_t until = tick_ms() + 60000; tick_ms() < until; usleep(20000)) {
        follow_look(follow, &view);
        if (view.state == FOLLOW_ENDED ||
            (view.state == FOLLOW_IDLE && view.done >= done && view.failed >= failed))
            break;
    }
    return view;
}

static struct follow_view
live(struct config *config, uint64_t done, uint64_t failed)
{
    int fd = eventfd(0, EFD_NONBLOCK);
    struct follow *follow;
    fine(follow_new(&follow, config, fd));
    struct follow_view view = wait_for(follow, done, failed);
    fine(follow_free(&follow));
    close(fd);
    return view;
}

static int
is_result(const struct dirent *entry)
{
    return strstr(entry->d_name, "_eval_results.json") != NULL;
}

// How many core results there are; out: the eval folder.
static size_t
results(char out[PATH_BYTES])
{
    char folder[PATH_BYTES];
    struct dirent **names;
    fine(path_join(out, root, "runs/gone/eval"));
    fine(path_join(folder, out, "core"));
    int count = scandir(folder, &names, is_result, NULL);
    assert_true(count >= 0);
    for (int i = 0; i < count; i++)
        free(names[i]);
    free(names);
    return (size_t)count;
}

static void
what_a_dead_trainer_left_gets_a_result_or_a_recorded_failure(void **state)
{
    (void)state;
    make_run();
    struct config *config = configure(OSAE_TESTS "/golden/README.md", 1);
    struct follow_view view = live(config, 1, FLAWS - 1);
    assert_int_equal(view.done, 1);
    assert_int_equal(view.failed, FLAWS - 1);
    char eval[PATH_BYTES], path[PATH_BYTES], checkpoints[PATH_BYTES], folder[PATH_BYTES];
    assert_int_equal(results(eval), 1);
    struct core_file *file = calloc(1, sizeof *file);
    struct manifest *manifest = calloc(1, sizeof *manifest);
    struct failure *failure = calloc(1, sizeof *failure);
    assert_true(file && manifest && failure);
    fine(path_join(path, eval, "core/gone_step-000000000010_eval_results.json"));
    fine(saebench_core_read(file, path));
    assert_string_equal(file->head.ck, "gone/10-1");
    fine(path_join(checkpoints, root, "runs/gone/checkpoints"));
    for (uint64_t flaw = 1; flaw < FLAWS; flaw++) {
        uint64_t mh;
        bool found;
        fine(checkpoint_path(folder, checkpoints, 10 + flaw));
        fine(manifest_read(manifest, &mh, folder));
        struct failure_key key = {eval, "core", "gone", 10 + flaw, mh, file->head.spec, NULL};
        fine(failure_find(&found, failure, &key));
        assert_true(found);
        assert_int_equal(failure->attempts, 2);
        if (!strstr(failure->reason, reasons[flaw]))
            fail_msg("flaw %d: '%s', wanted '%s' in it", (int)flaw, failure->reason, reasons[flaw]);
        // Of another manifest, or another specification, nothing is recorded.
        key.mh++;
        fine(failure_find(&found, failure, &key));
        assert_false(found);
    }
    free(manifest);
    free(failure);
    // Another life: everything is known, nothing is done.
    view = live(config, 0, 0);
    assert_int_equal(view.done + view.failed, 0);
    config_free(&config);
    // Another specification beside it: the older result stays.
    config = configure(OSAE_TESTS "/golden/README.md", 2);
    view = live(config, 1, FLAWS - 1);
    assert_int_equal(view.done, 1);
    assert_int_equal(results(eval), 2);
    fine(saebench_core_read(file, path));
    assert_int_equal(file->core_batches, 1);
    free(file);
    config_free(&config);
}

// A trainer that stays when all is done: it lists what lies in its folder, and remembers whose
// results it was told of.
struct stayer {
    char endpoint[PATH_BYTES], checkpoints[200];
    bool done[FLAWS]; // what it says of each
    atomic_bool stop, ready;
    atomic_int lists, told;
    struct hash128 spec; // of the last result
    pthread_t thread;
};

static void
list_folder(struct msg_cklistr *list, const struct stayer *s)
{
    struct checkpoint_list found;
    struct manifest *manifest = calloc(1, sizeof *manifest);
    assert_non_null(manifest);
    memset(list, 0, sizeof *list);
    snprintf(list->path, sizeof list->path, "%s", s->checkpoints);
    fine(checkpoint_list(&found, s->checkpoints));
    for (size_t i = found.count; i-- > 0;) { // oldest first
        char folder[PATH_BYTES];
        struct msg_ck_entry *entry = &list->at[list->count++];
        entry->step = found.steps[i];
        entry->bytes = 1;
        entry->done = s->done[entry->step - 10];
        snprintf(entry->ck, sizeof entry->ck, "gone/%d-1", (int)entry->step);
        fine(checkpoint_path(folder, s->checkpoints, entry->step));
        fine(manifest_read(manifest, &entry->manifest_hash, folder));
    }
    checkpoint_list_release(&found);
    free(manifest);
}

static void *
stay(void *from)
{
    struct stayer *s = from;
    struct channel *channel;
    struct control *control;
    struct msg_hello me;
    struct msg_cklistr *list = calloc(1, sizeof *list);
    static const struct operation none[] = {{NULL, 0, false}};
    assert_non_null(list);
    fine(hello_fill(&me, ROLE_TRAINER, "trainer", "gone", 0));
    fine(channel_new(&channel, NULL));
    struct control_settings set = {.name = "trainer",
                                   .inst = me.inst,
                                   .host = me.host,
                                   .hb_ms = 2000,
                                   .lease_ms = 15000,
                                   .operations = none,
                                   .lists = true,
                                   .results = true};
    fine(control_open(&control, channel, s->endpoint, &set));
    atomic_store(&s->ready, true);
    while (!atomic_load(&s->stop)) {
        struct request request;
        control_turn(control, tick_ms());
        while (control_next(control, &request)) {
            if (request.type == MESSAGE_CKLIST) {
                list_folder(list, s);
                control_list(control, request.ticket, list);
                atomic_fetch_add(&s->lists, 1);
            } else {
                if (request.type == MESSAGE_RESULT) {
                    s->spec = request.result->spec;
                    s->done[strtoul(request.result->ck + strlen("gone/"), NULL, 10) - 10] = true;
                    atomic_fetch_add(&s->told, 1);
                }
                control_done(control, request.ticket);
            }
            control_turn(control, tick_ms());
        }
        usleep(2000);
    }
    control_close(&control);
    channel_free(&channel);
    free(list);
    return NULL;
}

// A life of the evaluator until it has nothing to do: how often the trainer was told.
static int
live_beside(struct stayer *s, unsigned batches, uint64_t done, uint64_t failed)
{
    atomic_store(&s->told, 0);
    atomic_store(&s->lists, 0);
    struct config *config = configure(OSAE_TESTS "/golden/README.md", batches);
    config->set.eval.poll_s = 1;
    struct follow_view view = live(config, done, failed);
    assert_int_equal(view.done, done);
    assert_int_equal(view.failed, failed);
    assert_true(atomic_load(&s->lists) < 20); // it rests when there is nothing to do
    config_free(&config);
    return atomic_load(&s->told);
}

// "Done" is what a trainer says that was told of some results: of another specification there are
// none yet. What has been told is not told again.
static void
what_a_trainer_calls_done_gets_the_results_of_a_new_specification(void **state)
{
    (void)state;
    char eval[PATH_BYTES];
    struct stayer s = {.told = 0};
    make_run();
    snprintf(s.checkpoints, sizeof s.checkpoints, "%s/runs/gone/checkpoints", root);
    snprintf(s.endpoint, sizeof s.endpoint, "ipc://%.60s/nobody", root);
    assert_int_equal(pthread_create(&s.thread, NULL, stay, &s), 0);
    while (!atomic_load(&s.ready))
        usleep(1000);
    assert_int_equal(live_beside(&s, 1, 1, FLAWS - 1), FLAWS);
    assert_int_equal(results(eval), 1);
    struct hash128 first = s.spec;
    assert_int_equal(live_beside(&s, 1, 0, 0), 0);
    assert_int_equal(live_beside(&s, 2, 1, FLAWS - 1), FLAWS);
    assert_int_equal(results(eval), 2);
    assert_false(hash128_same(first, s.spec));
    assert_int_equal(live_beside(&s, 2, 0, 0), 0);
    assert_int_equal(results(eval), 2);
    atomic_store(&s.stop, true);
    pthread_join(s.thread, NULL);
}

// A life of the real program on the run; it is killed as it evaluates for the `visit`th time.
static void
die_evaluating(int visit)
{
    char yaml[4 * PATH_BYTES], path[PATH_BYTES], plan[64];
    snprintf(yaml, sizeof yaml,
             "run: {name: gone}\n"
             "storage: {runs: %s/runs, cache: %s/cache}\n"
             "trainer: {ctl: 'ipc://%s/nobody'}\n"
             "evaluator: {ctl: 'ipc://%s/ctl', pub: 'ipc://%s/pub'}\n"
             "model: {path: %s/golden/tiny-llama, layer: 1, context: 32}\n"
             "eval: {text: %s/golden/README.md, core_batches: 1, core_variance_batches: 1,\n"
             "       batch_contexts: 2, max_attempts: 2}\n",
             root, root, root, root, root, OSAE_TESTS, OSAE_TESTS);
    fine(path_join(path, root, "run.yaml"));
    fine(file_replace(path, yaml, strlen(yaml)));
    snprintf(plan, sizeof plan, "evaluator.run:%d:crash", visit);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        setenv("OSAE_FAULT", plan, 1);
        execl(OSAE_BIN "/osae-evaluator", "osae-evaluator", path, (char *)NULL);
        _exit(99);
    }
    int how;
    assert_int_equal(waitpid(pid, &how, 0), pid);
    if (!WIFSIGNALED(how) || WTERMSIG(how) != SIGKILL)
        fail_msg("the evaluator ended with %x, and was not killed evaluating", (unsigned)how);
}

static void
a_checkpoint_that_kills_its_evaluator_is_given_up_and_the_next_one_evaluated(void **state)
{
    (void)state;
    char path[PATH_BYTES], eval[PATH_BYTES], folder[PATH_BYTES];
    struct runfolder *run;
    struct runfolder_opener opener = {"gone", "test", "0", "test", false};
    fine(path_join(path, root, "runs/gone"));
    fine(path_make(path, 0700));
    fine(runfolder_open(&run, path, &opener));
    save(run, SOUND);
    save_at(run, SOUND, 11);
    runfolder_close(&run);
    // The newest comes first: it is what dies, once and again.
    die_evaluating(1);
    die_evaluating(1);
    // Another life does not touch it, and has a result of the older one; it is not killed by that.
    struct config *config = configure(OSAE_TESTS "/golden/README.md", 1);
    struct follow_view view = live(config, 1, 1);
    assert_int_equal(view.done, 1);
    assert_int_equal(view.failed, 1);
    assert_int_equal(results(eval), 1);
    struct core_file *file = calloc(1, sizeof *file);
    struct manifest *manifest = calloc(1, sizeof *manifest);
    struct failure *failure = calloc(1, sizeof *failure);
    assert_true(file && manifest && failure);
    fine(path_join(path, eval, "core/gone_step-000000000010_eval_results.json"));
    fine(saebench_core_read(file, path));
    uint64_t mh, begun;
    bool found;
    fine(path_join(path, root, "runs/gone/checkpoints"));
    fine(checkpoint_path(folder, path, 11));
    fine(manifest_read(manifest, &mh, folder));
    struct failure_key key = {eval, "core", "gone", 11, mh, file->head.spec, NULL};
    fine(failure_find(&found, failure, &key));
    assert_true(found);
    assert_int_equal(failure->attempts, 2);
    assert_string_equal(failure->reason, "the evaluator died 2 times on it");
    // A death between two checkpoints' evaluations is nobody's, and an attempt that ended is none.
    fine(checkpoint_path(folder, path, 10));
    fine(manifest_read(manifest, &mh, folder));
    key.step = 10;
    key.mh = mh;
    fine(failure_begun(&begun, &key));
    assert_int_equal(begun, 0);
    // One that is alive holds its attempt, and lets it go when it ends.
    bool held;
    int fd;
    failure->step = 10;
    failure->mh = mh;
    fine(failure_begin(eval, failure));
    fine(failure_is_held(&held, &key));
    assert_false(held);
    fine(failure_hold(&fd, &key));
    assert_true(fd >= 0);
    fine(failure_is_held(&held, &key));
    assert_true(held);
    close(fd);
    fine(failure_is_held(&held, &key));
    assert_false(held);
    config_free(&config);
    free(file);
    free(manifest);
    free(failure);
}

static void
a_text_that_gives_nothing_ends_it_with_one_line(void **state)
{
    (void)state;
    char path[PATH_BYTES];
    fine(path_join(path, root, "short.txt"));
    fine(file_replace(path, "one two", 7));
    for (int missing = 0; missing < 2; missing++) {
        struct config *config = configure(missing ? "/nowhere.txt" : path, 1);
        int fd = eventfd(0, EFD_NONBLOCK);
        struct follow *follow;
        fine(follow_new(&follow, config, fd));
        struct follow_view view = wait_for(follow, 1, 1);
        assert_int_equal(view.state, FOLLOW_ENDED);
        enum status status = follow_free(&follow);
        assert_int_equal(status, missing ? STATUS_MISSING : STATUS_CONFIG);
        assert_non_null(strstr(status_words(), missing ? "/nowhere.txt" : "context"));
        assert_null(strchr(status_words(), '\n'));
        close(fd);
        config_free(&config);
    }
}

static void
attempts_come_later_and_later_and_are_bounded(void **state)
{
    (void)state;
    struct attempts *a = calloc(1, sizeof *a);
    assert_non_null(a);
    int64_t now = 1000;
    for (unsigned made = 1; made <= 8; made++) {
        assert_int_equal(attempts_add(a, "run/1-1", 0, now), made);
        assert_true(attempts_pause(a, "run/1-1", 0, now));
        assert_false(attempts_pause(a, "run/1-1", 1, now));
        int64_t pause = (int64_t)ATTEMPT_PAUSE_MS << (made <= 6 ? 2 * (made - 1) : 12);
        assert_true(attempts_pause(a, "run/1-1", 0, now + pause - 1));
        assert_false(attempts_pause(a, "run/1-1", 0, now + pause));
    }
    for (int i = 0; i < ATTEMPTS_MOST; i++) {
        char ck[32];
        snprintf(ck, sizeof ck, "run/%d-2", i);
        assert_int_equal(attempts_add(a, ck, 0, now), 1);
    }
    assert_int_equal(a->count, ATTEMPTS_MOST);
    assert_int_equal(attempts_add(a, "run/1-1", 0, now), 1); // forgotten: the oldest
    attempts_forget(a, "run/1-1", 0);
    assert_false(attempts_pause(a, "run/1-1", 0, now));
    free(a);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(
            what_a_dead_trainer_left_gets_a_result_or_a_recorded_failure, setup, teardown),
        cmocka_unit_test_setup_teardown(
            a_checkpoint_that_kills_its_evaluator_is_given_up_and_the_next_one_evaluated, setup,
            teardown),
        cmocka_unit_test_setup_teardown(
            what_a_trainer_calls_done_gets_the_results_of_a_new_specification, setup, teardown),
        cmocka_unit_test_setup_teardown(a_text_that_gives_nothing_ends_it_with_one_line, setup,
                                        teardown),
        cmocka_unit_test(attempts_come_later_and_later_and_are_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
