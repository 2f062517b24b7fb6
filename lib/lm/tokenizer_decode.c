#include "lib/lm/tokenizer_inside.h"

#include "lib/base/field.h"
#include "lib/lm/unicode.h"

static enum status
append_bad(struct text_list *out, size_t count)
{
    for (size_t i = 0; i < count; i++)
        TRY(text_list_append(out, "\xEF\xBF\xBD", 3));
    return STATUS_OK;
}

static enum status
decode_sentencepiece(const struct tokenizer *t, struct text_list *out, const uint32_t *ids,
                     size_t count)
{
    for (size_t i = 0; i < count; i++) {
        size_t begin = out->bytes, run = 0;
        // A run of byte tokens is text if it is valid as a whole, else one U+FFFD per byte.
        for (; i < count && byte_spelling(vocab_spelling(&t->vocab, ids[i])) >= 0; i++, run++) {
            struct tokenizer_text byte = tokenizer_piece(t, ids[i]);
            TRY(text_list_append(out, byte.at, byte.bytes));
        }
        if (run > 0 && !utf8_valid(out->at + begin, run)) {
            out->bytes = begin;
            TRY(append_bad(out, run));
        }
        if (i == count)
            break;
        struct tokenizer_text piece = tokenizer_piece(t, ids[i]);
        TRY(text_list_append(out, piece.at, piece.bytes));
    }
    return STATUS_OK;
}

static enum status
decode_byte_level(const struct tokenizer *t, struct text_list *out, const uint32_t *ids,
                  size_t count)
{
    enum status status = STATUS_OK;
    struct text_list raw = {0};
    for (size_t i = 0; i < count; i++) {
        struct tokenizer_text piece = tokenizer_piece(t, ids[i]);
        GOTRY(text_list_append(&raw, piece.at, piece.bytes));
    }
    size_t parts, bytes = utf8_repaired_bytes(&parts, raw.at, raw.bytes);
    if (parts == 0) {
        GOTRY(text_list_append(out, raw.at, raw.bytes));
    } else {
        GOTRY(text_list_reserve(out, bytes));
        utf8_repair(out->at + out->bytes, raw.at, raw.bytes);
        out->bytes += bytes;
    }
done:
    text_list_release(&raw);
    return status;
}

enum status
tokenizer_decode(const struct tokenizer *t, struct text_list *out, const uint32_t *ids,
                 size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (ids[i] >= t->vocab.count || t->vocab.pieces[ids[i]].kind == PIECE_ABSENT)
            return FAIL(DAMAGED,
                        "%s: token %zu of %zu is %u, wanted an id of the vocabulary of %zu",
                        t->path, i, count, ids[i], t->vocab.count);
    if (t->kind == TOKENIZER_BYTE_LEVEL)
        return decode_byte_level(t, out, ids, count);
    return decode_sentencepiece(t, out, ids, count);
}
