// safetensors: the reference writer's bytes, every refusal, cut and flipped files.
//
// Invariants: S4 D2
#include "lib/base/rng.h"
#include "lib/store/safetensors.h"
#include "tests/store/scratch.h"

#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define GOLDEN OSAE_TESTS "/golden/"

// Reads every byte of every tensor: whatever opened must be safe to use.
static uint64_t
touch(const struct safetensors *file)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < safetensors_count(file); i++) {
        const struct tensor *t = safetensors_at(file, i);
        assert_ptr_equal(safetensors_find(file, t->name), t);
        sum += hash64(t->at, t->bytes);
    }
    return sum;
}

// A file with this header and so many data bytes.
static const char *
craft(const char *header, size_t data_bytes)
{
    const char *path = scratch_path("crafted.safetensors");
    size_t length = strlen(header), bytes = 8 + length + data_bytes;
    unsigned char *at = calloc(1, bytes);
    uint64_t n = length;
    memcpy(at, &n, 8);
    memcpy(at + 8, header, length);
    file_put(path, at, bytes);
    free(at);
    return path;
}

static void
writing_a_golden_again_gives_the_same_bytes(void **unused)
{
    (void)unused;
    static const char *const names[] = {
        "quant-blocks",           "tiny-gemma2/model",
        "tiny-gemma2/golden",     "tiny-llama/model-00001-of-00002",
        "tiny-llama/golden-q4_1", "tiny-llama/model-00002-of-00002",
    };
    static const char *const keys[] = {"format", "model", "hook_block"};
    for (size_t n = 0; n < sizeof names / sizeof names[0]; n++) {
        char path[PATH_BYTES];
        snprintf(path, sizeof path, GOLDEN "%s.safetensors", names[n]);
        struct safetensors *file;
        assert_int_equal(safetensors_open(&file, path), STATUS_OK);
        assert_true(touch(file) != 0);
        struct text_pair metadata[3];
        size_t pairs = 0, count = safetensors_count(file);
        for (size_t i = 0; i < 3; i++)
            if (safetensors_metadata(file, keys[i]))
                metadata[pairs++] =
                    (struct text_pair){keys[i], safetensors_metadata(file, keys[i])};
        struct tensor_out out[128];
        assert_true(count <= 128);
        for (size_t i = 0; i < count; i++) {
            const struct tensor *t = safetensors_at(file, count - 1 - i); // the writer sorts
            out[i] = (struct tensor_out){.name = t->name, .dtype = t->dtype, .at = t->at};
            out[i].rank = t->rank;
            memcpy(out[i].shape, t->shape, sizeof out[i].shape);
        }
        const char *copy = scratch_path("copy.safetensors");
        int fd = open(copy, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        uint64_t hash, bytes;
        assert_int_equal(safetensors_write(fd, copy, out, count, metadata, pairs, &hash, &bytes),
                         STATUS_OK);
        assert_int_equal(close(fd), 0);
        size_t want_bytes, got_bytes;
        char *want = file_get(path, &want_bytes), *got = file_get(copy, &got_bytes);
        assert_int_equal(got_bytes, want_bytes);
        assert_memory_equal(got, want, want_bytes);
        assert_int_equal(bytes, want_bytes);
        assert_int_equal(safetensors_size(out, count, metadata, pairs), want_bytes);
        assert_true(hash == hash64(want, want_bytes));
        free(want);
        free(got);
        safetensors_close(&file);
    }
}

static void
all_types_come_back_aligned_with_odd_names(void **unused)
{
    (void)unused;
    double f64 = 0.1;
    int64_t i64 = INT64_MIN;
    float f32[6] = {1, 2, 3, 4, 5, 6};
    unsigned char small[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    const struct tensor_out out[] = {
        {"b", DTYPE_BOOL, 1, {1}, small},      {"u8", DTYPE_U8, 1, {3}, small},
        {"i8", DTYPE_I8, 1, {5}, small},       {"i16", DTYPE_I16, 1, {3}, small},
        {"bf", DTYPE_BF16, 2, {1, 3}, small},  {"h", DTYPE_F16, 1, {1}, small},
        {"i32", DTYPE_I32, 0, {0}, small},     {"caf\xc3\xa9 \"\\\n", DTYPE_F32, 2, {2, 3}, f32},
        {"empty", DTYPE_F32, 2, {0, 7}, NULL}, {"", DTYPE_U8, 1, {2}, small},
        {"f64", DTYPE_F64, 0, {0}, &f64},      {"i64", DTYPE_I64, 0, {0}, &i64},
    };
    enum { COUNT = sizeof out / sizeof out[0] };
    struct text_pair metadata = {"who", "\xe2\x82\xac\t"};
    const char *path = scratch_path("all.safetensors");
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_int_equal(safetensors_write(fd, path, out, COUNT, &metadata, 1, NULL, NULL), STATUS_OK);
    close(fd);
    struct safetensors *file;
    assert_int_equal(safetensors_open(&file, path), STATUS_OK);
    assert_int_equal(safetensors_count(file), COUNT);
    for (size_t i = 0; i < COUNT; i++) {
        const struct tensor *t;
        assert_int_equal(safetensors_need(&t, file, out[i].name, out[i].rank, out[i].shape),
                         STATUS_OK);
        assert_int_equal(t->dtype, out[i].dtype);
        assert_int_equal((uintptr_t)t->at % dtype_block_bytes(t->dtype), 0);
        if (t->bytes)
            assert_memory_equal(t->at, out[i].at, t->bytes);
    }
    assert_string_equal(safetensors_metadata(file, "who"), metadata.value);
    assert_null(safetensors_metadata(file, "nobody"));
    double x;
    int64_t n;
    assert_int_equal(tensor_scalar_f64(&x, file, "f64"), STATUS_OK);
    assert_int_equal(tensor_scalar_i64(&n, file, "i64"), STATUS_OK);
    assert_true(x == f64 && n == i64);
    assert_int_equal(tensor_scalar_i64(&n, file, "f64"), STATUS_DAMAGED);
    assert_int_equal(tensor_scalar_f64(&x, file, "u8"), STATUS_DAMAGED);
    float values[8];
    assert_int_equal(tensor_to_f32(values, safetensors_find(file, "bf"), path), STATUS_OK);
    assert_int_equal(tensor_to_f32(values, safetensors_find(file, "i16"), path), STATUS_DAMAGED);
    const struct tensor *t;
    size_t wrong[2] = {3, 2};
    assert_int_equal(safetensors_need(&t, file, "caf\xc3\xa9 \"\\\n", 2, wrong), STATUS_DAMAGED);
    assert_non_null(strstr(status_words(), "has shape [2, 3], wanted [3, 2]"));
    assert_int_equal(safetensors_need(&t, file, "nobody", 0, NULL), STATUS_DAMAGED);
    safetensors_close(&file);
}

static void
a_name_that_is_no_text_is_not_written(void **unused)
{
    (void)unused;
    float x = 1;
    struct tensor_out out = {"\xff", DTYPE_F32, 0, {0}, &x};
    struct text_pair metadata = {"key", "\xc0\x80"};
    assert_int_equal(safetensors_write(-1, "x", &out, 1, NULL, 0, NULL, NULL), STATUS_CONFIG);
    assert_int_equal(safetensors_size(&out, 1, NULL, 0), 0);
    out.name = "x";
    assert_int_equal(safetensors_write(-1, "x", &out, 1, &metadata, 1, NULL, NULL), STATUS_CONFIG);
}

static void
shards_hold_what_their_index_says(void **unused)
{
    (void)unused;
    json_t *index = json_load_file(GOLDEN "tiny-llama/model.safetensors.index.json", 0, NULL);
    assert_non_null(index);
    json_t *map = json_object_get(index, "weight_map");
    const char *name;
    json_t *shard;
    size_t total = 0;
    json_object_foreach(map, name, shard)
    {
        char path[PATH_BYTES];
        snprintf(path, sizeof path, GOLDEN "tiny-llama/%s", json_string_value(shard));
        struct safetensors *file;
        assert_int_equal(safetensors_open(&file, path), STATUS_OK);
        const struct tensor *t = safetensors_find(file, name);
        assert_non_null(t);
        total += t->bytes;
        safetensors_close(&file);
    }
    json_t *want = json_object_get(json_object_get(index, "metadata"), "total_size");
    assert_int_equal(total, json_integer_value(want));
    json_decref(index);
}

// The left column of the table in docs/formats.md.
static void
odd_but_valid_headers_are_accepted(void **unused)
{
    (void)unused;
    static const struct {
        const char *header;
        size_t data;
    } cases[] = {
        {"{}", 0},
        {"{\"__metadata__\":{}}", 0},
        {" \n\t{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}  ", 4},
        {"{\"b\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[4,7]},"
         "\"a\":{\"shape\":[],\"data_offsets\":[0,4],\"dtype\":\"F32\"}}",
         7},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"
         "\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[1,5]}}",
         5}, // unaligned
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1],\"colour\":{\"x\":[]}}}",
         1},
        {"{\"e\":{\"dtype\":\"F32\",\"shape\":[0,4],\"data_offsets\":[1,1]},"
         "\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}",
         1},
        {"{\"e\":{\"dtype\":\"F32\",\"shape\":[0,4],\"data_offsets\":[0,0]},"
         "\"a\":{\"dtype\":\"U8\",\"shape\":[1,1,1,1,1,1,1,1],\"data_offsets\":[0,1]}}",
         1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct safetensors *file;
        const char *path = craft(cases[i].header, cases[i].data);
        if (safetensors_open(&file, path) != STATUS_OK)
            fail_msg("%s: %s", cases[i].header, status_words());
        touch(file);
        safetensors_close(&file);
    }
}

#define ENTRY(dtype, shape, begin, end)                                                            \
    "{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":[" begin "," end "]}"

// The right column, and what else a hostile header may hold. `words` must stand in the message.
static void
everything_else_is_refused_by_name(void **unused)
{
    (void)unused;
    static const struct {
        const char *header;
        size_t data;
        const char *words;
    } cases[] = {
        {"", 0, "header at byte"},
        {"[]", 0, "not a JSON object"},
        {"7", 0, "header at byte"},
        {"{\"a\":}", 0, "header at byte"},
        {"{} x", 0, "header at byte"},
        {"{\"\xff\":1}", 0, "header at byte"},
        {"{\"a\\u0000b\":1}", 0, "header at byte"},
        {"{\"a\":1}", 0, "wanted an object"},
        {"{\"a\":{}}", 0, "dtype is missing"},
        {"{\"a\":{\"dtype\":7}}", 0, "dtype is missing"},
        {"{\"a\":" ENTRY("F32", "[1]", "0", "4") ",\"a\":" ENTRY("F32", "[1]", "0", "4") "}", 4,
         "duplicate"},
        {"{\"a\":{\"dtype\":\"F32\",\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4,
         "duplicate"},
        {"{\"a\":" ENTRY("F8_E4M3", "[4]", "0", "4") "}", 4, "F8_E4M3"},
        {"{\"a\":" ENTRY("U32", "[1]", "0", "4") "}", 4, "U32"},
        {"{\"a\":" ENTRY("Q4_0", "[32]", "0", "18") "}", 18, "Q4_0"},
        {"{\"a\":" ENTRY("f32", "[1]", "0", "4") "}", 4, "f32"},
        {"{\"a\":" ENTRY("F32", "1", "0", "4") "}", 4, "shape is missing"},
        {"{\"a\":" ENTRY("F32", "[-1]", "0", "4") "}", 4, "is -1"},
        {"{\"a\":" ENTRY("F32", "[1.0]", "0", "4") "}", 4, "not a whole number"},
        {"{\"a\":" ENTRY("F32", "[\"1\"]", "0", "4") "}", 4, "not a whole number"},
        {"{\"a\":" ENTRY("F32", "[1,1,1,1,1,1,1,1,1]", "0", "4") "}", 4, "9 dimensions"},
        {"{\"a\":" ENTRY("F32", "[99999999999999999999]", "0", "4") "}", 4, "too big"},
        {"{\"a\":" ENTRY("F32", "[4294967296,4294967296]", "0", "0") "}", 0, "overflows"},
        {"{\"a\":" ENTRY("F32", "[4294967296,4294967296,0]", "0", "0") "}", 0, "overflows"},
        {"{\"a\":" ENTRY("F32", "[4611686018427387904]", "0", "0") "}", 0, "overflows"},
        {"{\"a\":" ENTRY("F32", "[1]", "0", "5") "}", 5, "wanted 4"},
        {"{\"a\":" ENTRY("F32", "[2]", "0", "4") "}", 4, "wanted 8"},
        {"{\"a\":" ENTRY("F32", "[1]", "4", "0") "}", 4, "data_offsets 4 to 0"},
        {"{\"a\":" ENTRY("F32", "[1]", "0", "4") "}", 3, "file has 3 bytes"},
        {"{\"a\":" ENTRY("F32", "[1]", "-4", "0") "}", 4, "is -4"},
        {"{\"a\":" ENTRY("U8", "[0]", "9223372036854775807", "9223372036854775807") "}", 0,
         "file has 0 bytes"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4,4]}}", 4, "list of 2"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1]}}", 4, "list of 2"},
        {"{\"a\":" ENTRY("F32", "[1]", "0", "4") "}", 5, "1 bytes behind"},
        {"{}", 1, "1 bytes behind"},
        {"{\"a\":" ENTRY("F32", "[1]", "4", "8") "}", 8, "hole"},
        {"{\"a\":" ENTRY("F32", "[1]", "0", "4") ",\"b\":" ENTRY("F32", "[1]", "5", "9") "}", 9,
         "hole"},
        {"{\"a\":" ENTRY("F32", "[1]", "0", "4") ",\"b\":" ENTRY("F32", "[1]", "3", "7") "}", 7,
         "overlap"},
        {"{\"a\":" ENTRY("F32", "[1]", "0", "4") ",\"b\":" ENTRY("F32", "[1]", "0", "4") "}", 4,
         "overlap"},
        {"{\"a\":" ENTRY("F32", "[1]", "0", "4") ",\"e\":" ENTRY("F32", "[0]", "2", "2") "}", 4,
         "overlap"},
        {"{\"__metadata__\":[]}", 0, "__metadata__ is not an object"},
        {"{\"__metadata__\":{\"a\":1}}", 0, "'a' is not a text"},
        {"{\"__metadata__\":{\"a\":null}}", 0, "'a' is not a text"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct safetensors *file;
        const char *path = craft(cases[i].header, cases[i].data);
        if (safetensors_open(&file, path) != STATUS_DAMAGED)
            fail_msg("accepted: %s", cases[i].header);
        assert_null(file);
        assert_non_null(strstr(status_words(), path));
        if (!strstr(status_words(), cases[i].words))
            fail_msg("%s: wanted '%s'", status_words(), cases[i].words);
    }
    struct safetensors *file;
    assert_int_equal(safetensors_open(&file, scratch_path("nobody")), STATUS_MISSING);
    assert_int_equal(safetensors_open(&file, scratch), STATUS_MISSING);
    uint64_t lengths[] = {100000001, 1, UINT64_MAX, UINT64_MAX - 7, (uint64_t)1 << 63};
    for (size_t i = 0; i < 5; i++) {
        file_put(scratch_path("length"), &lengths[i], 8);
        assert_int_equal(safetensors_open(&file, scratch_path("length")), STATUS_DAMAGED);
    }
    char deep[4096]; // nesting costs stack
    memset(deep, '[', sizeof deep - 1);
    deep[sizeof deep - 1] = '\0';
    assert_int_equal(safetensors_open(&file, craft(deep, 0)), STATUS_DAMAGED);
}

static void
a_file_cut_anywhere_is_refused(void **unused)
{
    (void)unused;
    size_t bytes;
    char *whole = file_get(GOLDEN "quant-blocks.safetensors", &bytes);
    const char *path = scratch_path("cut.safetensors");
    size_t header = 8 + load_u64(whole);
    for (size_t at = 0; at < bytes; at += at < header ? 1 : 97) {
        file_put(path, whole, at);
        struct safetensors *file;
        assert_int_equal(safetensors_open(&file, path), STATUS_DAMAGED);
    }
    free(whole);
}

static void
flipped_headers_never_crash(void **unused)
{
    (void)unused;
    size_t bytes, accepted = 0;
    char *whole = file_get(GOLDEN "quant-blocks.safetensors", &bytes);
    size_t header = 8 + load_u64(whole);
    const char *path = scratch_path("flipped.safetensors");
    for (uint64_t i = 0; i < 4000; i++) {
        uint32_t w[4];
        rng_words(w, 1, 99, 0, i);
        char *copy = malloc(bytes);
        memcpy(copy, whole, bytes);
        for (uint32_t f = 0; f <= w[0] % 3; f++) { // one to three flips, of a bit or a whole byte
            uint32_t v[4];
            rng_words(v, 1, 99, f + 1, i);
            copy[v[0] % header] ^= (char)(w[1] & 1 ? 1 << v[1] % 8 : (int)(v[1] % 255) + 1);
        }
        file_put(path, copy, bytes);
        free(copy);
        struct safetensors *file;
        if (safetensors_open(&file, path) == STATUS_OK) {
            touch(file);
            accepted++; // a letter of a name
        }
        safetensors_close(&file);
    }
    assert_in_range(accepted, 1, 1500);
    free(whole);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(writing_a_golden_again_gives_the_same_bytes),
        cmocka_unit_test(all_types_come_back_aligned_with_odd_names),
        cmocka_unit_test(a_name_that_is_no_text_is_not_written),
        cmocka_unit_test(shards_hold_what_their_index_says),
        cmocka_unit_test(odd_but_valid_headers_are_accepted),
        cmocka_unit_test(everything_else_is_refused_by_name),
        cmocka_unit_test(a_file_cut_anywhere_is_refused),
        cmocka_unit_test(flipped_headers_never_crash),
    };
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
