// Fetching files as state machines, one fault at a time at every message there is: cuts, a server
// that dies and comes back, files that are deleted or damaged meanwhile. (What comes by chance and
// all together is the simulator's, tests/fault.) Whatever happens,
// what was fetched is what lay there, or the client knows that it has nothing. E1 E2.
//
// Invariants: E1 E2 R4
#include "tests/proto/blob_world.h"

// ---- the tests

// How many messages a quiet fetch takes: where faults can strike.
static uint64_t
quiet(void)
{
    struct world *w = world_new(1);
    assert_int_equal(run(w), BLOBCLIENT_DONE);
    check_whole(w);
    assert_int_equal(w->fetched, total());
    uint64_t carried = w->carried;
    world_free(&w);
    return carried;
}

static void
a_fetch_that_is_cut_at_any_message_goes_on_where_it_was(void **state)
{
    (void)state;
    uint64_t most = quiet();
    assert_true(most > 2 * total() / CHUNK - 10);
    for (uint64_t at = 1; at <= most; at++) {
        struct world *w = world_new(at);
        w->cut_at = at;
        assert_int_equal(run(w), BLOBCLIENT_DONE);
        check_whole(w);
        assert_int_equal(w->fetched, total()); // each byte once
        assert_true(w->now < 40000);
        world_free(&w);
    }
}

static void
a_server_that_dies_at_any_message_costs_time_only(void **state)
{
    (void)state;
    uint64_t most = quiet();
    for (uint64_t at = 1; at <= most; at++) {
        struct world *w = world_new(at);
        w->restart_at = at;
        assert_int_equal(run(w), BLOBCLIENT_DONE);
        check_whole(w);
        assert_int_equal(w->fetched, total());
        world_free(&w);
    }
}

static void
a_deleted_checkpoint_is_fetched_to_its_end_or_known_to_be_gone(void **state)
{
    (void)state;
    uint64_t most = quiet();
    unsigned gone = 0, whole = 0;
    for (uint64_t at = 1; at <= most; at++)
        for (int die = 0; die < 2; die++) {
            struct world *w = world_new(at);
            w->delete_at = at;
            w->restart_at = die ? at + 1 : 0; // then nothing holds its files open any more
            enum blobclient_state end = run(w);
            assert_true(end == BLOBCLIENT_DONE || end == BLOBCLIENT_GONE);
            if (end == BLOBCLIENT_DONE)
                check_whole(w);
            gone += end == BLOBCLIENT_GONE;
            whole += end == BLOBCLIENT_DONE;
            // An open object is a lease: deleting alone does not end a fetch under way.
            if (!die && at > 6)
                assert_int_equal(end, BLOBCLIENT_DONE);
            world_free(&w);
        }
    assert_true(gone > 0 && whole > 0);
}

static void
a_flipped_bit_in_any_chunk_is_noticed_and_fetched_again(void **state)
{
    (void)state;
    uint64_t most = quiet(), seen = 0;
    for (uint64_t at = 1; at <= most; at++) {
        struct world *w = world_new(at);
        w->flip_at = at;
        assert_int_equal(run(w), BLOBCLIENT_DONE);
        check_whole(w);
        assert_int_equal(w->fetched, total()); // the bad one was not written
        struct blobclient_view view;
        blobclient_look(w->client, &view);
        seen += view.badhash;
        world_free(&w);
    }
    assert_true(seen >= total() / CHUNK);
}

static void
a_file_damaged_on_the_servers_disk_is_never_taken(void **state)
{
    (void)state;
    for (int heals = 0; heals < 2; heals++) {
        struct world *w = world_new(9);
        uint64_t right = hash64(w->disk[2], sizes[2]);
        // The list names the right hash; the bytes are others. So the list must be made before.
        for (int turn = 0; turn < 200 && state_of(w) != BLOBCLIENT_FETCHING; turn++) {
            drive_client(w);
            drive_server(w);
            w->now += 5;
            while (w->count > 0) {
                struct parcel parcel = w->queue[w->first];
                w->first = (w->first + 1) % QUEUE;
                w->count--;
                arrive(w, &parcel);
            }
        }
        assert_int_equal(state_of(w), BLOBCLIENT_FETCHING);
        w->disk[2][5000] ^= 1;
        for (int turn = 0; turn < 20000 && !is_over(w) && w->rewinds == 0; turn++) {
            drive_client(w);
            drive_server(w);
            w->now++;
            while (w->count > 0 && w->queue[w->first].at <= w->now) {
                struct parcel parcel = w->queue[w->first];
                w->first = (w->first + 1) % QUEUE;
                w->count--;
                arrive(w, &parcel);
            }
        }
        assert_int_equal(w->rewinds, 1);
        if (heals) {
            w->disk[2][5000] ^= 1;
            assert_int_equal(hash64(w->disk[2], sizes[2]), right);
            assert_int_equal(run(w), BLOBCLIENT_DONE);
            check_whole(w);
        } else { // the list of the second opening is of the damaged file: not what was planned
            assert_int_equal(run(w), BLOBCLIENT_FAILED);
        }
        world_free(&w);
    }
}

static void
what_lies_there_already_is_not_fetched_again(void **state)
{
    (void)state;
    for (size_t cut_short = 0; cut_short <= 8192; cut_short += 1024) {
        struct world *w = world_new(3);
        memcpy(w->got[0], w->disk[0], w->written[0] = sizes[0]);
        memcpy(w->got[2], w->disk[2], w->written[2] = cut_short);
        assert_int_equal(run(w), BLOBCLIENT_DONE);
        check_whole(w);
        assert_int_equal(w->fetched, total() - sizes[0] - cut_short);
        world_free(&w);
    }
    // A part that is wrong shows at the end of its file, and is fetched anew.
    struct world *w = world_new(4);
    memcpy(w->got[0], w->disk[0], w->written[0] = sizes[0]);
    w->written[2] = 4096; // zeros
    assert_int_equal(run(w), BLOBCLIENT_DONE);
    check_whole(w);
    assert_int_equal(w->rewinds, 1);
    world_free(&w);
}

static void
another_checkpoint_of_the_name_is_not_taken_for_it(void **state)
{
    (void)state;
    struct world *w = world_new(5);
    struct texts list = {.count = 1};
    snprintf(list.at[0], TEXT_BYTES, "weights");
    blobclient_start(w->client, "run/100-1", HASH + 1, &list, 1 << 20);
    assert_int_equal(run(w), BLOBCLIENT_GONE);
    for (size_t i = 0; i < FILES; i++)
        assert_int_equal(w->written[i], 0);
    world_free(&w);
    // A list that is not what was asked for, or more bytes than may come.
    w = world_new(6);
    blobclient_start(w->client, "run/100-1", HASH, &list, 1 << 20);
    assert_int_equal(run(w), BLOBCLIENT_FAILED);
    world_free(&w);
    w = world_new(7);
    list.count = FILES;
    for (size_t i = 0; i < FILES; i++)
        snprintf(list.at[i], TEXT_BYTES, "%s", names[i]);
    blobclient_start(w->client, "run/100-1", HASH, &list, total() - 1);
    assert_int_equal(run(w), BLOBCLIENT_FAILED);
    world_free(&w);
}

// ---- the server alone

static uint64_t
greet(struct world *w, uint64_t route, int role)
{
    struct message hello = {.type = MESSAGE_HELLO};
    struct blobserver_action action;
    hello.hello.version_min = hello.hello.version_max = PROTOCOL_VERSION;
    hello.hello.role = role;
    hello.hello.i = route;
    hello.hello.inst = (struct hash128){route, 1};
    snprintf(hello.hello.name, sizeof hello.hello.name, "e%u", (unsigned)route);
    blobserver_small(w->server, route, &hello, w->now);
    assert_int_equal(blobserver_next(w->server, w->now, &action), BLOBSERVER_SAY);
    assert_int_equal(action.message.type, MESSAGE_WELCOME);
    return action.message.welcome.lk;
}

// What the server says to one OPEN: OPENED, or the code of its refusal.
static unsigned
open_one(struct world *w, uint64_t route, uint64_t lk, uint64_t i, uint32_t *handle)
{
    struct msg_open open = {.lk = lk, .i = i, .ttl_s = 10};
    struct blobserver_action action;
    snprintf(open.ck, sizeof open.ck, "run/1-1");
    blobserver_open(w->server, route, &open, w->now);
    for (;;)
        switch (blobserver_next(w->server, w->now, &action)) {
        case BLOBSERVER_FIND: {
            struct msg_blob_file file = {.name = "weights", .bytes = sizes[2]};
            blobserver_found(w->server, action.slot, HASH, &file, 1);
            break;
        }
        case BLOBSERVER_OPENED:
            *handle = action.opened->fd;
            return 0;
        case BLOBSERVER_SAY:
            assert_int_equal(action.message.type, MESSAGE_ERR);
            return action.message.err.code;
        case BLOBSERVER_NOTHING:
            return 9999;
        default:
            break;
        }
}

static void
the_server_is_bounded_and_forgets_who_is_silent(void **state)
{
    (void)state;
    struct world *w = world_new(8);
    uint64_t lk[BLOB_OBJECTS_MOST + 1];
    uint32_t handle, first;
    for (uint64_t i = 0; i <= BLOB_OBJECTS_MOST; i++)
        lk[i] = greet(w, i + 1, ROLE_EVALUATOR);
    for (uint64_t i = 0; i < BLOB_OBJECTS_MOST; i++)
        assert_int_equal(open_one(w, i + 1, lk[i], 1, i ? &handle : &first), 0);
    assert_int_equal(blobserver_objects(w->server), BLOB_OBJECTS_MOST);
    assert_int_equal(open_one(w, BLOB_OBJECTS_MOST + 1, lk[BLOB_OBJECTS_MOST], 1, &handle),
                     REFUSAL_BUSY);
    // A second OPEN of a link replaces its first; an older one, late, does nothing.
    assert_int_equal(open_one(w, 1, lk[0], 2, &handle), REFUSAL_BUSY);
    assert_int_equal(open_one(w, 1, lk[0], 3, &handle), 0);
    assert_int_not_equal(handle, first);
    assert_int_equal(open_one(w, 1, lk[0], 2, &handle), 9999);
    struct msg_want want = {.lk = lk[0], .fd = first, .upto = 100};
    struct blobserver_action action;
    blobserver_want(w->server, 1, &want, w->now);
    assert_int_equal(blobserver_next(w->server, w->now, &action), BLOBSERVER_SAY);
    assert_int_equal(action.message.err.code, REFUSAL_EXPIRED);
    // Somebody else's link, or a role that may not.
    want = (struct msg_want){.lk = lk[1], .fd = handle, .upto = 100};
    blobserver_want(w->server, 1, &want, w->now);
    assert_int_equal(blobserver_next(w->server, w->now, &action), BLOBSERVER_SAY);
    assert_int_equal(action.message.err.code, REFUSAL_LINK);
    assert_int_equal(open_one(w, 77, greet(w, 77, ROLE_MONITOR), 1, &handle), REFUSAL_ROLE);
    // Time to live, then the lease.
    w->now += 10001;
    size_t shut = 0;
    while (blobserver_next(w->server, w->now, &action) == BLOBSERVER_SHUT)
        shut++;
    assert_int_equal(shut, BLOB_OBJECTS_MOST);
    assert_int_equal(blobserver_objects(w->server), 0);
    world_free(&w);
}

static void
credit_is_absolute_and_a_window_at_most(void **state)
{
    (void)state;
    struct world *w = world_new(10);
    uint64_t lk = greet(w, 1, ROLE_EVALUATOR), sent = 0;
    uint32_t handle;
    struct blobserver_action action;
    assert_int_equal(open_one(w, 1, lk, 1, &handle), 0);
    struct msg_want want = {.lk = lk, .fd = handle, .from = 0, .upto = sizes[2]};
    blobserver_want(w->server, 1, &want, w->now); // more than a window: cut to it
    while (blobserver_next(w->server, w->now, &action) == BLOBSERVER_READ)
        sent += action.chunk.bytes;
    assert_int_equal(sent, WINDOW);
    blobserver_want(w->server, 1, &want, w->now); // repeated: nothing
    assert_int_equal(blobserver_next(w->server, w->now, &action), BLOBSERVER_NOTHING);
    want.from = 100;
    want.upto = 200; // smaller than before: nothing is taken back, nothing goes beyond
    blobserver_want(w->server, 1, &want, w->now);
    while (blobserver_next(w->server, w->now, &action) == BLOBSERVER_READ)
        sent += action.chunk.bytes;
    assert_true(sent <= 100 + WINDOW + CHUNK);
    want.upto = sizes[2] + 1;
    blobserver_want(w->server, 1, &want, w->now);
    assert_int_equal(blobserver_next(w->server, w->now, &action), BLOBSERVER_SHUT);
    assert_int_equal(blobserver_next(w->server, w->now, &action), BLOBSERVER_SAY);
    assert_int_equal(action.message.err.code, REFUSAL_WINDOW);
    world_free(&w);
}

// A server that lies and a client that raves: no crash, no byte beyond what was announced.
static void
nonsense_is_survived(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 200; seed++) {
        struct world *w = world_new(seed);
        for (int turn = 0; turn < 400; turn++) {
            drive_client(w);
            drive_server(w);
            w->now += (int64_t)roll(w, 50);
            while (w->count > 0 && w->queue[w->first].at <= w->now) {
                struct parcel parcel = w->queue[w->first];
                w->first = (w->first + 1) % QUEUE;
                w->count--;
                switch (roll(w, 12)) {
                case 0:
                    parcel.chunk.offset = roll(w, 10000);
                    break;
                case 1:
                    parcel.chunk.bytes = (uint32_t)roll(w, CHUNK) + 1;
                    break;
                case 2:
                    if (parcel.type == MESSAGE_OPENED)
                        parcel.opened.at[roll(w, FILES)].bytes = roll(w, UINT64_MAX);
                    break;
                case 3:
                    if (parcel.type == MESSAGE_OPENED)
                        parcel.opened.count = roll(w, BLOB_FILES_MOST + 1);
                    break;
                case 4:
                    if (parcel.type == MESSAGE_WANT)
                        parcel.want.from = roll(w, 20000);
                    break;
                case 5:
                    if (parcel.type == MESSAGE_WANT)
                        parcel.want.fd += (uint32_t)roll(w, 2);
                    break;
                default:
                    break;
                }
                arrive(w, &parcel);
            }
        }
        world_free(&w);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_fetch_that_is_cut_at_any_message_goes_on_where_it_was),
        cmocka_unit_test(a_server_that_dies_at_any_message_costs_time_only),
        cmocka_unit_test(a_deleted_checkpoint_is_fetched_to_its_end_or_known_to_be_gone),
        cmocka_unit_test(a_flipped_bit_in_any_chunk_is_noticed_and_fetched_again),
        cmocka_unit_test(a_file_damaged_on_the_servers_disk_is_never_taken),
        cmocka_unit_test(what_lies_there_already_is_not_fetched_again),
        cmocka_unit_test(another_checkpoint_of_the_name_is_not_taken_for_it),
        cmocka_unit_test(the_server_is_bounded_and_forgets_who_is_silent),
        cmocka_unit_test(credit_is_absolute_and_a_window_at_most),
        cmocka_unit_test(nonsense_is_survived),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
