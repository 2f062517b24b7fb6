// chaosproxy: stands between a client and the socket it wants, tcp or ipc, and spoils what goes by.
// It knows bytes only: what they mean is opaque to it.
//
// clang-format off
//     chaosproxy [-s SEED] [-b BUFFER] FIFO LISTEN TARGET [LISTEN TARGET]...
//
// Endpoints as in the settings: tcp://127.0.0.1:P, ipc:///PATH. Lines written into FIFO,
// `[up|down] COMMAND`, take effect at once (up: client to server, down: back; neither: both ways):
//
//     pass                       as it comes: ends everything below. Connections of which bytes
//                                were swallowed are cut
//     cut N [STEP LAST]          the next connection is cut when N bytes have gone by in that
//                                direction, the one after it at N + STEP ... at LAST; then they
//                                pass. Without STEP: every connection at N
//     flip N [STEP LAST [REST]]  the same, but a bit of byte N is turned over; REST bytes later it
//                                is cut (0: not at all)
//     delay MS                   every byte waits so long
//     rate BYTES                 a second, in each connection
//     hold [MS]                  nothing is read any more, and nothing lost: a partition; ends by
//                                itself after MS
//     swallow [MS]               read and thrown away: a partition after which the connection is
//                                useless
//     drop                       every connection is cut, now
//     stats                      says where things stand
// clang-format on
//
// Everything that happens is a line on stdout, counters last. A connection that was to be cut or
// flipped at N and ended before gives N to the next one. A seed decides which bit is turned.
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum {
    GATES_MOST = 16,
    PAIRS_MOST = 1100,
    BUFFER = 65536,
    UP = 0,
    DOWN = 1,
    OWED_MOST = 2 * PAIRS_MOST
};
enum mode { PASS, HOLD, SWALLOW };

// What a direction is told to do; `until` ends a mode by itself.
struct orders {
    enum mode mode;
    int64_t until, delay_ms;
    double rate;
    bool cuts, flips;
    uint64_t at, step, last, rest; // of cut and flip
    uint64_t owed[OWED_MOST];      // offsets whose connections ended too early
    size_t owed_count;
    uint64_t struck; // connections cut or flipped as told
};
struct way {
    unsigned char at[BUFFER];
    size_t used, sent;
    int64_t due, fed_at; // nothing is written before; tokens were last counted
    double tokens;
    uint64_t read, cut_at, flip_at; // bytes read so far; 0: never, else one more than the offset
    uint64_t offset;                // what it was given from the sweep
    bool given, lost, ended;
};
struct pair {
    bool open;
    int fd[2]; // of the client, of the server
    unsigned number;
    struct way way[2];
};

static struct orders orders[2];
static struct pair pairs[PAIRS_MOST];
static struct gate {
    int fd;
    const char *target;
} gates[GATES_MOST];
static size_t gate_count;
static int buffer;
static unsigned accepted, refused_, broken, open_now;
static uint64_t bytes_through[2];
static uint64_t seed = 1;

static int64_t
now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static uint64_t
mixed(uint64_t z)
{
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

_Noreturn static void
give_up(const char *what, const char *where)
{
    fprintf(stderr, "chaosproxy: %s: %s: %s\n", where, what, strerror(errno));
    exit(1);
}

// ---- sockets

union address {
    struct sockaddr any;
    struct sockaddr_in tcp;
    struct sockaddr_un unix_;
};

static socklen_t
address_read(union address *out, const char *endpoint)
{
    memset(out, 0, sizeof *out);
    const char *colon = strrchr(endpoint, ':');
    if (strncmp(endpoint, "ipc://", 6) == 0 && strlen(endpoint + 6) < sizeof out->unix_.sun_path) {
        out->unix_.sun_family = AF_UNIX;
        memcpy(out->unix_.sun_path, endpoint + 6, strlen(endpoint + 6));
        return sizeof out->unix_;
    }
    if (strncmp(endpoint, "tcp://127.0.0.1:", 16) == 0 && colon) {
        out->tcp.sin_family = AF_INET;
        out->tcp.sin_port = htons((uint16_t)strtoul(colon + 1, NULL, 10));
        out->tcp.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        return sizeof out->tcp;
    }
    errno = EINVAL;
    give_up("wanted tcp://127.0.0.1:PORT or ipc:///PATH", endpoint);
}

static int
make_socket(const union address *address)
{
    int fd = socket(address->any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;
    if (fd < 0)
        give_up("socket", "");
    if (address->any.sa_family == AF_INET)
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (buffer) { // before connecting, or the kernel has promised more already
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &buffer, sizeof buffer);
        setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &buffer, sizeof buffer);
    }
    return fd;
}

static void
smooth(int fd)
{
    int one = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one); // no TCP: nothing happens
    fcntl(fd, F_SETFL, O_NONBLOCK);
}

static void
gate_open(const char *listen_, const char *target)
{
    union address address;
    socklen_t bytes = address_read(&address, listen_);
    int fd = make_socket(&address);
    if (address.any.sa_family == AF_UNIX)
        unlink(listen_ + 6);
    if (bind(fd, &address.any, bytes) != 0 || listen(fd, 512) != 0)
        give_up("cannot listen", listen_);
    smooth(fd);
    gates[gate_count++] = (struct gate){fd, target};
}

// ---- connections

static void
pair_close(struct pair *pair, const char *why)
{
    for (int d = UP; d <= DOWN; d++) {
        struct way *way = &pair->way[d];
        if (way->given && orders[d].owed_count < OWED_MOST)
            orders[d].owed[orders[d].owed_count++] = way->offset;
        way->given = false;
    }
    printf("connection %u: %s after %llu bytes up, %llu down\n", pair->number, why,
           (unsigned long long)pair->way[UP].read, (unsigned long long)pair->way[DOWN].read);
    close(pair->fd[0]);
    close(pair->fd[1]);
    pair->open = false;
    open_now--;
}

// The next offset of a sweep, if one is under way.
static void
way_begin(struct way *way, struct orders *o)
{
    memset(way, 0, sizeof *way);
    way->fed_at = now_ms();
    if (!o->cuts && !o->flips)
        return;
    if (o->owed_count > 0)
        way->offset = o->owed[--o->owed_count];
    else if (o->at <= o->last) {
        way->offset = o->at;
        o->at += o->step;
    } else
        return;
    way->given = o->step > 0;
    if (o->cuts)
        way->cut_at = way->offset + 1;
    else
        way->flip_at = way->offset + 1;
}

static void
pair_accept(const struct gate *gate)
{
    union address address;
    int client = accept4(gate->fd, NULL, NULL, SOCK_CLOEXEC);
    struct pair *pair = NULL;
    if (client < 0)
        return;
    for (size_t i = 0; i < PAIRS_MOST && !pair; i++)
        if (!pairs[i].open)
            pair = &pairs[i];
    socklen_t bytes = address_read(&address, gate->target);
    int server = pair ? make_socket(&address) : -1;
    if (!pair || connect(server, &address.any, bytes) != 0) {
        close(client);
        if (pair)
            close(server);
        refused_++;
        return;
    }
    smooth(client);
    smooth(server);
    pair->open = true;
    pair->fd[UP] = client; // bytes up are read here
    pair->fd[DOWN] = server;
    pair->number = ++accepted;
    open_now++;
    way_begin(&pair->way[UP], &orders[UP]);
    way_begin(&pair->way[DOWN], &orders[DOWN]);
}

// Reads what this direction may read now: never beyond the byte at which it is cut.
static void
way_read(struct pair *pair, int d, int64_t now)
{
    struct way *way = &pair->way[d];
    struct orders *o = &orders[d];
    size_t most = BUFFER;
    if (way->cut_at && way->cut_at - 1 - way->read < most)
        most = (size_t)(way->cut_at - 1 - way->read);
    if (o->rate > 0) {
        way->tokens += o->rate * (double)(now - way->fed_at) / 1000;
        if (way->tokens > o->rate / 20 + 1) // a twentieth of a second at once
            way->tokens = o->rate / 20 + 1;
        if (most > (size_t)way->tokens)
            most = (size_t)way->tokens;
    }
    way->fed_at = now;
    if (most == 0)
        return;
    ssize_t got = recv(pair->fd[d], way->at, most, 0);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (got <= 0) {
        way->ended = true;
        return;
    }
    uint64_t end = way->read + (uint64_t)got;
    if (way->flip_at && way->flip_at - 1 >= way->read && way->flip_at - 1 < end) {
        way->at[way->flip_at - 1 - way->read] ^=
            (unsigned char)(1u << (mixed(seed ^ way->flip_at) & 7));
        printf("connection %u: byte %llu %s flipped\n", pair->number,
               (unsigned long long)way->flip_at - 1, d == UP ? "up" : "down");
        way->cut_at = o->rest ? way->flip_at + o->rest : 0;
        if (way->cut_at && way->cut_at - 1 < end)
            way->cut_at = end + 1;
        way->flip_at = 0;
        way->given = false;
        o->struck++;
    }
    way->read = end;
    way->tokens -= (double)got;
    if (o->mode == SWALLOW) {
        way->lost = true;
        return;
    }
    way->used = (size_t)got;
    way->sent = 0;
    way->due = now + o->delay_ms;
    bytes_through[d] += (uint64_t)got;
}

static void
way_write(struct pair *pair, int d)
{
    struct way *way = &pair->way[d];
    ssize_t put = send(pair->fd[1 - d], way->at + way->sent, way->used - way->sent, MSG_NOSIGNAL);
    if (put < 0 && errno != EAGAIN && errno != EINTR)
        way->ended = true, way->used = way->sent = 0;
    else if (put > 0)
        way->sent += (size_t)put;
    if (way->sent == way->used)
        way->used = way->sent = 0;
}

// One direction of one connection; false: the connection is over.
static bool
way_move(struct pair *pair, int d, short ready, int64_t now)
{
    struct way *way = &pair->way[d];
    if (way->used == 0 && !way->ended && orders[d].mode != HOLD &&
        (ready & (POLLIN | POLLHUP | POLLERR)))
        way_read(pair, d, now);
    if (way->used > 0 && now >= way->due && orders[d].mode != HOLD)
        way_write(pair, d);
    if (way->used > 0)
        return true;
    if (way->cut_at && way->read == way->cut_at - 1) {
        if (way->given) {
            way->given = false;
            orders[d].struck++;
        }
        broken++;
        pair_close(pair, "cut");
        return false;
    }
    if (way->ended) {
        pair_close(pair, "ended");
        return false;
    }
    return true;
}

// ---- commands

static void
drop_all(bool lost_only)
{
    for (size_t i = 0; i < PAIRS_MOST; i++)
        if (pairs[i].open && (!lost_only || pairs[i].way[UP].lost || pairs[i].way[DOWN].lost)) {
            broken++;
            pair_close(&pairs[i], "dropped");
        }
}

static void
obey(char *line, int64_t now)
{
    char *save = NULL, *word = strtok_r(line, " \n", &save);
    int first = UP, last = DOWN;
    if (word && (strcmp(word, "up") == 0 || strcmp(word, "down") == 0)) {
        first = last = strcmp(word, "up") == 0 ? UP : DOWN;
        word = strtok_r(NULL, " \n", &save);
    }
    if (!word)
        return;
    uint64_t value[4] = {0};
    int values = 0;
    for (char *text; values < 4 && (text = strtok_r(NULL, " \n", &save)); values++)
        value[values] = strtoull(text, NULL, 10);
    if (strcmp(word, "drop") == 0)
        drop_all(false);
    for (int d = first; d <= last; d++) {
        struct orders *o = &orders[d];
        if (strcmp(word, "pass") == 0) {
            uint64_t struck = o->struck;
            memset(o, 0, sizeof *o);
            o->struck = struck;
        } else if (strcmp(word, "cut") == 0 || strcmp(word, "flip") == 0) {
            o->cuts = *word == 'c';
            o->flips = !o->cuts;
            o->at = value[0];
            o->step = values >= 3 ? value[1] : 0;
            o->last = values >= 3 ? value[2] : value[0];
            o->rest = value[3];
            o->owed_count = 0;
        } else if (strcmp(word, "delay") == 0) {
            o->delay_ms = (int64_t)value[0];
        } else if (strcmp(word, "rate") == 0) {
            o->rate = (double)value[0];
        } else if (strcmp(word, "hold") == 0 || strcmp(word, "swallow") == 0) {
            o->mode = *word == 'h' ? HOLD : SWALLOW;
            o->until = value[0] ? now + (int64_t)value[0] : INT64_MAX;
        } else if (strcmp(word, "drop") != 0 && strcmp(word, "stats") != 0) {
            fprintf(stderr, "chaosproxy: what is '%s'?\n", word);
        }
    }
    if (strcmp(word, "pass") == 0)
        drop_all(true);
    if (strcmp(word, "stats") == 0)
        printf("stats: %u accepted, %u open, %u refused, %u broken, struck %llu up %llu down, "
               "owed %zu, next %llu up %llu down, %llu bytes up %llu down\n",
               accepted, open_now, refused_, broken, (unsigned long long)orders[UP].struck,
               (unsigned long long)orders[DOWN].struck,
               orders[UP].owed_count + orders[DOWN].owed_count, (unsigned long long)orders[UP].at,
               (unsigned long long)orders[DOWN].at, (unsigned long long)bytes_through[UP],
               (unsigned long long)bytes_through[DOWN]);
}

static void
obey_all(int fifo)
{
    static char text[4096];
    static size_t used;
    ssize_t got = read(fifo, text + used, sizeof text - 1 - used);
    if (got <= 0)
        return;
    used += (size_t)got;
    text[used] = '\0';
    for (char *end; (end = strchr(text, '\n'));) {
        *end = '\0';
        char line[4096];
        size_t bytes = (size_t)(end - text) + 1;
        memcpy(line, text, bytes);
        memmove(text, end + 1, used - bytes + 1);
        used -= bytes;
        obey(line, now_ms());
    }
}

// ---- the loop

static void
turn(int fifo)
{
    struct pollfd wait[1 + GATES_MOST + 2 * PAIRS_MOST] = {{.fd = fifo, .events = POLLIN}};
    size_t at = 1;
    int64_t now = now_ms(), wake = now + 1000;
    for (int d = UP; d <= DOWN; d++)
        if (orders[d].mode != PASS) {
            if (orders[d].until <= now) {
                bool swallowed = orders[d].mode == SWALLOW;
                orders[d].mode = PASS;
                if (swallowed)
                    drop_all(true);
            } else if (orders[d].until < wake) {
                wake = orders[d].until;
            }
        }
    for (size_t i = 0; i < gate_count; i++)
        wait[at++] = (struct pollfd){.fd = gates[i].fd, .events = POLLIN};
    for (size_t i = 0; i < PAIRS_MOST; i++) {
        struct pollfd *two = &wait[at];
        at += 2;
        two[UP].fd = two[DOWN].fd = -1;
        if (!pairs[i].open)
            continue;
        for (int d = UP; d <= DOWN; d++) {
            const struct way *way = &pairs[i].way[d];
            if (orders[d].mode == HOLD) // who is held is not looked at: poll would not sleep
                continue;
            if (way->used == 0 && orders[d].rate > 0 && wake > now + 10)
                wake = now + 10;
            else if (way->used == 0) {
                two[d].fd = pairs[i].fd[d];
                two[d].events |= POLLIN;
            } else if (now < way->due) {
                wake = way->due < wake ? way->due : wake;
            } else {
                two[1 - d].fd = pairs[i].fd[1 - d];
                two[1 - d].events |= POLLOUT;
            }
        }
    }
    int64_t sleep = wake - now;
    if (poll(wait, at, sleep > 0 ? (int)sleep : 0) < 0)
        return;
    now = now_ms();
    for (size_t i = 0; i < PAIRS_MOST; i++) {
        short ready[2];
        for (int d = UP; d <= DOWN; d++)
            ready[d] =
                orders[d].rate > 0 ? POLLIN : wait[1 + gate_count + 2 * i + (size_t)d].revents;
        if (pairs[i].open && way_move(&pairs[i], UP, ready[UP], now))
            way_move(&pairs[i], DOWN, ready[DOWN], now);
    }
    for (size_t i = 0; i < gate_count; i++)
        if (wait[1 + i].revents)
            pair_accept(&gates[i]);
    if (wait[0].revents)
        obey_all(fifo);
}

int
main(int argc, char **argv)
{
    int option;
    while ((option = getopt(argc, argv, "s:b:")) != -1) {
        if (option == 's')
            seed = strtoull(optarg, NULL, 10);
        else if (option == 'b')
            buffer = (int)strtol(optarg, NULL, 10);
        else
            return 2;
    }
    if (argc - optind < 3 || (argc - optind) % 2 != 1 || (argc - optind) / 2 > GATES_MOST) {
        fprintf(stderr, "usage: chaosproxy [-s SEED] [-b BUFFER] FIFO LISTEN TARGET...\n");
        return 2;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    signal(SIGPIPE, SIG_IGN);
    const char *path = argv[optind];
    if (mkfifo(path, 0600) != 0 && errno != EEXIST)
        give_up("mkfifo", path);
    int fifo = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC); // read and write: never at its end
    if (fifo < 0)
        give_up("open", path);
    for (int i = optind + 1; i < argc; i += 2)
        gate_open(argv[i], argv[i + 1]);
    printf("ready\n");
    for (;;)
        turn(fifo);
}
