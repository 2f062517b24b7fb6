// When a trainer tells the service manager that it is ready: after it met a producer, or, with
// ready.without_producer, as soon as it waits for one. The real programs, and a socket in systemd's
// place.
#include "lib/base/file.h"

#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static char root[64];
static int manager = -1; // where the service manager listens

static int
setup(void **unused)
{
    (void)unused;
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    snprintf(root, sizeof root, "/tmp/osae-ready-XXXXXX");
    if (!mkdtemp(root))
        return 1;
    snprintf(at.sun_path, sizeof at.sun_path, "%s/notify", root);
    manager = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    return manager < 0 || bind(manager, (struct sockaddr *)&at, sizeof at) != 0 ||
           setenv("NOTIFY_SOCKET", at.sun_path, 1) != 0;
}

static int
teardown(void **unused)
{
    (void)unused;
    close(manager);
    return path_remove(root) != STATUS_OK;
}

static pid_t
start(const char *program, const char *without_producer, bool tells)
{
    char yaml[8192], path[PATH_BYTES], binary[PATH_BYTES];
    snprintf(yaml, sizeof yaml,
             "run: {name: r}\n"
             "storage: {runs: %s/runs, cache: %s/cache, reserve: 1MiB}\n"
             "producer: {data: 'ipc://%s/data', ctl: 'ipc://%s/pctl', pub: 'ipc://%s/ppub'}\n"
             "trainer: {ctl: 'ipc://%s/ctl', pub: 'ipc://%s/pub', blob: 'ipc://%s/blob',\n"
             "          steps: 4, when_done: stay}\n"
             "model: {path: %s/golden/tiny-llama, layer: 1, context: 32, batch_contexts: 4}\n"
             "text: {files: [%s/README.md, %s/golden/README.md]}\n"
             "stream: {rows: 16, shuffle_block: 1}\n"
             "sae: {latents: 64}\n"
             "ready: {without_producer: %s}\n",
             root, root, root, root, root, root, root, root, OSAE_TESTS, OSAE_TESTS, OSAE_TESTS,
             without_producer);
    snprintf(path, sizeof path, "%s/%s.yaml", root, program);
    snprintf(binary, sizeof binary, "%s/%s", OSAE_BIN, program);
    assert_int_equal(file_replace(path, yaml, strlen(yaml)), STATUS_OK);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        if (!tells)
            unsetenv("NOTIFY_SOCKET");
        execl(binary, program, path, (char *)NULL);
        _exit(99);
    }
    return pid;
}

// The next thing the manager is told, within 30 s.
static void
hear(char out[64])
{
    struct pollfd fd = {.fd = manager, .events = POLLIN};
    if (poll(&fd, 1, 30000) != 1)
        fail_msg("the manager hears nothing for 30 s");
    ssize_t got = recv(manager, out, 63, 0);
    assert_true(got > 0);
    out[got] = '\0';
}

// A sign of life each second: a trainer that says two of them and not READY=1 is not ready.
static bool
is_ready_after(int signs)
{
    char told[64];
    for (int i = 0; i < signs;) {
        hear(told);
        if (strstr(told, "READY=1"))
            return true;
        i += strstr(told, "WATCHDOG=1") != NULL;
    }
    return false;
}

static void
leave(pid_t pid)
{
    int how;
    assert_int_equal(kill(pid, SIGTERM), 0);
    assert_int_equal(waitpid(pid, &how, 0), pid);
    assert_true(WIFEXITED(how));
    assert_int_equal(WEXITSTATUS(how), 0);
    // It says so, and nothing of its life is left to be heard.
    char told[64];
    do
        hear(told);
    while (!strstr(told, "STOPPING=1"));
}

static void
a_trainer_is_ready_when_it_has_met_a_producer(void **unused)
{
    (void)unused;
    pid_t trainer = start("osae-trainer", "false", true);
    assert_false(is_ready_after(3));
    pid_t producer = start("osae-producer", "false", false);
    assert_true(is_ready_after(30));
    leave(trainer);
    assert_int_equal(kill(producer, SIGKILL), 0);
    assert_int_equal(waitpid(producer, NULL, 0), producer);
}

static void
or_at_once_where_that_is_asked_for(void **unused)
{
    (void)unused;
    pid_t trainer = start("osae-trainer", "true", true);
    assert_true(is_ready_after(1));  // before its first sign of life
    assert_false(is_ready_after(2)); // and says it once
    leave(trainer);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_trainer_is_ready_when_it_has_met_a_producer, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(or_at_once_where_that_is_asked_for, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
