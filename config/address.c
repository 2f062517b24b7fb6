#include "config/address.h"

#include "proto/channel.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum status
address_fill(struct config *config)
{
    struct settings *set = &config->set;
    struct {
        char *at;
        const char *process, *link;
    } bound[] = {
        {set->producer.data, "producer", "data"}, {set->producer.ctl, "producer", "ctl"},
        {set->producer.pub, "producer", "pub"},   {set->trainer.ctl, "trainer", "ctl"},
        {set->trainer.pub, "trainer", "pub"},     {set->trainer.blob, "trainer", "blob"},
        {set->evaluator.ctl, "evaluator", "ctl"}, {set->evaluator.pub, "evaluator", "pub"},
    };
    for (size_t i = 0; i < sizeof bound / sizeof bound[0]; i++) {
        if (bound[i].at[0])
            continue;
        char key[NAME_BYTES];
        snprintf(key, sizeof key, "%s.%s", bound[i].process, bound[i].link);
        const struct field *row = settings_row(key);
        enum status status = endpoint_default(bound[i].at, row->bytes, set->run.name,
                                              bound[i].process, bound[i].link);
        if (status != STATUS_OK) {
            struct status_note why;
            status_note_take(&why, status);
            return FAIL(CONFIG, "%s: %s", config_origin(config, settings_row("run.name"))->where,
                        why.words);
        }
        config_note(config, row, SOURCE_PRESET, "after run.name");
    }
    return STATUS_OK;
}

// Digits of 1 .. 65535 and nothing behind.
static bool
is_port(const char *text)
{
    size_t digits = strspn(text, "0123456789");
    if (digits == 0 || digits > 5 || text[digits] || text[0] == '0')
        return false;
    return strtol(text, NULL, 10) <= 65535;
}

enum status
address_check(const char *endpoint, const char *where, const char *key)
{
    static const char ipc[] = "ipc://", tcp[] = "tcp://";
    static const char *const loopback[] = {"127.0.0.1:", "[::1]:"};
    if (strncmp(endpoint, ipc, sizeof ipc - 1) == 0) {
        const char *path = endpoint + sizeof ipc - 1;
        size_t length = strlen(path);
        if (path[0] != '/' || length < 2 || path[length - 1] == '/')
            return FAIL(CONFIG, "%s: %s is '%.200s', wanted ipc:// and an absolute path", where,
                        key, endpoint);
        if (length > ENDPOINT_PATH_MOST)
            return FAIL(CONFIG, "%s: %s is a path of %zu bytes, wanted at most %d", where, key,
                        length, ENDPOINT_PATH_MOST);
        return STATUS_OK;
    }
    if (strncmp(endpoint, tcp, sizeof tcp - 1) == 0) {
        const char *address = endpoint + sizeof tcp - 1;
        for (size_t i = 0; i < 2; i++) {
            size_t length = strlen(loopback[i]);
            if (strncmp(address, loopback[i], length) == 0) {
                if (is_port(address + length))
                    return STATUS_OK;
                return FAIL(CONFIG, "%s: %s is '%.200s', wanted a port from 1 to 65535", where, key,
                            endpoint);
            }
        }
        return FAIL(CONFIG,
                    "%s: %s is '%.200s', wanted tcp://127.0.0.1:PORT or tcp://[::1]:PORT: this "
                    "version has no encryption and stays on this host",
                    where, key, endpoint);
    }
    return FAIL(CONFIG, "%s: %s is '%.200s', wanted ipc:///path or tcp://127.0.0.1:PORT", where,
                key, endpoint);
}
