// The files of a model, and its tensors by role. The hash is in weights_hash.c.
#include "lib/lm/weights.h"

#include "lib/base/file.h"
#include "lib/lm/weights_inside.h"
#include "lib/lm/weights_names.h"

#include <assert.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CONFIG_MOST = 16 << 20, INDEX_MOST = 256 << 20 };

const char *
weights_path(const struct weights *w)
{
    return w->path;
}

const struct arch *
weights_arch(const struct weights *w)
{
    return &w->arch;
}

void
role_shape(size_t *rows, size_t *columns, const struct arch *a, enum role role)
{
    size_t q = a->heads * a->head_dim, kv = a->kv_heads * a->head_dim;
    *columns = 1;
    switch (role) {
    case ROLE_EMBED:
    case ROLE_HEAD:
        *rows = a->vocab, *columns = a->width;
        return;
    case ROLE_POSITIONS:
        *rows = a->positions, *columns = a->width;
        return;
    case ROLE_Q:
        *rows = q, *columns = a->width;
        return;
    case ROLE_K:
    case ROLE_V:
        *rows = kv, *columns = a->width;
        return;
    case ROLE_OUT:
        *rows = a->width, *columns = q;
        return;
    case ROLE_GATE:
    case ROLE_UP:
        *rows = a->ffn, *columns = a->width;
        return;
    case ROLE_DOWN:
        *rows = a->width, *columns = a->ffn;
        return;
    case ROLE_Q_BIAS:
        *rows = q;
        return;
    case ROLE_K_BIAS:
    case ROLE_V_BIAS:
        *rows = kv;
        return;
    case ROLE_GATE_BIAS:
    case ROLE_UP_BIAS:
        *rows = a->ffn;
        return;
    case ROLE_Q_NORM:
    case ROLE_K_NORM:
        *rows = a->head_dim;
        return;
    case ROLE_FINAL_NORM:
    case ROLE_FINAL_NORM_BIAS:
    case ROLE_ATTN_NORM:
    case ROLE_ATTN_NORM_BIAS:
    case ROLE_OUT_BIAS:
    case ROLE_ATTN_POST_NORM:
    case ROLE_MLP_NORM:
    case ROLE_MLP_NORM_BIAS:
    case ROLE_DOWN_BIAS:
    case ROLE_MLP_POST_NORM:
    case ROLE_COUNT:
        break;
    }
    *rows = a->width;
}

bool
role_needed(const struct arch *a, enum role role)
{
    switch (role) {
    case ROLE_POSITIONS:
        return a->learned_positions;
    case ROLE_HEAD:
        return !a->tied;
    case ROLE_FINAL_NORM_BIAS:
    case ROLE_ATTN_NORM_BIAS:
    case ROLE_MLP_NORM_BIAS:
        return a->layer_norm;
    case ROLE_Q_BIAS:
    case ROLE_K_BIAS:
    case ROLE_V_BIAS:
        return a->bias_qkv;
    case ROLE_OUT_BIAS:
        return a->bias_out;
    case ROLE_Q_NORM:
    case ROLE_K_NORM:
        return a->qk_norm;
    case ROLE_ATTN_POST_NORM:
    case ROLE_MLP_POST_NORM:
        return a->post_norms;
    case ROLE_GATE:
        return a->gated;
    case ROLE_GATE_BIAS:
        return a->gated && a->bias_mlp;
    case ROLE_UP_BIAS:
    case ROLE_DOWN_BIAS:
        return a->bias_mlp;
    case ROLE_EMBED:
    case ROLE_FINAL_NORM:
    case ROLE_ATTN_NORM:
    case ROLE_Q:
    case ROLE_K:
    case ROLE_V:
    case ROLE_OUT:
    case ROLE_MLP_NORM:
    case ROLE_UP:
    case ROLE_DOWN:
    case ROLE_COUNT:
        break;
    }
    return true;
}

static bool
in_block(enum role role)
{
    return role >= ROLE_ATTN_NORM;
}

const struct held *
weights_held(const struct weights *w, enum role role, size_t layer)
{
    return &w->held[(in_block(role) ? layer : 0) * ROLE_COUNT + role];
}

// The tensor of that name in whichever file has it.
static bool
find(struct held *out, const struct weights *w, const char *name)
{
    if (w->gguf) {
        const struct gguf_tensor *t = gguf_find(w->gguf, name);
        if (t)
            *out = (struct held){t->dtype, t->rank, {t->shape[0], t->shape[1]}, t->at, t->bytes};
        return t;
    }
    for (size_t i = 0; i < w->shards; i++) {
        const struct tensor *t = safetensors_find(w->shard[i].file, name);
        if (!t)
            continue;
        if (w->index) { // other shards may have a copy that does not count
            const char *where = json_string_value(json_object_get(w->index, name));
            if (!where || strcmp(where, w->shard[i].name) != 0)
                continue;
        }
        *out = (struct held){t->dtype, t->rank, {t->shape[0], t->shape[1]}, t->at, t->bytes};
        return true;
    }
    return false;
}

static enum status
check_tensor(const struct weights *w, const struct place *place, const struct held *t,
             enum role role)
{
    size_t rows, columns, want[2];
    role_shape(&rows, &columns, &w->arch, role);
    bool fused = place->stored == STORED_THIRDS || place->stored == STORED_THIRDS_T ||
                 place->stored == STORED_BY_HEAD;
    rows *= fused ? 3 : 1;
    bool flipped = place->stored == STORED_TRANSPOSED || place->stored == STORED_THIRDS_T;
    want[0] = flipped ? columns : rows;
    want[1] = flipped ? rows : columns;
    size_t rank = columns == 1 && !flipped ? 1 : 2;
    if (t->rank != rank || t->shape[0] != want[0] || (rank == 2 && t->shape[1] != want[1])) {
        char found[64] = "of another rank";
        if (t->rank == 1)
            snprintf(found, sizeof found, "[%zu]", t->shape[0]);
        if (t->rank == 2)
            snprintf(found, sizeof found, "[%zu, %zu]", t->shape[0], t->shape[1]);
        if (rank == 1)
            return FAIL(DAMAGED, "%s: tensor '%s' has shape %s, wanted [%zu]", w->path, place->name,
                        found, want[0]);
        return FAIL(DAMAGED, "%s: tensor '%s' has shape %s, wanted [%zu, %zu]", w->path,
                    place->name, found, want[0], want[1]);
    }
    if (!dtype_decodes(t->dtype))
        return FAIL(DAMAGED, "%s: tensor '%s' has type %s, which holds no weights", w->path,
                    place->name, dtype_name(t->dtype));
    if (!in_block(role) && rank == 2 && columns % dtype_block_elements(t->dtype) != 0)
        return FAIL(DAMAGED, "%s: tensor '%s': rows of %zu do not fill blocks of %s", w->path,
                    place->name, columns, dtype_name(t->dtype));
    return STATUS_OK;
}

// Tensors that some files carry and no graph uses: masks and tables made at run time.
static bool
is_scenery(const struct weights *w, const char *name)
{
    static const char *const ends[] = {".attn.bias", ".attn.masked_bias", ".attention.bias",
                                       ".attention.masked_bias", ".rotary_emb.inv_freq"};
    size_t length = strlen(name);
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
        if (length > strlen(ends[i]) && strcmp(name + length - strlen(ends[i]), ends[i]) == 0)
            return !w->gguf;
    struct place head;
    return w->arch.tied && !w->gguf && place_of(&head, &w->arch, false, w->prefix, ROLE_HEAD, 0) &&
           strcmp(name, head.name) == 0;
}

static int
by_address(const void *a, const void *b)
{
    const struct held *x = a, *y = b;
    return (x->at > y->at) - (x->at < y->at);
}

static enum status
one_is_used(const struct weights *w, const struct held *sorted, size_t count, const char *name,
            const struct held *tensor)
{
    if (tensor->bytes == 0 || bsearch(tensor, sorted, count, sizeof *sorted, by_address) ||
        is_scenery(w, name))
        return STATUS_OK;
    return FAIL(DAMAGED, "%s: tensor '%.100s' has no place in a %s of %zu blocks", w->path, name,
                family_name(w->arch.family), w->arch.layers);
}

// A tensor that the graph would leave out (a bias, an expert, a 33rd block) means that the
// description and the file disagree: refused, not ignored.
static enum status
all_are_used(const struct weights *w)
{
    size_t count = w->arch.layers * ROLE_COUNT;
    struct held *sorted = malloc(count * sizeof *sorted);
    if (!sorted)
        return FAIL(CREATE, "%s: out of memory", w->path);
    memcpy(sorted, w->held, count * sizeof *sorted);
    qsort(sorted, count, sizeof *sorted, by_address);
    enum status status = STATUS_OK;
    for (size_t i = 0; w->gguf && i < gguf_tensor_count(w->gguf); i++) {
        const struct gguf_tensor *t = gguf_tensor_at(w->gguf, i);
        GOTRY(
            one_is_used(w, sorted, count, t->name, &(struct held){.at = t->at, .bytes = t->bytes}));
    }
    for (size_t s = 0; s < w->shards; s++)
        for (size_t i = 0; i < safetensors_count(w->shard[s].file); i++) {
            const struct tensor *t = safetensors_at(w->shard[s].file, i);
            if (w->index && !json_object_get(w->index, t->name))
                continue; // extra tensors of a shard are nobody's
            GOTRY(one_is_used(w, sorted, count, t->name,
                              &(struct held){.at = t->at, .bytes = t->bytes}));
        }
done:
    free(sorted);
    return status;
}

static enum status
gather(struct weights *w)
{
    w->held = calloc(w->arch.layers * ROLE_COUNT, sizeof *w->held);
    if (!w->held)
        return FAIL(CREATE, "%s: out of memory", w->path);
    for (size_t layer = 0; layer < w->arch.layers; layer++)
        for (size_t r = layer ? ROLE_ATTN_NORM : 0; r < ROLE_COUNT; r++) {
            enum role role = (enum role)r;
            struct place place;
            if (!role_needed(&w->arch, role))
                continue;
            if (!place_of(&place, &w->arch, w->gguf, w->prefix, role, layer))
                return FAIL(DAMAGED, "%s: %s has no place for a bias it is said to have", w->path,
                            family_name(w->arch.family));
            struct held *held = &w->held[layer * ROLE_COUNT + r];
            if (!find(held, w, place.name))
                return FAIL(DAMAGED, "%s: has no tensor '%s'", w->path, place.name);
            TRY(check_tensor(w, &place, held, role));
        }
    return all_are_used(w);
}

static enum status
open_gguf(struct weights *w)
{
    TRY(gguf_open(&w->gguf, w->path));
    TRY(arch_from_gguf(&w->arch, w->gguf));
    struct arch *a = &w->arch;
    bool always = a->family == FAMILY_GPT2 || a->family == FAMILY_NEOX;
    a->bias_qkv =
        always || a->family == FAMILY_QWEN2 || gguf_find(w->gguf, "blk.0.attn_q.bias") != NULL;
    a->bias_out = always || gguf_find(w->gguf, "blk.0.attn_output.bias") != NULL;
    a->bias_mlp = always || gguf_find(w->gguf, "blk.0.ffn_up.bias") != NULL;
    a->tied = a->family == FAMILY_GEMMA2 || gguf_find(w->gguf, "output.weight") == NULL;
    return STATUS_OK;
}

static enum status
open_shard(struct weights *w, const char *name)
{
    char path[PATH_BYTES];
    struct shard *more = realloc(w->shard, (w->shards + 1) * sizeof *more);
    if (!more)
        return FAIL(CREATE, "%s: out of memory", w->path);
    w->shard = more;
    w->shard[w->shards] = (struct shard){.name = strdup(name)};
    if (!w->shard[w->shards].name)
        return FAIL(CREATE, "%s: out of memory", w->path);
    w->shards++;
    TRY(path_join(path, w->path, name));
    return safetensors_open(&w->shard[w->shards - 1].file, path);
}

static struct shard *
shard_named(const struct weights *w, const char *name)
{
    for (size_t i = 0; i < w->shards; i++)
        if (strcmp(w->shard[i].name, name) == 0)
            return &w->shard[i];
    return NULL;
}

// {"weight_map": {"tensor": "model-00001-of-00002.safetensors", ...}}
static enum status
open_index(struct weights *w, const char *path)
{
    char *text = NULL;
    size_t bytes = 0;
    json_error_t error;
    TRY(file_read(&text, &bytes, path, INDEX_MOST));
    json_t *root = json_loadb(text, bytes, JSON_REJECT_DUPLICATES, &error);
    free(text);
    w->index = json_incref(json_object_get(root, "weight_map"));
    json_decref(root);
    if (!root)
        return FAIL(DAMAGED, "%s: line %d: %s", path, error.line, error.text);
    if (!json_is_object(w->index) || json_object_size(w->index) == 0)
        return FAIL(DAMAGED, "%s: has no weight_map with tensors in it", path);
    const char *name;
    json_t *value;
    json_object_foreach(w->index, name, value)
    {
        const char *file = json_string_value(value);
        if (!file || !*file || *file == '.' || strchr(file, '/') || strlen(file) > 255)
            return FAIL(DAMAGED, "%s: tensor '%.100s' is in '%.100s', wanted a plain file name",
                        path, name, file ? file : "no text");
        if (!shard_named(w, file)) {
            if (w->shards == SHARDS_MOST)
                return FAIL(DAMAGED, "%s: more than %d files", path, SHARDS_MOST);
            TRY(open_shard(w, file));
        }
        if (!safetensors_find(shard_named(w, file)->file, name))
            return FAIL(DAMAGED, "%s: tensor '%.100s' is not in %s", path, name, file);
    }
    return STATUS_OK;
}

static enum status
open_folder(struct weights *w)
{
    static const char whole[] = "model.safetensors", index[] = "model.safetensors.index.json";
    char path[PATH_BYTES];
    char *text = NULL;
    size_t bytes = 0;
    TRY(path_join(path, w->path, "config.json"));
    TRY(file_read(&text, &bytes, path, CONFIG_MOST));
    enum status status = arch_from_config(&w->arch, path, text, bytes);
    free(text);
    TRY(status);
    TRY(path_join(path, w->path, whole));
    if (path_exists(path)) {
        TRY(open_shard(w, whole));
    } else {
        TRY(path_join(path, w->path, index));
        if (!path_exists(path))
            return FAIL(MISSING, "%s: has neither %s nor %s", w->path, whole, index);
        TRY(open_index(w, path));
    }
    struct held unused;
    w->prefix =
        w->arch.family == FAMILY_GPT2 && !find(&unused, w, "wte.weight") ? "transformer." : "";
    return STATUS_OK;
}

enum status
weights_open(struct weights **out, const char *path)
{
    *out = NULL;
    struct weights *w = calloc(1, sizeof *w);
    char *copy = strdup(path);
    if (!w || !copy) {
        free(w);
        free(copy);
        return FAIL(CREATE, "%s: out of memory", path);
    }
    w->path = copy;
    w->prefix = "";
    enum status status = path_is_folder(path) ? open_folder(w) : open_gguf(w);
    if (status == STATUS_OK)
        status = gather(w);
    if (status != STATUS_OK) {
        weights_close(&w);
        return status_pass(status, __FILE__, __LINE__);
    }
    *out = w;
    return STATUS_OK;
}

void
weights_close(struct weights **weights)
{
    struct weights *w = *weights;
    if (!w)
        return;
    for (size_t i = 0; i < w->shards; i++) {
        safetensors_close(&w->shard[i].file);
        free(w->shard[i].name);
    }
    free(w->shard);
    json_decref(w->index);
    gguf_close(&w->gguf);
    free(w->held);
    free(w->path);
    free(w);
    *weights = NULL;
}

// Where row r of the role is among the rows of the stored tensor.
static size_t
stored_row(const struct arch *a, enum stored stored, enum role role, size_t rows, size_t r)
{
    size_t third = role == ROLE_Q || role == ROLE_Q_BIAS   ? 0
                   : role == ROLE_K || role == ROLE_K_BIAS ? 1
                                                           : 2;
    size_t dim = a->head_dim, head = r / dim, i = r % dim;
    switch (stored) {
    case STORED_THIRDS:
    case STORED_THIRDS_T:
        return third * rows + r;
    case STORED_BY_HEAD:
        return (head * 3 + third) * dim + i;
    case STORED_ROPE_PAIRS:
        return head * dim + (i < dim / 2 ? 2 * i : 2 * (i - dim / 2) + 1);
    case STORED_PLAIN:
    case STORED_TRANSPOSED:
        break;
    }
    return r;
}

enum status
weights_read(float *out, const struct weights *w, enum role role, size_t layer)
{
    const struct held *held = weights_held(w, role, layer);
    struct place place;
    bool known = place_of(&place, &w->arch, w->gguf, w->prefix, role, layer);
    assert(known && held->at && layer < w->arch.layers);
    size_t rows, columns, count;
    role_shape(&rows, &columns, &w->arch, role);
    count = held->shape[0] * (held->rank == 2 ? held->shape[1] : 1);
    if (place.stored == STORED_PLAIN) {
        TRY(dtype_decode(out, held->dtype, held->at, count));
    } else {
        float *all = malloc(count * sizeof *all);
        if (!all)
            return FAIL(CREATE, "%s: out of memory for tensor '%s'", w->path, place.name);
        enum status status = dtype_decode(all, held->dtype, held->at, count);
        bool flipped = place.stored == STORED_TRANSPOSED || place.stored == STORED_THIRDS_T;
        size_t stride = flipped ? count / columns : columns;
        for (size_t r = 0; status == STATUS_OK && r < rows; r++) {
            size_t from = stored_row(&w->arch, place.stored, role, rows, r);
            for (size_t c = 0; c < columns; c++)
                out[r * columns + c] = all[flipped ? c * stride + from : from * stride + c];
        }
        free(all);
        TRY(status);
    }
    for (size_t i = 0; place.one_plus && i < rows; i++)
        out[i] += 1.0f;
    return STATUS_OK;
}

void
weights_row(float *out, const struct weights *w, enum role role, size_t row)
{
    const struct held *held = weights_held(w, role, 0);
    assert((role == ROLE_EMBED || role == ROLE_POSITIONS || role == ROLE_HEAD) && held->at);
    assert(row < held->shape[0]);
    size_t bytes = held->bytes / held->shape[0];
    enum status status = dtype_decode(out, held->dtype, held->at + row * bytes, w->arch.width);
    assert(status == STATUS_OK); // weights_open checked the type
}
