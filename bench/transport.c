// bench transport: one producer's batches to 1 ... 8 trainers, each a process of its own: through
// ipc, tcp and shared memory, beside plain AF_UNIX sockets in the same rounds.
//
//     bench_transport [rounds [mib [consumers [way]]]]      3 rounds of 512 MiB to each consumer;
//                                                           that number only; one way only
//
// A consumer is what a trainer has: datafeed in a comm thread, which hashes each batch, and a
// thread that takes it. Two baselines:
//   copy  write(2) of one buffer into a socket for each consumer, read(2) into one buffer; no hash.
//         Both buffers stay in the cache: less than this no copying between processes can cost.
//   raw   the same with what a data plane cannot do without: as many different batches as the
//         producer's ring has, each hashed when it is made, read into as many buffers as a
//         trainer's window has, and hashed.
// Two tables: what the slowest consumer got by the clock, which counts the machine's other work
// too; and what was delivered for each second of processor time that all processes of the scene
// used, which is what cores can do when they are the limit. Both from the moment the ring has been
// round once (its pages are there, the caches are as they will be) to the end. Medians over rounds;
// a ratio is the median of the rounds' ratios, so what else ran is in both of its sides.
#include "lib/base/bytes.h"
#include "lib/base/say.h"
#include "lib/base/tick.h"
#include "proto/datafeed.h"
#include "proto/dataport.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { CONSUMERS_MOST = 8, ROUNDS_MOST = 32, WAYS = 5, SIZES = 2, COUNTS = 4 };
enum { RING = 16, WINDOW = 8 }; // the presets of stream.ring_slots and data.win
enum way { COPY, RAW, IPC, TCP, SHM };
static const char *const way_names[WAYS] = {"copy", "raw", "ipc", "tcp", "shared"};
static const size_t sizes[SIZES] = {(9 << 20) / 4, 9 << 20}, counts[COUNTS] = {1, 2, 4, 8};
static size_t mib_each = 512, only_count;
static int only_way = -1;

// The first RING batches are not measured.
struct scene {
    enum way way;
    size_t bytes, consumers, batches;
    int report;
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

// Where a consumer is: told to the scene when its first RING batches are there, and at the end.
struct mark {
    double clock, processor;
    bool end;
};

static double
processor_seconds(clockid_t clock)
{
    struct timespec time = {0};
    clock_gettime(clock, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static void
mark(const struct scene *scene, size_t taken)
{
    struct mark here = {.clock = tick_seconds(),
                        .processor = processor_seconds(CLOCK_PROCESS_CPUTIME_ID),
                        .end = taken == scene->batches};
    if ((taken == RING || here.end) && write(scene->report, &here, sizeof here) < 0)
        _exit(1);
}

struct consumer {
    const struct scene *scene;
    struct datafeed *feed;
    _Atomic bool done;
};

static void *
take(void *from)
{
    struct consumer *c = from;
    struct wire_stream stream;
    struct feed_batch batch;
    size_t batches = c->scene->batches;
    while (!datafeed_wait_stream(c->feed, &stream, tick_ms() + 1000))
        ;
    datafeed_start(c->feed, (struct cursor){0}, batches);
    for (size_t n = 0; n < batches;) {
        if (datafeed_next(c->feed, &batch, tick_ms() + 1000) != FEED_BATCH)
            continue;
        if (!datafeed_sound(c->feed, &batch))
            continue;
        datafeed_done(c->feed, &batch);
        mark(c->scene, ++n);
    }
    c->done = true;
    return NULL;
}

static void
consume(const struct scene *scene, size_t number)
{
    struct channel *channel;
    struct consumer c = {.scene = scene};
    static struct texts endpoints;
    pthread_t thread;
    char name[32];
    struct dataclient_settings set = {.link = link_presets,
                                      .win = WINDOW,
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
}

// ---- the plain socket

static unsigned char *
buffers(size_t count, size_t bytes)
{
    unsigned char *at = malloc(count * bytes);
    if (!at)
        _exit(1);
    memset(at, 3, count * bytes);
    return at;
}

static void
plain_produce(const struct scene *scene, int ends[CONSUMERS_MOST][2])
{
    struct pollfd fds[CONSUMERS_MOST];
    size_t sent[CONSUMERS_MOST] = {0}, open = scene->consumers, all = scene->bytes * scene->batches;
    size_t slots = scene->way == RAW ? RING : 1, made = 0;
    unsigned char *ring = buffers(slots, scene->bytes);
    uint64_t sum = 0;
    for (size_t i = 0; i < scene->consumers; i++)
        fds[i] = (struct pollfd){.fd = ends[i][0], .events = POLLOUT};
    while (open > 0) {
        (void)poll(fds, scene->consumers, -1);
        for (size_t i = 0; i < scene->consumers; i++) {
            if (sent[i] == all || !fds[i].revents)
                continue;
            size_t number = sent[i] / scene->bytes, at = sent[i] % scene->bytes;
            unsigned char *batch = ring + number % slots * scene->bytes;
            if (number == made && scene->way == RAW) {
                memcpy(batch, &made, sizeof made);
                sum += hash64(batch, scene->bytes);
                made++;
            }
            ssize_t wrote = send(fds[i].fd, batch + at, scene->bytes - at, MSG_DONTWAIT);
            sent[i] += wrote > 0 ? (size_t)wrote : 0;
            if (sent[i] == all) {
                fds[i].fd = -1;
                open--;
            }
        }
    }
    free(ring);
    over = sum == 1;
}

static void
plain_consume(const struct scene *scene, int fd)
{
    size_t slots = scene->way == RAW ? WINDOW : 1;
    unsigned char *window = buffers(slots, scene->bytes);
    uint64_t sum = 0;
    for (size_t n = 0; n < scene->batches;) {
        unsigned char *batch = window + n % slots * scene->bytes;
        for (size_t at = 0; at < scene->bytes;) {
            ssize_t got = read(fd, batch + at, scene->bytes - at);
            if (got <= 0)
                _exit(1);
            at += (size_t)got;
        }
        if (scene->way == RAW)
            sum += hash64(batch, scene->bytes);
        mark(scene, ++n);
    }
    free(window);
    over = sum == 1;
}

// ---- one measurement

enum { CLOCK, PROCESSOR, MEASURES, RATIOS = 3 };

// Reads what the consumers tell; the producer's time is read beside it.
static bool
watch(double out[MEASURES], const struct scene *scene, int report, pid_t producer)
{
    struct mark one;
    clockid_t clock;
    size_t begun = 0, ended = 0;
    double from = 0, to = 0, used = 0;
    if (clock_getcpuclockid(producer, &clock) != 0)
        return false;
    while (ended < scene->consumers) {
        if (read(report, &one, sizeof one) != sizeof one)
            return false;
        used += one.end ? one.processor : -one.processor;
        if (one.end) {
            to = one.clock; // of the last
            ended++;
        } else {
            from = begun == 0 ? one.clock : from; // of the first
            begun++;
        }
        if (!one.end && begun == scene->consumers)
            used -= processor_seconds(clock);
        else if (ended == scene->consumers)
            used += processor_seconds(clock);
    }
    double gib = (double)(scene->batches - RING) * (double)scene->bytes / (1 << 30);
    out[CLOCK] = gib / (to - from);
    out[PROCESSOR] = gib * (double)scene->consumers / used;
    return true;
}

// GiB/s, 0: failed.
static void
measure(double out[MEASURES], enum way way, size_t bytes, size_t consumers, const char *folder,
        unsigned number)
{
    out[CLOCK] = out[PROCESSOR] = 0;
    bool plain = way == COPY || way == RAW;
    struct scene scene = {.way = way, .bytes = bytes, .consumers = consumers};
    int report[2], ends[CONSUMERS_MOST][2];
    scene.batches = RING + (mib_each << 20) / bytes;
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
    scene.report = report[1];
    for (size_t i = 0; i < consumers; i++)
        if (plain && socketpair(AF_UNIX, SOCK_STREAM, 0, ends[i]) != 0)
            return;
    for (size_t i = 0; i <= consumers; i++)
        if ((pids[i] = fork()) == 0) {
            if (i == 0 && plain)
                plain_produce(&scene, ends);
            else if (i == 0)
                produce(&scene);
            else if (plain)
                plain_consume(&scene, ends[i - 1][1]);
            else
                consume(&scene, i);
            // The plain producer has nothing to do when all is sent; its time is still to be read.
            while (i == 0 && plain)
                pause();
            _exit(0);
        }
    close(report[1]);
    bool sound = watch(out, &scene, report[0], pids[0]);
    if (!sound)
        fprintf(stderr, "bench_transport: a consumer failed\n");
    kill(pids[0], plain ? SIGKILL : SIGTERM);
    for (size_t i = 0; i <= consumers; i++) {
        if (!sound)
            kill(pids[i], SIGKILL);
        waitpid(pids[i], NULL, 0);
    }
    close(report[0]);
    for (size_t i = 0; plain && i < consumers; i++)
        close(ends[i][0]), close(ends[i][1]);
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
        printf("%12s", way_names[w]);
    static const enum way pairs[RATIOS][2] = {{IPC, COPY}, {IPC, RAW}, {SHM, IPC}};
    printf("%12s%12s%12s\n", "ipc/copy", "ipc/raw", "shared/ipc");
    for (size_t c = 0; c < COUNTS; c++) {
        if (only_count && counts[c] != only_count)
            continue;
        double ratios[RATIOS][ROUNDS_MOST];
        for (size_t r = 0; r < rounds; r++)
            for (size_t i = 0; i < RATIOS; i++)
                ratios[i][r] = rates[pairs[i][0]][c][r] / rates[pairs[i][1]][c][r];
        printf("%2zu consumer%c   ", counts[c], c == 0 ? ' ' : 's');
        for (int w = 0; w < WAYS; w++)
            printf("%12.2f", median(rates[w][c], rounds));
        for (size_t i = 0; i < RATIOS; i++)
            printf("%12.2f", median(ratios[i], rounds));
        printf("\n");
    }
}

int
main(int argc, char **argv)
{
    size_t rounds = argc > 1 ? strtoul(argv[1], NULL, 10) : 3;
    if (argc > 2)
        mib_each = strtoul(argv[2], NULL, 10);
    if (argc > 3)
        only_count = strtoul(argv[3], NULL, 10);
    for (int w = 0; argc > 4 && w < WAYS; w++)
        if (strcmp(argv[4], way_names[w]) == 0)
            only_way = w;
    if (rounds < 1 || rounds > ROUNDS_MOST || mib_each < 64 || (argc > 4 && only_way < 0)) {
        fprintf(stderr,
                "usage: bench_transport [1..%d rounds [64.. MiB [consumers: 1 2 4 8, 0: all "
                "[copy|raw|ipc|tcp|shared]]]]\n",
                ROUNDS_MOST);
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
                    if ((only_count && counts[c] != only_count) || (only_way >= 0 && w != only_way))
                        continue;
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
