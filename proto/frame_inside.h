// What proto/frame.c (a frame's check, its body read) and proto/frame_write.c (a frame made) share;
// nobody else includes it.
#ifndef PROTO_FRAME_INSIDE_H
#define PROTO_FRAME_INSIDE_H

#include "proto/frame.h"

#include <msgpack.h>

struct codec {
    struct hasher *hasher;
    msgpack_zone *zone;
};

// Of a frame's bytes but for the hash itself.
uint32_t frame_hash(struct codec *codec, const unsigned char *at, size_t bytes);
// May this be the name of a run, a process, a group?
bool frame_name_valid(const char *text);

#endif
