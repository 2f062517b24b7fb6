#include "trainer/clerk.h"

#include "lib/base/say.h"
#include "proto/blobport.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

struct clerk {
    struct clerk_settings set;
    struct blobport *blob;
    struct manifest manifest;
    struct msg_cklistr list;
    struct msg_eval eval;
};

// ---------------------------------------------------------------- files

static enum refusal
find_files(void *context, const char *ck, struct blob_object *out)
{
    struct clerk *c = context;
    const struct board_entry *entry = board_find(c->set.board, ck);
    if (!entry)
        return REFUSAL_NOTFOUND;
    enum status status =
        checkpoint_path(out->folder, runfolder_checkpoints(c->set.run), entry->step);
    if (status == STATUS_OK)
        status = manifest_read(&c->manifest, &out->manifest_hash, out->folder);
    char path[PATH_BYTES], *text;
    size_t bytes;
    if (status == STATUS_OK)
        status = path_join(path, out->folder, MANIFEST_NAME);
    if (status == STATUS_OK)
        status = file_read(&text, &bytes, path, MANIFEST_BYTES_MOST);
    if (status != STATUS_OK) {
        say(SAY_WARN, "%s cannot be served: %s", ck, status_words());
        return status == STATUS_MISSING ? REFUSAL_NOTFOUND : REFUSAL_CORRUPT;
    }
    free(text);
    if (out->manifest_hash != entry->mh)
        return REFUSAL_NOTFOUND;
    struct msg_blob_file *first = &out->files[out->count++];
    snprintf(first->name, sizeof first->name, "%s", MANIFEST_NAME);
    first->bytes = bytes;
    first->hash = entry->mh;
    for (size_t i = 0; i < c->manifest.count; i++) {
        struct msg_blob_file *file = &out->files[out->count++];
        snprintf(file->name, sizeof file->name, "%s", c->manifest.files[i].name);
        file->bytes = c->manifest.files[i].bytes;
        file->hash = c->manifest.files[i].hash;
    }
    return REFUSAL_NONE;
}

enum status
clerk_open(struct clerk **out, struct channel *channel, const struct clerk_settings *set)
{
    struct clerk *c = *out = calloc(1, sizeof *c);
    if (!c)
        return FAIL(CREATE, "no memory for what evaluators ask");
    c->set = *set;
    struct blobport_settings blob = {.name = set->me->name,
                                     .inst = set->me->inst,
                                     .host = set->me->host,
                                     .hb_ms = set->set->net.hb_ms,
                                     .lease_ms = set->set->net.lease_ms,
                                     .min_rate = set->set->net.min_rate,
                                     .find = find_files,
                                     .context = c};
    enum status status = blobport_open(&c->blob, channel, set->set->trainer.blob, &blob);
    if (status != STATUS_OK)
        clerk_close(out);
    return status;
}

void
clerk_close(struct clerk **clerk)
{
    if (*clerk)
        blobport_close(&(*clerk)->blob);
    free(*clerk);
    *clerk = NULL;
}

int64_t
clerk_turn(struct clerk *c, int64_t now)
{
    return blobport_turn(c->blob, now);
}

// ---------------------------------------------------------------- lists and claims

static void
take_list(struct clerk *c, const struct request *request)
{
    struct msg_cklistr *list = &c->list;
    const char *path = runfolder_checkpoints(c->set.run);
    memset(list, 0, sizeof *list);
    board_list(c->set.board, request->list, c->set.set->trainer.steps, list);
    if (strlen(path) < sizeof list->path)
        snprintf(list->path, sizeof list->path, "%.255s", path);
    snprintf(list->pub, sizeof list->pub, "%s", publisher_endpoint(c->set.publisher));
    snprintf(list->blob, sizeof list->blob, "%s", blobport_endpoint(c->blob));
    control_list(c->set.control, request->ticket, list);
}

static bool
take_claim(struct clerk *c, const struct request *request, int64_t now)
{
    const struct msg_claim *claim = request->claim;
    struct board_entry *entry = board_find(c->set.board, claim->ck);
    if (!entry)
        control_refuse(c->set.control, request->ticket, REFUSAL_NOTFOUND, "no checkpoint %.80s",
                       claim->ck);
    else if (!board_claim(entry, request->who, (int64_t)claim->ttl_s * 1000, now))
        control_refuse(c->set.control, request->ticket, REFUSAL_BUSY, "%.64s works on it",
                       entry->claimant);
    else
        control_done(c->set.control, request->ticket);
    return entry != NULL;
}

// ---------------------------------------------------------------- results

static enum status
record(struct clerk *c, const struct msg_result *result, double score, bool failed)
{
    char mh[17], spec[33];
    hex64(mh, result->manifest_hash);
    hex128(spec, result->spec);
    return journal_append(runfolder_journal(c->set.run), "result",
                          "{s:s,s:s,s:s,s:s,s:s,s:b,s:o,s:o}", "ck", result->ck, "mh", mh, "kind",
                          result->kind, "spec", spec, "state", result->state, "more", result->more,
                          "ce_loss_score", isfinite(score) ? json_real(score) : json_null(), "why",
                          failed ? json_string(result->environment) : json_null());
}

static void
publish(struct clerk *c, const struct msg_result *result, bool failed)
{
    struct msg_eval *eval = &c->eval;
    memset(eval, 0, sizeof *eval);
    snprintf(eval->ck, sizeof eval->ck, "%s", result->ck);
    snprintf(eval->kind, sizeof eval->kind, "%s", result->kind);
    eval->spec = result->spec;
    if (failed)
        snprintf(eval->words, sizeof eval->words, "%s", result->environment);
    snprintf(eval->state, sizeof eval->state, "%s", result->state);
    named_copy(&eval->values, &result->values);
    publisher_send(c->set.publisher, MESSAGE_EVAL, eval);
    if (failed)
        publisher_event(c->set.publisher, SAY_WARN, "eval.failed", "%.80s: no %s result: %.250s",
                        result->ck, result->kind, result->environment);
}

static bool
take_result(struct clerk *c, const struct request *request)
{
    const struct msg_result *result = request->result;
    double score = named_get_real(&result->values, "ce_loss_score", (double)NAN);
    struct board_entry after;
    switch (board_judge(&after, c->set.board, result->ck, result->manifest_hash, result->spec,
                        result->more, score)) {
    case BOARD_UNKNOWN:
        control_refuse(c->set.control, request->ticket, REFUSAL_NOTFOUND, "no checkpoint %.80s",
                       result->ck);
        return false;
    case BOARD_OTHER:
        control_refuse(c->set.control, request->ticket, REFUSAL_CORRUPT,
                       "checkpoint %.80s has another manifest", result->ck);
        return false;
    case BOARD_SAID: // and recorded
        control_done(c->set.control, request->ticket);
        return false;
    case BOARD_NEW:
        break;
    }
    bool failed = strcmp(result->state, "done") != 0;
    if (record(c, result, score, failed) != STATUS_OK) {
        control_refuse(c->set.control, request->ticket, REFUSAL_IO, "%.200s", status_words());
        return false;
    }
    board_put(c->set.board, &after);
    publish(c, result, failed);
    control_done(c->set.control, request->ticket);
    return true;
}

bool
clerk_take(struct clerk *c, const struct request *request, int64_t now)
{
    if (request->type == MESSAGE_RESULT)
        return take_result(c, request);
    if (request->type == MESSAGE_CLAIM)
        return take_claim(c, request, now);
    take_list(c, request);
    return false;
}
