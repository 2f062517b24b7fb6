// The head and the stamps of a producer's ring in shared memory, as a trainer maps and reads them.
//
//   bytes u64 | slots u16, slot u16 | what is put right u32 | stride u64 | key 16 | file bytes u64
//   | stamp u64 | head, 40 bytes | stamps, 8 bytes each | payloads
//
// A fuzzer would not get behind the checks by chance, so bits put things right: 1 the file's size,
// 2 the seals, 4 the stride, 8 the head.
#include "proto/shmring.h"
#include "tests/fuzz/fuzz.h"

#include <assert.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { PAGE = 4096, SLOT_HEAD = 64, HEAD = 40, FILE_MOST = 1 << 18 };
enum { SIZE = 1, SEALS = 2, STRIDE = 4, HEAD_RIGHT = 8 };

struct order {
    uint64_t bytes;
    uint16_t slots, slot;
    uint32_t right;
    uint64_t stride;
    struct hash128 key;
    uint64_t file_bytes, stamp;
};

// Where the payloads begin, and the size of the whole; 0: no ring is so large.
static uint64_t
measure(const struct order *order, uint64_t *first)
{
    uint64_t stride = (order->bytes + PAGE - 1) / PAGE * PAGE;
    *first = PAGE + ((uint64_t)order->slots * SLOT_HEAD + PAGE - 1) / PAGE * PAGE;
    if (order->slots == 0 || order->bytes == 0 || order->bytes > FILE_MOST)
        return 0;
    return *first + stride * order->slots;
}

static void
fill(unsigned char *memory, uint64_t total, uint64_t first, const struct order *order,
     const uint8_t *data, size_t size)
{
    size_t head = size < HEAD ? size : HEAD;
    memcpy(memory, data, head);
    if (order->right & HEAD_RIGHT) {
        uint64_t words[] = {order->slots, order->stride, order->key.low, order->key.high};
        memcpy(memory, "OSAESHM1", 8);
        memcpy(memory + 8, words, sizeof words);
    }
    data += head, size -= head;
    for (uint64_t s = 0; s < order->slots && size >= 8; s++, data += 8, size -= 8)
        if (PAGE + s * SLOT_HEAD + 8 <= total)
            memcpy(memory + PAGE + s * SLOT_HEAD, data, 8);
    if (first < total)
        memcpy(memory + first, data, size < total - first ? size : total - first);
}

static void
use(struct shmring *ring, const struct order *order, unsigned char *memory)
{
    for (unsigned s = 0; s <= order->slots; s++) {
        uint64_t stamp = 0;
        bool is_slot = s < order->slots;
        assert(!shmring_holds(ring, (uint16_t)s, 0)); // what is being written is nobody's
        (void)shmring_holds(ring, (uint16_t)s, order->stamp);
        if (is_slot)
            memcpy(&stamp, memory + PAGE + s * SLOT_HEAD, sizeof stamp);
        assert(shmring_holds(ring, (uint16_t)s, stamp) == (is_slot && stamp != 0));
        if (!is_slot)
            continue;
        fuzz_read(shmring_at(ring, (uint16_t)s), (size_t)order->bytes);
        // It is written again behind our back: the second look tells.
        memory[PAGE + s * SLOT_HEAD] ^= 1;
        fuzz_read(shmring_at(ring, (uint16_t)s), (size_t)order->bytes);
        assert(stamp == 0 || !shmring_holds(ring, (uint16_t)s, stamp));
    }
    (void)shmring_holds(ring, order->slot, order->stamp); // as a BATCH says, in range or not
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct order order;
    uint64_t first, want;
    if (size < sizeof order)
        return 0;
    memcpy(&order, data, sizeof order);
    want = measure(&order, &first);
    if (order.right & SIZE)
        order.file_bytes = want;
    if (order.right & STRIDE)
        order.stride = (order.bytes + PAGE - 1) / PAGE * PAGE;
    if (order.file_bytes > FILE_MOST)
        return 0;
    int fd = memfd_create("fuzz-ring", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    assert(fd >= 0);
    uint64_t total = order.file_bytes;
    assert(ftruncate(fd, (off_t)total) == 0);
    unsigned char *memory = MAP_FAILED;
    if (total >= PAGE) {
        memory = mmap(NULL, total, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        assert(memory != MAP_FAILED);
        fill(memory, total, first, &order, data + sizeof order, size - sizeof order);
    }
    if (order.right & SEALS)
        assert(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0);
    struct wire_shm place = {.pid = (uint32_t)getpid(),
                             .fd = (uint32_t)fd,
                             .slots = order.slots,
                             .stride = order.stride,
                             .key = order.key};
    struct shmring *ring;
    if (shmring_map(&ring, &place, order.bytes) == STATUS_OK) {
        assert((order.right & SEALS) && total == want); // nobody can take it from under us
        assert(memcmp(memory, "OSAESHM1", 8) == 0 && shmring_is(ring, &place));
        use(ring, &order, memory);
        shmring_free(&ring);
    } else {
        assert(!ring);
    }
    if (memory != MAP_FAILED)
        munmap(memory, total);
    close(fd);
    return 0;
}
