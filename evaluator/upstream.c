#include "evaluator/upstream.h"

#include "lib/base/say.h"
#include "lib/base/tick.h"
#include "lib/store/checkpoint.h"
#include "proto/blobserver.h"
#include "proto/caller.h"
#include "proto/publish.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    ASK_MS = 5000,
    FIRST_MS = 1500, // of one that may not be there at all
    CLAIM_MS = 3000,
    TELL_MS = 15000,
    RETRY_MS = 1000,
    RETRY_CAP_MS = 10000,
    PATIENCE_MS = 20000
};

struct upstream {
    const struct settings *set;
    struct channel *channel;
    struct upstream_watch watch;
    const char *name;
    char endpoint[WIRE_ENDPOINT];
    struct caller *caller;
    struct subscriber *announcements;
    struct blobfetch *fetch;
    char path[PATH_BYTES]; // of the folder of checkpoints, as the trainer sees it; "": unknown
    char pub[WIRE_ENDPOINT], blob[WIRE_ENDPOINT]; // "": unknown
    bool up, announced;
    unsigned failures;
    int64_t retry_at;
    struct msg_cklistr list;
    struct waiting done; // of a list: what has results
    struct msg_reply reply;
};

static bool
stop_asking(void *context)
{
    struct upstream *s = context;
    return s->watch.stop(s->watch.context, NULL, 0);
}

enum status
upstream_open(struct upstream **out, struct channel *channel, const struct settings *set,
              const char *endpoint, const char *home, const char *name,
              const struct upstream_watch *watch)
{
    struct upstream *s = *out = calloc(1, sizeof *s);
    if (!s)
        return FAIL(CREATE, "no memory to follow %s", endpoint);
    s->set = set;
    s->channel = channel;
    s->watch = *watch;
    s->name = name;
    snprintf(s->endpoint, sizeof s->endpoint, "%s", endpoint);
    enum status status = STATUS_OK;
    if (home[0])
        status = path_join(s->path, home, "checkpoints");
    if (status == STATUS_OK)
        status = caller_open(&s->caller, channel, endpoint, ROLE_EVALUATOR, name,
                             set->net.backoff_cap_ms);
    if (status != STATUS_OK) {
        upstream_close(out);
        return status;
    }
    caller_set_stop(s->caller, stop_asking, s);
    return STATUS_OK;
}

void
upstream_close(struct upstream **upstream)
{
    struct upstream *s = *upstream;
    if (!s)
        return;
    blobfetch_close(&s->fetch);
    subscriber_close(&s->announcements);
    caller_close(&s->caller);
    free(s);
    *upstream = NULL;
}

bool
upstream_is_up(const struct upstream *s)
{
    return s->up;
}

const char *
upstream_endpoint(const struct upstream *s)
{
    return s->endpoint;
}

void
upstream_hear(struct upstream *s)
{
    struct heard heard;
    while (s->announcements && subscriber_next(s->announcements, &heard))
        s->announced = true;
}

bool
upstream_announced(struct upstream *s)
{
    upstream_hear(s);
    bool announced = s->announced;
    s->announced = false;
    return announced;
}

// ---------------------------------------------------------------- where it is reached

// tcp://*:5562 and the like are heard on every address of a machine we know by `known`.
static void
reachable(char out[WIRE_ENDPOINT], const char *told, const char *known)
{
    static const char *const everywhere[] = {"tcp://*:", "tcp://0.0.0.0:", "tcp://[::]:"};
    snprintf(out, WIRE_ENDPOINT, "%s", told);
    const char *colon = strrchr(known, ':');
    for (size_t i = 0; i < 3; i++) {
        size_t length = strlen(everywhere[i]);
        if (strncmp(told, everywhere[i], length) == 0 && strncmp(known, "tcp://", 6) == 0 && colon)
            snprintf(out, WIRE_ENDPOINT, "%.*s:%.8s", (int)(colon - known), known, told + length);
    }
}

// The trainer said where it announces and serves; it may have moved.
static void
learn(struct upstream *s)
{
    char pub[WIRE_ENDPOINT], blob[WIRE_ENDPOINT];
    reachable(pub, s->list.pub, s->endpoint);
    reachable(blob, s->list.blob, s->endpoint);
    if (s->list.path[0] == '/')
        snprintf(s->path, sizeof s->path, "%s", s->list.path);
    if (strcmp(pub, s->pub) != 0) {
        subscriber_close(&s->announcements);
        snprintf(s->pub, sizeof s->pub, "%s", pub);
        if (pub[0] && subscriber_open(&s->announcements, s->channel, pub, "k/") != STATUS_OK)
            say(SAY_WARN, "announcements are not heard, lists will do: %s", status_words());
    }
    if (strcmp(blob, s->blob) != 0) {
        blobfetch_close(&s->fetch);
        snprintf(s->blob, sizeof s->blob, "%s", blob);
    }
}

// ---------------------------------------------------------------- lists

static bool
sees_its_folder(const struct upstream *s)
{
    return s->set->eval.fetch == SET_FETCH_AUTO && s->path[0] && path_is_folder(s->path);
}

static void
add(struct waiting *out, const struct msg_ck_entry *entry)
{
    // They come oldest first; the newest are kept, and end up in front.
    if (out->count == CK_MOST)
        out->count--;
    memmove(out->at + 1, out->at, out->count * sizeof *out->at);
    out->at[0] = *entry;
    out->count++;
}

static enum status
ask_list(struct upstream *s, const struct texts *specs, struct waiting *out)
{
    struct msg_cklist ask = {.most = CK_MOST, .specs = *specs};
    s->done.count = 0;
    upstream_hear(s);
    s->announced = false; // what was announced until now is in the list
    do {
        TRY(caller_ask(s->caller, MESSAGE_CKLIST, &ask, MESSAGE_CKLISTR, &s->list,
                       s->up ? ASK_MS : FIRST_MS));
        for (size_t i = 0; i < s->list.count; i++) {
            add(s->list.at[i].done ? &s->done : out, &s->list.at[i]);
            ask.after = s->list.at[i].step;
        }
    } while (s->list.more && s->list.count > 0);
    learn(s);
    for (size_t i = 0; i < s->done.count && out->count < CK_MOST; i++)
        out->at[out->count++] = s->done.at[i];
    return STATUS_OK;
}

// What lies in its folder, done or not: results and failures are files beside it.
static void
read_folder(struct upstream *s, struct waiting *out)
{
    struct checkpoint_list list;
    struct manifest *manifest = malloc(sizeof *manifest);
    if (!manifest || !path_is_folder(s->path) || checkpoint_list(&list, s->path) != STATUS_OK) {
        free(manifest);
        return;
    }
    for (size_t i = list.count; i-- > 0;) {
        struct msg_ck_entry entry = {.step = list.steps[i]};
        char path[PATH_BYTES];
        if (checkpoint_path(path, s->path, entry.step) != STATUS_OK ||
            manifest_read(manifest, &entry.manifest_hash, path) != STATUS_OK)
            continue;
        for (size_t f = 0; f < manifest->count; f++)
            entry.bytes += manifest->files[f].bytes;
        snprintf(entry.ck, sizeof entry.ck, "%.60s/%" PRIu64 "-%" PRIu32, manifest->facts.run,
                 entry.step, manifest->facts.incarnation);
        entry.last = entry.step == s->set->trainer.steps;
        add(out, &entry);
    }
    checkpoint_list_release(&list);
    free(manifest);
}

static void
went_down(struct upstream *s)
{
    if (s->up)
        say(SAY_WARN, "%s does not answer: what it left is scored from its files", s->endpoint);
    s->up = false;
    int64_t delay = (int64_t)RETRY_MS << (s->failures < 6 ? s->failures : 6);
    s->failures++;
    s->retry_at = tick_ms() + (delay < RETRY_CAP_MS ? delay : RETRY_CAP_MS);
}

enum status
upstream_list(struct upstream *s, const struct texts *specs, struct waiting *out)
{
    out->count = 0;
    if (s->up || tick_ms() >= s->retry_at) {
        enum status status = ask_list(s, specs, out);
        if (status == STATUS_OK) {
            s->up = true;
            s->failures = 0;
            return STATUS_OK;
        }
        if (status == STATUS_AGAIN)
            return status;
        if (status != STATUS_UNREACHABLE) // refused; other trainers are no worse for it
            say(SAY_WARN, "%s", status_words());
        went_down(s);
    }
    if (s->set->eval.fetch == SET_FETCH_AUTO)
        read_folder(s, out);
    return STATUS_OK;
}

// ---------------------------------------------------------------- one checkpoint

static bool
name_is_plain(const char *name, size_t length)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                  "0123456789._-";
    return length > 0 && length < WIRE_NAME && name[0] != '.' && strspn(name, letters) >= length;
}

static enum status
run_of(char run[WIRE_NAME], const struct msg_ck_entry *entry)
{
    const char *slash = strrchr(entry->ck, '/');
    size_t length = slash ? (size_t)(slash - entry->ck) : 0;
    if (!name_is_plain(entry->ck, length) || entry->step >= 1000000000000)
        return FAIL(DAMAGED, "checkpoint '%s': wanted RUN/STEP-INCARNATION", entry->ck);
    memcpy(run, entry->ck, length);
    run[length] = '\0';
    return STATUS_OK;
}

enum status
upstream_places(const struct upstream *s, const struct msg_ck_entry *entry, char run[WIRE_NAME],
                char results[PATH_BYTES])
{
    char path[PATH_BYTES];
    TRY(run_of(run, entry));
    if (s->set->eval.out[0]) {
        snprintf(results, PATH_BYTES, "%s", s->set->eval.out);
        return STATUS_OK;
    }
    char *slash;
    snprintf(path, sizeof path, "%s", s->path);
    if (sees_its_folder(s) && (slash = strrchr(path, '/')) && slash != path)
        *slash = '\0';
    else
        TRY(path_join(path, s->set->storage.runs, run));
    return path_join(results, path, "eval");
}

enum status
upstream_claim(struct upstream *s, const struct msg_ck_entry *entry, uint32_t ttl_s, bool *granted)
{
    *granted = true;
    if (!s->up)
        return STATUS_OK;
    struct msg_claim claim = {.ttl_s = ttl_s};
    snprintf(claim.ck, sizeof claim.ck, "%s", entry->ck);
    enum status status =
        caller_ask(s->caller, MESSAGE_CLAIM, &claim, MESSAGE_REPLY, &s->reply, CLAIM_MS);
    if (status == STATUS_UNREACHABLE)
        return STATUS_OK;
    if (status == STATUS_OK)
        *granted = s->reply.ok;
    return status;
}

// Its folder as this machine sees it, if it has the announced manifest.
static bool
find_folder(const struct upstream *s, const struct msg_ck_entry *entry, const char *run,
            char folder[PATH_BYTES])
{
    char path[PATH_BYTES], own[PATH_BYTES];
    struct manifest *manifest = malloc(sizeof *manifest);
    bool found = false;
    for (int i = 0; manifest && i < 2 && !found; i++) {
        uint64_t mh;
        if (i == 1 && (path_join(path, s->set->storage.runs, run) != STATUS_OK ||
                       path_join(own, path, "checkpoints") != STATUS_OK))
            break;
        const char *checkpoints = i ? own : s->path;
        if (!checkpoints[0] || !path_is_folder(checkpoints) ||
            checkpoint_path(folder, checkpoints, entry->step) != STATUS_OK ||
            !path_is_folder(folder))
            continue;
        found = manifest_read(manifest, &mh, folder) == STATUS_OK && mh == entry->manifest_hash;
    }
    free(manifest);
    return found;
}

static bool
fetching(void *context, uint64_t done, uint64_t total)
{
    struct upstream *s = context;
    return s->watch.stop(s->watch.context, "fetching", total ? (double)done / (double)total : -1);
}

static enum status
fetch(struct upstream *s, const struct msg_ck_entry *entry, struct shelf *shelf,
      char folder[PATH_BYTES])
{
    if (!s->up)
        return FAIL(UNREACHABLE, "%s: %s does not answer, and its folder is not seen", entry->ck,
                    s->endpoint);
    if (!s->blob[0] || (strncmp(s->blob, "ipc://", 6) == 0 &&
                        strncmp(s->endpoint, "ipc://", 6) != 0 && !path_exists(s->blob + 6)))
        return FAIL(CONFIG,
                    "%s: its folder is not seen here, and %s serves it at '%s': set "
                    "trainer.blob to an address of that machine",
                    entry->ck, s->endpoint, s->blob);
    if (!s->fetch)
        TRY(blobfetch_open(&s->fetch, s->channel, s->blob, s->name));
    int64_t slow_ms = (int64_t)(4000ull * BLOB_WINDOW / s->set->net.min_rate);
    struct blobfetch_order order = {.ck = entry->ck,
                                    .manifest_hash = entry->manifest_hash,
                                    .patience_ms = slow_ms > PATIENCE_MS ? slow_ms : PATIENCE_MS,
                                    .backoff_cap_ms = s->set->net.backoff_cap_ms,
                                    .stop = fetching,
                                    .context = s};
    return shelf_fetch(shelf, folder, s->fetch, &order, entry->bytes);
}

enum status
upstream_reach(struct upstream *s, const struct msg_ck_entry *entry, struct shelf *shelf,
               char folder[PATH_BYTES])
{
    char run[WIRE_NAME];
    TRY(run_of(run, entry));
    if (s->set->eval.fetch == SET_FETCH_AUTO && find_folder(s, entry, run, folder))
        return checkpoint_verify_files(folder, shelf_files, SHELF_FILES, NULL, NULL);
    if (!s->up && sees_its_folder(s))
        return FAIL(MISSING, "%s: its folder is gone", entry->ck);
    return fetch(s, entry, shelf, folder);
}

enum status
upstream_tell(struct upstream *s, struct msg_result *result, bool *taken)
{
    *taken = false;
    if (!s->up)
        return STATUS_OK;
    enum status status =
        caller_ask(s->caller, MESSAGE_RESULT, result, MESSAGE_REPLY, &s->reply, TELL_MS);
    if (status == STATUS_UNREACHABLE) { // our file is the record; it is told when it is back
        went_down(s);
        return STATUS_OK;
    }
    TRY(status);
    *taken = s->reply.ok;
    if (!*taken)
        say(SAY_WARN, "the %s result of %s was not taken: %s", result->kind, result->ck,
            s->reply.words);
    return STATUS_OK;
}
