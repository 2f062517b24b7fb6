// Files over real sockets and disks: a server in its own thread and context, over ipc and tcp;
// killed, slow, without the files; a full disk at the client; what an earlier life had fetched. E1.
//
// Invariants: E1
#include "proto/blobfetch.h"
#include "proto/blobport.h"

#include "lib/base/fault.h"
#include "tests/proto/socket_kit.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/stat.h>

enum { BIG = 9 << 20, HASH = 77 };

struct server {
    char endpoint[WIRE_ENDPOINT], bound[WIRE_ENDPOINT];
    char folder[PATH_BYTES];
    pthread_t thread;
    atomic_bool up, stop, gone;
    struct blobport_view view;
};

static struct server server;
static unsigned char *big;
static char cache[PATH_BYTES];

static enum refusal
find(void *context, const char *ck, struct blob_object *out)
{
    struct server *s = context;
    if (s->gone || strcmp(ck, "run/1-1") != 0)
        return REFUSAL_NOTFOUND;
    snprintf(out->folder, sizeof out->folder, "%s", s->folder);
    out->manifest_hash = HASH;
    out->count = 2;
    snprintf(out->files[0].name, sizeof out->files[0].name, "manifest.json");
    out->files[0].bytes = 5;
    out->files[0].hash = hash64("hello", 5);
    snprintf(out->files[1].name, sizeof out->files[1].name, "weights");
    out->files[1].bytes = BIG;
    out->files[1].hash = hash64(big, BIG);
    return REFUSAL_NONE;
}

static void *
serve(void *self)
{
    struct server *s = self;
    struct channel *channel;
    struct blobport *port;
    struct blobport_settings set = {.name = "trainer",
                                    .inst = {random_seed(), 1},
                                    .hb_ms = 200,
                                    .lease_ms = 1500,
                                    .min_rate = 64 << 20,
                                    .find = find,
                                    .context = s};
    fine(channel_new(&channel, NULL));
    fine(blobport_open(&port, channel, s->endpoint, &set));
    snprintf(s->bound, sizeof s->bound, "%s", blobport_endpoint(port));
    s->up = true;
    while (!s->stop) {
        kit_wait(channel, blobport_turn(port, tick_ms()));
        blobport_look(port, &s->view);
    }
    blobport_close(&port);
    channel_free(&channel);
    return NULL;
}

static void
start(void)
{
    server.up = server.stop = false;
    pthread_create(&server.thread, NULL, serve, &server);
    while (!server.up)
        usleep(1000);
}

static void
stop(void)
{
    server.stop = true;
    pthread_join(server.thread, NULL);
}

static void
put(const char *name, const void *at, size_t bytes)
{
    char path[PATH_BYTES];
    fine(path_join(path, server.folder, name));
    fine(file_replace(path, at, bytes));
}

static int
setup(void **state)
{
    if (kit_begin(state))
        return 1;
    memset(&server, 0, sizeof server);
    fine(path_join(server.folder, kit_folder, "step"));
    fine(path_join(cache, kit_folder, "cache"));
    fine(path_make(server.folder, 0700));
    fine(path_make(cache, 0700));
    big = malloc(BIG);
    assert_non_null(big);
    for (size_t i = 0; i < BIG; i++)
        big[i] = (unsigned char)(i * 2654435761u >> 13);
    put("manifest.json", "hello", 5);
    put("weights", big, BIG);
    kit_endpoint(server.endpoint, "blob");
    return 0;
}

static int
teardown(void **state)
{
    free(big);
    fault_set(NULL);
    return kit_end(state);
}

static struct blobfetch_order
order_of(void)
{
    struct blobfetch_order order = {.ck = "run/1-1",
                                    .manifest_hash = HASH,
                                    .names = {.count = 2, .at = {"manifest.json", "weights"}},
                                    .most = 64 << 20,
                                    .folder = cache,
                                    .patience_ms = 20000};
    return order;
}

static void
check_fetched(void)
{
    char path[PATH_BYTES], *at;
    size_t bytes;
    fine(path_join(path, cache, "weights"));
    fine(file_read(&at, &bytes, path, BIG));
    assert_int_equal(bytes, BIG);
    assert_memory_equal(at, big, BIG);
    free(at);
    fine(path_join(path, cache, "manifest.json"));
    fine(file_read(&at, &bytes, path, 100));
    assert_int_equal(bytes, 5);
    free(at);
}

static enum status
fetch(const struct blobfetch_order *order, struct blobfetch_view *view)
{
    struct channel *channel;
    struct blobfetch *fetch;
    fine(channel_new(&channel, NULL));
    fine(blobfetch_open(&fetch, channel, server.bound, "evaluator"));
    enum status status = blobfetch_get(fetch, order);
    blobfetch_look(fetch, view);
    blobfetch_close(&fetch);
    channel_free(&channel);
    return status;
}

static void
files_come_whole(const char *endpoint)
{
    struct blobfetch_order order = order_of();
    struct blobfetch_view view;
    snprintf(server.endpoint, sizeof server.endpoint, "%s", endpoint);
    start();
    fine(fetch(&order, &view));
    check_fetched();
    assert_int_equal(view.bytes, BIG + 5);
    assert_int_equal(view.reopened, 0);
    fine(fetch(&order, &view)); // everything is here: read and believed, not fetched
    assert_int_equal(view.bytes, 0);
    stop();
    assert_int_equal(server.view.sent_bytes, BIG + 5);
    assert_int_equal(server.view.malformed, 0);
}

static void
files_come_whole_over_ipc(void **state)
{
    (void)state;
    char endpoint[WIRE_ENDPOINT];
    kit_endpoint(endpoint, "blob");
    files_come_whole(endpoint);
}

static void
files_come_whole_over_tcp(void **state)
{
    (void)state;
    files_come_whole("tcp://127.0.0.1:*");
}

struct stopper {
    uint64_t at;
    bool restarted;
};

static bool
restart_in_the_middle(void *context, uint64_t done, uint64_t all)
{
    struct stopper *stopper = context;
    (void)all;
    if (done >= stopper->at && !stopper->restarted) {
        stopper->restarted = true;
        stop();
        snprintf(server.endpoint, sizeof server.endpoint, "%s", server.bound);
        start();
    }
    return false;
}

static void
a_server_that_comes_back_is_asked_for_the_rest(void **state)
{
    (void)state;
    struct blobfetch_view view;
    struct stopper stopper = {.at = 3 << 20};
    struct blobfetch_order order = order_of();
    order.stop = restart_in_the_middle;
    order.context = &stopper;
    start();
    fine(fetch(&order, &view));
    stop();
    check_fetched();
    assert_true(stopper.restarted);
    assert_int_equal(view.bytes, BIG + 5); // each byte was written once
    assert_true(view.reopened >= 1);
}

static bool
stop_in_the_middle(void *context, uint64_t done, uint64_t all)
{
    (void)all;
    return done >= *(const uint64_t *)context;
}

static void
a_client_that_comes_back_goes_on_where_it_was(void **state)
{
    (void)state;
    struct blobfetch_view view;
    uint64_t at = 2 << 20;
    struct blobfetch_order order = order_of();
    order.stop = stop_in_the_middle;
    order.context = &at;
    start();
    assert_int_equal(fetch(&order, &view), STATUS_AGAIN);
    assert_true(view.bytes >= at && view.bytes < BIG);
    uint64_t first = view.bytes;
    order.stop = NULL;
    fine(fetch(&order, &view));
    assert_int_equal(first + view.bytes, BIG + 5);
    stop();
    check_fetched();
}

static void
what_cannot_be_fetched_says_why(void **state)
{
    (void)state;
    struct blobfetch_view view;
    struct blobfetch_order order = order_of();
    start();
    order.ck = "run/2-1";
    assert_int_equal(fetch(&order, &view), STATUS_MISSING);
    order = order_of();
    order.manifest_hash = 1;
    assert_int_equal(fetch(&order, &view), STATUS_MISSING);
    order = order_of();
    order.most = BIG;
    assert_int_equal(fetch(&order, &view), STATUS_DAMAGED);
    order = order_of();
    order.reserve = (uint64_t)1 << 60;
    assert_int_equal(fetch(&order, &view), STATUS_CREATE);
    assert_non_null(strstr(status_words(), "bytes free"));
    order = order_of();
    snprintf(order.names.at[1], TEXT_BYTES, "../manifest.json");
    assert_int_equal(fetch(&order, &view), STATUS_DAMAGED);
    // A disk that fills up, a file that cannot be made, a sync that fails; then all is well again.
    static const char *const plans[] = {"fetch.write:4", "fetch.create:2", "fetch.sync:1"};
    order = order_of();
    for (size_t i = 0; i < 3; i++) {
        fault_set(plans[i]);
        enum status status = fetch(&order, &view);
        assert_true(status == STATUS_CREATE || status == STATUS_IO);
        fault_set(NULL);
        fine(fetch(&order, &view));
        check_fetched();
        fine(path_remove(cache));
        fine(path_make(cache, 0700));
    }
    // Bytes that are not the manifest's, or fewer of them.
    big[BIG / 2] ^= 1;
    put("weights", big, BIG);
    big[BIG / 2] ^= 1;
    assert_int_equal(fetch(&order, &view), STATUS_DAMAGED);
    assert_int_equal(view.badhash, 2);
    put("weights", big, BIG - 1);
    assert_int_equal(fetch(&order, &view), STATUS_DAMAGED);
    stop();
    // Nobody there.
    order.patience_ms = 300;
    assert_int_equal(fetch(&order, &view), STATUS_UNREACHABLE);
}

static bool
delete_in_the_middle(void *context, uint64_t done, uint64_t all)
{
    char path[PATH_BYTES];
    (void)context, (void)all;
    if (done >= 1 << 20 && !server.gone) {
        server.gone = true;
        fine(path_join(path, server.folder, "weights"));
        assert_int_equal(unlink(path), 0);
    }
    return false;
}

static void
a_file_that_is_deleted_meanwhile_is_read_to_its_end(void **state)
{
    (void)state;
    struct blobfetch_view view;
    struct blobfetch_order order = order_of();
    order.stop = delete_in_the_middle;
    start();
    fine(fetch(&order, &view));
    check_fetched();
    assert_true(server.gone);
    fine(path_remove(cache));
    fine(path_make(cache, 0700));
    assert_int_equal(fetch(&order, &view), STATUS_MISSING);
    stop();
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(files_come_whole_over_ipc, setup, teardown),
        cmocka_unit_test_setup_teardown(files_come_whole_over_tcp, setup, teardown),
        cmocka_unit_test_setup_teardown(a_server_that_comes_back_is_asked_for_the_rest, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_client_that_comes_back_goes_on_where_it_was, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(what_cannot_be_fetched_says_why, setup, teardown),
        cmocka_unit_test_setup_teardown(a_file_that_is_deleted_meanwhile_is_read_to_its_end, setup,
                                        teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
