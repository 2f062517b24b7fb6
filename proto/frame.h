// frame: the H frame, and the codec that walks the rows of messages.h.
//     offset 0  'O' 'S'
//            2  protocol version (1)
//            3  code of the message
//            4  u32, little-endian: low half of XXH3_64 over bytes 0..3 followed by bytes 8..end
//            8  body: exactly one msgpack map, ends with the frame
//
// 1. Nothing foreign reaches msgpack-c before message_precheck has accepted it: it bounds the
//    number of nodes, the depth, and the *sum* of elements still owed by all open containers, which
//    is what bounds memory.
// 2. A decoder yields a whole valid struct or a status, no third thing. Keys: at most 8 bytes
//    [a-z0-9_], no duplicates; unknown keys are ignored, unless marked `!` (must understand).
// 3. Encoding and decoding allocate nothing once the codec exists (msgpack's zone grows to its
//    bound, 64 KiB messages, and is reused).
#ifndef PROTO_FRAME_H
#define PROTO_FRAME_H

#include "lib/base/status.h"
#include "proto/messages.h"

enum { FRAME_HEAD = 8, FRAME_LEAST = 9, FRAME_MOST = 65536, PRECHECK_DEPTH = 4 };

// Scratch of one thread.
struct codec;
CHECKED enum status codec_new(struct codec **out);
void codec_free(struct codec **codec);

// object: the struct of that type. INTERNAL when a value breaks its row or the frame exceeds the
// type's limit or `room`.
CHECKED enum status message_encode(struct codec *codec, unsigned char *out, size_t room,
                                   size_t *bytes, enum message_type type, const void *object);

// Size, magic, code, link, direction, limit of the type, hash; in this order. *type is set on
// success. DAMAGED; *why (may be NULL) is the code to answer with.
CHECKED enum status message_check(struct codec *codec, const unsigned char *at, size_t bytes,
                                  enum message_link link, enum message_from from,
                                  enum message_type *type, enum refusal *why);
// The body of a checked frame into the struct of its type, which is cleared first.
CHECKED enum status message_decode(struct codec *codec, const unsigned char *at, size_t bytes,
                                   enum message_type type, void *object, enum refusal *why);
// Both, for the small messages; others are refused with E_ROLE.
CHECKED enum status message_read(struct codec *codec, const unsigned char *at, size_t bytes,
                                 enum message_link link, enum message_from from,
                                 struct message *out, enum refusal *why);
static inline enum status
message_write(struct codec *codec, unsigned char *out, size_t room, size_t *bytes,
              const struct message *message)
{
    return message_encode(codec, out, room, bytes, message->type, &message->hello);
}

// Is this exactly one msgpack map that msgpack-c can decode in bounded memory?
bool message_precheck(const unsigned char *at, size_t bytes, size_t nodes_most);

// The pages: rows as Markdown, for docs/protocol.md.
void messages_print(void *file); // a FILE *

#endif
