#include "lib/lm/packed_make.h"

#include "lib/base/file.h"
#include "lib/base/tick.h"
#include "lib/lm/chunk.h"
#include "lib/lm/packer.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

enum { TELL_MS = 100 };

enum status
packed_tell(struct packed_teller *teller, bool now)
{
    int64_t ms = tick_ms();
    if (!teller->watch || (!now && ms - teller->told_ms < TELL_MS))
        return STATUS_OK;
    teller->told_ms = ms;
    return teller->watch(teller->context, &teller->progress);
}

// Everything one run of packed_make holds.
struct maker {
    const struct packed_settings *settings;
    struct packed_facts *facts;
    struct chunk chunk;
    struct packer packer;
    struct token_list ready; // whole contexts, not yet written
    struct hasher *hasher;
    const char *path;
    int fd;
    uint64_t contexts_most;
};

static bool
is_complete(const struct maker *m)
{
    return m->facts->contexts == m->contexts_most;
}

static enum status
fill_chunk(struct maker *m, struct corpus *corpus, bool *more)
{
    struct corpus_document document;
    chunk_clear(&m->chunk);
    while (!chunk_is_full(&m->chunk)) {
        TRY(corpus_next(corpus, &document, more));
        if (!*more)
            break;
        TRY(chunk_put(&m->chunk, &document));
    }
    return STATUS_OK;
}

// Packs a document and counts it, unless the bound has been reached.
static enum status
pack_document(struct maker *m, const struct chunk_document *d)
{
    struct packed_counts *counts = &m->facts->counts;
    packer_begin(&m->packer);
    for (size_t i = d->first; i < d->last; i++) {
        const struct chunk_part *part = &m->chunk.parts[i];
        TRY(packer_add(&m->packer, &m->ready, chunk_ids(&m->chunk, part), part->count));
        counts->added += part->added;
    }
    counts->documents++;
    counts->text_bytes += d->bytes;
    counts->invalid += d->invalid;
    uint64_t gained = m->ready.count / m->settings->context;
    if (gained > m->contexts_most - m->facts->contexts)
        m->ready.count = (size_t)(m->contexts_most - m->facts->contexts) * m->settings->context;
    return STATUS_OK;
}

static enum status
write_ready(struct maker *m)
{
    size_t bytes = m->ready.count * sizeof *m->ready.ids;
    if (bytes == 0)
        return STATUS_OK;
    TRY(file_write_all(m->fd, m->path, m->ready.ids, bytes));
    hasher_add(m->hasher, m->ready.ids, bytes);
    m->facts->contexts += m->ready.count / m->settings->context;
    m->ready.count = 0;
    return STATUS_OK;
}

static enum status
pack_chunk(struct maker *m)
{
    TRY(chunk_tokenise(&m->chunk));
    for (size_t i = 0; i < m->chunk.document_count && !is_complete(m); i++) {
        TRY(pack_document(m, &m->chunk.documents[i]));
        TRY(write_ready(m));
    }
    return STATUS_OK;
}

static enum status
make(struct maker *m, struct corpus *corpus, struct packed_teller *teller)
{
    for (bool more = true; more && !is_complete(m);) {
        TRY(fill_chunk(m, corpus, &more));
        TRY(pack_chunk(m));
        struct corpus_counts read = corpus_counts(corpus);
        teller->progress.bytes_done = read.bytes_done;
        teller->progress.bytes_total = read.bytes_total;
        teller->progress.tokens = m->facts->contexts * m->settings->context;
        TRY(packed_tell(teller, false));
    }
    if (m->facts->contexts == 0)
        return FAIL(
            CONFIG,
            "%s%s: gives only %zu tokens in %llu documents, wanted at least a context of %zu",
            corpus_file(corpus, 0).path, corpus_files(corpus) > 1 ? " and the others" : "",
            m->packer.held, (unsigned long long)m->facts->counts.documents, m->settings->context);
    if (fsync(m->fd) != 0)
        return FAIL(IO, "%s: cannot sync: %s", m->path, strerror(errno));
    m->facts->hash = hasher_128(m->hasher);
    teller->progress.bytes_done = teller->progress.bytes_total;
    return packed_tell(teller, true);
}

enum status
packed_make(struct packed_facts *facts, const char *path, const struct tokenizer *t,
            const struct packed_settings *settings, struct corpus *corpus,
            struct packed_teller *teller)
{
    enum status status = STATUS_OK;
    struct maker m = {.settings = settings, .facts = facts, .path = path, .fd = -1};
    *facts = (struct packed_facts){0};
    m.contexts_most = settings->tokens ? settings->tokens / settings->context : UINT64_MAX;
    teller->progress.phase = PACKED_TOKENISING;
    teller->progress.bytes_done = 0;
    GOTRY(chunk_init(&m.chunk, t, settings->special, settings->threads));
    GOTRY(packer_init(&m.packer, settings->context, settings->bos, settings->separator));
    m.hasher = hasher_new();
    if (!m.hasher) {
        status = FAIL(CREATE, "%s: no memory for a hash", path);
        goto done;
    }
    m.fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (m.fd < 0) {
        status = FAIL(CREATE, "%s: cannot create: %s", path, strerror(errno));
        goto done;
    }
    GOTRY(make(&m, corpus, teller));
done:
    if (m.fd >= 0) {
        if (close(m.fd) != 0 && status == STATUS_OK)
            status = FAIL(IO, "%s: cannot close: %s", path, strerror(errno));
        if (status != STATUS_OK)
            unlink(path);
    }
    hasher_free(&m.hasher);
    token_list_release(&m.ready);
    packer_release(&m.packer);
    chunk_release(&m.chunk);
    return status;
}
