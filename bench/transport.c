// bench transport: one producer's batches to 1 ... 8 trainers, each a process of its own: through
// ipc, tcp and shared memory, beside a plain AF_UNIX socket in the same rounds.
//
//     bench_transport [rounds] [mib]        3 rounds of 768 MiB to each consumer
//
// A consumer is what a trainer has: datafeed in a comm thread, which hashes each batch, and a
// thread that takes it. "raw" is what cannot be avoided when batches are copied between processes:
// write into a socket for each consumer, read into one buffer, hash. Two tables: what the slowest
// consumer got by the clock, from its first batch to its last, which counts the machine's other
// work too; and what was delivered for each second of processor time that all processes of the
// scene used, which is what cores can do when they are the limit. Medians over rounds.
#include "lib/base/bytes.h"
#include "lib/base/say.h"
#include "lib/base/tick.h"
#include "proto/datafeed.h"
#include "proto/dataport.h"

#include <math.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { CONSUMERS_MOST = 8, ROUNDS_MOST = 32, WAYS = 4, SIZES = 2, COUNTS = 4 };
enum way { RAW, IPC, TCP, SHM };
static const char *const way_names[WAYS] = {"raw socket", "ipc", "tcp", "shared memory"};
static const size_t sizes[SIZES] = {(9 << 20) / 4, 9 << 20}, counts[COUNTS] = {1, 2, 4, 8};
static size_t mib_each = 768;

struct scene {
    enum way way;
    size_t bytes, consumers, batches;
    char endpoint[64];
    struct wire_stream stream;
};

static void
fine(enum status status)
{
    if (status != STATUS_OK) {
        fprintf(stderr, "bench_transport: %s\n", status_words());
        _exit(1);
    }
}

static void
wait_for(struct channel *channel, int64_t until)
{
    int64_t left = until - tick_ms();
    struct pollfd fd = {.fd = channel_fd(channel), .events = POLLIN};
    if (left > 0 && !channel_pending(channel))
        (void)poll(&fd, 1, (int)(left > 50 ? 50 : left));
}

// ---- the producer: a ring that is full of the same bytes, so making a batch costs its hash only

static void *
make(void *from)
{
    struct dataport *port = from;
    struct want_batch want;
    while (!dataport_closed(port))
        if (dataport_want(port, &want, tick_ms() + 100)) {
            memcpy(want.at, &want.seq, sizeof want.seq);
            dataport_filled(port, &want, 0, 0);
        }
    return NULL;
}

static volatile sig_atomic_t over;
static void
end(int number)
{
    (void)number;
    over = 1;
}

static void
produce(const struct scene *scene)
{
    struct channel *channel;
    struct dataport *port;
    struct msg_hello me;
    pthread_t thread;
    struct dataserver_settings set = dataserver_presets;
    fine(hello_fill(&me, ROLE_MONITOR, "producer", "bench", 0));
    set.links.inst = me.inst;
    set.links.host = me.host;
    set.links.stream = scene->stream;
    set.links.seed = random_seed();
    snprintf(set.links.name, sizeof set.links.name, "producer");
    set.share = scene->way == SHM;
    signal(SIGTERM, end);
    fine(channel_new(&channel, NULL));
    fine(dataport_open(&port, channel, scene->endpoint, &set));
    pthread_create(&thread, NULL, make, port);
    while (!over)
        wait_for(channel, dataport_turn(port, tick_ms()));
    dataport_leave(port, "done");
    (void)dataport_turn(port, tick_ms());
    pthread_join(thread, NULL);
    dataport_close(&port);
    channel_free(&channel);
}

// ---- a consumer

struct consumer {
    struct datafeed *feed;
    size_t batches;
    double seconds;
    _Atomic bool done;
};

static void *
take(void *from)
{
    struct consumer *c = from;
    struct wire_stream stream;
    struct feed_batch batch;
    double began = 0;
    while (!datafeed_wait_stream(c->feed, &stream, tick_ms() + 1000))
        ;
    datafeed_start(c->feed, (struct cursor){0}, c->batches);
    for (size_t n = 0; n < c->batches;) {
        if (datafeed_next(c->feed, &batch, tick_ms() + 1000) != FEED_BATCH)
            continue;
        if (n == 0)
            began = tick_seconds();
        if (!datafeed_sound(c->feed, &batch))
            continue;
        datafeed_done(c->feed, &batch);
        n++;
    }
    c->seconds = tick_seconds() - began;
    c->done = true;
    return NULL;
}

static double
consume(const struct scene *scene, size_t number)
{
    struct channel *channel;
    struct consumer c = {.batches = scene->batches};
    static struct texts endpoints;
    pthread_t thread;
    char name[32];
    struct dataclient_settings set = {.link = link_presets,
                                      .win = 8,
                                      .group = "bench",
                                      .group_size = (uint16_t)scene->consumers,
                                      .handover =
                                          scene->way == SHM ? HANDOVER_SHM : HANDOVER_INLINE,
                                      .seed = random_seed()};
    snprintf(name, sizeof name, "c%zu", number);
    snprintf(endpoints.at[endpoints.count++], TEXT_BYTES, "%s", scene->endpoint);
    fine(hello_fill(&set.link.me, ROLE_TRAINER, name, name, 0));
    fine(channel_new(&channel, NULL));
    fine(datafeed_open(&c.feed, channel, &endpoints, scene->bytes, &set));
    pthread_create(&thread, NULL, take, &c);
    while (!c.done)
        wait_for(channel, datafeed_turn(c.feed, tick_ms()));
    pthread_join(thread, NULL);
    struct dataclient_view view;
    dataclient_look(datafeed_client(c.feed), &view);
    if (scene->way == SHM && view.shared < scene->batches) {
        fprintf(stderr, "bench_transport: shared memory was not used\n");
        _exit(1);
    }
    datafeed_leave(c.feed);
    datafeed_close(&c.feed);
    channel_free(&channel);
    return c.seconds;
}

// ---- the plain socket

static void
raw_produce(const struct scene *scene, int ends[CONSUMERS_MOST][2])
{
    struct pollfd fds[CONSUMERS_MOST];
    size_t sent[CONSUMERS_MOST] = {0}, open = scene->consumers, all = scene->bytes * scene->batches;
    unsigned char *batch = malloc(scene->bytes);
    if (!batch)
        _exit(1);
    memset(batch, 3, scene->bytes);
    for (size_t i = 0; i < scene->consumers; i++)
        fds[i] = (struct pollfd){.fd = ends[i][0], .events = POLLOUT};
    while (open > 0) {
        (void)poll(fds, scene->consumers, -1);
        for (size_t i = 0; i < scene->consumers; i++) {
            if (sent[i] == all || !fds[i].revents)
                continue;
            size_t at = sent[i] % scene->bytes;
            ssize_t wrote = send(fds[i].fd, batch + at, scene->bytes - at, MSG_DONTWAIT);
            sent[i] += wrote > 0 ? (size_t)wrote : 0;
            if (sent[i] == all) {
                fds[i].fd = -1;
                open--;
            }
        }
    }
    free(batch);
}

static double
raw_consume(const struct scene *scene, int fd)
{
    unsigned char *batch = malloc(scene->bytes);
    double began = 0;
    uint64_t sum = 0;
    if (!batch)
        _exit(1);
    for (size_t n = 0; n < scene->batches; n++) {
        for (size_t at = 0; at < scene->bytes;) {
            ssize_t got = read(fd, batch + at, scene->bytes - at);
            if (got <= 0)
                _exit(1);
            at += (size_t)got;
        }
        sum += hash64(batch, scene->bytes);
        if (n == 0)
            began = tick_seconds();
    }
    free(batch);
    return tick_seconds() - began + (sum == 1 ? 1e-9 : 0);
}

// ---- one measurement

static double
processor_seconds(void)
{
    struct rusage use;
    getrusage(RUSAGE_CHILDREN, &use);
    return (double)(use.ru_utime.tv_sec + use.ru_stime.tv_sec) +
           1e-6 * (double)(use.ru_utime.tv_usec + use.ru_stime.tv_usec);
}

enum { CLOCK, PROCESSOR, MEASURES };

// GiB/s, 0: failed.
static void
measure(double out[MEASURES], enum way way, size_t bytes, size_t consumers, const char *folder,
        unsigned number)
{
    out[CLOCK] = out[PROCESSOR] = 0;
    double used = processor_seconds();
    struct scene scene = {.way = way, .bytes = bytes, .consumers = consumers};
    int report[2], ends[CONSUMERS_MOST][2];
    scene.batches = (mib_each << 20) / bytes;
    if (way == TCP)
        snprintf(scene.endpoint, sizeof scene.endpoint, "tcp://127.0.0.1:%u",
                 23000 + number % 2000);
    else
        snprintf(scene.endpoint, sizeof scene.endpoint, "ipc://%s/%u", folder, number);
    scene.stream = (struct wire_stream){.id = {bytes, 1},
                                        .shards = 1,
                                        .rows = 2048,
                                        .width = (uint32_t)(bytes / 4096),
                                        .dtype = PAYLOAD_BF16,
                                        .bytes = bytes,
                                        .block = 16,
                                        .per_epoch = 1 << 20,
                                        .end = 1 << 20,
                                        .replay = "bench"};
    pid_t pids[CONSUMERS_MOST + 1];
    if (pipe(report) != 0)
        return;
    for (size_t i = 0; i < consumers; i++)
        if (way == RAW && socketpair(AF_UNIX, SOCK_STREAM, 0, ends[i]) != 0)
            return;
    for (size_t i = 0; i <= consumers; i++)
        if ((pids[i] = fork()) == 0) {
            if (i == 0) {
                if (way == RAW)
                    raw_produce(&scene, ends);
                else
                    produce(&scene);
            } else {
                double seconds =
                    way == RAW ? raw_consume(&scene, ends[i - 1][1]) : consume(&scene, i);
                if (write(report[1], &seconds, sizeof seconds) < 0)
                    _exit(1);
            }
            _exit(0);
        }
    close(report[1]);
    double slowest = 0, seconds;
    for (size_t i = 0; i < consumers; i++) {
        if (read(report[0], &seconds, sizeof seconds) != sizeof seconds) {
            fprintf(stderr, "bench_transport: a consumer failed\n");
            for (size_t p = 0; p <= consumers; p++)
                kill(pids[p], SIGKILL);
            slowest = INFINITY;
            break;
        }
        slowest = seconds > slowest ? seconds : slowest;
    }
    kill(pids[0], SIGTERM);
    for (size_t i = 0; i <= consumers; i++)
        waitpid(pids[i], NULL, 0);
    close(report[0]);
    for (size_t i = 0; way == RAW && i < consumers; i++)
        close(ends[i][0]), close(ends[i][1]);
    double gib = (double)bytes / (1 << 30);
    out[CLOCK] = (double)(scene.batches - 1) * gib / slowest;
    out[PROCESSOR] = (double)(scene.batches * consumers) * gib / (processor_seconds() - used);
}

static double
memory_copy(size_t bytes)
{
    unsigned char *from = malloc(bytes), *to = malloc(bytes);
    size_t times = (mib_each << 20) / bytes;
    if (!from || !to)
        return 0;
    memset(from, 1, bytes);
    memset(to, 2, bytes);
    double began = tick_seconds();
    for (size_t i = 0; i < times; i++) {
        memcpy(to, from, bytes);
        from[i % bytes] ^= to[(i * 7) % bytes];
    }
    double rate = (double)times * (double)bytes / (tick_seconds() - began) / (1 << 30);
    free(from);
    free(to);
    return rate;
}

static int
by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double
median(double *values, size_t count)
{
    qsort(values, count, sizeof values[0], by_size);
    return values[count / 2];
}

static void
print_table(const char *unit, double rates[WAYS][COUNTS][ROUNDS_MOST], size_t rounds)
{
    printf("%-14s", unit);
    for (int w = 0; w < WAYS; w++)
        printf("%15s", way_names[w]);
    printf("%10s%12s\n", "ipc/raw", "shared/ipc");
    for (size_t c = 0; c < COUNTS; c++) {
        double at[WAYS];
        printf("%2zu consumer%c   ", counts[c], c == 0 ? ' ' : 's');
        for (int w = 0; w < WAYS; w++)
            printf("%15.2f", at[w] = median(rates[w][c], rounds));
        printf("%10.2f%12.2f\n", at[IPC] / at[RAW], at[SHM] / at[IPC]);
    }
}

int
main(int argc, char **argv)
{
    size_t rounds = argc > 1 ? strtoul(argv[1], NULL, 10) : 3;
    if (argc > 2)
        mib_each = strtoul(argv[2], NULL, 10);
    if (rounds < 1 || rounds > ROUNDS_MOST || mib_each < 64) {
        fprintf(stderr, "usage: bench_transport [1..%d rounds] [64.. MiB]\n", ROUNDS_MOST);
        return 64;
    }
    static double rates[MEASURES][WAYS][COUNTS][ROUNDS_MOST], copies[ROUNDS_MOST];
    char folder[] = "/tmp/osae-bench-XXXXXX";
    if (!mkdtemp(folder))
        return 73;
    say_level(SAY_ERROR);
    unsigned number = 0;
    for (size_t s = 0; s < SIZES; s++) {
        for (size_t r = 0; r < rounds; r++) {
            copies[r] = memory_copy(sizes[s]);
            for (size_t c = 0; c < COUNTS; c++)
                for (int w = 0; w < WAYS; w++) {
                    double got[MEASURES];
                    measure(got, (enum way)w, sizes[s], counts[c], folder, number++);
                    rates[CLOCK][w][c][r] = got[CLOCK];
                    rates[PROCESSOR][w][c][r] = got[PROCESSOR];
                }
        }
        printf("batches of %.2f MiB; memcpy in one thread: %.2f GiB/s\n",
               (double)sizes[s] / (1 << 20), median(copies, rounds));
        print_table("GiB/s, each", rates[CLOCK], rounds);
        print_table("GiB/core s", rates[PROCESSOR], rounds);
        fflush(stdout);
    }
    rmdir(folder);
    return 0;
}
