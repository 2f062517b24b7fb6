#include "trainer/board.h"

#include "lib/base/file.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

struct board {
    char run[WIRE_NAME];
    size_t count; // ascending by step
    struct board_entry at[BOARD_MOST];
};

enum status
board_new(struct board **out, const char *run)
{
    *out = calloc(1, sizeof **out);
    if (!*out)
        return FAIL(CREATE, "no memory for the list of checkpoints");
    snprintf((*out)->run, sizeof(*out)->run, "%s", run);
    return STATUS_OK;
}

void
board_free(struct board **board)
{
    free(*board);
    *board = NULL;
}

static void
insert(struct board *board, const struct board_entry *entry)
{
    size_t at = 0;
    while (at < board->count && board->at[at].step < entry->step)
        at++;
    bool replaces = at < board->count && board->at[at].step == entry->step;
    if (!replaces) {
        if (board->count == BOARD_MOST) { // the oldest is the least asked for
            memmove(board->at, board->at + 1, (board->count - 1) * sizeof *board->at);
            board->count--;
            at = at ? at - 1 : 0;
        }
        memmove(board->at + at + 1, board->at + at, (board->count - at) * sizeof *board->at);
        board->count++;
    }
    board->at[at] = *entry;
}

static void
name_checkpoint(struct board_entry *entry, const char *run, uint32_t incarnation)
{
    snprintf(entry->ck, sizeof entry->ck, "%.60s/%" PRIu64 "-%" PRIu32, run, entry->step,
             incarnation);
}

static bool
has_spec(const struct board_entry *entry, struct hash128 spec)
{
    for (size_t i = 0; i < entry->got; i++)
        if (hash128_same(entry->specs[i], spec))
            return true;
    return false;
}

bool
board_result(struct board_entry *entry, struct hash128 spec, bool more, double score)
{
    bool had_done = entry->done, had = has_spec(entry, spec);
    if (!had && entry->got == BOARD_SPECS)
        memmove(entry->specs, entry->specs + 1, --entry->got * sizeof entry->specs[0]);
    if (!had)
        entry->specs[entry->got++] = spec;
    if (isfinite(score))
        entry->score = score;
    entry->done |= !more;
    return !had || entry->done != had_done;
}

enum board_verdict
board_judge(struct board_entry *after, struct board *board, const char *ck, uint64_t mh,
            struct hash128 spec, bool more, double score)
{
    const struct board_entry *entry = board_find(board, ck);
    if (!entry)
        return BOARD_UNKNOWN;
    if (entry->mh != mh) // a result never goes to another checkpoint
        return BOARD_OTHER;
    *after = *entry;
    return board_result(after, spec, more, score) ? BOARD_NEW : BOARD_SAID;
}

void
board_put(struct board *board, const struct board_entry *after)
{
    insert(board, after);
}

bool
board_claim(struct board_entry *entry, const char *who, int64_t ttl_ms, int64_t now)
{
    if (entry->claimed_until > now && strcmp(entry->claimant, who) != 0)
        return false;
    snprintf(entry->claimant, sizeof entry->claimant, "%s", who);
    entry->claimed_until = ttl_ms ? now + ttl_ms : 0;
    return true;
}

// Results that earlier lives of the run were given; they count for the same bytes only.
static enum status
read_results(struct board *board, struct runfolder *run)
{
    size_t at = 0;
    json_t *record;
    for (;;) {
        TRY(journal_next(&record, runfolder_journal(run), &at));
        if (!record)
            return STATUS_OK;
        const char *type = json_string_value(json_object_get(record, "type"));
        const char *ck = json_string_value(json_object_get(record, "ck"));
        const char *mh = json_string_value(json_object_get(record, "mh"));
        const char *spec = json_string_value(json_object_get(record, "spec"));
        uint64_t hash;
        struct hash128 named = {0, 0};
        if (type && strcmp(type, "result") == 0 && ck && mh && hex64_parse(&hash, mh)) {
            json_t *score = json_object_get(record, "ce_loss_score");
            struct board_entry after;
            bool known = spec && strlen(spec) == 32 && hex128_parse(&named, spec);
            if (board_judge(&after, board, ck, hash, known ? named : (struct hash128){0, 0},
                            json_is_true(json_object_get(record, "more")),
                            json_is_number(score) ? json_number_value(score) : (double)NAN) ==
                BOARD_NEW)
                board_put(board, &after);
        }
        json_decref(record);
    }
}

enum status
board_read(struct board *board, struct runfolder *run)
{
    struct checkpoint_list list;
    TRY(checkpoint_list(&list, runfolder_checkpoints(run)));
    struct manifest *manifest = malloc(sizeof *manifest);
    for (size_t i = 0; manifest && i < list.count; i++) {
        char path[PATH_BYTES];
        struct board_entry entry = {.step = list.steps[i], .score = (double)NAN};
        if (checkpoint_path(path, runfolder_checkpoints(run), entry.step) != STATUS_OK ||
            manifest_read(manifest, &entry.mh, path) != STATUS_OK)
            continue;
        for (size_t f = 0; f < manifest->count; f++)
            entry.bytes += manifest->files[f].bytes;
        name_checkpoint(&entry, board->run, manifest->facts.incarnation);
        insert(board, &entry);
    }
    free(manifest);
    checkpoint_list_release(&list);
    return read_results(board, run);
}

void
board_add(struct board *board, const struct kept *kept)
{
    struct board_entry entry = {
        .step = kept->step, .mh = kept->mh, .bytes = kept->bytes, .score = (double)NAN};
    name_checkpoint(&entry, board->run, kept->incarnation);
    insert(board, &entry);
}

void
board_forget(struct board *board, uint64_t step)
{
    size_t left = 0;
    for (size_t i = 0; i < board->count; i++)
        if (board->at[i].step != step)
            board->at[left++] = board->at[i];
    board->count = left;
}

void
board_sweep(struct board *board, struct runfolder *run)
{
    size_t left = 0;
    for (size_t i = 0; i < board->count; i++) {
        char path[PATH_BYTES];
        if (checkpoint_path(path, runfolder_checkpoints(run), board->at[i].step) == STATUS_OK &&
            path_is_folder(path))
            board->at[left++] = board->at[i];
    }
    board->count = left;
}

struct board_entry *
board_find(struct board *board, const char *ck)
{
    for (size_t i = 0; i < board->count; i++)
        if (strcmp(board->at[i].ck, ck) == 0)
            return &board->at[i];
    return NULL;
}

static bool
is_best(const struct board *board, const struct board_entry *entry)
{
    for (size_t i = 0; i < board->count; i++)
        if (board->at[i].score > entry->score)
            return false;
    return isfinite(entry->score);
}

// Bit n: the entry has something of the n-th one.
static uint16_t
which_it_has(const struct board_entry *entry, const struct texts *specs)
{
    unsigned has = 0;
    struct hash128 spec;
    for (size_t i = 0; i < specs->count && i < 16; i++)
        if (strlen(specs->at[i]) == 32 && hex128_parse(&spec, specs->at[i]) &&
            has_spec(entry, spec))
            has |= 1u << i;
    return (uint16_t)has;
}

void
board_list(const struct board *board, const struct msg_cklist *ask, uint64_t steps,
           struct msg_cklistr *out)
{
    size_t most = ask->most < CK_MOST ? ask->most : CK_MOST;
    out->count = 0;
    out->more = false;
    for (size_t i = 0; i < board->count; i++) {
        const struct board_entry *entry = &board->at[i];
        if (entry->step <= ask->after && !(ask->after == 0 && entry->step == 0))
            continue;
        if (out->count == most) {
            out->more = true;
            break;
        }
        struct msg_ck_entry *to = &out->at[out->count++];
        memset(to, 0, sizeof *to);
        snprintf(to->ck, sizeof to->ck, "%s", entry->ck);
        to->step = entry->step;
        to->bytes = entry->bytes;
        to->manifest_hash = entry->mh;
        to->done = entry->done;
        to->last = entry->step == steps;
        to->best = is_best(board, entry);
        to->has = which_it_has(entry, &ask->specs);
    }
}

static bool
pinned(const uint64_t *pins, size_t count, uint64_t step)
{
    for (size_t i = 0; i < count; i++)
        if (pins[i] == step)
            return true;
    return false;
}

size_t
board_pins(const struct board *board, int64_t now, uint64_t *pins, size_t keep_best,
           size_t keep_unevaluated)
{
    size_t count = 0;
    assert(keep_best + keep_unevaluated + BOARD_CLAIMS <= BOARD_PINS);
    for (size_t best = 0; best < keep_best; best++) {
        const struct board_entry *top = NULL;
        for (size_t i = 0; i < board->count; i++)
            if (isfinite(board->at[i].score) && !pinned(pins, count, board->at[i].step) &&
                (!top || board->at[i].score > top->score))
                top = &board->at[i];
        if (top)
            pins[count++] = top->step;
    }
    size_t waiting = 0;
    for (size_t i = board->count; i-- > 0 && waiting < keep_unevaluated;)
        if (!board->at[i].done && !pinned(pins, count, board->at[i].step)) {
            pins[count++] = board->at[i].step;
            waiting++;
        }
    size_t claimed = 0;
    for (size_t i = board->count; i-- > 0 && claimed < BOARD_CLAIMS;)
        if (board->at[i].claimed_until > now && !pinned(pins, count, board->at[i].step)) {
            pins[count++] = board->at[i].step;
            claimed++;
        }
    return count;
}

bool
board_all_done(const struct board *board)
{
    for (size_t i = 0; i < board->count; i++)
        if (!board->at[i].done)
            return false;
    return board->count > 0;
}
