#include "lib/lm/tokenizer_inside.h"

#include "lib/lm/unicode.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char lower_block[] = "\xE2\x96\x81"; // U+2581, which stands for a space

// GPT-2 writes byte b as a code point that prints: itself where it does, else 256 and up, in order.
static uint32_t
byte_character(unsigned b)
{
    static const struct {
        unsigned from, to, first; // bytes from..to are first, first + 1, ...
    } runs[] = {{0, 32, 256},    {33, 126, 33},   {127, 160, 289},
                {161, 172, 161}, {173, 173, 323}, {174, 255, 174}};
    for (size_t i = 0;; i++)
        if (b <= runs[i].to)
            return runs[i].first + b - runs[i].from;
}

// The bytes a byte-level spelling stands for. One that does not come from bytes (an added token
// with a space in it) stands for itself.
static enum status
read_byte_level(struct text_list *out, struct tokenizer_text spelling, const short *byte_of)
{
    size_t begin = out->bytes;
    for (size_t i = 0; i < spelling.bytes;) {
        uint32_t code;
        i += utf8_read(&code, spelling.at + i, spelling.bytes - i);
        if (code >= 324 || byte_of[code] < 0) {
            out->bytes = begin;
            return text_list_append(out, spelling.at, spelling.bytes);
        }
        char byte = (char)byte_of[code];
        TRY(text_list_append(out, &byte, 1));
    }
    return STATUS_OK;
}

static enum status
read_sentencepiece(struct text_list *out, struct tokenizer_text spelling)
{
    int value = byte_spelling(spelling);
    if (value >= 0) {
        char byte = (char)value;
        return text_list_append(out, &byte, 1);
    }
    for (size_t i = 0; i < spelling.bytes;) {
        if (spelling.bytes - i >= 3 && memcmp(spelling.at + i, lower_block, 3) == 0) {
            TRY(text_list_append(out, " ", 1));
            i += 3;
        } else {
            TRY(text_list_append(out, spelling.at + i++, 1));
        }
    }
    return STATUS_OK;
}

// What each piece stands for.
static enum status
read_pieces(struct tokenizer *t)
{
    struct vocab *v = &t->vocab;
    short byte_of[324];
    for (size_t i = 0; i < 324; i++)
        byte_of[i] = -1;
    for (unsigned b = 0; b < 256; b++)
        byte_of[byte_character(b)] = (short)b;
    for (uint32_t id = 0; id < v->count; id++) {
        struct piece *p = &v->pieces[id];
        p->text_at = v->texts.bytes;
        if (t->kind == TOKENIZER_BYTE_LEVEL)
            TRY(read_byte_level(&v->texts, vocab_spelling(v, id), byte_of));
        else
            TRY(read_sentencepiece(&v->texts, vocab_spelling(v, id)));
        p->text_bytes = (uint32_t)(v->texts.bytes - p->text_at);
    }
    return STATUS_OK;
}

static enum status
find_symbols(struct tokenizer *t)
{
    char text[8];
    if (t->kind == TOKENIZER_BYTE_LEVEL) {
        size_t found = 0;
        for (unsigned b = 0; b < 256; b++) {
            t->byte[b] = vocab_find(&t->vocab, text, utf8_write(text, byte_character(b)));
            found += t->byte[b] != TOKEN_ABSENT;
        }
        // Real files lack a few control bytes and bytes that no UTF-8 has.
        if (found < 128)
            return FAIL(DAMAGED, "%s: only %zu of the 256 bytes are tokens: not byte-level BPE",
                        t->path, found);
        return STATUS_OK;
    }
    for (uint32_t c = 0; c < 128; c++) {
        text[0] = (char)c;
        t->ascii[c] =
            c == ' ' ? vocab_find(&t->vocab, lower_block, 3) : vocab_find(&t->vocab, text, 1);
    }
    for (unsigned b = 0; b < 256; b++) {
        snprintf(text, sizeof text, "<0x%02X>", b);
        t->byte[b] = vocab_find(&t->vocab, text, 6);
        // Then some text would have no tokens. U+0020 never needs its byte.
        bool needed =
            b < 128 ? t->ascii[b] == TOKEN_ABSENT && b != ' ' : (b < 0xC0 || b > 0xC1) && b < 0xF5;
        if (needed && t->byte[b] == TOKEN_ABSENT)
            return FAIL(DAMAGED, "%s: no piece for the byte %s", t->path, text);
    }
    return STATUS_OK;
}

// May words be cut before spaces: does no merge make a space follow something else?
static bool
spaces_lead(const struct tokenizer *t)
{
    for (size_t i = 0; i < t->merges.count; i++) {
        struct tokenizer_text s = vocab_spelling(&t->vocab, t->merges.list[i].merged);
        bool other = false;
        for (size_t k = 0; k < s.bytes;) {
            bool space = s.bytes - k >= 3 && memcmp(s.at + k, lower_block, 3) == 0;
            if (space && other)
                return false;
            other |= !space;
            k += space ? 3 : 1;
        }
    }
    return true;
}

static enum status
build(struct tokenizer *t)
{
    TRY(read_pieces(t));
    TRY(find_symbols(t));
    TRY(merges_index(&t->merges, t->path));
    TRY(added_build(&t->added, &t->vocab));
    t->spaces = t->kind == TOKENIZER_SENTENCEPIECE && spaces_lead(t);
    uint32_t newline = vocab_find(&t->vocab, "\n", 1);
    t->newlines =
        !t->added.newline_inside && (t->kind == TOKENIZER_BYTE_LEVEL ||
                                     (newline != TOKEN_ABSENT && t->vocab.pieces[newline].added &&
                                      !t->vocab.pieces[newline].special));
    return STATUS_OK;
}

static bool
ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}

static enum status
load(struct tokenizer *t, const char *path)
{
    if (path_is_folder(path)) {
        TRY(path_join(t->path, path, "tokenizer.json"));
        if (path_exists(t->path))
            return tokenizer_from_json(t);
        TRY(path_join(t->path, path, "tokenizer.model"));
        if (path_exists(t->path))
            return tokenizer_from_proto(t);
        return FAIL(MISSING, "%s: holds neither tokenizer.json nor tokenizer.model", path);
    }
    int length = snprintf(t->path, sizeof t->path, "%s", path);
    if (length < 0 || (size_t)length >= sizeof t->path)
        return FAIL(CONFIG, "%.100s...: a path of %d bytes, wanted at most %d", path, length,
                    PATH_BYTES - 1);
    if (ends_with(path, ".gguf"))
        return tokenizer_from_gguf(t);
    if (ends_with(path, ".json"))
        return tokenizer_from_json(t);
    if (ends_with(path, ".model"))
        return tokenizer_from_proto(t);
    if (!path_exists(path))
        return FAIL(MISSING, "%s: no such file or folder", path);
    return FAIL(CONFIG,
                "%s: not a tokenizer: wanted a .gguf file, a tokenizer.json, a "
                "tokenizer.model or a folder with one of them",
                path);
}

enum status
tokenizer_open(struct tokenizer **out, const char *path)
{
    *out = NULL;
    struct tokenizer *t = calloc(1, sizeof *t);
    if (!t)
        return FAIL(CREATE, "%s: no memory for the tokenizer", path);
    t->vocab.path = t->path;
    t->front = TOKEN_ABSENT;
    t->roles = (struct tokenizer_roles){TOKEN_ABSENT, TOKEN_ABSENT, TOKEN_ABSENT, TOKEN_ABSENT};
    enum status status = load(t, path);
    if (status == STATUS_OK)
        status = build(t);
    if (status != STATUS_OK) {
        tokenizer_free(&t);
        return status_pass(status, __FILE__, __LINE__);
    }
    *out = t;
    return STATUS_OK;
}

void
tokenizer_free(struct tokenizer **t)
{
    if (!*t)
        return;
    vocab_release(&(*t)->vocab);
    merges_release(&(*t)->merges);
    added_release(&(*t)->added);
    free(*t);
    *t = NULL;
}

enum status
tokenizer_role(uint32_t *out, const struct tokenizer *t, uint64_t id, const char *what)
{
    if (id >= t->vocab.count || t->vocab.pieces[id].kind == PIECE_ABSENT)
        return FAIL(DAMAGED, "%s: %s is %llu, wanted an id of the vocabulary of %zu", t->path, what,
                    (unsigned long long)id, t->vocab.count);
    *out = (uint32_t)id;
    return STATUS_OK;
}
