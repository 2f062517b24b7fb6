// Addresses: what they mean, who may listen there, and who we are.
#include "proto/channel.h"
#include "proto/messages.h"

#include "lib/base/file.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

static bool
begins(const char *text, const char *with)
{
    return strncmp(text, with, strlen(with)) == 0;
}

enum endpoint_class
endpoint_class(const char *endpoint)
{
    if (begins(endpoint, "ipc://"))
        return endpoint[6] ? ENDPOINT_IPC : ENDPOINT_BAD;
    if (!begins(endpoint, "tcp://"))
        return ENDPOINT_BAD;
    const char *host = endpoint + 6, *colon = strrchr(host, ':');
    if (!colon || colon == host || colon[1] == '\0' ||
        strspn(colon + 1, "0123456789*") != strlen(colon + 1))
        return ENDPOINT_BAD;
    size_t bytes = (size_t)(colon - host);
    if (begins(host, "127.") && strspn(host, "0123456789.") == bytes)
        return ENDPOINT_LOOPBACK;
    if ((bytes == 5 && begins(host, "[::1]")) || (bytes == 9 && begins(host, "localhost")))
        return ENDPOINT_LOOPBACK;
    return ENDPOINT_REMOTE;
}

unsigned
endpoint_roles(const char *endpoint, unsigned remote_roles)
{
    switch (endpoint_class(endpoint)) {
    case ENDPOINT_IPC:
        return ROLES_ALL;
    case ENDPOINT_LOOPBACK:
        return ROLES_ALL & ~role_bit(ROLE_ADMIN);
    default:
        return remote_roles & ~role_bit(ROLE_ADMIN);
    }
}

// The folder of an ipc path must be ours alone: whoever may enter it may connect.
static enum status
folder_check(const char *endpoint, const char *path)
{
    char folder[WIRE_ENDPOINT];
    snprintf(folder, sizeof folder, "%s", path);
    char *slash = strrchr(folder, '/');
    if (slash == folder)
        slash++;
    *slash = '\0';
    struct stat stat_;
    if (stat(folder, &stat_) != 0 && errno == ENOENT)
        TRY(path_make(folder, 0700));
    if (stat(folder, &stat_) != 0)
        return FAIL(CREATE, "%s: folder %s: %s", endpoint, folder, strerror(errno));
    if (!S_ISDIR(stat_.st_mode) || stat_.st_uid != geteuid() || (stat_.st_mode & 077) != 0)
        return FAIL(DENIED, "%s: folder %s has owner %u and mode %04o, wanted owner %u and 0700",
                    endpoint, folder, (unsigned)stat_.st_uid, (unsigned)(stat_.st_mode & 07777),
                    (unsigned)geteuid());
    return STATUS_OK;
}

enum status
endpoint_lock(const char *endpoint, int *fd)
{
    const char *path = endpoint + strlen("ipc://");
    char lock[WIRE_ENDPOINT];
    *fd = -1;
    TRY(folder_check(endpoint, path));
    snprintf(lock, sizeof lock, "%s.lock", path);
    *fd = open(lock, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (*fd < 0)
        return FAIL(CREATE, "%s: %s: %s", endpoint, lock, strerror(errno));
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    if (fcntl(*fd, F_OFD_SETLK, &whole) != 0) {
        close(*fd);
        *fd = -1;
        return FAIL(CREATE, "%s: in use by another process (it holds %s)", endpoint, lock);
    }
    return STATUS_OK;
}

enum status
endpoint_default(char *out, size_t room, const char *run, const char *process, const char *link)
{
    static const char ipc[] = "ipc://";
    char path[2 * PATH_BYTES];
    const char *runtime = getenv("XDG_RUNTIME_DIR");
    int bytes = runtime && *runtime == '/'
                    ? snprintf(path, sizeof path, "%s/osae/%s.%s.%s", runtime, run, process, link)
                    : snprintf(path, sizeof path, "/tmp/osae-%u/%s.%s.%s", (unsigned)geteuid(), run,
                               process, link);
    assert(room > 0);
    *out = '\0';
    if (bytes < 0 || bytes > ENDPOINT_PATH_MOST || (size_t)bytes + sizeof ipc > room)
        return FAIL(CONFIG,
                    "%s.%s would be the socket %.200s of %d bytes, wanted at most %d: choose a "
                    "shorter run.name, or give %s.%s",
                    process, link, path, bytes, ENDPOINT_PATH_MOST, process, link);
    snprintf(out, room, "%s%s", ipc, path);
    return STATUS_OK;
}

uint64_t
random_seed(void)
{
    uint64_t seed = 0;
    // The kernel's pool is ready by the time anybody logs in; 8 bytes are never cut short.
    while (getrandom(&seed, sizeof seed, 0) < 0 && errno == EINTR)
        ;
    return seed;
}

static void
add_file(struct hasher *hasher, const char *path)
{
    char *text;
    size_t bytes;
    if (file_read(&text, &bytes, path, 4096) != STATUS_OK)
        return; // containers may lack it
    hasher_add(hasher, text, bytes);
    free(text);
}

enum status
hello_fill(struct msg_hello *me, int role, const char *name, const char *run, uint32_t inc)
{
    struct hasher *hasher = hasher_new();
    if (!hasher)
        return FAIL(CREATE, "hello: out of memory");
    memset(me, 0, sizeof *me);
    hasher_add(hasher, "osae-host", 9);
    add_file(hasher, "/etc/machine-id");
    add_file(hasher, "/proc/sys/kernel/random/boot_id");
    me->host = hasher_128(hasher);
    hasher_free(&hasher);
    me->inst = (struct hash128){random_seed(), random_seed()};
    me->version_min = me->version_max = PROTOCOL_VERSION;
    me->role = role;
    me->inc = inc;
    snprintf(me->build, sizeof me->build, "osae %s", OSAE_VERSION);
    if (strlen(name) >= sizeof me->name || strlen(run) >= sizeof me->run)
        return FAIL(CONFIG, "name '%.80s': wanted at most %zu bytes", name, sizeof me->name - 1);
    memcpy(me->name, name, strlen(name));
    memcpy(me->run, run, strlen(run));
    return STATUS_OK;
}
