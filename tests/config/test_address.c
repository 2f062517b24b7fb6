// Endpoints: which are well formed, which default.
//
// Invariants: S2
#include "config/address.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

static void
only_ipc_and_loopback_are_taken(void **unused)
{
    (void)unused;
    static const char *const right[] = {"ipc:///a", "ipc:///run/user/0/osae/x.trainer.ctl",
                                        "tcp://127.0.0.1:1", "tcp://127.0.0.1:65535",
                                        "tcp://[::1]:5560"};
    static const char *const wrong[] = {
        "",
        "ipc://",
        "ipc:///",
        "ipc://a/b",
        "ipc://@a",
        "ipc:///a/",
        "ipc://*",
        "tcp://127.0.0.1",
        "tcp://127.0.0.1:",
        "tcp://127.0.0.1:0",
        "tcp://127.0.0.1:00080",
        "tcp://127.0.0.1:65536",
        "tcp://127.0.0.1:99999999999999999999",
        "tcp://127.0.0.1:5560x",
        "tcp://127.0.0.1:*",
        "tcp://127.0.0.1:5560;tcp://10.0.0.1:1",
        "tcp://127.0.0.10:5560",
        "tcp://127.0.0.1.example.org:5560",
        "tcp://localhost:5560",
        "tcp://*:5560",
        "tcp://0.0.0.0:5560",
        "tcp://10.0.0.1:5560",
        "tcp://eth0:5560",
        "tcp://[::]:5560",
        "inproc://a",
        "pgm://a",
        "TCP://127.0.0.1:5560",
    };
    for (size_t i = 0; i < sizeof right / sizeof right[0]; i++)
        assert_int_equal(address_check(right[i], "run.yaml:1", "trainer.ctl"), STATUS_OK);
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        if (address_check(wrong[i], "run.yaml:1", "trainer.ctl") != STATUS_CONFIG)
            fail_msg("'%s' was taken", wrong[i]);
        assert_int_equal(strncmp(status_words(), "run.yaml:1: trainer.ctl is '", 28), 0);
    }
    char path[128] = "ipc:///";
    memset(path + 7, 'a', 99);
    assert_int_equal(address_check(path, "x", "y"), STATUS_OK);
    path[7 + 99] = 'a';
    assert_int_equal(address_check(path, "run.yaml:1", "trainer.ctl"), STATUS_CONFIG);
    assert_string_equal(status_words(),
                        "run.yaml:1: trainer.ctl is a path of 101 bytes, wanted at most 100");
}

static void
empty_endpoints_are_sockets_named_after_run_process_and_link(void **unused)
{
    (void)unused;
    struct config *config = NULL;
    const char *sets[] = {"run.name=demo", "trainer.pub=tcp://127.0.0.1:5561"};
    char want[256];
    assert_int_equal(setenv("XDG_RUNTIME_DIR", "/run/user/7", 1), 0);
    assert_int_equal(config_load(&config, NULL, sets, 2), STATUS_OK);
    assert_string_equal(config->set.producer.data, "ipc:///run/user/7/osae/demo.producer.data");
    assert_string_equal(config->set.evaluator.ctl, "ipc:///run/user/7/osae/demo.evaluator.ctl");
    assert_string_equal(config->set.trainer.pub, "tcp://127.0.0.1:5561");
    config_free(&config);
    assert_int_equal(unsetenv("XDG_RUNTIME_DIR"), 0);
    assert_int_equal(config_load(&config, NULL, sets, 2), STATUS_OK);
    snprintf(want, sizeof want, "ipc:///tmp/osae-%u/demo.trainer.blob", (unsigned)geteuid());
    assert_string_equal(config->set.trainer.blob, want);
    config_free(&config);

    // The longest name fits in /tmp; below a deep runtime folder it is refused, not cut.
    char longest[80] = "run.name=";
    memset(longest + 9, 'n', 64);
    sets[0] = longest;
    assert_int_equal(config_load(&config, NULL, sets, 1), STATUS_OK);
    config_free(&config);
    assert_int_equal(setenv("XDG_RUNTIME_DIR", "/run/user/1000/containers/seven", 1), 0);
    assert_int_equal(config_load(&config, NULL, sets, 1), STATUS_CONFIG);
    assert_non_null(strstr(status_words(), "choose a shorter run.name"));
    assert_int_equal(unsetenv("XDG_RUNTIME_DIR"), 0);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_ipc_and_loopback_are_taken),
        cmocka_unit_test(empty_endpoints_are_sockets_named_after_run_process_and_link),
    };
    if (setenv("HOME", "/home/ada", 0) != 0) // a bare container has none
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
