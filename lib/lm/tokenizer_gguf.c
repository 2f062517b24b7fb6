#include "lib/lm/tokenizer_inside.h"

#include "lib/store/gguf.h"

#include <string.h>

static bool
text_is(struct gguf_text text, const char *word)
{
    return text.bytes == strlen(word) && memcmp(text.at, word, text.bytes) == 0;
}

static enum status
read_kind(struct tokenizer *t, const struct gguf *file)
{
    bool found;
    struct gguf_text model, pre;
    TRY(gguf_string(&found, &model, file, "tokenizer.ggml.model"));
    if (!found)
        return FAIL(DAMAGED, "%s: no tokenizer.ggml.model: the file has no tokenizer", t->path);
    if (text_is(model, "llama")) {
        t->kind = TOKENIZER_SENTENCEPIECE;
        return STATUS_OK;
    }
    if (!text_is(model, "gpt2"))
        return FAIL(DAMAGED, "%s: tokenizer.ggml.model is '%.*s', wanted gpt2 or llama", t->path,
                    shown(model.bytes), model.at);
    t->kind = TOKENIZER_BYTE_LEVEL;
    TRY(gguf_string(&found, &pre, file, "tokenizer.ggml.pre"));
    if (!found || (!text_is(pre, "smollm") && !text_is(pre, "gpt-2")))
        return FAIL(DAMAGED, "%s: tokenizer.ggml.pre is '%.*s', wanted smollm or gpt-2", t->path,
                    found ? shown(pre.bytes) : 6, found ? pre.at : "absent");
    t->digits = text_is(pre, "smollm");
    return STATUS_OK;
}

// Runs of two and more U+2581 may have been stored as real spaces.
static enum status
put_spaces(struct vocab *v, uint32_t id, size_t spaces, enum piece_kind kind)
{
    char spelling[PIECE_BYTES];
    size_t bytes = 0;
    if (spaces > PIECE_BYTES / 3)
        return FAIL(DAMAGED, "%s: token %u is %zu spaces, wanted at most %d", v->path, id, spaces,
                    PIECE_BYTES / 3);
    for (size_t i = 0; i < spaces; i++, bytes += 3)
        memcpy(spelling + bytes, "\xE2\x96\x81", 3);
    return vocab_put(v, id, spelling, bytes, kind);
}

static enum status
read_pieces(struct tokenizer *t, const struct gguf *file)
{
    bool found;
    const struct gguf_text *tokens;
    const double *types;
    size_t count, type_count;
    TRY(gguf_strings(&found, &tokens, &count, file, "tokenizer.ggml.tokens"));
    if (!found || count == 0)
        return FAIL(DAMAGED, "%s: tokenizer.ggml.tokens is %s", t->path,
                    found ? "empty" : "absent");
    if (count > VOCAB_MOST)
        return FAIL(DAMAGED, "%s: tokenizer.ggml.tokens has %zu elements, wanted at most %d",
                    t->path, count, VOCAB_MOST);
    TRY(gguf_numbers(&found, &types, &type_count, file, "tokenizer.ggml.token_type"));
    if (!found || type_count != count)
        return FAIL(DAMAGED, "%s: tokenizer.ggml.token_type has %zu elements, wanted %zu", t->path,
                    found ? type_count : 0, count);
    bool first_normal = true;
    for (uint32_t id = 0; id < count; id++) {
        double type = types[id];
        if (!(type >= 1 && type <= 6) || type != (double)(int)type)
            return FAIL(DAMAGED, "%s: tokenizer.ggml.token_type of token %u is %g, wanted 1 to 6",
                        t->path, id, type);
        enum piece_kind kind = (enum piece_kind)(int)type;
        size_t spaces = 0;
        while (spaces < tokens[id].bytes && tokens[id].at[spaces] == ' ')
            spaces++;
        if (t->kind == TOKENIZER_SENTENCEPIECE && spaces >= 2 && spaces == tokens[id].bytes)
            TRY(put_spaces(&t->vocab, id, spaces, kind));
        else
            TRY(vocab_put(&t->vocab, id, tokens[id].at, tokens[id].bytes, kind));
        // Merge order follows the ids, not the file's scores. User-defined pieces come first, and
        // with them the first normal one, whose score in SentencePiece is 0 like theirs.
        struct piece *p = &t->vocab.pieces[id];
        p->score = kind == PIECE_USER || first_normal ? 0 : -(float)id;
        first_normal &= kind != PIECE_NORMAL;
    }
    return vocab_index(&t->vocab);
}

static enum status
read_merges(struct tokenizer *t, const struct gguf *file)
{
    if (t->kind == TOKENIZER_SENTENCEPIECE)
        return merges_rebuild(&t->merges, &t->vocab);
    bool found;
    const struct gguf_text *merges;
    size_t count;
    TRY(gguf_strings(&found, &merges, &count, file, "tokenizer.ggml.merges"));
    if (!found)
        return FAIL(DAMAGED, "%s: tokenizer.ggml.merges is absent", t->path);
    for (size_t i = 0; i < count; i++) {
        const char *space = memchr(merges[i].at, ' ', merges[i].bytes);
        size_t left = space ? (size_t)(space - merges[i].at) : merges[i].bytes;
        if (!space || memchr(space + 1, ' ', merges[i].bytes - left - 1))
            return FAIL(DAMAGED,
                        "%s: tokenizer.ggml.merges: number %zu is '%.*s', wanted two pieces "
                        "and a space between them",
                        t->path, i, shown(merges[i].bytes), merges[i].at);
        TRY(merges_put(&t->merges, &t->vocab, merges[i].at, left, space + 1,
                       merges[i].bytes - left - 1));
    }
    return STATUS_OK;
}

static enum status
read_roles(struct tokenizer *t, const struct gguf *file)
{
    const struct {
        const char *key;
        uint32_t *id;
    } roles[] = {
        {"tokenizer.ggml.bos_token_id", &t->roles.bos},
        {"tokenizer.ggml.eos_token_id", &t->roles.eos},
        {"tokenizer.ggml.padding_token_id", &t->roles.pad},
        {"tokenizer.ggml.unknown_token_id", &t->roles.unk},
    };
    bool found, flag;
    for (size_t i = 0; i < sizeof roles / sizeof *roles; i++) {
        uint64_t id;
        TRY(gguf_u64(&found, &id, file, roles[i].key));
        if (found)
            TRY(tokenizer_role(roles[i].id, t, id, roles[i].key));
    }
    TRY(gguf_bool(&found, &flag, file, "tokenizer.ggml.add_bos_token"));
    if (found ? flag : t->kind == TOKENIZER_SENTENCEPIECE)
        t->front = t->roles.bos;

    // A space put in front of every text, as in Llama 2: absent means yes, but not for Gemma.
    struct gguf_text family = {"", 0};
    TRY(gguf_string(&found, &family, file, "general.architecture"));
    bool gemma = found && family.bytes >= 5 && memcmp(family.at, "gemma", 5) == 0;
    TRY(gguf_bool(&found, &flag, file, "tokenizer.ggml.add_space_prefix"));
    if (found ? flag : t->kind == TOKENIZER_SENTENCEPIECE && !gemma)
        return FAIL(DAMAGED, "%s: tokenizer.ggml.add_space_prefix is %s, wanted false", t->path,
                    found ? "true" : "absent");
    TRY(gguf_bool(&found, &flag, file, "tokenizer.ggml.remove_extra_whitespaces"));
    if (found && flag)
        return FAIL(DAMAGED, "%s: tokenizer.ggml.remove_extra_whitespaces is true, wanted false",
                    t->path);
    return STATUS_OK;
}

enum status
tokenizer_from_gguf(struct tokenizer *t)
{
    struct gguf *file = NULL;
    TRY(gguf_open(&file, t->path));
    enum status status = read_kind(t, file);
    if (status == STATUS_OK)
        status = read_pieces(t, file);
    if (status == STATUS_OK)
        status = read_merges(t, file);
    if (status == STATUS_OK)
        status = read_roles(t, file);
    gguf_close(&file);
    return status;
}
