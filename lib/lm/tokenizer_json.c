// The tokenizer.json of Hugging Face's `tokenizers`. Whatever decides ids is either understood or
// refused by name: a tokenizer that is nearly right would spoil a run without a sign.
#include "lib/lm/tokenizer_inside.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// Gemma 3 has 33 MB. A parsed tree of the worst text takes thirty times its bytes.
enum { JSON_MOST = 64 << 20 };

static enum status
read_json(json_t **out, const char *path)
{
    *out = NULL;
    char *text;
    size_t bytes;
    TRY(file_read(&text, &bytes, path, JSON_MOST));
    json_error_t error;
    *out = json_loadb(text, bytes, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &error);
    free(text);
    if (!*out)
        return FAIL(DAMAGED, "%s:%d: %s", path, error.line, error.text);
    if (!json_is_object(*out)) {
        json_decref(*out);
        *out = NULL;
        return FAIL(DAMAGED, "%s: wanted a JSON object", path);
    }
    return STATUS_OK;
}

static bool
type_is(const json_t *object, const char *type)
{
    const char *found = json_string_value(json_object_get(object, "type"));
    return found && strcmp(found, type) == 0;
}

static const char *
type_of(const json_t *object)
{
    if (!json_is_object(object))
        return "absent";
    const char *found = json_string_value(json_object_get(object, "type"));
    return found ? found : "without a type";
}

static bool
text_is(const json_t *value, const char *text)
{
    return json_is_string(value) && json_string_length(value) == strlen(text) &&
           memcmp(json_string_value(value), text, strlen(text)) == 0;
}

// ---- what kind it is ----------------------------------------------------------------------------

static enum status
wanted(const struct tokenizer *t, const char *field, const char *found, const char *expected)
{
    return FAIL(DAMAGED, "%s: %s is %.60s, wanted %s", t->path, field, found, expected);
}

// A switch that must be off: absent, null, false, "" or 0.
static enum status
must_be_off(const struct tokenizer *t, const json_t *object, const char *where, const char *name)
{
    const json_t *value = json_object_get(object, name);
    if (!value || json_is_null(value) || json_is_false(value) || text_is(value, "") ||
        (json_is_number(value) && json_number_value(value) == 0))
        return STATUS_OK;
    return FAIL(DAMAGED, "%s: %s.%s is set, wanted it absent, null or false", t->path, where, name);
}

// pre_tokenizer: ByteLevel, or a Sequence of Digits and ByteLevel.
static enum status
read_byte_level(struct tokenizer *t, const json_t *root)
{
    t->kind = TOKENIZER_BYTE_LEVEL;
    const json_t *normal = json_object_get(root, "normalizer");
    if (normal && !json_is_null(normal))
        return wanted(t, "normalizer", type_of(normal), "null for byte-level BPE");
    const json_t *pre = json_object_get(root, "pre_tokenizer"), *level = pre;
    static const char expected[] = "ByteLevel, or a Sequence of Digits and ByteLevel";
    if (type_is(pre, "Sequence")) {
        const json_t *list = json_object_get(pre, "pretokenizers");
        const json_t *first = json_array_get(list, 0);
        size_t count = json_array_size(list);
        if (count == 0 || count > 2)
            return wanted(t, "pre_tokenizer", "a Sequence of another length", expected);
        level = json_array_get(list, count - 1);
        if (count == 2) {
            if (!type_is(first, "Digits"))
                return wanted(t, "pre_tokenizer.pretokenizers[0]", type_of(first), "Digits");
            if (!json_is_true(json_object_get(first, "individual_digits")))
                return wanted(t, "pre_tokenizer.pretokenizers[0].individual_digits", "not true",
                              "true");
            t->digits = true;
        }
    }
    if (!type_is(level, "ByteLevel"))
        return wanted(t, "pre_tokenizer", type_of(level), expected);
    TRY(must_be_off(t, level, "ByteLevel", "add_prefix_space"));
    if (json_is_false(json_object_get(level, "use_regex")))
        return wanted(t, "ByteLevel.use_regex", "false", "true");
    return STATUS_OK;
}

// normalizer: Replace " " by U+2581; pre_tokenizer: none, or a Split at U+0020, which is then gone.
static enum status
read_sentencepiece(struct tokenizer *t, const json_t *root)
{
    t->kind = TOKENIZER_SENTENCEPIECE;
    const json_t *normal = json_object_get(root, "normalizer");
    if (type_is(normal, "Sequence")) {
        const json_t *list = json_object_get(normal, "normalizers");
        if (json_array_size(list) != 1)
            return wanted(t, "normalizer", "a Sequence of another length than 1", "Replace");
        normal = json_array_get(list, 0);
    }
    if (!type_is(normal, "Replace"))
        return wanted(t, "normalizer", type_of(normal), "Replace with byte_fallback");
    if (!text_is(json_object_get(json_object_get(normal, "pattern"), "String"), " ") ||
        !text_is(json_object_get(normal, "content"), "\xE2\x96\x81"))
        return wanted(t, "normalizer", "another Replace", "Replace of U+0020 by U+2581");
    const json_t *pre = json_object_get(root, "pre_tokenizer");
    if (!pre || json_is_null(pre))
        return STATUS_OK;
    if (!type_is(pre, "Split") ||
        !text_is(json_object_get(json_object_get(pre, "pattern"), "String"), " "))
        return wanted(t, "pre_tokenizer", type_of(pre), "null, or a Split at U+0020");
    return STATUS_OK;
}

static enum status
read_kind(struct tokenizer *t, const json_t *root, const json_t *model)
{
    if (!type_is(model, "BPE"))
        return wanted(t, "model.type", type_of(model), "BPE");
    static const char *const off[] = {"dropout", "continuing_subword_prefix", "end_of_word_suffix",
                                      "ignore_merges"};
    for (size_t i = 0; i < sizeof off / sizeof *off; i++)
        TRY(must_be_off(t, model, "model", off[i]));
    if (json_is_true(json_object_get(model, "byte_fallback")))
        return read_sentencepiece(t, root);
    return read_byte_level(t, root);
}

// ---- pieces and merges --------------------------------------------------------------------------

static enum status
read_id(uint64_t *out, const struct tokenizer *t, const json_t *value, const char *what)
{
    if (!json_is_integer(value) || json_integer_value(value) < 0)
        return FAIL(DAMAGED, "%s: %.60s is not an id (an integer of at least 0)", t->path, what);
    *out = (uint64_t)json_integer_value(value);
    return STATUS_OK;
}

static enum status
read_added(struct tokenizer *t, const json_t *token, size_t i, bool normalizes)
{
    struct vocab *v = &t->vocab;
    char where[64];
    snprintf(where, sizeof where, "added_tokens[%zu]", i);
    const json_t *content = json_object_get(token, "content");
    if (!json_is_string(content))
        return wanted(t, where, "without a content", "an object with content and id");
    uint64_t id;
    TRY(read_id(&id, t, json_object_get(token, "id"), where));
    static const char *const off[] = {"single_word", "lstrip", "rstrip"};
    for (size_t k = 0; k < sizeof off / sizeof *off; k++)
        TRY(must_be_off(t, token, where, off[k]));
    if (normalizes) // without a normaliser it makes no difference
        TRY(must_be_off(t, token, where, "normalized"));
    const char *text = json_string_value(content);
    size_t bytes = json_string_length(content);
    if (id < v->count && v->pieces[id].kind != PIECE_ABSENT) {
        struct tokenizer_text known = vocab_spelling(v, (uint32_t)id);
        if (known.bytes != bytes || memcmp(known.at, text, bytes) != 0)
            return FAIL(DAMAGED,
                        "%s: %s has the id %llu, which is '%.*s' in model.vocab and '%.*s' "
                        "here",
                        t->path, where, (unsigned long long)id, shown(known.bytes), known.at,
                        shown(bytes), text);
    } else {
        TRY(vocab_put(v, id, text, bytes, PIECE_USER));
    }
    v->pieces[id].added = true;
    v->pieces[id].special = json_is_true(json_object_get(token, "special"));
    v->pieces[id].kind = v->pieces[id].special ? PIECE_CONTROL : PIECE_USER;
    return STATUS_OK;
}

static enum status
read_pieces(struct tokenizer *t, json_t *root, json_t *model)
{
    json_t *vocab = json_object_get(model, "vocab");
    if (!json_is_object(vocab) || json_object_size(vocab) == 0)
        return wanted(t, "model.vocab", "empty or no object", "pieces with their ids");
    const char *piece;
    json_t *value;
    json_object_foreach(vocab, piece, value)
    {
        uint64_t id;
        TRY(read_id(&id, t, value, piece));
        TRY(vocab_put(&t->vocab, id, piece, strlen(piece), PIECE_NORMAL));
    }
    json_t *added = json_object_get(root, "added_tokens");
    if (added && !json_is_null(added) && !json_is_array(added))
        return wanted(t, "added_tokens", "no list", "a list");
    for (size_t i = 0; i < json_array_size(added); i++)
        TRY(read_added(t, json_array_get(added, i), i, t->kind == TOKENIZER_SENTENCEPIECE));
    return vocab_index(&t->vocab);
}

static enum status
read_merges(struct tokenizer *t, json_t *model)
{
    const json_t *merges = json_object_get(model, "merges");
    if (!json_is_array(merges))
        return wanted(t, "model.merges", "no list", "a list");
    for (size_t i = 0; i < json_array_size(merges); i++) {
        const json_t *merge = json_array_get(merges, i);
        const json_t *left = json_array_get(merge, 0), *right = json_array_get(merge, 1);
        if (json_array_size(merge) == 2 && json_is_string(left) && json_is_string(right)) {
            TRY(merges_put(&t->merges, &t->vocab, json_string_value(left), json_string_length(left),
                           json_string_value(right), json_string_length(right)));
            continue;
        }
        const char *text = json_string_value(merge); // "left right", as older files have it
        const char *space = text ? strchr(text, ' ') : NULL;
        if (!space || strchr(space + 1, ' '))
            return FAIL(DAMAGED, "%s: model.merges[%zu] is not two pieces", t->path, i);
        TRY(merges_put(&t->merges, &t->vocab, text, (size_t)(space - text), space + 1,
                       json_string_length(merge) - (size_t)(space + 1 - text)));
    }
    return STATUS_OK;
}

// ---- roles --------------------------------------------------------------------------------------

// The id a template puts in front of a text, wherever the template hides.
static enum status
read_front(struct tokenizer *t, const json_t *post)
{
    if (type_is(post, "Sequence")) {
        const json_t *list = json_object_get(post, "processors");
        for (size_t i = 0; i < json_array_size(list); i++)
            if (!type_is(json_array_get(list, i), "Sequence"))
                TRY(read_front(t, json_array_get(list, i)));
        return STATUS_OK;
    }
    if (!type_is(post, "TemplateProcessing"))
        return STATUS_OK;
    const json_t *first = json_array_get(json_object_get(post, "single"), 0);
    const char *name =
        json_string_value(json_object_get(json_object_get(first, "SpecialToken"), "id"));
    if (!name)
        return STATUS_OK;
    const json_t *token = json_object_get(json_object_get(post, "special_tokens"), name);
    uint64_t id;
    TRY(read_id(&id, t, json_array_get(json_object_get(token, "ids"), 0),
                "post_processor: the token in front"));
    return tokenizer_role(&t->front, t, id, "post_processor: the token in front");
}

// A file beside t->path that may be absent: then *out is NULL.
static enum status
read_beside(json_t **out, const struct tokenizer *t, const char *name)
{
    *out = NULL;
    char path[PATH_BYTES], folder[PATH_BYTES];
    const char *slash = strrchr(t->path, '/');
    snprintf(folder, sizeof folder, "%.*s", slash ? (int)(slash - t->path) : 1,
             slash ? t->path : ".");
    TRY(path_join(path, slash == t->path ? "" : folder, name));
    return path_exists(path) ? read_json(out, path) : STATUS_OK;
}

// In tokenizer_config.json a role is a text or {"content": text}; in config.json an id or a list.
static enum status
read_role(uint32_t *out, const struct tokenizer *t, const json_t *words, const json_t *ids,
          const char *role)
{
    char key[32];
    snprintf(key, sizeof key, "%s_token", role);
    const json_t *word = json_object_get(words, key);
    if (json_is_object(word))
        word = json_object_get(word, "content");
    if (json_is_string(word)) {
        uint32_t id = vocab_find(&t->vocab, json_string_value(word), json_string_length(word));
        if (id == TOKEN_ABSENT)
            return FAIL(DAMAGED,
                        "%s: tokenizer_config.json beside it: %s is '%.60s', which is no "
                        "token",
                        t->path, key, json_string_value(word));
        *out = id;
        return STATUS_OK;
    }
    snprintf(key, sizeof key, "%s_token_id", role);
    const json_t *value = json_object_get(ids, key);
    if (json_is_array(value))
        value = json_array_get(value, 0);
    if (json_is_integer(value) && json_integer_value(value) >= 0) {
        char what[64];
        snprintf(what, sizeof what, "config.json beside it: %s", key);
        return tokenizer_role(out, t, (uint64_t)json_integer_value(value), what);
    }
    if (t->kind == TOKENIZER_SENTENCEPIECE) {
        snprintf(key, sizeof key, "<%s>", role);
        *out = vocab_find(&t->vocab, key, strlen(key));
    }
    return STATUS_OK;
}

static enum status
read_roles(struct tokenizer *t, const json_t *root)
{
    enum status status = STATUS_OK;
    json_t *words = NULL, *ids = NULL;
    GOTRY(read_beside(&words, t, "tokenizer_config.json"));
    GOTRY(read_beside(&ids, t, "config.json"));
    GOTRY(read_role(&t->roles.bos, t, words, ids, "bos"));
    GOTRY(read_role(&t->roles.eos, t, words, ids, "eos"));
    GOTRY(read_role(&t->roles.pad, t, words, ids, "pad"));
    GOTRY(read_role(&t->roles.unk, t, words, ids, "unk"));
    GOTRY(read_front(t, json_object_get(root, "post_processor")));
    bool always =
        t->kind == TOKENIZER_SENTENCEPIECE || json_is_true(json_object_get(words, "add_bos_token"));
    if (t->front == TOKEN_ABSENT && always)
        t->front = t->roles.bos;
done:
    json_decref(words);
    json_decref(ids);
    return status;
}

enum status
tokenizer_from_json(struct tokenizer *t)
{
    json_t *root;
    TRY(read_json(&root, t->path));
    json_t *model = json_object_get(root, "model");
    enum status status = read_kind(t, root, model);
    if (status == STATUS_OK)
        status = read_pieces(t, root, model);
    if (status == STATUS_OK)
        status = read_merges(t, model);
    if (status == STATUS_OK)
        status = read_roles(t, root);
    json_decref(root);
    return status;
}
