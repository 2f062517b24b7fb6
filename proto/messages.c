// The table of messages. A row is: wire key, struct, member, least, most, flags, meaning.
#include "proto/messages.h"

#include <assert.h>

const char *const role_names[] = {"trainer", "evaluator", "monitor", "admin", NULL};
const char *const payload_names[] = {"f32", "bf16", NULL};
const char *const pace_names[] = {"block", "detach", NULL};
const char *const source_names[] = {"ring", "generator", "barrier", NULL};
const char *const tick_names[] = {"generating", "credit", "ring", "paused",
                                  "barrier",    "behind", NULL};

#define WIRE(key, type, member, low, high, flags, doc)                                             \
    FIELD_ROW(msg_##type, member, key, NULL, low, high, NULL, flags, doc)
#define PICK(key, type, member, choices, flags, doc)                                               \
    FIELD_ROW(msg_##type, member, key, NULL, 0, 0, choices, flags, doc)
#define OPT FIELD_OPTIONAL
#define U64 18446744073709551615.0
#define SEQ 9007199254740992.0 // batch numbers: 2^53, exact in every reader's doubles
#define U32 4294967295.0
#define U16 65535.0
#define NUMBER(key, type, member, doc) WIRE(key, type, member, 0, U64, 0, doc)
#define CURSOR(key, type, member, doc) WIRE(key, type, member, 0, SEQ, 0, doc)
#define TEXT(key, type, member, doc) WIRE(key, type, member, 0, 0, 0, doc)

// clang-format off
static const struct field hello_rows[] = {
    WIRE("vmin", hello, version_min, 1, 255, 0, "oldest protocol version spoken"),
    WIRE("vmax", hello, version_max, 1, 255, 0, "newest protocol version spoken"),
    PICK("role", hello, role, role_names, 0, "what the client wants to be"),
    WIRE("name", hello, name, 0, 0, FIELD_NAME, "name of the process"),
    NUMBER("inst", hello, inst, "16 random bytes per process start"),
    WIRE("inc", hello, inc, 0, U32, OPT, "a trainer's durable incarnation"),
    NUMBER("host", hello, host, "hash of machine and boot"),
    TEXT("ver", hello, build, "build of the program"),
    WIRE("run", hello, run, 0, 0, OPT | FIELD_NAME, "name of the run"),
    WIRE("ctl", hello, ctl, 0, 0, OPT, "endpoint of its control socket"),
    WIRE("pub", hello, pub, 0, 0, OPT, "endpoint of its publisher"),
    WIRE("blob", hello, blob, 0, 0, OPT, "endpoint of its checkpoint server"),
    NUMBER("i", hello, i, "request number"),
};
static const struct field welcome_rows[] = {
    NUMBER("r", welcome, r, "i of the HELLO"),
    WIRE("v", welcome, version, 1, 255, 0, "version chosen"),
    WIRE("name", welcome, name, 0, 0, FIELD_NAME, "name of the server"),
    NUMBER("inst", welcome, inst, "16 random bytes per process start"),
    NUMBER("host", welcome, host, "hash of machine and boot"),
    WIRE("lk", welcome, lk, 1, U64, 0, "the link; every later message of the client carries it"),
    WIRE("hb", welcome, hb_ms, 10, 600000, 0, "say something at least this often, ms"),
    WIRE("lease", welcome, lease_ms, 30, 3.6e6, 0, "silence that ends the link, ms"),
    WIRE("win", welcome, win, 0, 64, OPT, "largest window"),
    WIRE("strm", welcome, stream.id, 0, 0, OPT, "stream identity; it and the rest on data sockets only"),
    WIRE("shard", welcome, stream.shard, 0, 1023, OPT, "this producer's share"),
    WIRE("shards", welcome, stream.shards, 0, 1024, OPT, "producers sharing the stream"),
    WIRE("n", welcome, stream.rows, 0, 65536, OPT, "rows of a batch"),
    WIRE("d", welcome, stream.width, 0, 1048576, OPT, "values of a row"),
    PICK("dt", welcome, stream.dtype, payload_names, OPT, "type of the values"),
    WIRE("pr", welcome, stream.pairs, 0, 1, OPT, "payloads end with ceil(n / 8) bytes of pair bits"),
    WIRE("by", welcome, stream.bytes, 0, U64, OPT, "bytes of a payload"),
    WIRE("m", welcome, stream.block, 0, U32, OPT, "batches per shuffle block"),
    WIRE("bpe", welcome, stream.per_epoch, 0, SEQ, OPT, "batches per epoch"),
    WIRE("end", welcome, stream.end, 0, SEQ, OPT, "batches in the stream"),
    WIRE("tk", welcome, stream.tokens, 0, U64, OPT, "tokens of text per batch"),
    WIRE("rc", welcome, stream.replay, 0, 0, OPT, "replay class: equal strm and rc, equal bits"),
};
static const struct field err_rows[] = {
    WIRE("r", err, r, 0, U64, OPT, "i of the request refused"),
    WIRE("c", err, code, 1, 999, 0, "code"),
    TEXT("m", err, words, "one line for people"),
    WIRE("ra", err, retry_ms, 0, 3.6e6, OPT, "try again after, ms"),
};
static const struct field ping_rows[] = {
    NUMBER("i", ping, i, "request number"),
    WIRE("lk", ping, lk, 0, U64, OPT, "the link"),
};
static const struct field pong_rows[] = {
    NUMBER("r", pong, r, "i of the PING"),
    TEXT("st", pong, state, "state of the server"),
    NUMBER("up", pong, up_ms, "ms since it started"),
};
static const struct field bye_rows[] = {
    NUMBER("lk", bye, lk, "the link; 0: that of this connection, if there is one"),
    WIRE("why", bye, why, 0, 0, OPT, "reason"),
};
static const struct field attach_rows[] = {
    NUMBER("lk", attach, lk, "the link"),
    WIRE("i", attach, i, 1, U64, 0, "request number, growing within a link"),
    NUMBER("strm", attach, stream, "stream the trainer expects"),
    CURSOR("from", attach, from, "first wanted batch"),
    CURSOR("end", attach, end, "first batch no longer wanted"),
    CURSOR("upto", attach, upto, "credit: send every batch below"),
    CURSOR("app", attach, app, "batches below are applied"),
    CURSOR("dur", attach, dur, "batches below are in a durable checkpoint"),
    WIRE("win", attach, win, 1, 64, 0, "batches the trainer can hold"),
    WIRE("lag", attach, lag, 0, U32, OPT, "batches it may be behind the fastest of its group; 0: the ring"),
    PICK("onlag", attach, onlag, pace_names, 0, "then block the others, or be detached"),
    WIRE("grp", attach, group, 0, 0, OPT | FIELD_NAME, "farm group"),
    WIRE("gsz", attach, group_size, 0, 64, OPT, "members to wait for before the first batch"),
    WIRE("vn", attach, seen_end, 0, SEQ, OPT, "batch vn - 1 was seen with hash vh; 0: none"),
    WIRE("vh", attach, seen_hash, 0, U64, OPT, "XXH3_64 of that batch's payload"),
    WIRE("shm", attach, shm, 0, 1, OPT, "the trainer can map the ring"),
};
static const struct field attached_rows[] = {
    NUMBER("r", attached, r, "i of the ATTACH"),
    WIRE("gen", attached, gen, 1, U64, 0, "the attachment; all its messages carry it"),
    CURSOR("from", attached, from, "first batch that will be sent"),
    PICK("src", attached, source, source_names, 0, "where the first batches come from"),
    CURSOR("tail", attached, tail, "oldest batch in the ring"),
    CURSOR("head", attached, head, "first batch not yet in the ring"),
    WIRE("sn", attached, shm.slots, 0, U16, OPT, "slots of the ring in shared memory; absent: payloads come in P"),
    WIRE("sp", attached, shm.pid, 0, U32, OPT, "process that holds it"),
    WIRE("sf", attached, shm.fd, 0, U32, OPT, "descriptor there"),
    WIRE("ss", attached, shm.stride, 0, 1e12, OPT, "bytes from one payload to the next"),
    WIRE("sk", attached, shm.key, 0, 0, OPT, "key in its head"),
};
static const struct field credit_rows[] = {
    NUMBER("lk", credit, lk, "the link"),
    NUMBER("gen", credit, gen, "the attachment"),
    CURSOR("upto", credit, upto, "send every batch below"),
    CURSOR("app", credit, app, "batches below are applied"),
    CURSOR("dur", credit, dur, "batches below are in a durable checkpoint"),
};
static const struct field batch_rows[] = {
    NUMBER("gen", batch, gen, "the attachment"),
    CURSOR("q", batch, q, "number in the stream"),
    WIRE("ep", batch, epoch, 0, U32, 0, "epoch, q / bpe"),
    WIRE("n", batch, rows, 1, 65536, 0, "rows"),
    WIRE("d", batch, width, 1, 1048576, 0, "values of a row"),
    PICK("dt", batch, dtype, payload_names, 0, "type of the values"),
    WIRE("by", batch, bytes, 1, 1e12, 0, "bytes of the payload"),
    NUMBER("h", batch, hash, "XXH3_64 of the payload"),
    WIRE("tb", batch, context, 0, U64, 0, "first context of the batch's block"),
    WIRE("fl", batch, flags, 0, 3, OPT, "1: last of an epoch, 2: made before"),
    WIRE("sat", batch, saturated, 0, U32, OPT, "values beyond the range of dt"),
    WIRE("slot", batch, slot, 0, U16, OPT, "slot of the shared ring"),
    WIRE("sta", batch, stamp, 0, U64, OPT, "stamp of the slot; absent: the payload is in P"),
};
static const struct field tick_rows[] = {
    NUMBER("gen", tick, gen, "the attachment"),
    CURSOR("next", tick, next, "the batch that will be sent next"),
    CURSOR("tail", tick, tail, "oldest batch in the ring"),
    CURSOR("head", tick, head, "first batch not yet in the ring"),
    PICK("why", tick, why, tick_names, 0, "what it waits for"),
    WIRE("by", tick, by, 0, 0, OPT | FIELD_NAME, "who holds the ring"),
};
static const struct field detach_rows[] = {
    NUMBER("lk", detach, lk, "the link"),
    WIRE("i", detach, i, 1, U64, 0, "request number"),
    NUMBER("gen", detach, gen, "the attachment"),
    CURSOR("app", detach, app, "batches below are applied"),
    CURSOR("dur", detach, dur, "batches below are in a durable checkpoint"),
    WIRE("why", detach, why, 0, 0, OPT, "reason"),
};
static const struct field detached_rows[] = {
    WIRE("r", detached, r, 0, U64, OPT, "i of the DETACH; absent: unasked"),
    NUMBER("gen", detached, gen, "the attachment that is over"),
    CURSOR("next", detached, next, "the batch that would have come next"),
    WIRE("c", detached, code, 0, 999, OPT, "code; absent: as asked"),
    WIRE("m", detached, words, 0, 0, OPT, "one line for people"),
};
static const struct field eos_rows[] = {
    NUMBER("gen", eos, gen, "the attachment"),
    CURSOR("q", eos, q, "batches in the stream"),
};

static const struct field cmd_rows[] = {
    NUMBER("lk", cmd, lk, "the link"),
    WIRE("i", cmd, i, 1, U64, 0, "request number"),
    NUMBER("idem", cmd, idem, "16 random bytes, the same for every repetition"),
    WIRE("op", cmd, op, 0, 0, FIELD_NAME, "operation"),
};
static const struct field reply_rows[] = {
    NUMBER("r", reply, r, "i of the request"),
    WIRE("ok", reply, ok, 0, 1, 0, "done?"),
    WIRE("c", reply, code, 0, 999, OPT, "code when not"),
    WIRE("m", reply, words, 0, 0, OPT, "one line for people"),
};

#define STAMP(type)                                                                                \
    WIRE("run", type, stamp.run, 0, 0, FIELD_NAME, "name of the run"),                             \
    WIRE("inc", type, stamp.inc, 0, U32, 0, "incarnation of the run"),                             \
    NUMBER("tq", type, stamp.tq, "number within the topic, from 1 in every incarnation"),          \
    NUMBER("ts", type, stamp.ts_ns, "wall clock, ns since 1970: a label only")
static const struct field metric_rows[] = {
    STAMP(metric),
    CURSOR("st", metric, step, "steps done"),
};
static const struct field event_rows[] = {
    STAMP(event),
    WIRE("ev", event, name, 0, 0, FIELD_NAME, "kind"),
    WIRE("lvl", event, level, 0, 3, 0, "debug, info, warning, error"),
    WIRE("m", event, words, 0, 0, OPT, "one line for people"),
};
static const struct field ckpt_rows[] = {
    STAMP(ckpt),
    TEXT("ck", ckpt, ck, "<run>/<step>-<inc>"),
    CURSOR("step", ckpt, step, "steps done"),
    NUMBER("by", ckpt, bytes, "bytes of all files"),
    NUMBER("mh", ckpt, manifest_hash, "XXH3_64 of manifest.json"),
    WIRE("path", ckpt, path, 0, 0, OPT, "folder, for whoever shares the file system"),
    WIRE("best", ckpt, best, 0, 1, OPT, "best so far"),
    WIRE("n", ckpt, files, 0, U16, OPT, "files"),
};
static const struct field eval_rows[] = {
    STAMP(eval),
    TEXT("ck", eval, ck, "the checkpoint"),
    WIRE("kind", eval, kind, 0, 0, FIELD_NAME, "kind of evaluation: core, absorption, ..."),
    NUMBER("spec", eval, spec, "hash of the evaluation's configuration"),
    TEXT("st", eval, state, "done or failed"),
    WIRE("why", eval, words, 0, 0, OPT, "why it failed"),
};
static const struct field beat_rows[] = {
    STAMP(beat),
    TEXT("state", beat, state, "state of the process"),
    CURSOR("st", beat, step, "steps done"),
    NUMBER("chain", beat, chain, "hash over all batches applied"),
    NUMBER("rss", beat, rss_bytes, "resident bytes"),
    NUMBER("up", beat, up_ms, "ms since start"),
};

static const struct field cklist_rows[] = {
    NUMBER("lk", cklist, lk, "the link"),
    WIRE("i", cklist, i, 1, U64, 0, "request number"),
    WIRE("after", cklist, after, 0, SEQ, OPT, "only steps above"),
    WIRE("lim", cklist, most, 1, CK_MOST, 0, "at most so many"),
    WIRE("spec", cklist, specs, 0, 0, OPT, "hashes of evaluations' configurations: who has their results?"),
};
static const struct field ck_entry_rows[] = {
    TEXT("ck", ck_entry, ck, "<run>/<step>-<inc>"),
    CURSOR("step", ck_entry, step, "steps done"),
    NUMBER("by", ck_entry, bytes, "bytes of all files"),
    NUMBER("mh", ck_entry, manifest_hash, "XXH3_64 of manifest.json"),
    WIRE("ts", ck_entry, ts_ns, 0, U64, OPT, "when it was made"),
    WIRE("best", ck_entry, best, 0, 1, OPT, "best so far"),
    WIRE("done", ck_entry, done, 0, 1, OPT, "has all its results"),
    WIRE("last", ck_entry, last, 0, 1, OPT, "the run ends with it"),
    WIRE("has", ck_entry, has, 0, U16, OPT, "bit n: a result or a recorded failure of the n-th spec asked for"),
};
static const struct field cklistr_rows[] = {
    NUMBER("r", cklistr, r, "i of the CKLIST"),
    WIRE("more", cklistr, more, 0, 1, OPT, "there are further ones"),
    WIRE("path", cklistr, path, 0, 0, OPT, "folder they lie in, for whoever shares the file system"),
    WIRE("pub", cklistr, pub, 0, 0, OPT, "endpoint where they are announced"),
    WIRE("blob", cklistr, blob, 0, 0, OPT, "endpoint that serves their files"),
};
static const struct field open_rows[] = {
    NUMBER("lk", open, lk, "the link"),
    WIRE("i", open, i, 1, U64, 0, "request number"),
    TEXT("ck", open, ck, "the checkpoint"),
    WIRE("fl", open, files, 0, 0, OPT, "names of files; absent: all"),
    WIRE("ttl", open, ttl_s, 1, 3600, 0, "keep it open for so long, s"),
};
static const struct field blob_file_rows[] = {
    WIRE("nm", blob_file, name, 0, 0, FIELD_NAME, "name"),
    NUMBER("len", blob_file, bytes, "bytes"),
    NUMBER("h", blob_file, hash, "XXH3_64 of the file"),
};
static const struct field opened_rows[] = {
    NUMBER("r", opened, r, "i of the OPEN"),
    WIRE("fd", opened, fd, 1, U32, 0, "handle"),
    NUMBER("by", opened, bytes, "bytes of the files end to end"),
    NUMBER("mh", opened, manifest_hash, "XXH3_64 of manifest.json"),
};
static const struct field want_rows[] = {
    NUMBER("lk", want, lk, "the link"),
    WIRE("fd", want, fd, 1, U32, 0, "handle"),
    NUMBER("from", want, from, "bytes below are here and verified"),
    NUMBER("upto", want, upto, "send bytes below"),
};
static const struct field chunk_rows[] = {
    WIRE("fd", chunk, fd, 1, U32, 0, "handle"),
    NUMBER("off", chunk, offset, "first byte"),
    WIRE("ln", chunk, bytes, 1, 1048576, 0, "bytes of P"),
    NUMBER("h", chunk, hash, "XXH3_64 of P"),
};
static const struct field close_rows[] = {
    NUMBER("lk", close, lk, "the link"),
    WIRE("fd", close, fd, 1, U32, 0, "handle"),
};
static const struct field claim_rows[] = {
    NUMBER("lk", claim, lk, "the link"),
    WIRE("i", claim, i, 1, U64, 0, "request number"),
    TEXT("ck", claim, ck, "the checkpoint"),
    WIRE("ttl", claim, ttl_s, 0, 3600, 0, "for so long unless renewed, s; 0: it is free again"),
};
static const struct field result_rows[] = {
    NUMBER("lk", result, lk, "the link"),
    WIRE("i", result, i, 1, U64, 0, "request number"),
    NUMBER("idem", result, idem, "hash of ck and spec"),
    TEXT("ck", result, ck, "the checkpoint"),
    NUMBER("mh", result, manifest_hash, "its manifest's hash"),
    WIRE("kind", result, kind, 0, 0, FIELD_NAME, "kind of evaluation: core, absorption, ..."),
    NUMBER("spec", result, spec, "hash of the evaluation's configuration"),
    TEXT("st", result, state, "done or failed"),
    WIRE("more", result, more, 0, 1, OPT, "further kinds of this checkpoint follow"),
    WIRE("dur", result, seconds, 0, 1e9, OPT, "seconds it took"),
    WIRE("env", result, environment, 0, 0, OPT, "build; or why it failed"),
};

static const struct message_list cklistr_list = {
    "ck", offsetof(struct msg_cklistr, count), offsetof(struct msg_cklistr, at), sizeof(struct msg_ck_entry),
    CK_MOST, ck_entry_rows, sizeof ck_entry_rows / sizeof ck_entry_rows[0]};
static const struct message_list opened_list = {
    "fl", offsetof(struct msg_opened, count), offsetof(struct msg_opened, at), sizeof(struct msg_blob_file),
    BLOB_FILES_MOST, blob_file_rows, sizeof blob_file_rows / sizeof blob_file_rows[0]};

static const struct message_info infos[] = {
#define M(name_, code_, tag_, links_, from_, most_, nodes_, doc_)                                  \
    [MESSAGE_##name_] = {.name = #name_, .code = (code_), .tag = "msg_" #tag_, .links = (links_),         \
        .from = (from_), .most = (most_), .nodes = (nodes_), .bytes = sizeof(struct msg_##tag_),         \
        .rows = tag_##_rows, .row_count = sizeof tag_##_rows / sizeof tag_##_rows[0],              \
        .doc = (doc_)},
    MESSAGE_LIST(M)
#undef M
};
// clang-format on

// The few that hold more than rows.
static const struct {
    enum message_type type;
    const char *key;
    size_t at, most;
} maps[] = {
    {MESSAGE_CMD, "a", offsetof(struct msg_cmd, args), 64},
    {MESSAGE_REPLY, "d", offsetof(struct msg_reply, data), NAMED_MOST},
    {MESSAGE_METRIC, "k", offsetof(struct msg_metric, values), METRIC_MOST},
    {MESSAGE_EVENT, "d", offsetof(struct msg_event, data), METRIC_MOST},
    {MESSAGE_EVAL, "m", offsetof(struct msg_eval, values), 128},
    {MESSAGE_RESULT, "m", offsetof(struct msg_result, values), 256},
};

struct message_info
message_info(enum message_type type)
{
    assert(type < MESSAGE_COUNT);
    struct message_info info = infos[type];
    for (size_t i = 0; i < sizeof maps / sizeof maps[0]; i++)
        if (maps[i].type == type) {
            info.map_key = maps[i].key;
            info.map_at = maps[i].at;
            info.map_most = maps[i].most;
        }
    if (type == MESSAGE_CKLISTR)
        info.list = &cklistr_list;
    if (type == MESSAGE_OPENED)
        info.list = &opened_list;
    return info;
}

static const struct {
    unsigned code;
    const char *name;
} refusals[] = {
#define E(name, code, text) {code, "E_" #name},
    REFUSAL_LIST(E)
#undef E
};

const char *
refusal_name(unsigned code)
{
    for (size_t i = 0; i < sizeof refusals / sizeof refusals[0]; i++)
        if (refusals[i].code == code)
            return refusals[i].name;
    return "E_?";
}

bool
payload_bytes(uint64_t *out, int type, uint32_t rows, uint32_t width, bool pairs)
{
    size_t values, bytes;
    if (!times(&values, rows, width) || !times(&bytes, values, type == PAYLOAD_F32 ? 4 : 2))
        return false;
    return !__builtin_add_overflow((uint64_t)bytes, pairs ? (rows + 7) / 8 : 0u, out);
}
