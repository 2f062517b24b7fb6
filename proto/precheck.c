// The check every foreign body passes before msgpack-c sees a byte of it. Why: 160 bytes of nested
// headers make msgpack-c reserve half a terabyte of address space, and 64 KiB of nested array
// headers, each honest about what is left, become megabytes. So it is the sum of what all open
// containers still owe that must not exceed the bytes left.
#include "proto/frame.h"

// Bytes of the length that follows the type byte, and whether what it counts are bytes of this
// value (else elements of a container).
static bool
layout(unsigned char type, size_t *length_bytes, size_t *fixed, size_t *per_element)
{
    *length_bytes = *fixed = *per_element = 0;
    if (type <= 0x7f || type >= 0xe0) // fixints
        return true;
    if (type <= 0x8f) { // fixmap
        *per_element = 2;
        return true;
    }
    if (type <= 0x9f) { // fixarray
        *per_element = 1;
        return true;
    }
    if (type <= 0xbf) { // fixstr
        *fixed = type & 31u;
        return true;
    }
    switch (type) {
    case 0xc0: // nil, false, true
    case 0xc2:
    case 0xc3:
        return true;
    case 0xc4: // bin 8, 16, 32
    case 0xc5:
    case 0xc6:
        *length_bytes = (size_t)1 << (type - 0xc4);
        return true;
    case 0xd9: // str 8, 16, 32
    case 0xda:
    case 0xdb:
        *length_bytes = (size_t)1 << (type - 0xd9);
        return true;
    case 0xca: // float 32
    case 0xce: // u32
    case 0xd2: // i32
        *fixed = 4;
        return true;
    case 0xcb: // float 64
    case 0xcf: // u64
    case 0xd3: // i64
        *fixed = 8;
        return true;
    case 0xcc: // u8
    case 0xd0: // i8
        *fixed = 1;
        return true;
    case 0xcd: // u16
    case 0xd1: // i16
        *fixed = 2;
        return true;
    case 0xdc: // array 16, 32
    case 0xdd:
        *length_bytes = type == 0xdc ? 2 : 4;
        *per_element = 1;
        return true;
    case 0xde: // map 16, 32
    case 0xdf:
        *length_bytes = type == 0xde ? 2 : 4;
        *per_element = 2;
        return true;
    default: // 0xc1 and the ext types
        return false;
    }
}

bool
message_precheck(const unsigned char *at, size_t bytes, size_t nodes_most)
{
    size_t open[PRECHECK_DEPTH]; // elements still owed by each open container
    size_t depth = 0, owed = 1, nodes = 0, where = 0;
    if (bytes == 0 || !((at[0] >= 0x80 && at[0] <= 0x8f) || at[0] == 0xde || at[0] == 0xdf))
        return false; // not a map
    while (owed > 0) {
        size_t left = bytes - where;
        if (owed > left || ++nodes > nodes_most)
            return false;
        unsigned char type = at[where++];
        left--;
        size_t length_bytes, length = 0, per_element;
        if (!layout(type, &length_bytes, &length, &per_element) || length_bytes > left)
            return false;
        for (size_t i = 0; i < length_bytes; i++) // big-endian
            length = length << 8 | at[where++];
        left -= length_bytes;
        owed--;
        if (depth > 0)
            open[depth - 1]--;
        if (per_element == 0) {
            if (length > left)
                return false;
            where += length;
        } else {
            size_t elements = length_bytes ? length : (size_t)(type & 15u);
            elements *= per_element; // below 2^33
            if (elements > left || owed > left - elements || depth == PRECHECK_DEPTH)
                return false;
            owed += elements;
            open[depth++] = elements;
        }
        while (depth > 0 && open[depth - 1] == 0)
            depth--;
    }
    return where == bytes;
}
