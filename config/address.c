#include "config/address.h"

#include "config/paths.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { IPC_PATH_MOST = 100 }; // sun_path has 108 bytes; the lock beside the socket needs some

enum status
address_folder(char out[FOLDER_BYTES])
{
    const char *runtime = folder_from("XDG_RUNTIME_DIR");
    int length = runtime ? snprintf(out, FOLDER_BYTES, "%s/osae", runtime)
                         : snprintf(out, FOLDER_BYTES, "/tmp/osae-%u", (unsigned)geteuid());
    if (length < 0 || length >= FOLDER_BYTES)
        return FAIL(CONFIG, "XDG_RUNTIME_DIR has more than %d bytes", FOLDER_BYTES - 6);
    return STATUS_OK;
}

enum status
address_fill(struct config *config)
{
    struct settings *set = &config->set;
    struct {
        char *at;
        const char *key; // "producer.data": process.link
    } bound[] = {
        {set->producer.data, "producer.data"}, {set->producer.ctl, "producer.ctl"},
        {set->producer.pub, "producer.pub"},   {set->trainer.ctl, "trainer.ctl"},
        {set->trainer.pub, "trainer.pub"},     {set->trainer.blob, "trainer.blob"},
        {set->evaluator.ctl, "evaluator.ctl"}, {set->evaluator.pub, "evaluator.pub"},
    };
    char folder[FOLDER_BYTES], endpoint[FOLDER_BYTES + 2 * NAME_BYTES];
    TRY(address_folder(folder));
    for (size_t i = 0; i < sizeof bound / sizeof bound[0]; i++) {
        if (bound[i].at[0])
            continue;
        int length = snprintf(endpoint, sizeof endpoint, "ipc://%s/%s.%s", folder, set->run.name,
                              bound[i].key);
        if (length < 0 || (size_t)length > strlen("ipc://") + IPC_PATH_MOST)
            return FAIL(CONFIG,
                        "%s: %s would be the socket %.200s of %d bytes, wanted at most %d: "
                        "choose a shorter run.name, or give %s",
                        config_origin(config, settings_row("run.name"))->where, bound[i].key,
                        endpoint + strlen("ipc://"), length - (int)strlen("ipc://"), IPC_PATH_MOST,
                        bound[i].key);
        memcpy(bound[i].at, endpoint, (size_t)length + 1);
        config_note(config, settings_row(bound[i].key), SOURCE_PRESET, "after run.name");
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
        if (length > IPC_PATH_MOST)
            return FAIL(CONFIG, "%s: %s is a path of %zu bytes, wanted at most %d", where, key,
                        length, IPC_PATH_MOST);
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
