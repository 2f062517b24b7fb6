// SentencePiece's tokenizer.model: a protobuf message ModelProto. A tag is field << 3 | wire type;
// the fields used here:
//     1 pieces (repeated): 1 piece, 2 score, 3 type     2 trainer_spec: 3 model_type,
//     35 byte_fallback, 40..43 unk, bos, eos, pad id    3 normalizer_spec: 2 precompiled_charsmap,
//     3 add_dummy_prefix, 4 remove_extra_whitespaces, 5 escape_whitespaces
#include "lib/lm/tokenizer_inside.h"

#include <stdlib.h>
#include <string.h>

enum { PROTO_MOST = 256 << 20 };

struct message { // what is left of one
    const unsigned char *at;
    size_t bytes;
};

struct proto_field {
    uint64_t number, value; // value: of varints and fixed widths
    struct message inside;  // of length-delimited fields
    unsigned wire;
};

// false when the bytes run out or the number has more than 64 bits.
static bool
read_varint(uint64_t *out, struct message *m)
{
    *out = 0;
    for (unsigned shift = 0; shift < 64 && m->bytes > 0; shift += 7) {
        unsigned char byte = *m->at++;
        m->bytes--;
        if (shift == 63 && byte > 1)
            return false;
        *out |= (uint64_t)(byte & 127) << shift;
        if (byte < 128)
            return true;
    }
    return false;
}

static bool
read_fixed(uint64_t *out, struct message *m, size_t bytes)
{
    if (m->bytes < bytes)
        return false;
    *out = bytes == 4 ? load_u32(m->at) : load_u64(m->at);
    m->at += bytes;
    m->bytes -= bytes;
    return true;
}

// The next field of a message that is not at its end.
static bool
read_field(struct proto_field *f, struct message *m)
{
    uint64_t tag, length;
    if (!read_varint(&tag, m) || tag >> 3 == 0)
        return false;
    *f = (struct proto_field){.number = tag >> 3, .wire = tag & 7};
    switch (f->wire) {
    case 0:
        return read_varint(&f->value, m);
    case 1:
        return read_fixed(&f->value, m, 8);
    case 2:
        if (!read_varint(&length, m) || length > m->bytes)
            return false;
        f->inside = (struct message){m->at, (size_t)length};
        m->at += length;
        m->bytes -= (size_t)length;
        return true;
    case 5:
        return read_fixed(&f->value, m, 4);
    default:
        return false;
    }
}

static enum status
damaged(const struct tokenizer *t, const char *what)
{
    return FAIL(DAMAGED, "%s: %s is cut off or no protobuf message", t->path, what);
}

// Checks that a known field has the wire type it should have.
static enum status
expect(const struct tokenizer *t, const struct proto_field *f, unsigned wire, const char *what)
{
    if (f->wire != wire)
        return FAIL(DAMAGED, "%s: %s has wire type %u, wanted %u", t->path, what, f->wire, wire);
    return STATUS_OK;
}

static enum status
read_piece(struct tokenizer *t, struct message m)
{
    struct proto_field f;
    struct message piece = {(const unsigned char *)"", 0};
    uint64_t type = PIECE_NORMAL;
    float score = 0;
    while (m.bytes > 0) {
        if (!read_field(&f, &m))
            return damaged(t, "a piece");
        if (f.number == 1) {
            TRY(expect(t, &f, 2, "the text of a piece"));
            piece = f.inside;
        } else if (f.number == 2) {
            TRY(expect(t, &f, 5, "the score of a piece"));
            uint32_t bits = (uint32_t)f.value;
            memcpy(&score, &bits, sizeof score);
        } else if (f.number == 3) {
            TRY(expect(t, &f, 0, "the type of a piece"));
            type = f.value;
        }
    }
    size_t id = t->vocab.count;
    if (type < PIECE_NORMAL || type > PIECE_BYTE)
        return FAIL(DAMAGED, "%s: piece %zu has the type %llu, wanted 1 to 6", t->path, id,
                    (unsigned long long)type);
    TRY(vocab_put(&t->vocab, id, (const char *)piece.at, piece.bytes, (enum piece_kind)type));
    t->vocab.pieces[id].score = score;
    return STATUS_OK;
}

struct trainer_spec {
    uint64_t model_type, byte_fallback;
    int32_t ids[4]; // unk, bos, eos, pad; -1: none
};

static enum status
read_trainer(struct trainer_spec *spec, const struct tokenizer *t, struct message m)
{
    struct proto_field f;
    while (m.bytes > 0) {
        if (!read_field(&f, &m))
            return damaged(t, "trainer_spec");
        if (f.number != 3 && f.number != 35 && (f.number < 40 || f.number > 43))
            continue;
        TRY(expect(t, &f, 0, "a number of trainer_spec"));
        if (f.number == 3)
            spec->model_type = f.value;
        else if (f.number == 35)
            spec->byte_fallback = f.value;
        else
            spec->ids[f.number - 40] = (int32_t)(uint32_t)f.value;
    }
    return STATUS_OK;
}

struct normalizer_spec {
    size_t charsmap;
    uint64_t dummy_prefix, remove_spaces, escape_spaces;
};

static enum status
read_normalizer(struct normalizer_spec *spec, const struct tokenizer *t, struct message m)
{
    struct proto_field f;
    while (m.bytes > 0) {
        if (!read_field(&f, &m))
            return damaged(t, "normalizer_spec");
        if (f.number < 2 || f.number > 5)
            continue;
        TRY(expect(t, &f, f.number == 2 ? 2 : 0, "a field of normalizer_spec"));
        if (f.number == 2)
            spec->charsmap = f.inside.bytes;
        else
            *(f.number == 3   ? &spec->dummy_prefix
              : f.number == 4 ? &spec->remove_spaces
                              : &spec->escape_spaces) = f.value;
    }
    return STATUS_OK;
}

static enum status
check_specs(const struct tokenizer *t, const struct trainer_spec *trainer,
            const struct normalizer_spec *normal)
{
    if (trainer->model_type != 2)
        return FAIL(DAMAGED, "%s: trainer_spec.model_type is %llu, wanted 2 (BPE)", t->path,
                    (unsigned long long)trainer->model_type);
    if (!trainer->byte_fallback)
        return FAIL(DAMAGED, "%s: trainer_spec.byte_fallback is false, wanted true", t->path);
    if (normal->charsmap > 0)
        return FAIL(DAMAGED, "%s: normalizer_spec.precompiled_charsmap has %zu bytes, wanted none",
                    t->path, normal->charsmap);
    const struct {
        const char *name;
        uint64_t found, wanted;
    } flags[] = {
        {"add_dummy_prefix", normal->dummy_prefix, 0},
        {"remove_extra_whitespaces", normal->remove_spaces, 0},
        {"escape_whitespaces", normal->escape_spaces, 1},
    };
    for (size_t i = 0; i < sizeof flags / sizeof *flags; i++)
        if (!flags[i].found != !flags[i].wanted)
            return FAIL(DAMAGED, "%s: normalizer_spec.%s is %s, wanted %s", t->path, flags[i].name,
                        flags[i].found ? "true" : "false", flags[i].wanted ? "true" : "false");
    return STATUS_OK;
}

static enum status
read_model(struct tokenizer *t, struct message m)
{
    // The defaults of the message definition.
    struct trainer_spec trainer = {.model_type = 1, .ids = {0, 1, 2, -1}};
    struct normalizer_spec normal = {0, 1, 1, 1};
    struct proto_field f;
    while (m.bytes > 0) {
        if (!read_field(&f, &m))
            return damaged(t, "the file");
        if (f.number < 1 || f.number > 3)
            continue;
        TRY(expect(t, &f, 2, "a field of the file"));
        if (f.number == 1)
            TRY(read_piece(t, f.inside));
        else if (f.number == 2)
            TRY(read_trainer(&trainer, t, f.inside));
        else
            TRY(read_normalizer(&normal, t, f.inside));
    }
    if (t->vocab.count == 0)
        return FAIL(DAMAGED, "%s: has no pieces", t->path);
    TRY(check_specs(t, &trainer, &normal));
    TRY(vocab_index(&t->vocab));
    TRY(merges_rebuild(&t->merges, &t->vocab));
    uint32_t *roles[] = {&t->roles.unk, &t->roles.bos, &t->roles.eos, &t->roles.pad};
    static const char *const names[] = {"trainer_spec.unk_id", "trainer_spec.bos_id",
                                        "trainer_spec.eos_id", "trainer_spec.pad_id"};
    for (size_t i = 0; i < 4; i++)
        if (trainer.ids[i] >= 0)
            TRY(tokenizer_role(roles[i], t, (uint64_t)trainer.ids[i], names[i]));
    t->front = t->roles.bos;
    return STATUS_OK;
}

enum status
tokenizer_from_proto(struct tokenizer *t)
{
    char *text;
    size_t bytes;
    t->kind = TOKENIZER_SENTENCEPIECE;
    TRY(file_read(&text, &bytes, t->path, PROTO_MOST));
    enum status status = read_model(t, (struct message){(const unsigned char *)text, bytes});
    free(text);
    return status;
}
