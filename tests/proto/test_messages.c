// Every message: there and back with random values, and nothing but a status for hostile bytes.
//
// Invariants: S3 S4
#include "proto/frame.h"

#include "lib/base/tick.h"
#include "tests/proto/random_message.h"

#include <msgpack.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static struct codec *codec;
static unsigned char frame[FRAME_MOST], mutant[FRAME_MOST];
// Two objects of any type; malloc'ed so that ASan fences them.
static void *sent, *got;

static size_t
largest(void)
{
    size_t most = sizeof(struct message);
    for (int i = 0; i < MESSAGE_COUNT; i++)
        if (message_info((enum message_type)i).bytes > most)
            most = message_info((enum message_type)i).bytes;
    return most;
}

static int
begin(void **unused)
{
    (void)unused;
    sent = malloc(largest());
    got = malloc(largest());
    return codec_new(&codec) != STATUS_OK || !sent || !got;
}

static int
end(void **unused)
{
    (void)unused;
    free(sent);
    free(got);
    codec_free(&codec);
    return 0;
}

static enum message_link
a_link(const struct message_info *info)
{
    return (enum message_link)(info->links & (~info->links + 1));
}

static enum message_from
a_side(const struct message_info *info)
{
    return info->from & FROM_CLIENT ? FROM_CLIENT : FROM_SERVER;
}

static void
same_rows(const void *a, const void *b, const struct field *rows, size_t count, const char *name)
{
    for (size_t i = 0; i < count; i++)
        if (memcmp((const char *)a + rows[i].offset, (const char *)b + rows[i].offset,
                   rows[i].bytes) != 0)
            fail_msg("%s: %s came back changed", name, rows[i].name);
}

static void
every_message_comes_back_as_it_was(void **unused)
{
    (void)unused;
    for (int t = 0; t < MESSAGE_COUNT; t++) {
        struct message_info info = message_info((enum message_type)t);
        struct draw draw = {.seed = 1000u + (uint64_t)t};
        for (int n = 0; n < (info.bytes > 20000 ? 40 : 300); n++) {
            size_t bytes;
            draw_message(&draw, (enum message_type)t, sent);
            enum status status =
                message_encode(codec, frame, sizeof frame, &bytes, (enum message_type)t, sent);
            if (status != STATUS_OK && strstr(status_words(), "more than"))
                continue; // longest texts everywhere: over the type's limit, and said so
            if (status != STATUS_OK)
                fail_msg("%s", status_words());
            assert_in_range(bytes, FRAME_LEAST, info.most);
            enum message_type type;
            assert_int_equal(
                message_check(codec, frame, bytes, a_link(&info), a_side(&info), &type, NULL),
                STATUS_OK);
            assert_int_equal(type, t);
            if (message_decode(codec, frame, bytes, type, got, NULL) != STATUS_OK)
                fail_msg("%s", status_words());
            same_rows(sent, got, info.rows, info.row_count, info.name);
            if (info.map_key)
                assert_true(named_same((void *)((char *)sent + info.map_at),
                                       (void *)((char *)got + info.map_at)));
            if (info.list) {
                assert_memory_equal((char *)sent + info.list->count, (char *)got + info.list->count,
                                    sizeof(size_t));
                for (size_t i = 0; i < info.list->most; i++)
                    same_rows((char *)sent + info.list->items + i * info.list->item_bytes,
                              (char *)got + info.list->items + i * info.list->item_bytes,
                              info.list->rows, info.list->row_count, info.name);
            }
        }
    }
}

// The largest values of what travels most fit their limits.
static void
the_longest_hello_welcome_and_batch_fit(void **unused)
{
    (void)unused;
    static const enum message_type types[] = {MESSAGE_HELLO,    MESSAGE_WELCOME, MESSAGE_ATTACH,
                                              MESSAGE_ATTACHED, MESSAGE_CREDIT,  MESSAGE_BATCH,
                                              MESSAGE_TICK,     MESSAGE_DETACH,  MESSAGE_EOS,
                                              MESSAGE_ERR,      MESSAGE_DETACHED};
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        struct message_info info = message_info(types[i]);
        memset(sent, 0, info.bytes);
        for (size_t r = 0; r < info.row_count; r++) {
            const struct field *row = &info.rows[r];
            char *at = (char *)sent + row->offset;
            if (row->type == FIELD_TEXT) {
                memset(at, 'x', row->bytes - 1);
            } else if (row->type == FIELD_CHOICE) {
                *(int *)(void *)at = 0;
            } else if (row->type == FIELD_BOOL) {
                *(bool *)at = true;
            } else if (row->type == FIELD_HASH128) {
                memset(at, 0xff, row->bytes);
            } else {
                struct draw draw = {.seed = 1};
                do {
                    draw_rows(&draw, sent, row, 1);
                } while (field_number(sent, row) < row->high);
            }
        }
        size_t bytes;
        if (message_encode(codec, frame, sizeof frame, &bytes, types[i], sent) != STATUS_OK)
            fail_msg("%s", status_words());
    }
}

static size_t
a_frame(struct draw *draw, enum message_type type)
{
    size_t bytes;
    do
        draw_message(draw, type, sent);
    while (message_encode(codec, frame, sizeof frame, &bytes, type, sent) != STATUS_OK);
    return bytes;
}

// Puts the right hash on a damaged frame, so that what lies behind it is tried.
static void
rehash(unsigned char *at, size_t bytes)
{
    struct hasher *hasher = hasher_new();
    hasher_add(hasher, at, 4);
    hasher_add(hasher, at + 8, bytes - 8);
    uint32_t hash = (uint32_t)hasher_64(hasher);
    memcpy(at + 4, &hash, sizeof hash);
    hasher_free(&hasher);
}

static bool
accepted(const unsigned char *at, size_t bytes, const struct message_info *info)
{
    // An exact copy on the heap: a byte read too far is found.
    unsigned char *copy = malloc(bytes ? bytes : 1);
    memcpy(copy, at, bytes);
    enum message_type type;
    bool fine =
        message_check(codec, copy, bytes, a_link(info), a_side(info), &type, NULL) == STATUS_OK &&
        message_decode(codec, copy, bytes, type, got, NULL) == STATUS_OK;
    free(copy);
    return fine;
}

static void
a_frame_cut_anywhere_is_refused(void **unused)
{
    (void)unused;
    for (int t = 0; t < MESSAGE_COUNT; t++) {
        struct message_info info = message_info((enum message_type)t);
        struct draw draw = {.seed = 5};
        size_t bytes = a_frame(&draw, (enum message_type)t);
        size_t stride = bytes > 4000 ? 97 : 1;
        for (size_t cut = 0; cut < bytes; cut += stride) {
            assert_false(accepted(frame, cut, &info));
            if (cut < FRAME_LEAST)
                continue;
            memcpy(mutant, frame, cut);
            rehash(mutant, cut);
            assert_false(accepted(mutant, cut, &info));
        }
        if (bytes < FRAME_MOST) {
            memcpy(mutant, frame, bytes);
            mutant[bytes] = 0xc0;
            rehash(mutant, bytes + 1);
            assert_false(accepted(mutant, bytes + 1, &info));
        }
    }
}

static void
a_flipped_bit_anywhere_is_refused(void **unused)
{
    (void)unused;
    for (int t = 0; t < MESSAGE_COUNT; t++) {
        struct message_info info = message_info((enum message_type)t);
        struct draw draw = {.seed = 6};
        size_t bytes = a_frame(&draw, (enum message_type)t);
        size_t stride = bytes > 1000 ? 131 : 1;
        for (size_t bit = 0; bit < 8 * bytes; bit += stride) {
            frame[bit / 8] ^= (unsigned char)(1u << bit % 8);
            assert_false(accepted(frame, bytes, &info));
            frame[bit / 8] ^= (unsigned char)(1u << bit % 8);
        }
    }
}

// Damage with a right hash: whatever is accepted must encode again, that is, be valid.
static void
mutants_yield_a_valid_message_or_a_status(void **unused)
{
    (void)unused;
    size_t accepted_count = 0, rounds = 0;
    for (int t = 0; t < MESSAGE_COUNT; t++) {
        struct message_info info = message_info((enum message_type)t);
        struct draw draw = {.seed = 7u + (uint64_t)t};
        size_t bytes = a_frame(&draw, (enum message_type)t);
        for (int n = 0; n < 600; n++) {
            size_t size = bytes;
            memcpy(mutant, frame, bytes);
            for (uint64_t k = 1 + draw_below(&draw, 4); k > 0; k--) {
                size_t at = FRAME_HEAD + draw_below(&draw, size - FRAME_HEAD);
                switch (draw_below(&draw, 4)) {
                case 0:
                    mutant[at] = (unsigned char)draw_u64(&draw);
                    break;
                case 1:
                    mutant[at] ^= (unsigned char)(1u << draw_below(&draw, 8));
                    break;
                case 2: { // a piece moves
                    size_t from = FRAME_HEAD + draw_below(&draw, size - FRAME_HEAD);
                    size_t most = size - (at > from ? at : from);
                    memmove(mutant + at, mutant + from, draw_below(&draw, most + 1));
                    break;
                }
                default:
                    size = at < FRAME_LEAST ? FRAME_LEAST : at;
                }
            }
            rehash(mutant, size);
            rounds++;
            if (!accepted(mutant, size, &info))
                continue;
            accepted_count++;
            size_t again;
            if (message_encode(codec, mutant, sizeof mutant, &again, (enum message_type)t, got) !=
                STATUS_OK)
                fail_msg("accepted but invalid: %s", status_words());
        }
    }
    assert_true(accepted_count > 0 && accepted_count < rounds);
}

// Random and near-valid msgpack: what the pre-check accepts, msgpack-c decodes completely.
static void
the_precheck_accepts_only_what_msgpack_decodes(void **unused)
{
    (void)unused;
    static const unsigned char types[] = {0x80, 0x81, 0x82, 0x90, 0x91, 0x93, 0xa0, 0xa3, 0xc0,
                                          0xc2, 0xc4, 0xc5, 0xca, 0xcb, 0xcc, 0xcf, 0xd3, 0xd9,
                                          0xda, 0xdc, 0xde, 0x01, 0xff, 0xc1, 0xc7, 0xd4, 0xdd};
    struct draw draw = {.seed = 8};
    size_t accepted_count = 0;
    for (int n = 0; n < 60000; n++) {
        unsigned char bytes[24];
        size_t size = 1 + draw_below(&draw, sizeof bytes);
        for (size_t i = 0; i < size; i++)
            bytes[i] = draw_below(&draw, 3) ? types[draw_below(&draw, sizeof types)]
                                            : (unsigned char)draw_below(&draw, 4);
        if (draw_below(&draw, 4))
            bytes[0] = (unsigned char)(0x81 + draw_below(&draw, 2));
        if (!message_precheck(bytes, size, 512))
            continue;
        accepted_count++;
        msgpack_zone zone;
        msgpack_object object;
        size_t offset = 0;
        assert_true(msgpack_zone_init(&zone, 2048));
        assert_int_equal(msgpack_unpack((const char *)bytes, size, &offset, &zone, &object),
                         MSGPACK_UNPACK_SUCCESS);
        assert_int_equal(object.type, MSGPACK_OBJECT_MAP);
        msgpack_zone_destroy(&zone);
    }
    assert_true(accepted_count > 300);
}

static void
bombs_are_refused_quickly(void **unused)
{
    (void)unused;
    static unsigned char bomb[FRAME_MOST];
    struct {
        const char *what;
        unsigned char head[12];
        size_t head_bytes, bytes;
        int fill;
    } bombs[] = {
        {"64 KiB of nils", {0xdf, 0, 0, 0x7f, 0xff}, 5, FRAME_MOST - 8, 0xc0},
        {"nested maps", {0}, 0, FRAME_MOST - 8, 0x81},
        {"nested arrays", {0x81, 0xa1, 'a'}, 3, FRAME_MOST - 8, 0x91},
        {"array32 of 4 G", {0x81, 0xa1, 'a', 0xdd, 0xff, 0xff, 0xff, 0xff}, 8, 200, 0xc0},
        {"map32 of 2 G", {0xdf, 0x7f, 0xff, 0xff, 0xff}, 5, 160, 0xc0},
        {"str32 of 4 G", {0x81, 0xa1, 'a', 0xdb, 0xff, 0xff, 0xff, 0xff}, 8, 160, 'x'},
        {"bin beyond the end", {0x81, 0xa1, 'a', 0xc4, 0x10}, 5, 20, 'x'},
        {"an ext", {0x81, 0xa1, 'a', 0xd4, 1, 1}, 6, 6, 0},
        {"never used", {0x81, 0xa1, 'a', 0xc1}, 4, 4, 0},
        {"an array at the top", {0x91, 0x01}, 2, 2, 0},
        {"no document", {0}, 0, 0, 0},
        {"a second document", {0x80, 0x80}, 2, 2, 0},
        {"fits one by one, not in sum", {0x83, 0xa1, 'a', 0x93, 0x93, 0x93, 1, 1, 1}, 9, 10, 1},
    };
    for (size_t i = 0; i < sizeof bombs / sizeof bombs[0]; i++) {
        memset(bomb, bombs[i].fill, bombs[i].bytes);
        memcpy(bomb, bombs[i].head, bombs[i].head_bytes);
        double from = tick_seconds();
        if (message_precheck(bomb, bombs[i].bytes, 4096))
            fail_msg("%s was accepted", bombs[i].what);
        assert_true(tick_seconds() - from < 0.1); // 2 ms without sanitizers and neighbours
    }
    // "All that is left", nested: each array16 is honest about the bytes behind it.
    size_t at = 3;
    memcpy(bomb,
           "\x81\xa1"
           "a",
           3);
    while (at + 3 < FRAME_MOST - 8) {
        size_t left = FRAME_MOST - 8 - at - 3;
        bomb[at] = 0xdc;
        bomb[at + 1] = (unsigned char)(left >> 8);
        bomb[at + 2] = (unsigned char)left;
        at += 3;
    }
    assert_false(message_precheck(bomb, FRAME_MOST - 8, 4096));
}

// Hand-made bodies of a PING, {i: u64, lk?: u64}.
static enum refusal
ping(const char *body, size_t bytes)
{
    struct message message;
    enum refusal why = REFUSAL_NONE;
    memcpy(mutant, "OS\1\4", 4);
    memcpy(mutant + 8, body, bytes);
    rehash(mutant, 8 + bytes);
    enum status status =
        message_read(codec, mutant, 8 + bytes, LINK_DATA, FROM_CLIENT, &message, &why);
    assert_int_equal(status == STATUS_OK, why == REFUSAL_NONE);
    return why;
}
#define PING(body) ping(body, sizeof(body) - 1)

static void
the_rules_of_bodies(void **unused)
{
    (void)unused;
    assert_int_equal(PING("\x81\xa1i\x05"), REFUSAL_NONE);
    assert_int_equal(PING("\x81\xa1i\xcf\0\0\0\0\0\0\0\5"), REFUSAL_NONE); // any width
    assert_int_equal(PING("\x82\xa1i\5\xa2lk\xc0"), REFUSAL_NONE);         // nil is absent
    assert_int_equal(PING("\x82\xa1i\5\xa3new\x91\1"), REFUSAL_NONE);      // unknown: ignored
    assert_int_equal(PING("\x82\xa1i\5\xa4!new\1"), REFUSAL_SCHEMA);       // must understand
    assert_int_equal(PING("\x82\xa1i\5\xa1i\5"), REFUSAL_SCHEMA);          // twice
    assert_int_equal(PING("\x83\xa1i\5\xa1z\5\xa1z\5"), REFUSAL_SCHEMA);   // twice, unknown
    assert_int_equal(PING("\x80"), REFUSAL_SCHEMA);                        // missing
    assert_int_equal(PING("\x81\xa1i\xc0"), REFUSAL_SCHEMA);               // nil is missing
    assert_int_equal(PING("\x81\xa1i\xff"), REFUSAL_SCHEMA);               // negative
    assert_int_equal(PING("\x81\xa1i\xcb\x40\0\0\0\0\0\0\0"), REFUSAL_SCHEMA);
    assert_int_equal(PING("\x82\xa1i\5\xa1I\5"), REFUSAL_SCHEMA);         // a capital
    assert_int_equal(PING("\x82\xa1i\5\xa9toolonger\5"), REFUSAL_SCHEMA); // 9 letters
    assert_int_equal(PING("\x82\xa1i\5\5\5"), REFUSAL_SCHEMA);            // not a text
    assert_int_equal(PING("\x91\5"), REFUSAL_MALFORMED);
}

static void
who_may_say_what_where(void **unused)
{
    (void)unused;
    static const enum message_link links[] = {LINK_DATA, LINK_CTL, LINK_BLOB, LINK_PUB};
    static const enum message_from sides[] = {FROM_CLIENT, FROM_SERVER};
    for (int t = 0; t < MESSAGE_COUNT; t++) {
        struct message_info info = message_info((enum message_type)t);
        struct draw draw = {.seed = 9};
        size_t bytes = a_frame(&draw, (enum message_type)t);
        for (size_t l = 0; l < 4; l++)
            for (size_t s = 0; s < 2; s++) {
                enum message_type type;
                enum refusal why = REFUSAL_NONE;
                enum status status =
                    message_check(codec, frame, bytes, links[l], sides[s], &type, &why);
                bool allowed = info.links & (unsigned)links[l] && info.from & (unsigned)sides[s];
                assert_int_equal(status, allowed ? STATUS_OK : STATUS_DAMAGED);
                assert_int_equal(why, allowed ? REFUSAL_NONE : REFUSAL_ROLE);
            }
    }
}

static void
what_we_may_not_say_is_a_status(void **unused)
{
    (void)unused;
    struct msg_credit credit = {.upto = UINT64_MAX};
    size_t bytes;
    assert_int_equal(message_encode(codec, frame, sizeof frame, &bytes, MESSAGE_CREDIT, &credit),
                     STATUS_INTERNAL);
    struct msg_metric *metric = calloc(1, sizeof *metric);
    snprintf(metric->stamp.run, sizeof metric->stamp.run, "r");
    for (int i = 0; i <= METRIC_MOST; i++) {
        char name[16];
        snprintf(name, sizeof name, "m%d", i);
        named_real(&metric->values, name, i);
    }
    assert_int_equal(message_encode(codec, frame, sizeof frame, &bytes, MESSAGE_METRIC, metric),
                     STATUS_INTERNAL); // one too many
    named_clear(&metric->values);
    named_real(&metric->values, "a name with spaces", 1);
    assert_int_equal(message_encode(codec, frame, sizeof frame, &bytes, MESSAGE_METRIC, metric),
                     STATUS_INTERNAL); // lost, and not silently
    named_clear(&metric->values);
    memcpy(metric->stamp.run, "../x", 5);
    assert_int_equal(message_encode(codec, frame, sizeof frame, &bytes, MESSAGE_METRIC, metric),
                     STATUS_INTERNAL);
    free(metric);
}

static void
payload_sizes_do_not_overflow(void **unused)
{
    (void)unused;
    uint64_t bytes;
    assert_true(payload_bytes(&bytes, PAYLOAD_BF16, 2048, 2304, false) && bytes == 9437184);
    assert_true(payload_bytes(&bytes, PAYLOAD_F32, 9, 3, true) && bytes == 9 * 3 * 4 + 2);
    assert_false(payload_bytes(&bytes, PAYLOAD_F32, UINT32_MAX, UINT32_MAX, true));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_message_comes_back_as_it_was),
        cmocka_unit_test(the_longest_hello_welcome_and_batch_fit),
        cmocka_unit_test(a_frame_cut_anywhere_is_refused),
        cmocka_unit_test(a_flipped_bit_anywhere_is_refused),
        cmocka_unit_test(mutants_yield_a_valid_message_or_a_status),
        cmocka_unit_test(the_precheck_accepts_only_what_msgpack_decodes),
        cmocka_unit_test(bombs_are_refused_quickly),
        cmocka_unit_test(the_rules_of_bodies),
        cmocka_unit_test(who_may_say_what_where),
        cmocka_unit_test(what_we_may_not_say_is_a_status),
        cmocka_unit_test(payload_sizes_do_not_overflow),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
