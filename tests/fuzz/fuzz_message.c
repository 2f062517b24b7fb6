// A frame from a peer: the first byte says on which link and from which side it comes. The hash of
// the frame is put right, as any sender could, so that what follows it is reached.
#include "lib/base/bytes.h"
#include "proto/frame.h"
#include "tests/fuzz/fuzz.h"

#include <assert.h>
#include <msgpack.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void
sign(unsigned char *frame, size_t bytes)
{
    struct hasher *hasher = hasher_new();
    assert(hasher);
    hasher_reset(hasher);
    hasher_add(hasher, frame, 4);
    hasher_add(hasher, frame + FRAME_HEAD, bytes - FRAME_HEAD);
    uint32_t hash = (uint32_t)hasher_64(hasher);
    memcpy(frame + 4, &hash, sizeof hash);
    hasher_free(&hasher);
}

// What the check before msgpack-c lets through, msgpack-c decodes: no more, no less memory.
static void
precheck(const unsigned char *at, size_t bytes)
{
    if (!message_precheck(at, bytes, 512))
        return;
    msgpack_zone zone;
    msgpack_object object;
    size_t used = 0;
    assert(msgpack_zone_init(&zone, 1024));
    assert(msgpack_unpack((const char *)at, bytes, &used, &zone, &object) ==
           MSGPACK_UNPACK_SUCCESS);
    assert(used == bytes);
    msgpack_zone_destroy(&zone);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct codec *codec;
    // Room for the largest struct of any message.
    static _Alignas(64) unsigned char object[1 << 18], again[1 << 18];
    static unsigned char frame[FRAME_MOST + 1], written[FRAME_MOST];
    if (!codec && codec_new(&codec) != STATUS_OK)
        abort();
    if (size < 1 + FRAME_LEAST || size - 1 > sizeof frame)
        return 0;
    enum message_link link = (enum message_link)(1u << (data[0] & 3));
    enum message_from from = data[0] & 4 ? FROM_SERVER : FROM_CLIENT;
    size_t bytes = size - 1, length = 0;
    memcpy(frame, data + 1, bytes);
    if (!(data[0] & 8))
        sign(frame, bytes);
    precheck(frame + FRAME_HEAD, bytes - FRAME_HEAD);
    enum message_type type, same;
    enum refusal why;
    if (message_check(codec, frame, bytes, link, from, &type, &why) != STATUS_OK)
        return 0;
    assert(message_info(type).bytes <= sizeof object);
    if (message_decode(codec, frame, bytes, type, object, &why) != STATUS_OK)
        return 0;
    // A message that came in goes out again, and comes in as the same.
    if (message_encode(codec, written, sizeof written, &length, type, object) != STATUS_OK ||
        message_check(codec, written, length, link, from, &same, &why) != STATUS_OK ||
        message_decode(codec, written, length, type, again, &why) != STATUS_OK) {
        fprintf(stderr, "%s\n", status_words());
        abort();
    }
    assert(same == type);
    return 0;
}
