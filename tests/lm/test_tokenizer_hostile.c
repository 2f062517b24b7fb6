// Tokenizer files that are damaged or of another kind: one clear line, never a crash.
#include "lib/base/file.h"
#include "lib/lm/tokenizer.h"

#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define GOLDEN OSAE_TESTS "/golden/"

static char folder[] = "/tmp/osae-tokenizer-XXXXXX";

static int
make_folder(void **state)
{
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}

static int
remove_folder(void **state)
{
    (void)state;
    return path_remove(folder) == STATUS_OK ? 0 : -1;
}

// The words of the failure, which must be one line that names the file.
static const char *
refused(const char *path, enum status wanted)
{
    struct tokenizer *t;
    enum status status = tokenizer_open(&t, path);
    assert_null(t);
    if (status != wanted)
        fail_msg("%s, wanted %s: %s", status_name(status), status_name(wanted), status_words());
    if (strchr(status_words(), '\n') || !strstr(status_words(), path))
        fail_msg("not one line with the file's name: %s", status_words());
    return status_words();
}

static void
write_file(char path[PATH_BYTES], const char *name, const void *at, size_t bytes)
{
    assert_int_equal(path_join(path, folder, name), STATUS_OK);
    FILE *file = fopen(path, "w"); // no fsync: hundreds are written
    assert_non_null(file);
    assert_int_equal(fwrite(at, 1, bytes, file), bytes);
    assert_int_equal(fclose(file), 0);
}

static void
refuse_json(const char *text, size_t bytes, const char *because)
{
    char path[PATH_BYTES];
    write_file(path, "tokenizer.json", text, bytes);
    const char *words = refused(path, STATUS_DAMAGED);
    if (!strstr(words, because))
        fail_msg("'%s' says nothing of '%s'", words, because);
}

// A tokenizer.json with the value at a path ("model.vocab") replaced by JSON text (NULL: removed).
static void
refuse_changed(const char *file, const char *at, const char *value, const char *because)
{
    json_t *root = json_load_file(file, 0, NULL), *object = root;
    assert_non_null(root);
    char key[64];
    for (const char *dot; (dot = strchr(at, '.')); at = dot + 1) {
        assert_true((size_t)(dot - at) < sizeof key);
        memcpy(key, at, (size_t)(dot - at));
        key[dot - at] = '\0';
        object = key[0] >= '0' && key[0] <= '9' ? json_array_get(object, strtoul(key, NULL, 10))
                                                : json_object_get(object, key);
        assert_non_null(object);
    }
    json_t *fresh = value ? json_loads(value, JSON_DECODE_ANY, NULL) : NULL;
    assert_true(!value || fresh);
    if (!value)
        assert_int_equal(json_object_del(object, at), 0);
    else if (json_is_array(object))
        assert_int_equal(json_array_set_new(object, strtoul(at, NULL, 10), fresh), 0);
    else
        assert_int_equal(json_object_set_new(object, at, fresh), 0);
    char *text = json_dumps(root, JSON_COMPACT);
    refuse_json(text, strlen(text), because);
    free(text);
    json_decref(root);
}

static void
json_of_another_kind_or_shape(void **state)
{
    (void)state;
    static const char llama[] = GOLDEN "tiny-llama/tokenizer.json";
    static const char gemma[] = GOLDEN "tiny-gemma2/tokenizer.json";
    static const struct {
        const char *file, *at, *value, *because;
    } rows[] = {
        {llama, "model", NULL, "model.type is absent, wanted BPE"},
        {llama, "model.type", "\"Unigram\"", "model.type is Unigram, wanted BPE"},
        {llama, "model.type", "7", "model.type is without a type"},
        {llama, "model.ignore_merges", "true", "model.ignore_merges is set"},
        {llama, "model.dropout", "0.1", "model.dropout is set"},
        {llama, "model.end_of_word_suffix", "\"</w>\"", "model.end_of_word_suffix"},
        {llama, "normalizer", "{\"type\": \"NFC\"}", "normalizer is NFC, wanted null"},
        {llama, "pre_tokenizer", "null", "pre_tokenizer is absent, wanted ByteLevel"},
        {llama, "pre_tokenizer", "{\"type\": \"Whitespace\"}", "pre_tokenizer is Whitespace"},
        {llama, "pre_tokenizer.pretokenizers.0", "{\"type\": \"Split\"}",
         "is Split, wanted Digits"},
        {llama, "pre_tokenizer.pretokenizers.0.individual_digits", "false", "wanted true"},
        {llama, "pre_tokenizer.pretokenizers.1.add_prefix_space", "true", "add_prefix_space"},
        {llama, "pre_tokenizer.pretokenizers.1.use_regex", "false", "use_regex"},
        {llama, "pre_tokenizer.pretokenizers", "[]", "pre_tokenizer"},
        {llama, "model.vocab", "[]", "model.vocab is empty or no object"},
        {llama, "model.vocab", "{}", "model.vocab is empty"},
        {llama, "model.vocab", "{\"a\": 0, \"b\": 1}", "is 'a' in model.vocab and"},
        {llama, "model.vocab.zzz", "99999999999", "has the id 99999999999, wanted less than"},
        {llama, "model.vocab.zzz", "-1", "zzz is not an id"},
        {llama, "model.vocab.zzz", "\"x\"", "zzz is not an id"},
        {llama, "model.vocab.zzz", "1.5", "zzz is not an id"},
        {llama, "model.vocab.zzz", "5", "two tokens have the id 5"},
        {llama, "model.merges", "7", "model.merges is no list"},
        {llama, "model.merges.3", "[\"a\"]", "model.merges[3] is not two pieces"},
        {llama, "model.merges.3", "\"ab\"", "model.merges[3] is not two pieces"},
        {llama, "model.merges.3", "\"a b c\"", "model.merges[3] is not two pieces"},
        {llama, "model.merges.3", "[\"a\", 3]", "model.merges[3] is not two pieces"},
        {llama, "model.merges.3", "\"zq x\"", "merge 3 joins 'zq' and 'x', but the first is not"},
        {llama, "model.merges.3", "\"x zq\"", "merge 3 joins 'x' and 'zq', but the second is not"},
        {llama, "model.merges.3", "\"z q\"", "but the result is not in the vocabulary"},
        {llama, "model.merges.3", "[\"\", \"a\"]", "merge 3 has an empty part"},
        {llama, "added_tokens", "{}", "added_tokens is no list"},
        {llama, "added_tokens.1.content", "7", "added_tokens[1] is without a content"},
        {llama, "added_tokens.1.id", "\"1\"", "added_tokens[1] is not an id"},
        {llama, "added_tokens.1.lstrip", "true", "added_tokens[1].lstrip is set"},
        {llama, "added_tokens.1.content", "\"<|endoftext|>\"", "added_tokens[1] has the id 1"},
        {llama, "added_tokens.1.id", "600", "tokens 1 and 600 are both '<|im_start|>'"},
        {gemma, "added_tokens.1.normalized", "true", "added_tokens[1].normalized is set"},
        {gemma, "normalizer", "null", "normalizer is absent, wanted Replace"},
        {gemma, "normalizer.content", "\"_\"", "wanted Replace of U+0020 by U+2581"},
        {gemma, "normalizer",
         "{\"type\": \"Sequence\", \"normalizers\": [{\"type\": \"Prepend\"}, {}]}",
         "normalizer is a Sequence of another length"},
        {gemma, "pre_tokenizer", "{\"type\": \"Metaspace\"}", "pre_tokenizer is Metaspace"},
        {gemma, "model.vocab.<0xE2>", NULL, "no piece for the byte <0xE2>"},
        {gemma, "post_processor.special_tokens.<bos>.ids.0", "70000", "wanted an id of the vocab"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        refuse_changed(rows[i].file, rows[i].at, rows[i].value, rows[i].because);
}

static void
json_that_is_none(void **state)
{
    (void)state;
    refuse_json("", 0, "tokenizer.json");
    refuse_json("{", 1, "tokenizer.json");
    refuse_json("[1]", 3, "wanted a JSON object");
    refuse_json("{}", 2, "model.type is absent");
    refuse_json("{\"model\": {\"type\": \"BPE\", \"type\": \"BPE\"}}", 41, "duplicate");
    refuse_json("{\"model\": \"\xFF\"}", 14, "unable to decode byte 0xff");
    char deep[5000];
    memset(deep, '[', sizeof deep);
    refuse_json(deep, sizeof deep, "depth");
    // Half a vocabulary of bytes is no byte-level BPE.
    static const char few[] = "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[]},"
                              "\"pre_tokenizer\":{\"type\":\"ByteLevel\"}}";
    refuse_json(few, sizeof few - 1, "only 1 of the 256 bytes are tokens");
}

static void
roles_that_are_no_tokens(void **state)
{
    (void)state;
    char path[PATH_BYTES], *text;
    size_t bytes;
    assert_int_equal(file_read(&text, &bytes, GOLDEN "tiny-llama/tokenizer.json", 1 << 20),
                     STATUS_OK);
    write_file(path, "config.json", "{\"eos_token_id\": [600, 2]}", 26);
    refuse_json(text, bytes, "config.json beside it: eos_token_id is 600");
    write_file(path, "config.json", "{\"eos_token_id\": [2, 600]}", 26);
    write_file(path, "tokenizer_config.json", "{\"bos_token\": {\"content\": \"<s>\"}}", 33);
    refuse_json(text, bytes, "bos_token is '<s>', which is no token");
    static const char good[] = "{\"bos_token\": \"<|im_start|>\", \"add_bos_token\": true}";
    write_file(path, "tokenizer_config.json", good, sizeof good - 1);
    struct tokenizer *t;
    assert_int_equal(tokenizer_open(&t, folder), STATUS_OK);
    assert_int_equal(tokenizer_bos(t), 1); // the files insist on it
    assert_int_equal(tokenizer_roles(t).eos, 2);
    tokenizer_free(&t);
    assert_int_equal(path_join(path, folder, "config.json"), STATUS_OK);
    assert_int_equal(path_remove(path), STATUS_OK);
    assert_int_equal(path_join(path, folder, "tokenizer_config.json"), STATUS_OK);
    assert_int_equal(path_remove(path), STATUS_OK);
    free(text);
}

static void
paths_that_are_no_tokenizers(void **state)
{
    (void)state;
    char path[PATH_BYTES];
    refused("/nowhere", STATUS_MISSING);
    refused("/nowhere.json", STATUS_MISSING);
    refused("/nowhere.model", STATUS_MISSING);
    refused("/nowhere.gguf", STATUS_MISSING);
    refused(GOLDEN "unicode", STATUS_MISSING);
    write_file(path, "weights.bin", "x", 1);
    refused(path, STATUS_CONFIG);
    write_file(path, "x.gguf", "GGUF", 4);
    refused(path, STATUS_DAMAGED);
}

// ModelProto written by hand: field numbers and wire types as in tokenizer_proto.c.
static void
protobuf_of_another_kind(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t count;
        const char *because;
    } rows[] = {
        {"\x0A\x03\x0A\x01"
         "a",
         5, "model_type is 1, wanted 2"},
        {"\x12\x02\x18\x02", 4, "has no pieces"},
        {"\x0A\x03\x0A\x01"
         "a\x12\x02\x18\x02",
         9, "byte_fallback is false"},
        {"\x0A\x03\x0A\x01"
         "a\x12\x05\x18\x02\x98\x02\x01",
         12, "add_dummy_prefix is true"},
        {"\x0A\x03\x0A\x01"
         "a\x12\x05\x18\x02\x98\x02\x01\x1A\x02\x18\x00",
         16, "remove_extra_whitespaces is true"},
        {"\x0A\x03\x0A\x01"
         "a\x12\x05\x18\x02\x98\x02\x01\x1A\x04\x18\x00\x20\x00",
         18, "trainer_spec.bos_id is 1, wanted an id"},
        {"\x0A\x03\x0A\x01"
         "a\x12\x05\x18\x02\x98\x02\x01\x1A\x07\x12\x01x\x18\x00\x20\x00",
         21, "precompiled_charsmap has 1 bytes"},
        {"\x0A\x03\x0A\x01"
         "a\x0A\x03\x0A\x01"
         "a\x12\x05\x18\x02\x98\x02\x01\x1A\x04\x18\x00\x20\x00",
         23, "tokens 0 and 1 are both 'a'"},
        {"\x0A\x03\x0A\x02"
         "a",
         5, "a piece is cut off"},
        {"\x0A\x02\x18\x07", 4, "piece 0 has the type 7"},
        {"\x0A\x03\x0A\x01\xFF", 5, "token 0 is not valid UTF-8"},
        {"\x0A\x02\x08\x01", 4, "the text of a piece has wire type 0, wanted 2"},
        {"\x08\x01", 2, "a field of the file has wire type 0"},
        {"\x0B", 1, "cut off or no protobuf"},     // a group
        {"\x02\x00", 2, "cut off or no protobuf"}, // field 0
        {"\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x01", 11, "cut off or no protobuf"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char path[PATH_BYTES];
        write_file(path, "tokenizer.model", rows[i].bytes, rows[i].count);
        const char *words = refused(path, STATUS_DAMAGED);
        if (!strstr(words, rows[i].because))
            fail_msg("row %zu: '%s' says nothing of '%s'", i, words, rows[i].because);
    }
}

// Opens what may or may not be a tokenizer; what opens must encode and decode without a fault.
static void
survive(const char *path)
{
    struct tokenizer *t;
    struct tokenizer_cache *cache;
    struct token_list ids = {0};
    struct text_list back = {0};
    static const char text[] = "The  caf\xC3\xA9\n\n<bos> it's 12 \xE2\x96\x81x<|endoftext|>";
    if (tokenizer_open(&t, path) != STATUS_OK) {
        assert_null(strchr(status_words(), '\n'));
        return;
    }
    assert_int_equal(tokenizer_cache_new(&cache, t), STATUS_OK);
    assert_int_equal(tokenizer_encode(t, cache, &ids, text, sizeof text - 1, TOKENIZER_SPLIT, NULL),
                     STATUS_OK);
    assert_int_equal(tokenizer_decode(t, &back, ids.ids, ids.count), STATUS_OK);
    text_list_release(&back);
    token_list_release(&ids);
    tokenizer_cache_free(&cache);
    tokenizer_free(&t);
}

static void
damage_anywhere_is_survived(void **state)
{
    (void)state;
    static const struct {
        const char *from, *name;
        size_t most; // of the file: where the tokenizer ends
    } rows[] = {
        {GOLDEN "tiny-gemma2/tokenizer.model", "x.model", SIZE_MAX},
        {GOLDEN "tiny-llama/tokenizer.json", "x.json", SIZE_MAX},
        {GOLDEN "tiny-gemma2/tiny-gemma2.gguf", "x.gguf", 30000},
        {GOLDEN "tiny-llama/tiny-llama-q4_1.gguf", "y.gguf", 14000},
    };
    uint64_t seed = 7;
    for (size_t k = 0; k < sizeof rows / sizeof *rows; k++) {
        char path[PATH_BYTES], *text;
        size_t bytes;
        assert_int_equal(file_read(&text, &bytes, rows[k].from, 1 << 20), STATUS_OK);
        size_t most = bytes < rows[k].most ? bytes : rows[k].most;
        for (size_t round = 0; round < 120; round++) {
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            size_t at = (size_t)(seed >> 33) % most;
            char held = text[at];
            if (round % 3 == 0) {
                write_file(path, rows[k].name, text, at); // cut off
            } else {
                text[at] =
                    (char)(round % 3 == 1 ? seed >> 20 : (unsigned char)held ^ 1u << (seed >> 61));
                write_file(path, rows[k].name, text, bytes);
                text[at] = held;
            }
            survive(path);
        }
        free(text);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(json_of_another_kind_or_shape),
        cmocka_unit_test(json_that_is_none),
        cmocka_unit_test(roles_that_are_no_tokens),
        cmocka_unit_test(paths_that_are_no_tokenizers),
        cmocka_unit_test(protobuf_of_another_kind),
        cmocka_unit_test(damage_anywhere_is_survived),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
