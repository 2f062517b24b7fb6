// The ring in shared memory: what may be mapped and what not, stamps against a writer that never
// waits, and what is left when its owner is killed (nothing).
#include "proto/shmring.h"

#include "tests/proto/socket_kit.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/wait.h>

enum { SLOTS = 4, BYTES = 10000, WORDS = BYTES / 8 };

static void
fill(unsigned char *at, uint64_t q)
{
    for (size_t i = 0; i < WORDS; i++)
        memcpy(at + 8 * i, &q, sizeof q);
}

static bool
is_whole(const unsigned char *at, uint64_t q)
{
    for (size_t i = 0; i < WORDS; i++)
        if (memcmp(at + 8 * i, &q, sizeof q) != 0)
            return false;
    return true;
}

static void
what_is_written_is_read(void **unused)
{
    (void)unused;
    struct shmring *ours, *theirs;
    fine(shmring_new(&ours, SLOTS, BYTES));
    struct wire_shm place = shmring_place(ours);
    assert_int_equal(place.stride % 4096, 0);
    fine(shmring_map(&theirs, &place, BYTES));
    assert_true(shmring_is(theirs, &place));
    for (uint16_t s = 0; s < SLOTS; s++) {
        assert_false(shmring_holds(theirs, s, 0)); // 0 is no stamp
        assert_false(shmring_holds(theirs, s, 7u + s));
        shmring_begin(ours, s);
        fill(shmring_at(ours, s), 100u + s);
        assert_false(shmring_holds(theirs, s, 7u + s));
        shmring_end(ours, s, 7u + s);
    }
    for (uint16_t s = 0; s < SLOTS; s++) {
        assert_true(shmring_holds(theirs, s, 7u + s));
        assert_true(is_whole(shmring_at(theirs, s), 100u + s));
    }
    assert_false(shmring_holds(theirs, SLOTS, 7)); // as a foreign BATCH may say
    shmring_begin(ours, 2);
    assert_false(shmring_holds(theirs, 2, 9));
    shmring_free(&ours);
    assert_true(is_whole(shmring_at(theirs, 1), 101)); // kept by the mapping
    shmring_free(&theirs);
}

static void
refused(const struct wire_shm *place, uint64_t bytes, const char *words)
{
    struct shmring *ring;
    assert_int_not_equal(shmring_map(&ring, place, bytes), STATUS_OK);
    assert_null(ring);
    if (!strstr(status_words(), words))
        fail_msg("wanted '%s' in: %s", words, status_words());
}

static void
nothing_else_is_mapped(void **unused)
{
    (void)unused;
    struct shmring *ring;
    fine(shmring_new(&ring, SLOTS, BYTES));
    struct wire_shm place = shmring_place(ring), other = place;
    other.key.low ^= 1;
    refused(&other, BYTES, "another ring");
    refused(&place, BYTES + 5000, "bytes, wanted"); // the stream's batches would not fit
    other = place;
    other.slots++;
    refused(&other, BYTES, "bytes, wanted");
    other.slots = 0;
    refused(&other, BYTES, "impossible");
    other = place;
    other.stride *= 2;
    refused(&other, BYTES, "bytes, wanted");
    refused(&place, UINT64_MAX, "impossible");
    refused(&place, UINT64_MAX / 8, "impossible");
    other = place;
    other.fd = 1000000;
    refused(&other, BYTES, "No such file");

    // A file, a pipe, and memory that could be shrunk under us.
    char path[128];
    snprintf(path, sizeof path, "%s/file", kit_folder);
    int file = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600), ends[2];
    assert_int_equal(ftruncate(file, 4096), 0);
    other.fd = (uint32_t)file;
    refused(&other, BYTES, "not a ring");
    assert_int_equal(pipe(ends), 0);
    other.fd = (uint32_t)ends[0];
    refused(&other, BYTES, "not a ring");
    int loose = memfd_create("loose", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    assert_int_equal(ftruncate(loose, (off_t)(8192 + SLOTS * place.stride)), 0);
    other.fd = (uint32_t)loose;
    refused(&other, BYTES, "not a ring");
    close(file), close(ends[0]), close(ends[1]), close(loose);
    shmring_free(&ring);
}

// ---- a writer that waits for nobody

struct race {
    struct shmring *ring;
    _Atomic uint64_t filled; // slot 0 holds this batch, with this stamp
    _Atomic bool stop;
};

static void *
write_on(void *self)
{
    struct race *race = self;
    for (uint64_t q = 1; !race->stop; q++) {
        shmring_begin(race->ring, 0);
        fill(shmring_at(race->ring, 0), q);
        shmring_end(race->ring, 0, q);
        race->filled = q;
    }
    return NULL;
}

static void
what_was_read_under_one_stamp_is_one_batch(void **unused)
{
    (void)unused;
    struct race race = {0};
    struct shmring *reader;
    fine(shmring_new(&race.ring, 1, BYTES));
    struct wire_shm place = shmring_place(race.ring);
    fine(shmring_map(&reader, &place, BYTES));
    pthread_t writer;
    pthread_create(&writer, NULL, write_on, &race);
    static unsigned char copy[BYTES];
    uint64_t whole = 0, torn = 0;
    for (int64_t until = tick_ms() + 10000; (whole < 50 || torn < 50) && tick_ms() < until;) {
        uint64_t stamp = race.filled;
        if (!shmring_holds(reader, 0, stamp))
            continue;
        memcpy(copy, shmring_at(reader, 0), BYTES);
        if (shmring_holds(reader, 0, stamp)) {
            whole++;
            assert_true(is_whole(copy, stamp));
        } else {
            torn++;
        }
    }
    race.stop = true;
    pthread_join(writer, NULL);
    assert_true(whole > 0 && torn > 0);
    shmring_free(&reader);
    shmring_free(&race.ring);
}

static void
an_owner_that_is_killed_leaves_nothing(void **unused)
{
    (void)unused;
    int ends[2];
    struct wire_shm place;
    struct shmring *ring;
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    if (child == 0) {
        struct shmring *theirs;
        if (shmring_new(&theirs, SLOTS, BYTES) != STATUS_OK)
            _exit(1);
        place = shmring_place(theirs);
        shmring_begin(theirs, 3);
        fill(shmring_at(theirs, 3), 42);
        shmring_end(theirs, 3, 5);
        if (write(ends[1], &place, sizeof place) < 0)
            _exit(1);
        pause();
        _exit(0);
    }
    assert_int_equal(read(ends[0], &place, sizeof place), sizeof place);
    fine(shmring_map(&ring, &place, BYTES));
    kill(child, SIGKILL);
    assert_int_equal(waitpid(child, NULL, 0), child);
    assert_true(shmring_holds(ring, 3, 5)); // what was staged is still good
    assert_true(is_whole(shmring_at(ring, 3), 42));
    shmring_free(&ring);
    refused(&place, BYTES, "No such file");
    close(ends[0]), close(ends[1]);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_is_read),
        cmocka_unit_test(nothing_else_is_mapped),
        cmocka_unit_test(what_was_read_under_one_stamp_is_one_batch),
        cmocka_unit_test(an_owner_that_is_killed_leaves_nothing),
    };
    return cmocka_run_group_tests(tests, kit_begin, kit_end);
}
