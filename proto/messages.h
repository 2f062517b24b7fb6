// messages: everything one osae process says to another, as plain structs, and one table of them.
// A message is a frame H (frame.h) whose body is one msgpack map; the rows say its keys, types and
// ranges, and encoder, decoder, random tests and docs/protocol.md walk the rows. BATCH and CHUNK
// are followed by a payload frame P.
//
// Vocabulary: a *link* (`lk`) is one greeting between a client and a server socket. An *attachment*
// (`gen`) is one promise of consecutive batches on a data link. Both are random 63-bit numbers, so
// what an earlier link, attachment or process said is recognised and ignored. Watermarks are
// absolute batch numbers that only grow: losing, repeating or reordering a message is harmless.
#ifndef PROTO_MESSAGES_H
#define PROTO_MESSAGES_H

#include "lib/base/field.h"
#include "proto/named.h"

#include <stdbool.h>
#include <stdint.h>

enum {
    PROTOCOL_VERSION = 1,
    WIRE_NAME = 65,      // names of processes, runs, groups: [A-Za-z0-9._-]{1,64}, no dot first
    WIRE_ENDPOINT = 256, // with the NUL
    WIRE_WORDS = 257,
    WIRE_TOPIC = 97,
    WINDOW_MOST = 64, // largest window of batches
};

// Which socket a message may travel on, and who says it. Clients connect, servers bind.
enum message_link { LINK_DATA = 1, LINK_CTL = 2, LINK_BLOB = 4, LINK_PUB = 8 };
enum message_from { FROM_CLIENT = 1, FROM_SERVER = 2, FROM_BOTH = 3 };

// name, code, struct, links, from, most bytes of H, most msgpack nodes, meaning
// clang-format off
#define MESSAGE_LIST(M)                                                                            \
    M(HELLO,    0x01, hello,    LINK_DATA | LINK_CTL | LINK_BLOB, FROM_CLIENT, 4096, 512, "greets; answered by WELCOME or ERR") \
    M(WELCOME,  0x02, welcome,  LINK_DATA | LINK_CTL | LINK_BLOB, FROM_SERVER, 4096, 512, "the link, and on data sockets the stream") \
    M(ERR,      0x03, err,      LINK_DATA | LINK_CTL | LINK_BLOB, FROM_BOTH, 1024, 512, "a refusal, with a code and words") \
    M(PING,     0x04, ping,     LINK_DATA | LINK_CTL | LINK_BLOB, FROM_CLIENT, 256, 512, "keeps a link; answered by PONG") \
    M(PONG,     0x05, pong,     LINK_DATA | LINK_CTL | LINK_BLOB, FROM_SERVER, 256, 512, "the answer to PING") \
    M(BYE,      0x06, bye,      LINK_DATA | LINK_CTL | LINK_BLOB, FROM_BOTH, 256, 512, "the link ends now") \
    M(ATTACH,   0x10, attach,   LINK_DATA, FROM_CLIENT, 1024, 512, "asks for batches from a number on") \
    M(ATTACHED, 0x11, attached, LINK_DATA, FROM_SERVER, 1024, 512, "the answer: a new attachment") \
    M(CREDIT,   0x12, credit,   LINK_DATA, FROM_CLIENT, 256, 512, "moves the three watermarks") \
    M(BATCH,    0x13, batch,    LINK_DATA, FROM_SERVER, 512, 512, "head of a batch; its tensor follows in P") \
    M(TICK,     0x14, tick,     LINK_DATA, FROM_SERVER, 512, 512, "nothing to send, and why") \
    M(DETACH,   0x15, detach,   LINK_DATA, FROM_CLIENT, 512, 512, "ends an attachment; answered by DETACHED") \
    M(DETACHED, 0x16, detached, LINK_DATA, FROM_SERVER, 1024, 512, "the attachment is over, asked or not") \
    M(EOS,      0x17, eos,      LINK_DATA, FROM_SERVER, 256, 512, "the stream ends before batch q") \
    M(CMD,      0x20, cmd,      LINK_CTL, FROM_CLIENT, 4096, 512, "a command; answered by REPLY") \
    M(REPLY,    0x21, reply,    LINK_CTL, FROM_SERVER, 65536, 4096, "the answer to CMD and RESULT") \
    M(METRIC,   0x30, metric,   LINK_PUB, FROM_SERVER, 8192, 512, "numbers of a step") \
    M(EVENT,    0x31, event,    LINK_PUB, FROM_SERVER, 8192, 512, "something happened") \
    M(CKPT,     0x32, ckpt,     LINK_PUB, FROM_SERVER, 8192, 512, "a checkpoint is durable") \
    M(EVAL,     0x33, eval,     LINK_PUB, FROM_SERVER, 8192, 1024, "an evaluation result arrived") \
    M(BEAT,     0x34, beat,     LINK_PUB, FROM_SERVER, 8192, 512, "alive, once a second") \
    M(CKLIST,   0x50, cklist,   LINK_CTL | LINK_BLOB, FROM_CLIENT, 512, 512, "asks for checkpoints; answered by CKLISTR") \
    M(CKLISTR,  0x51, cklistr,  LINK_CTL | LINK_BLOB, FROM_SERVER, 65536, 4096, "durable checkpoints in order of step") \
    M(OPEN,     0x52, open,     LINK_BLOB, FROM_CLIENT, 4096, 512, "opens files of a checkpoint; answered by OPENED") \
    M(OPENED,   0x53, opened,   LINK_BLOB, FROM_SERVER, 65536, 4096, "the files, laid end to end") \
    M(WANT,     0x54, want,     LINK_BLOB, FROM_CLIENT, 256, 512, "send the bytes from .. upto") \
    M(CHUNK,    0x55, chunk,    LINK_BLOB, FROM_SERVER, 256, 512, "head of a piece; its bytes follow in P") \
    M(CLOSE,    0x56, close,    LINK_BLOB, FROM_CLIENT, 256, 512, "the opened object is no longer needed") \
    M(CLAIM,    0x60, claim,    LINK_CTL, FROM_CLIENT, 512, 512, "I evaluate this checkpoint now; answered by REPLY") \
    M(RESULT,   0x62, result,   LINK_CTL, FROM_CLIENT, 65536, 4096, "scores of a checkpoint; answered by REPLY")
// clang-format on

enum message_type {
#define M(name, code, tag, links, from, most, nodes, doc) MESSAGE_##name,
    MESSAGE_LIST(M)
#undef M
        MESSAGE_COUNT
};

// Codes of ERR, DETACHED and REPLY.
#define REFUSAL_LIST(E)                                                                            \
    E(NONE, 0, "no error")                                                                         \
    E(VERSION, 1, "no common protocol version")                                                    \
    E(MALFORMED, 2, "the frame breaks the rules: size, magic, hash or msgpack")                    \
    E(SCHEMA, 3, "a key is missing, of the wrong type or out of range")                            \
    E(TOOBIG, 4, "over a size limit")                                                              \
    E(LINK, 5, "unknown or expired link: greet again")                                             \
    E(ROLE, 6, "this role may not say this here")                                                  \
    E(RATE, 7, "too fast")                                                                         \
    E(BUSY, 8, "a limit is reached: try again later")                                              \
    E(DUPNAME, 9, "the name is in use by a live trainer of an equal or higher incarnation")        \
    E(STREAM, 20, "the producer serves another stream")                                            \
    E(CURSOR, 21, "beyond the end of the stream")                                                  \
    E(GONE, 22, "the batch cannot be replayed")                                                    \
    E(REPLAY_BUSY, 23, "the generator is needed by others: try again later")                       \
    E(REPLAY_MISMATCH, 24, "a regenerated batch has other bits than before")                       \
    E(LAGGED, 25, "detached by the pace policy: attach again from `next`")                         \
    E(WINDOW, 26, "the watermarks contradict each other")                                          \
    E(NOTFOUND, 40, "no such object")                                                              \
    E(EXPIRED, 41, "the object is no longer open")                                                 \
    E(IO, 42, "a read or write failed")                                                            \
    E(NOSPACE, 43, "the disk is full")                                                             \
    E(CORRUPT, 44, "the object is damaged")                                                        \
    E(STATE, 50, "not in this state")                                                              \
    E(ARG, 51, "a bad argument or unknown operation")                                              \
    E(DENIED, 52, "not allowed by policy")                                                         \
    E(INTERNAL, 99, "a fault of this program")

enum refusal {
#define E(name, code, text) REFUSAL_##name = (code),
    REFUSAL_LIST(E)
#undef E
};
const char *refusal_name(unsigned code);    // "E_LINK"; "E_?" for unknown codes

enum role { ROLE_TRAINER, ROLE_EVALUATOR, ROLE_MONITOR, ROLE_ADMIN, ROLE_COUNT };
extern const char *const role_names[]; // NULL-terminated, as FIELD_PICK wants it
static inline unsigned
role_bit(int role)
{
    return 1u << role;
}
enum { ROLES_ALL = 15 };

// Payload types. By the row: 4 d or 2 d bytes.
enum payload_type { PAYLOAD_F32, PAYLOAD_BF16 };
extern const char *const payload_names[];
// Bytes of a payload frame: the tensor [rows x width], row-major, and when `pairs` is set
// ceil(rows / 8) bytes more, bit i (byte i / 8, low bit first) set iff row i - 1 is the token just
// before row i in the same context. false on overflow.
bool payload_bytes(uint64_t *out, int type, uint32_t rows, uint32_t width, bool pairs);

struct msg_hello {
    uint16_t version_min, version_max;
    int role;
    char name[WIRE_NAME];
    struct hash128 inst; // 16 random bytes per start of a process
    uint32_t inc;        // a trainer's durable incarnation, 0 for others
    struct hash128 host; // equal = same machine since boot
    char build[65];
    char run[WIRE_NAME];
    char ctl[WIRE_ENDPOINT], pub[WIRE_ENDPOINT], blob[WIRE_ENDPOINT]; // where it listens
    uint64_t i;
};

// What a data socket serves. In WELCOME; absent (width 0) on other sockets.
struct wire_stream {
    struct hash128 id;
    uint16_t shard, shards; // this producer makes the blocks b with b mod shards = shard
    uint32_t rows, width;   // n, d
    int dtype;
    bool pairs;         // payloads carry the pair bits
    uint64_t bytes;     // of one payload
    uint32_t block;     // M, batches per shuffle block
    uint64_t per_epoch; // batches per epoch
    uint64_t end;       // batches in the stream
    uint64_t tokens;    // read from the text per batch, for rates
    char replay[129];   // rc: equal id and rc = equal bits
};

struct msg_welcome {
    uint64_t r; // the HELLO's i
    uint16_t version;
    char name[WIRE_NAME];
    struct hash128 inst, host;
    uint64_t lk;
    uint32_t hb_ms, lease_ms;
    uint16_t win; // largest window an ATTACH may ask for
    struct wire_stream stream;
};

struct msg_err {
    uint64_t r; // what it answers, 0: nothing in particular
    uint16_t code;
    char words[WIRE_WORDS];
    uint32_t retry_ms;
};
struct msg_ping {
    uint64_t i, lk;
};
struct msg_pong {
    uint64_t r;
    char state[18];
    uint64_t up_ms;
};
struct msg_bye {
    uint64_t lk;
    char why[65];
};

enum pace { PACE_BLOCK, PACE_DETACH };
extern const char *const pace_names[];
struct msg_attach {
    uint64_t lk, i;
    struct hash128 stream;
    uint64_t from;           // first wanted number
    uint64_t end;            // first number not wanted any more
    uint64_t upto, app, dur; // the watermarks of CREDIT, as they stand
    uint16_t win;            // batches the trainer can hold
    uint32_t lag;            // how far behind the fastest of the group; 0 = up to the ring
    int onlag;
    char group[WIRE_NAME];
    uint16_t group_size;          // start barrier; 0 = none
    uint64_t seen_end, seen_hash; // batch seen_end - 1 had this hash; 0: nothing to compare
    bool shm;                     // it can map the ring of a producer on its machine
};
// A ring of batches in shared memory (proto/shmring.h). In ATTACHED; slots 0: through the socket.
struct wire_shm {
    uint32_t pid, fd; // descriptor fd of process pid
    uint16_t slots;
    uint64_t stride; // bytes from one payload to the next
    struct hash128 key;
};
enum first_from { SOURCE_RING, SOURCE_GENERATOR, SOURCE_BARRIER };
extern const char *const source_names[];
struct msg_attached {
    uint64_t r, gen, from;
    int source;          // enum first_from: where the first batches come from
    uint64_t head, tail; // the ring holds tail .. head - 1
    struct wire_shm shm;
};
struct msg_credit {
    uint64_t lk, gen;
    uint64_t upto; // you may send every number below that is yours
    uint64_t app;  // everything below is applied by the optimiser
    uint64_t dur;  // everything below is inside a durable checkpoint
};
struct msg_batch {
    uint64_t gen, q;
    uint32_t epoch, rows, width;
    int dtype;
    uint64_t bytes, hash; // of the payload: XXH3_64
    uint64_t context;     // first context of the batch's block
    uint16_t flags;       // BATCH_LAST, BATCH_REPLAYED
    uint32_t saturated;   // values beyond the payload type's range
    uint16_t slot;        // of the shared ring, when stamp > 0: there is no payload frame then
    uint64_t stamp;
};
enum { BATCH_LAST = 1, BATCH_REPLAYED = 2 };
enum tick_why { TICK_GENERATING, TICK_CREDIT, TICK_RING, TICK_PAUSED, TICK_BARRIER, TICK_BEHIND };
extern const char *const tick_names[];
struct msg_tick {
    uint64_t gen, next; // next: the number that will be sent next
    uint64_t head, tail;
    int why;
    char by[WIRE_NAME]; // who holds the ring
};
struct msg_detach {
    uint64_t lk, i, gen, app, dur;
    char why[65];
};
struct msg_detached {
    uint64_t r, gen, next;
    uint16_t code;
    char words[WIRE_WORDS];
};
struct msg_eos {
    uint64_t gen, q;
};

struct msg_cmd {
    uint64_t lk, i;
    struct hash128 idem; // the same for every repetition of one command
    char op[33];
    struct named args;
};
struct msg_reply {
    uint64_t r;
    bool ok;
    uint16_t code;
    char words[WIRE_WORDS];
    struct named data;
};

// Every message on `pub` begins with these.
struct wire_stamp {
    char run[WIRE_NAME];
    uint32_t inc;
    uint64_t tq;    // number within its topic, from 1 in every incarnation
    uint64_t ts_ns; // wall clock, a label only
};
struct msg_metric {
    struct wire_stamp stamp;
    uint64_t step;
    struct named values; // at most METRIC_MOST
};
enum { METRIC_MOST = 64 };
struct msg_event {
    struct wire_stamp stamp;
    char name[33];
    uint16_t level; // enum say_level
    char words[513];
    struct named data;
};
struct msg_ckpt {
    struct wire_stamp stamp;
    char ck[WIRE_TOPIC]; // <run>/<step>-<inc>
    uint64_t step, bytes, manifest_hash;
    char path[WIRE_ENDPOINT];
    bool best;
    uint16_t files;
};
struct msg_eval {
    struct wire_stamp stamp;
    char ck[WIRE_TOPIC];
    char kind[33];
    struct hash128 spec;
    char state[17];
    char words[WIRE_WORDS]; // why it failed
    struct named values;
};
struct msg_beat {
    struct wire_stamp stamp;
    char state[33];
    uint64_t step;
    struct hash128 chain;
    uint64_t rss_bytes, up_ms;
};

struct msg_ck_entry {
    char ck[WIRE_TOPIC];
    uint64_t step, bytes, manifest_hash, ts_ns;
    bool best, done;
    bool last;    // the run ends with it
    uint16_t has; // bit n: a result or a recorded failure of specs.at[n] of the CKLIST
};
enum { CK_MOST = 256, BLOB_FILES_MOST = 64 };
struct msg_cklist {
    uint64_t lk, i, after; // steps above this
    uint16_t most;
    struct texts specs; // 32 hex digits each; any other text is nobody's
};
struct msg_cklistr {
    uint64_t r;
    bool more;
    char path[WIRE_ENDPOINT]; // of the folder they lie in, for whoever sees it
    char pub[WIRE_ENDPOINT], blob[WIRE_ENDPOINT]; // where they are announced, where served
    size_t count;
    struct msg_ck_entry at[CK_MOST];
};
struct msg_open {
    uint64_t lk, i;
    char ck[WIRE_TOPIC];
    struct texts files; // empty: all the manifest names
    uint32_t ttl_s;
};
struct msg_blob_file {
    char name[129];
    uint64_t bytes, hash;
};
struct msg_opened {
    uint64_t r;
    uint32_t fd;
    uint64_t bytes, manifest_hash;
    size_t count;
    struct msg_blob_file at[BLOB_FILES_MOST];
};
struct msg_want {
    uint64_t lk;
    uint32_t fd;
    uint64_t from, upto;
};
struct msg_chunk {
    uint32_t fd;
    uint64_t offset;
    uint32_t bytes;
    uint64_t hash;
};
struct msg_close {
    uint64_t lk;
    uint32_t fd;
};
struct msg_claim {
    uint64_t lk, i;
    char ck[WIRE_TOPIC];
    uint32_t ttl_s; // 0: I am done with it
};
struct msg_result {
    uint64_t lk, i;
    struct hash128 idem;
    char ck[WIRE_TOPIC];
    uint64_t manifest_hash;
    char kind[33]; // core, absorption, ...
    struct hash128 spec;
    char state[17]; // done, failed
    bool more;      // further kinds of this checkpoint follow
    struct named values;
    double seconds;
    char environment[257];
};

// The small messages: links and the data plane. The state machines speak in these.
struct message {
    enum message_type type;
    union {
        struct msg_hello hello;
        struct msg_welcome welcome;
        struct msg_err err;
        struct msg_ping ping;
        struct msg_pong pong;
        struct msg_bye bye;
        struct msg_attach attach;
        struct msg_attached attached;
        struct msg_credit credit;
        struct msg_batch batch;
        struct msg_tick tick;
        struct msg_detach detach;
        struct msg_detached detached;
        struct msg_eos eos;
    };
};
// May this type be held in a struct message?
static inline bool
message_is_small(enum message_type type)
{
    return type <= MESSAGE_EOS;
}

// A row's own flag, above those of lib/base/field.h: text restricted to [A-Za-z0-9._-], no dot
// first, which makes it safe as a file name.
enum { FIELD_NAME = 256 };

struct message_list {
    const char *key;
    size_t count, items, item_bytes, most; // offsets of a size_t and of the array
    const struct field *rows;
    size_t row_count;
};
struct message_info {
    const char *name;
    unsigned char code;
    const char *tag; // of the struct
    unsigned links, from;
    size_t most, nodes;
    size_t bytes; // of the struct
    const struct field *rows;
    size_t row_count;
    const char *map_key; // a free map (struct named) at map_at; NULL: none
    size_t map_at, map_most;
    const struct message_list *list; // NULL: none
    const char *doc;
};
struct message_info message_info(enum message_type type);

#endif
