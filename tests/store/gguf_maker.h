// A GGUF file in the making, byte by byte, right or wrong.
#ifndef TESTS_STORE_GGUF_MAKER_H
#define TESTS_STORE_GGUF_MAKER_H

#include "lib/store/gguf.h"
#include "tests/store/scratch.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

enum { U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 };
static unsigned char made[1 << 16];
static size_t used;

static inline void
add(const void *at, size_t bytes)
{
    assert_true(bytes <= sizeof made - used);
    if (bytes)
        memcpy(made + used, at, bytes);
    used += bytes;
}
static inline void
add_u32(uint32_t value)
{
    add(&value, 4);
}
static inline void
add_u64(uint64_t value)
{
    add(&value, 8);
}
static inline void
add_text(const char *text)
{
    add_u64(strlen(text));
    add(text, strlen(text));
}
static inline void
add_pad(size_t to)
{
    while (used % to)
        add("", 1);
}
static inline void
begin(uint64_t tensors, uint64_t pairs)
{
    used = 0;
    add("GGUF", 4);
    add_u32(3);
    add_u64(tensors);
    add_u64(pairs);
}
static inline void
add_key(const char *key, uint32_t type)
{
    add_text(key);
    add_u32(type);
}
static inline void
add_array(const char *key, uint32_t type, uint64_t count)
{
    add_key(key, ARRAY);
    add_u32(type);
    add_u64(count);
}
static inline void
add_tensor(const char *name, uint32_t rank, uint64_t n, uint64_t rows, uint32_t type,
           uint64_t offset)
{
    add_text(name);
    add_u32(rank);
    if (rank > 0)
        add_u64(n);
    for (uint32_t i = 1; i < rank; i++)
        add_u64(i == 1 ? rows : 1);
    add_u32(type);
    add_u64(offset);
}

static inline enum status
try_open(struct gguf **file)
{
    const char *path = scratch_path("made.gguf");
    file_put(path, made, used);
    return gguf_open(file, path);
}

// Two of every kind; tensors of 3 x 2 F32 and 1 x 32 Q8_0 at alignment 64.
static inline size_t
make_rich(void)
{
    begin(2, 14);
    add_key("general.alignment", U32), add_u32(64);
    add_key("u8", U8), add("\xff", 1);
    add_key("i8", I8), add("\xff", 1);
    add_key("u16", U16), add("\xff\xff", 2);
    add_key("i16", I16), add("\x02\x00", 2);
    add_key("i32", I32), add_u32(7);
    add_key("f32", F32), add("\x00\x00\xc0\x3f", 4);
    add_key("bool", BOOL), add("\x01", 1);
    add_key("text", STRING), add_text("caf\xc3\xa9");
    add_key("u64", U64), add_u64(UINT64_MAX);
    add_key("i64", I64), add_u64((uint64_t)INT64_MAX);
    add_key("f64", F64), add_u64(0x7ff0000000000000);
    add_array("texts", STRING, 3), add_text("a"), add_text(""), add_text("\xff");
    add_array("numbers", I16, 2), add("\xff\xff\x05\x00", 4);
    add_tensor("first", 2, 3, 2, 0, 0);
    add_tensor("second", 1, 32, 0, 8, 64);
    size_t header = used;
    add_pad(64);
    for (uint32_t i = 0; i < 6; i++) {
        float value = (float)i;
        add(&value, 4);
    }
    add_pad(64);
    add("\x00\x3c", 2);
    for (int i = 0; i < 32; i++) {
        int8_t q = (int8_t)(i - 16);
        add(&q, 1);
    }
    return header;
}

#endif
