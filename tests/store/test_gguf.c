// GGUF: two real files, one file with every value type, every refusal, cut and flipped files.
#include "lib/base/bytes.h"
#include "lib/base/rng.h"
#include "lib/store/safetensors.h"
#include "tests/store/gguf_maker.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define GEMMA OSAE_TESTS "/golden/tiny-gemma2/tiny-gemma2.gguf"
#define LLAMA OSAE_TESTS "/golden/tiny-llama/tiny-llama-q4_1.gguf"

// Calls everything on whatever opened.
static void
touch(const struct gguf *file)
{
    uint64_t sum = 0;
    static const char *const keys[] = {"general.alignment",
                                       "u8",
                                       "text",
                                       "f32",
                                       "bool",
                                       "texts",
                                       "numbers",
                                       "general.architecture",
                                       "tokenizer.ggml.tokens",
                                       "tokenizer.ggml.merges",
                                       "tokenizer.ggml.token_type",
                                       "llama.rope.freq_base"};
    for (size_t i = 0; i < gguf_tensor_count(file); i++) {
        const struct gguf_tensor *t = gguf_tensor_at(file, i);
        sum += hash64(t->at, t->bytes);
        assert_ptr_equal(gguf_find(file, t->name), t);
    }
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        bool found, b;
        uint64_t u;
        double f;
        struct gguf_text text;
        const struct gguf_text *texts;
        const double *numbers;
        size_t count;
        if (gguf_u64(&found, &u, file, keys[i]) == STATUS_OK && found)
            sum += u;
        if (gguf_f64(&found, &f, file, keys[i]) == STATUS_OK && found)
            assert_true(isfinite(f));
        if (gguf_bool(&found, &b, file, keys[i]) == STATUS_OK && found)
            sum += b;
        if (gguf_string(&found, &text, file, keys[i]) == STATUS_OK && found)
            sum += hash64(text.at, text.bytes);
        if (gguf_strings(&found, &texts, &count, file, keys[i]) == STATUS_OK && found)
            for (size_t j = 0; j < count; j++)
                sum += hash64(texts[j].at, texts[j].bytes);
        if (gguf_numbers(&found, &numbers, &count, file, keys[i]) == STATUS_OK && found)
            sum += hash64(numbers, count * sizeof *numbers);
    }
    assert_true(sum != 1);
}

static void
a_real_model_reads_as_its_converter_wrote_it(void **unused)
{
    (void)unused;
    struct gguf *file;
    struct safetensors *want;
    assert_int_equal(gguf_open(&file, GEMMA), STATUS_OK);
    assert_int_equal(safetensors_open(&want, OSAE_TESTS "/golden/tiny-gemma2/model.safetensors"),
                     STATUS_OK);
    assert_int_equal(gguf_tensor_count(file), 46);
    assert_string_equal(gguf_path(file), GEMMA);

    bool found, flag;
    uint64_t u;
    double f;
    struct gguf_text text;
    assert_int_equal(gguf_string(&found, &text, file, "general.architecture"), STATUS_OK);
    assert_true(found && text.bytes == 6 && memcmp(text.at, "gemma2", 6) == 0);
    assert_int_equal(gguf_u64(&found, &u, file, "gemma2.attention.sliding_window"), STATUS_OK);
    assert_true(found && u == 16);
    assert_int_equal(gguf_f64(&found, &f, file, "gemma2.attn_logit_softcapping"), STATUS_OK);
    assert_true(found && f == 20);
    assert_int_equal(gguf_bool(&found, &flag, file, "tokenizer.ggml.add_bos_token"), STATUS_OK);
    assert_true(found && flag);
    assert_int_equal(gguf_u64(&found, &u, file, "gemma2.nothing"), STATUS_OK);
    assert_false(found);
    assert_int_equal(gguf_u64(&found, &u, file, "general.name"), STATUS_DAMAGED);
    const struct gguf_text *tokens;
    const double *types;
    size_t count;
    assert_int_equal(gguf_strings(&found, &tokens, &count, file, "tokenizer.ggml.tokens"),
                     STATUS_OK);
    assert_true(found && count == 1024 && tokens[2].bytes == 5);
    assert_memory_equal(tokens[2].at, "<bos>", 5);
    assert_int_equal(gguf_numbers(&found, &types, &count, file, "tokenizer.ggml.token_type"),
                     STATUS_OK);
    assert_true(found && count == 1024 && types[0] == 3);

    // Weights are halves of the fp32 ones; norms are fp32 and hold 1 + w.
    static const char *const pairs[][2] = {
        {"token_embd.weight", "model.embed_tokens.weight"},
        {"blk.0.attn_output.weight", "model.layers.0.self_attn.o_proj.weight"},
        {"blk.3.ffn_down.weight", "model.layers.3.mlp.down_proj.weight"},
        {"blk.2.post_ffw_norm.weight", "model.layers.2.post_feedforward_layernorm.weight"},
    };
    for (size_t p = 0; p < 4; p++) {
        const struct gguf_tensor *got = gguf_find(file, pairs[p][0]);
        const struct tensor *t;
        assert_non_null(got);
        assert_int_equal(safetensors_need(&t, want, pairs[p][1], got->rank, got->shape), STATUS_OK);
        float *a = malloc(got->count * sizeof *a), *b = malloc(got->count * sizeof *b);
        assert_int_equal(dtype_decode(a, got->dtype, got->at, got->count), STATUS_OK);
        assert_int_equal(tensor_to_f32(b, t, "model"), STATUS_OK);
        for (size_t i = 0; i < got->count; i++)
            if (p == 3)
                assert_true(a[i] == 1 + b[i]);
            else
                assert_true(fabsf(a[i] - b[i]) <= fabsf(b[i]) * 0x1p-11f + 0x1p-25f);
        free(a);
        free(b);
    }
    safetensors_close(&want);
    gguf_close(&file);
    assert_int_equal(gguf_open(&file, LLAMA), STATUS_OK);
    const struct gguf_tensor *down = gguf_find(file, "blk.0.ffn_down.weight");
    assert_true(down && down->dtype == DTYPE_Q4_1 && down->shape[0] == 64 && down->shape[1] == 160);
    touch(file);
    gguf_close(&file);
}

static void
every_value_type_is_read(void **unused)
{
    (void)unused;
    make_rich();
    struct gguf *file;
    if (try_open(&file) != STATUS_OK)
        fail_msg("%s", status_words());
    bool found, b;
    uint64_t u;
    double f;
    static const struct {
        const char *key;
        uint64_t want;
    } integers[] = {{"u8", 255},
                    {"u16", 65535},
                    {"i16", 2},
                    {"i32", 7},
                    {"u64", UINT64_MAX},
                    {"i64", (uint64_t)INT64_MAX},
                    {"general.alignment", 64}};
    for (size_t i = 0; i < 7; i++) {
        assert_int_equal(gguf_u64(&found, &u, file, integers[i].key), STATUS_OK);
        assert_true(found && u == integers[i].want);
    }
    assert_int_equal(gguf_u64(&found, &u, file, "i8"), STATUS_DAMAGED); // negative
    assert_int_equal(gguf_u64(&found, &u, file, "bool"), STATUS_DAMAGED);
    assert_int_equal(gguf_u64(&found, &u, file, "f32"), STATUS_DAMAGED);
    assert_int_equal(gguf_u64(&found, &u, file, "numbers"), STATUS_DAMAGED);
    assert_int_equal(gguf_f64(&found, &f, file, "f32"), STATUS_OK);
    assert_true(found && f == 1.5);
    assert_int_equal(gguf_f64(&found, &f, file, "f64"), STATUS_DAMAGED); // infinite
    assert_int_equal(gguf_f64(&found, &f, file, "u8"), STATUS_DAMAGED);
    assert_int_equal(gguf_bool(&found, &b, file, "bool"), STATUS_OK);
    assert_true(found && b);
    assert_int_equal(gguf_bool(&found, &b, file, "u8"), STATUS_DAMAGED);
    struct gguf_text text;
    assert_int_equal(gguf_string(&found, &text, file, "text"), STATUS_OK);
    assert_true(text.bytes == 5);
    assert_int_equal(gguf_string(&found, &text, file, "texts"), STATUS_DAMAGED);
    const struct gguf_text *texts;
    const double *numbers;
    size_t count;
    assert_int_equal(gguf_strings(&found, &texts, &count, file, "texts"), STATUS_OK);
    assert_true(count == 3 && texts[0].bytes == 1 && texts[1].bytes == 0 && texts[2].bytes == 1);
    assert_int_equal(gguf_strings(&found, &texts, &count, file, "numbers"), STATUS_DAMAGED);
    assert_int_equal(gguf_numbers(&found, &numbers, &count, file, "numbers"), STATUS_OK);
    assert_true(count == 2 && numbers[0] == -1 && numbers[1] == 5);
    assert_int_equal(gguf_numbers(&found, &numbers, &count, file, "nothing"), STATUS_OK);
    assert_true(!found && count == 0);
    const struct gguf_tensor *t = gguf_find(file, "first");
    assert_true(t && t->rank == 2 && t->shape[0] == 2 && t->shape[1] == 3);
    float values[32];
    memcpy(values, t->at, t->bytes);
    assert_true(values[5] == 5);
    t = gguf_find(file, "second");
    assert_int_equal(dtype_decode(values, t->dtype, t->at, t->count), STATUS_OK);
    assert_true(values[0] == -16 && values[31] == 15);
    assert_null(gguf_find(file, "third"));
    gguf_close(&file);
}

// Each makes a file that must be refused.
static void
bad_magic(void)
{
    begin(0, 0);
    made[0] = 'g';
}
static void
version_1(void)
{
    begin(0, 0);
    made[4] = 1;
}
static void
big_endian(void)
{
    begin(0, 0);
    memcpy(made + 4, "\x00\x00\x00\x03", 4);
}
static void
many_keys(void)
{
    begin(0, UINT64_MAX);
    add_key("a", U8), add("", 1);
}
static void
many_tensors(void)
{
    begin(UINT64_MAX / 2, 0);
    add_tensor("t", 1, 1, 0, 0, 0);
}
static void
empty_key(void)
{
    begin(0, 1);
    add_key("", U8), add_u64(0);
}
static void
key_no_text(void)
{
    begin(0, 1);
    add_key("\xc3(", U8), add("", 1);
}
static void
key_twice(void)
{
    begin(0, 2);
    add_key("a.b", U8), add("", 1);
    add_key("a.b", U16), add("\0", 2);
}
static void
long_text(void)
{
    begin(0, 1);
    add_key("a", STRING), add_u64(UINT64_MAX - 3);
    add("abc", 3);
}
static void
text_no_utf8(void)
{
    begin(0, 1);
    add_key("a", STRING), add_text("\xff");
}
static void
type_13(void)
{
    begin(0, 1);
    add_key("a", 13), add("", 1);
}
static void
bool_2(void)
{
    begin(0, 1);
    add_key("a", BOOL), add("\x02", 1);
}
static void
bools_2(void)
{
    begin(0, 1);
    add_array("a", BOOL, 3), add("\x00\x01\x02", 3);
}
static void
nested(void)
{
    begin(0, 1);
    add_array("a", ARRAY, 1), add_u32(U8), add_u64(0), add("", 1);
}
static void
long_array(void)
{
    begin(0, 1);
    add_array("a", U32, UINT64_MAX / 4 + 1), add_u32(0);
}
static void
long_texts(void)
{
    begin(0, 1);
    add_array("a", STRING, UINT64_MAX), add_text("b");
}
static void
alignment_0(void)
{
    begin(1, 1);
    add_key("general.alignment", U32), add_u32(0);
    add_tensor("t", 0, 0, 0, 0, 0);
    add_u64(0);
}
static void
alignment_48(void)
{
    begin(1, 1);
    add_key("general.alignment", U32), add_u32(48);
    add_tensor("t", 0, 0, 0, 0, 0);
    add_u64(0);
}
static void
alignment_u64(void)
{
    begin(0, 1);
    add_key("general.alignment", U64), add_u64(32);
}
static void
alignment_text(void)
{
    begin(0, 1);
    add_array("general.alignment", U32, 1), add_u32(32);
}
static void
rank_5(void)
{
    begin(1, 0);
    add_tensor("t", 5, 1, 1, 0, 0);
    add_pad(32), add_u64(0);
}
static void
name_64(void)
{
    begin(1, 0);
    add_tensor("0123456789012345678901234567890123456789012345678901234567890123", 1, 1, 1, 0, 0);
    add_pad(32), add_u64(0);
}
static void
name_empty(void)
{
    begin(1, 0);
    add_tensor("", 1, 1, 1, 0, 0);
    add_pad(32), add_u64(0);
}
static void
name_twice(void)
{
    begin(2, 0);
    add_tensor("t", 1, 8, 1, 0, 0);
    add_tensor("t", 1, 8, 1, 0, 32);
    add_pad(32);
    for (int i = 0; i < 8; i++)
        add_u64(0);
}
static void
type_q2k(void)
{
    begin(1, 0);
    add_tensor("t", 1, 256, 1, 10, 0);
    add_pad(32);
    for (int i = 0; i < 64; i++)
        add_u64(0);
}
static void
type_4(void)
{
    begin(1, 0);
    add_tensor("t", 1, 256, 1, 4, 0);
    add_pad(32), add_u64(0);
}
static void
type_huge(void)
{
    begin(1, 0);
    add_tensor("t", 1, 256, 1, UINT32_MAX, 0); // -1 marks types GGUF does not have
    add_pad(32), add_u64(0);
}
static void
row_33(void)
{
    begin(1, 0);
    add_tensor("t", 2, 33, 32, 8, 0);
    add_pad(32);
    for (int i = 0; i < 200; i++)
        add_u64(0);
}
static void
product(void)
{
    begin(1, 0);
    add_tensor("t", 2, (uint64_t)1 << 33, (uint64_t)1 << 33, 0, 0);
    add_pad(32), add_u64(0);
}
static void
product_bytes(void)
{
    begin(1, 0);
    add_tensor("t", 2, (uint64_t)1 << 32, (uint64_t)1 << 30, 0, 0);
    add_pad(32), add_u64(0);
}
static void
offset_4(void)
{
    begin(1, 0);
    add_tensor("t", 1, 1, 1, 0, 4);
    add_pad(32), add_u64(0), add_u64(0);
}
static void
offset_gap(void)
{
    begin(2, 0);
    add_tensor("t", 1, 1, 1, 0, 0);
    add_tensor("u", 1, 1, 1, 0, 64);
    add_pad(32);
    for (int i = 0; i < 16; i++)
        add_u64(0);
}
static void
data_sum(void)
{
    begin(2, 0);
    add_tensor("t", 1, (uint64_t)0xfffffffffffff000, 1, 24, 0);
    add_tensor("u", 1, 0x1000, 1, 24, 0xfffffffffffff000);
    add_pad(32), add_u64(0);
}
static void
data_short(void)
{
    begin(1, 0);
    add_tensor("t", 1, 3, 1, 0, 0);
    add_pad(32), add_u64(0);
}
static void
data_none(void)
{
    begin(1, 0);
    add_tensor("t", 1, 1, 1, 0, 0);
}

static void
everything_else_is_refused_by_name(void **unused)
{
    (void)unused;
    static const struct {
        void (*make)(void);
        const char *words;
    } cases[] = {
        {bad_magic, "does not begin with GGUF"},
        {version_1, "version 1"},
        {big_endian, "big-endian"},
        {many_keys, "keys, more than"},
        {many_tensors, "tensors, more than"},
        {empty_key, "key is empty"},
        {key_no_text, "no valid UTF-8"},
        {key_twice, "'a.b' is there twice"},
        {long_text, "ends inside a text"},
        {text_no_utf8, "a is no valid UTF-8"},
        {type_13, "value type 13"},
        {bool_2, "bool of 2"},
        {bools_2, "bool of 2"},
        {nested, "array of arrays"},
        {long_array, "more than the file can hold"},
        {long_texts, "more than the file can hold"},
        {alignment_0, "general.alignment is 0"},
        {alignment_48, "general.alignment is 48"},
        {alignment_u64, "has type U64"},
        {alignment_text, "general.alignment has type"},
        {rank_5, "5 dimensions"},
        {name_64, "has 64 bytes"},
        {name_empty, "has 0 bytes"},
        {name_twice, "'t' is there twice"},
        {type_q2k, "type Q2_K"},
        {type_4, "type 4"},
        {type_huge, "type 4294967295"},
        {row_33, "rows of 33"},
        {product, "overflows"},
        {product_bytes, "overflows"},
        {offset_4, "offset 4, wanted 0"},
        {offset_gap, "offset 64, wanted 32"},
        {data_sum, "overflow"},
        {data_short, "ends inside the data"},
        {data_none, "ends inside the data"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct gguf *file;
        cases[i].make();
        if (try_open(&file) != STATUS_DAMAGED)
            fail_msg("case %zu (%s) was accepted", i, cases[i].words);
        assert_null(file);
        if (!strstr(status_words(), cases[i].words))
            fail_msg("%s: wanted '%s'", status_words(), cases[i].words);
    }
}

static void
odd_but_valid_files_are_accepted(void **unused)
{
    (void)unused;
    struct gguf *file;
    begin(0, 0); // a vocabulary alone has no data, and needs no padding
    made[4] = 2;
    assert_int_equal(try_open(&file), STATUS_OK);
    gguf_close(&file);
    begin(2, 0);
    add_tensor("scalar", 0, 0, 0, 0, 0);
    add_tensor("empty", 2, 0, 5, 0, 32);
    add_pad(32), add_u32(0);
    assert_int_equal(try_open(&file), STATUS_DAMAGED); // the empty one begins behind the end
    add_pad(32);
    assert_int_equal(try_open(&file), STATUS_OK);
    touch(file);
    gguf_close(&file);
}

static void
a_file_cut_anywhere_is_refused(void **unused)
{
    (void)unused;
    size_t bytes = 0;
    struct gguf *file;
    make_rich();
    for (bytes = used; used-- > 0;)
        assert_int_equal(try_open(&file), STATUS_DAMAGED);
    char *whole = file_get(LLAMA, &bytes);
    const char *path = scratch_path("cut.gguf");
    file_put(path, whole, bytes);
    for (size_t at = 14258; at-- > 0; at -= at % 5) { // the header's bytes
        assert_int_equal(truncate(path, (off_t)at), 0);
        assert_int_equal(gguf_open(&file, path), STATUS_DAMAGED);
    }
    free(whole);
}

static void
flip_and_open(const void *whole, size_t bytes, size_t header, uint64_t rounds, uint64_t seed)
{
    const char *path = scratch_path("flipped.gguf");
    unsigned char *copy = malloc(bytes);
    memcpy(copy, whole, bytes);
    for (uint64_t i = 0; i < rounds; i++) {
        uint32_t w[4];
        rng_words(w, seed, 99, 0, i);
        size_t at = w[0] % header, at2 = w[2] % header;
        copy[at] ^= (unsigned char)(w[1] & 1 ? 1u << w[1] / 2 % 8 : w[3] & 255);
        if (w[1] & 2)
            copy[at2] = (unsigned char)(copy[at2] ^ 0x80);
        file_put(path, copy, bytes);
        memcpy(copy + at, (const unsigned char *)whole + at, 1);
        memcpy(copy + at2, (const unsigned char *)whole + at2, 1);
        struct gguf *file;
        if (gguf_open(&file, path) == STATUS_OK)
            touch(file);
        gguf_close(&file);
    }
    free(copy);
}

static void
flipped_headers_never_crash(void **unused)
{
    (void)unused;
    size_t bytes, header = make_rich();
    flip_and_open(made, used, header, 4000, 1);
    char *whole = file_get(LLAMA, &bytes);
    flip_and_open(whole, bytes, 700, 500, 2); // lengths and counts stand there
    flip_and_open(whole, bytes, 14258, 500, 3);
    free(whole);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_real_model_reads_as_its_converter_wrote_it),
        cmocka_unit_test(every_value_type_is_read),
        cmocka_unit_test(everything_else_is_refused_by_name),
        cmocka_unit_test(odd_but_valid_files_are_accepted),
        cmocka_unit_test(a_file_cut_anywhere_is_refused),
        cmocka_unit_test(flipped_headers_never_crash),
    };
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
