#include "lib/lm/chunk.h"

#include <omp.h>
#include <stdlib.h>
#include <string.h>

enum {
    FULL_BYTES = 4 << 20, // of text in a chunk: a tenth of a second of one core
    FULL_DOCUMENTS = 1 << 16,
    PART_BYTES = 64 << 10, // a document is cut after so many, and a job holds as many
};

struct chunk_job {
    size_t first, last; // parts first..last - 1
    struct token_list ids;
    struct status_note note;
};

enum status
chunk_init(struct chunk *c, const struct tokenizer *t, enum tokenizer_special special, int threads)
{
    *c = (struct chunk){.tokenizer = t, .special = special};
    c->threads = threads > 0 ? threads : omp_get_max_threads();
    c->caches = calloc((size_t)c->threads, sizeof *c->caches);
    if (!c->caches)
        return FAIL(CREATE, "no memory for %d tokenizer caches", c->threads);
    for (int i = 0; i < c->threads; i++) {
        enum status status = tokenizer_cache_new(&c->caches[i], t);
        if (status != STATUS_OK) {
            chunk_release(c);
            return status;
        }
    }
    return STATUS_OK;
}

void
chunk_release(struct chunk *c)
{
    for (int i = 0; c->caches && i < c->threads; i++)
        tokenizer_cache_free(&c->caches[i]);
    for (size_t i = 0; i < c->job_room; i++)
        token_list_release(&c->jobs[i].ids);
    free(c->caches);
    free(c->documents);
    free(c->parts);
    free(c->jobs);
    text_list_release(&c->text);
    *c = (struct chunk){0};
}

void
chunk_clear(struct chunk *c)
{
    c->text.bytes = 0;
    c->document_count = c->part_count = c->job_count = 0;
}

bool
chunk_is_full(const struct chunk *c)
{
    return c->text.bytes >= FULL_BYTES || c->document_count >= FULL_DOCUMENTS;
}

static enum status
put_part(struct chunk *c, size_t at, size_t bytes)
{
    void *parts = c->parts;
    TRY(grow_array(&parts, &c->part_room, c->part_count + 1, sizeof *c->parts));
    c->parts = parts;
    c->parts[c->part_count++] = (struct chunk_part){.at = at, .bytes = bytes};
    return STATUS_OK;
}

enum status
chunk_put(struct chunk *c, const struct corpus_document *d)
{
    void *documents = c->documents;
    TRY(grow_array(&documents, &c->document_room, c->document_count + 1, sizeof *c->documents));
    c->documents = documents;
    size_t base = c->text.bytes, first = c->part_count;
    TRY(text_list_append(&c->text, d->text, d->bytes));
    for (size_t at = 0, end; at < d->bytes; at = end) {
        end = d->bytes - at <= 2 * PART_BYTES
                  ? d->bytes
                  : tokenizer_cut(c->tokenizer, d->text, d->bytes, at + PART_BYTES);
        TRY(put_part(c, base + at, end - at));
    }
    c->documents[c->document_count++] =
        (struct chunk_document){d->bytes, first, c->part_count, d->invalid};
    return STATUS_OK;
}

static enum status
put_job(struct chunk *c, size_t first, size_t last)
{
    size_t before = c->job_room;
    void *jobs = c->jobs;
    TRY(grow_array(&jobs, &c->job_room, c->job_count + 1, sizeof *c->jobs));
    c->jobs = jobs;
    memset(c->jobs + before, 0, (c->job_room - before) * sizeof *c->jobs);
    struct chunk_job *job = &c->jobs[c->job_count++];
    job->first = first;
    job->last = last;
    job->ids.count = 0;
    job->note.code = STATUS_OK;
    return STATUS_OK;
}

static enum status
do_job(struct chunk *c, size_t j, struct tokenizer_cache *cache)
{
    struct chunk_job *job = &c->jobs[j];
    for (size_t i = job->first; i < job->last; i++) {
        struct chunk_part *part = &c->parts[i];
        part->job = j;
        part->ids = job->ids.count;
        TRY(tokenizer_encode(c->tokenizer, cache, &job->ids, c->text.at + part->at, part->bytes,
                             c->special, &part->added));
        part->count = job->ids.count - part->ids;
    }
    return STATUS_OK;
}

enum status
chunk_tokenise(struct chunk *c)
{
    for (size_t first = 0, last; first < c->part_count; first = last) {
        size_t bytes = 0;
        for (last = first; last < c->part_count && bytes < PART_BYTES; last++)
            bytes += c->parts[last].bytes;
        TRY(put_job(c, first, last));
    }
#pragma omp parallel for schedule(dynamic, 1) num_threads(c->threads)
    for (size_t j = 0; j < c->job_count; j++) {
        enum status status = do_job(c, j, c->caches[omp_get_thread_num()]);
        status_note_take(&c->jobs[j].note, status);
    }
    for (size_t j = 0; j < c->job_count; j++)
        if (c->jobs[j].note.code != STATUS_OK)
            return status_note_give(&c->jobs[j].note);
    return STATUS_OK;
}

const uint32_t *
chunk_ids(const struct chunk *c, const struct chunk_part *part)
{
    return c->jobs[part->job].ids.ids + part->ids;
}
