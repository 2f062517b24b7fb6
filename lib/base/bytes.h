// bytes: hashes, hexadecimal, little-endian numbers in unaligned memory.
#ifndef LIB_BASE_BYTES_H
#define LIB_BASE_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

// XXH3. They detect faults, not forgery. A 128-bit hash is stored low word first, little-endian.
struct hash128 {
    uint64_t low, high;
};
uint64_t hash64(const void *at, size_t bytes);
struct hash128 hash128(const void *at, size_t bytes);
bool hash128_same(struct hash128 a, struct hash128 b);

// The same over pieces.
struct hasher;
struct hasher *hasher_new(void); // NULL when out of memory
void hasher_free(struct hasher **hasher);
void hasher_reset(struct hasher *hasher);
void hasher_add(struct hasher *hasher, const void *at, size_t bytes);
uint64_t hasher_64(const struct hasher *hasher);
struct hash128 hasher_128(const struct hasher *hasher);

// 16 and 32 lower-case hex digits and a NUL; high word first, as numbers are written.
void hex64(char out[17], uint64_t value);
void hex128(char out[33], struct hash128 value);
bool hex64_parse(uint64_t *out, const char *text); // false unless exactly 16 digits
bool hex128_parse(struct hash128 *out, const char *text);

static inline uint16_t
load_u16(const void *at)
{
    uint16_t value;
    memcpy(&value, at, sizeof value);
    return value;
}

static inline uint32_t
load_u32(const void *at)
{
    uint32_t value;
    memcpy(&value, at, sizeof value);
    return value;
}

static inline uint64_t
load_u64(const void *at)
{
    uint64_t value;
    memcpy(&value, at, sizeof value);
    return value;
}

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "osae's files and messages are little-endian, and so must the machine be"
#endif

// false on overflow.
static inline bool
times(size_t *out, size_t a, size_t b)
{
    return !__builtin_mul_overflow(a, b, out);
}

#endif
