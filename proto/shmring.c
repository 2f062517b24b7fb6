#include "proto/shmring.h"

#include "lib/base/bytes.h"
#include "proto/channel.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PAGE = 4096, SLOT_HEAD = 64 };
static const char magic[8] = {'O', 'S', 'A', 'E', 'S', 'H', 'M', '1'};

struct head {
    char magic[8];
    uint64_t slots, stride;
    struct hash128 key; // random: the memory meant, and no other
};
struct slot_head {
    _Atomic uint64_t stamp;
};

struct shmring {
    struct wire_shm place;
    unsigned char *memory;
    size_t total, first; // first: where the payloads begin
    int fd;              // of the producer; -1 here
};

// Sizes of a ring, each checked before it is used.
static bool
measure(struct shmring *ring, uint16_t slots, uint64_t bytes)
{
    size_t payloads;
    if (slots == 0 || bytes == 0 || bytes > SIZE_MAX / 4)
        return false;
    ring->place.slots = slots;
    ring->place.stride = (bytes + PAGE - 1) / PAGE * PAGE;
    ring->first = PAGE + ((size_t)slots * SLOT_HEAD + PAGE - 1) / PAGE * PAGE;
    return times(&payloads, (size_t)ring->place.stride, slots) &&
           payloads <= SIZE_MAX / 4 - ring->first && (ring->total = ring->first + payloads) > 0;
}

static _Atomic uint64_t *
stamp_of(const struct shmring *ring, uint16_t slot)
{
    assert(slot < ring->place.slots);
    return &((struct slot_head *)(void *)(ring->memory + PAGE + (size_t)slot * SLOT_HEAD))->stamp;
}

enum status
shmring_new(struct shmring **out, uint16_t slots, uint64_t bytes)
{
    *out = NULL;
    struct shmring *ring = calloc(1, sizeof *ring);
    if (!ring)
        return FAIL(CREATE, "shared ring: out of memory");
    ring->fd = -1;
    ring->memory = MAP_FAILED;
    enum status status = STATUS_OK;
    if (!measure(ring, slots, bytes)) {
        status = FAIL(CREATE, "the ring of %u batches of %llu bytes is too large", slots,
                      (unsigned long long)bytes);
    } else if ((ring->fd = memfd_create("osae-ring", MFD_CLOEXEC | MFD_ALLOW_SEALING)) < 0 ||
               ftruncate(ring->fd, (off_t)ring->total) != 0 ||
               fcntl(ring->fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0 ||
               (ring->memory = mmap(NULL, ring->total, PROT_READ | PROT_WRITE, MAP_SHARED, ring->fd,
                                    0)) == MAP_FAILED) {
        status = FAIL(CREATE, "the ring cannot be shared memory of %zu bytes: %s", ring->total,
                      strerror(errno));
    }
    if (status != STATUS_OK) {
        shmring_free(&ring);
        return status;
    }
    ring->place.pid = (uint32_t)getpid();
    ring->place.fd = (uint32_t)ring->fd;
    ring->place.key = (struct hash128){random_seed(), random_seed()};
    struct head head = {.slots = slots, .stride = ring->place.stride, .key = ring->place.key};
    memcpy(head.magic, magic, sizeof magic);
    memcpy(ring->memory, &head, sizeof head);
    *out = ring;
    return STATUS_OK;
}

struct wire_shm
shmring_place(const struct shmring *ring)
{
    return ring->place;
}

unsigned char *
shmring_at(const struct shmring *ring, uint16_t slot)
{
    assert(slot < ring->place.slots);
    return ring->memory + ring->first + (size_t)slot * (size_t)ring->place.stride;
}

void
shmring_begin(struct shmring *ring, uint16_t slot)
{
    atomic_store_explicit(stamp_of(ring, slot), 0, memory_order_relaxed);
    atomic_thread_fence(memory_order_release); // no later write is seen before this one
}

void
shmring_end(struct shmring *ring, uint16_t slot, uint64_t stamp)
{
    atomic_store_explicit(stamp_of(ring, slot), stamp, memory_order_release);
}

bool
shmring_holds(const struct shmring *ring, uint16_t slot, uint64_t stamp)
{
    if (slot >= ring->place.slots || stamp == 0)
        return false;
    atomic_thread_fence(memory_order_acquire); // no earlier read is done after this one
    return atomic_load_explicit(stamp_of(ring, slot), memory_order_acquire) == stamp;
}

bool
shmring_is(const struct shmring *ring, const struct wire_shm *place)
{
    return hash128_same(ring->place.key, place->key);
}

static enum status
check_memory(const struct shmring *ring, int fd, const char *path, const struct wire_shm *place)
{
    struct stat stat;
    int seals = fcntl(fd, F_GET_SEALS);
    if (fstat(fd, &stat) != 0 || !S_ISREG(stat.st_mode) || seals < 0 || !(seals & F_SEAL_SHRINK))
        return FAIL(DAMAGED, "%s: not a ring of batches", path);
    if (stat.st_uid != geteuid())
        return FAIL(DAMAGED, "%s: belongs to another user", path);
    if (ring->place.stride != place->stride || (uint64_t)stat.st_size != ring->total)
        return FAIL(DAMAGED, "%s: has %llu bytes, wanted %zu for %u batches", path,
                    (unsigned long long)stat.st_size, ring->total, place->slots);
    return STATUS_OK;
}

enum status
shmring_map(struct shmring **out, const struct wire_shm *place, uint64_t bytes)
{
    char path[64];
    enum status status = STATUS_OK;
    struct shmring *ring = calloc(1, sizeof *ring);
    *out = NULL;
    if (!ring)
        return FAIL(CREATE, "shared ring: out of memory");
    ring->fd = -1;
    ring->memory = MAP_FAILED;
    snprintf(path, sizeof path, "/proc/%u/fd/%u", place->pid, place->fd);
    // Not to hang on what is no memory: a pipe, a terminal.
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0) {
        status = FAIL(MISSING, "%s: %s", path, strerror(errno));
        goto done;
    }
    if (!measure(ring, place->slots, bytes)) {
        status = FAIL(DAMAGED, "%s: an impossible ring", path);
        goto done;
    }
    GOTRY(check_memory(ring, fd, path, place));
    ring->memory = mmap(NULL, ring->total, PROT_READ, MAP_SHARED | MAP_POPULATE, fd, 0);
    if (ring->memory == MAP_FAILED) {
        status = FAIL(CREATE, "%s: %s", path, strerror(errno));
        goto done;
    }
    struct head head;
    memcpy(&head, ring->memory, sizeof head);
    if (memcmp(head.magic, magic, sizeof magic) != 0 || head.slots != place->slots ||
        head.stride != place->stride || !hash128_same(head.key, place->key)) {
        status = FAIL(DAMAGED, "%s: is another ring", path);
        goto done;
    }
    ring->place = *place;
done:
    if (fd >= 0)
        close(fd);
    if (status != STATUS_OK)
        shmring_free(&ring);
    *out = ring;
    return status;
}

void
shmring_free(struct shmring **ring)
{
    if (*ring) {
        if ((*ring)->memory != MAP_FAILED)
            munmap((*ring)->memory, (*ring)->total);
        if ((*ring)->fd >= 0)
            close((*ring)->fd);
        free(*ring);
    }
    *ring = NULL;
}
