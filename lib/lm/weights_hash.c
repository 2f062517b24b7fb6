// The hash of a model's content, and remembering it: large files take seconds to minutes to read.
#include "lib/base/file.h"
#include "lib/base/say.h"
#include "lib/lm/weights_inside.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

// Everything in struct arch as text: padding and names of fields do not enter.
static void
add_arch(struct hasher *h, const struct arch *a)
{
    char text[1024];
    int used = snprintf(
        text, sizeof text,
        "osae model 1 %s %zu %zu %zu %zu %zu %zu %zu %zu %d %.17g %d %d %d %d %zu %.17g %.17g "
        "%.17g %.17g %zu %d %d %.17g %d %d %d %d",
        family_name(a->family), a->layers, a->width, a->heads, a->kv_heads, a->head_dim, a->ffn,
        a->vocab, a->positions, a->layer_norm, a->eps, a->post_norms, a->parallel, a->qk_norm,
        a->learned_positions, a->rotary, a->theta, a->attention_scale, a->attention_cap,
        a->final_cap, a->window, a->gated, (int)a->activation, a->embed_scale, a->tied, a->bias_qkv,
        a->bias_out, a->bias_mlp);
    hasher_add(h, text, (size_t)used + 1);
    for (size_t i = 0; i < a->layers; i++)
        hasher_add(h, a->sliding[i] ? "s" : "f", 1);
}

static void
add_tensor(struct hasher *h, const struct held *t, enum role role)
{
    uint64_t head[] = {role, t->dtype, t->rank, t->shape[0], t->rank == 2 ? t->shape[1] : 0};
    hasher_add(h, head, sizeof head);
    hasher_add(h, t->at, t->bytes);
}

static enum status
add_file(struct hasher *h, const char *path)
{
    struct stat found;
    if (stat(path, &found) != 0)
        return FAIL(IO, "%s: %s", path, strerror(errno));
    int64_t facts[] = {(int64_t)found.st_size, (int64_t)found.st_ino, (int64_t)found.st_mtim.tv_sec,
                       (int64_t)found.st_mtim.tv_nsec};
    hasher_add(h, path, strlen(path) + 1);
    hasher_add(h, facts, sizeof facts);
    return STATUS_OK;
}

// cache/model-<hash of what the files look like from outside>.hash
static enum status
memo_path(char out[PATH_BYTES], struct hasher *h, const struct weights *w, const char *cache)
{
    char hex[33], name[64];
    hasher_reset(h);
    add_arch(h, &w->arch);
    if (w->gguf)
        TRY(add_file(h, w->path));
    for (size_t i = 0; i < w->shards; i++)
        TRY(add_file(h, safetensors_path(w->shard[i].file)));
    hex128(hex, hasher_128(h));
    snprintf(name, sizeof name, "model-%s.hash", hex);
    return path_join(out, cache, name);
}

static bool
recall(struct hash128 *out, const char *path)
{
    char *text = NULL;
    size_t bytes = 0;
    if (!path_exists(path) || file_read(&text, &bytes, path, 64) != STATUS_OK)
        return false;
    bool good = bytes == 33 && text[32] == '\n';
    if (good) {
        text[32] = '\0';
        good = hex128_parse(out, text);
    }
    free(text);
    return good;
}

static struct hash128
content(struct hasher *h, const struct weights *w)
{
    hasher_reset(h);
    add_arch(h, &w->arch);
    for (size_t layer = 0; layer < w->arch.layers; layer++)
        for (size_t r = layer ? ROLE_ATTN_NORM : 0; r < ROLE_COUNT; r++) {
            const struct held *t = weights_held(w, (enum role)r, layer);
            // q, k and v may be one tensor: once is enough
            bool again = (r == ROLE_K || r == ROLE_V || r == ROLE_K_BIAS || r == ROLE_V_BIAS) &&
                         t->at == weights_held(w, (enum role)(r - 1), layer)->at;
            if (t->at && !again)
                add_tensor(h, t, (enum role)r);
        }
    return hasher_128(h);
}

enum status
weights_hash(struct hash128 *out, const struct weights *w, const char *cache)
{
    char path[PATH_BYTES] = "";
    struct hasher *h = hasher_new();
    if (!h)
        return FAIL(CREATE, "%s: out of memory", w->path);
    enum status status = STATUS_OK;
    if (cache)
        GOTRY(memo_path(path, h, w, cache));
    if (cache && recall(out, path))
        goto done;
    *out = content(h, w);
    if (cache) { // a cache that cannot be written costs time, no more
        char line[34];
        hex128(line, *out);
        line[32] = '\n';
        if (file_replace(path, line, 33) != STATUS_OK)
            say(SAY_WARN, "the hash of %s will be computed again: %s", w->path, status_words());
    }
done:
    hasher_free(&h);
    return status;
}
