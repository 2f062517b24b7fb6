#include "lib/lm/packer.h"
#include "lib/lm/tokenizer.h"

#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { DOCS = 20, LONGEST = 40 };

struct docs {
    size_t count, bytes[DOCS];
    uint32_t ids[DOCS][LONGEST];
};

// The rule once more, one id at a time, as `concat_and_batch_sequences` is written.
static size_t
pack_slowly(uint32_t *out, const struct docs *docs, size_t context, uint32_t bos,
            uint32_t separator)
{
    size_t used = 0; // ids written; used % context of them are in the open context
    for (size_t k = 0; k < docs->count; k++)
        for (size_t i = 0; i < docs->bytes[k];) {
            uint32_t id = docs->ids[k][i];
            if (used % context == 0) {
                if (bos != TOKEN_ABSENT && id != bos)
                    out[used++] = bos;
            } else if (i == 0 && separator != TOKEN_ABSENT && id != separator) {
                out[used++] = separator;
                if (used % context == 0 && bos != TOKEN_ABSENT && id != bos)
                    out[used++] = bos;
            }
            out[used++] = id;
            i++;
        }
    return used / context * context;
}

static void
pack(struct token_list *out, const struct docs *docs, size_t context, uint32_t bos,
     uint32_t separator, size_t piece)
{
    struct packer p;
    out->count = 0;
    assert_int_equal(packer_init(&p, context, bos, separator), STATUS_OK);
    for (size_t k = 0; k < docs->count; k++) {
        packer_begin(&p);
        for (size_t at = 0; at < docs->bytes[k]; at += piece) {
            size_t left = docs->bytes[k] - at;
            assert_int_equal(packer_add(&p, out, docs->ids[k] + at, left < piece ? left : piece),
                             STATUS_OK);
        }
    }
    packer_release(&p);
}

static void
the_goldens_of_saelens(void **state)
{
    (void)state;
    json_t *root = json_load_file(OSAE_TESTS "/golden/evaluation-golden.json", 0, NULL);
    const json_t *golden = json_object_get(root, "packing");
    assert_non_null(golden);
    struct docs docs = {.count = json_array_size(json_object_get(golden, "docs"))};
    assert_true(docs.count > 0 && docs.count <= DOCS);
    for (size_t k = 0; k < docs.count; k++) {
        const json_t *ids = json_array_get(json_object_get(golden, "docs"), k);
        docs.bytes[k] = json_array_size(ids);
        assert_true(docs.bytes[k] <= LONGEST);
        for (size_t i = 0; i < docs.bytes[k]; i++)
            docs.ids[k][i] = (uint32_t)json_integer_value(json_array_get(ids, i));
    }
    size_t context = (size_t)json_integer_value(json_object_get(golden, "context_size"));
    uint32_t bos = (uint32_t)json_integer_value(json_object_get(golden, "bos"));
    const char *names[] = {"windows_prepend_bos", "windows_no_prepend"};
    struct token_list out = {0};
    for (size_t n = 0; n < 2; n++) {
        const json_t *windows = json_object_get(golden, names[n]);
        pack(&out, &docs, context, n == 0 ? bos : TOKEN_ABSENT, bos, LONGEST);
        assert_int_equal(out.count, json_array_size(windows) * context);
        for (size_t i = 0; i < out.count; i++)
            assert_int_equal(out.ids[i], json_integer_value(json_array_get(
                                             json_array_get(windows, i / context), i % context)));
    }
    token_list_release(&out);
    json_decref(root);
}

static void
the_rule_one_id_at_a_time(void **state)
{
    (void)state;
    static uint32_t slow[DOCS * LONGEST * 3];
    struct token_list out = {0};
    uint64_t seed = 11;
    size_t contexts = 0;
    for (size_t round = 0; round < 4000; round++) {
        struct docs docs = {.count = round % (DOCS + 1)};
        for (size_t k = 0; k < docs.count; k++) {
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            docs.bytes[k] = (size_t)(seed >> 33) % (round % 3 ? 6 : LONGEST + 1); // empty ones too
            for (size_t i = 0; i < docs.bytes[k]; i++) {
                seed = seed * 6364136223846793005u + 1442695040888963407u;
                docs.ids[k][i] = (uint32_t)(seed >> 61); // 0..7: BOS and separator are frequent
            }
        }
        static const uint32_t fronts[] = {0, 1, TOKEN_ABSENT};
        size_t context = 2 + round % 9;
        uint32_t bos = fronts[round % 3], separator = fronts[round / 3 % 3];
        size_t want = pack_slowly(slow, &docs, context, bos, separator);
        pack(&out, &docs, context, bos, separator, 1 + round % 5);
        assert_int_equal(out.count, want);
        if (want > 0)
            assert_memory_equal(out.ids, slow, want * sizeof *slow);
        contexts += want / context;
    }
    assert_true(contexts > 20000);
    token_list_release(&out);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_goldens_of_saelens),
        cmocka_unit_test(the_rule_one_id_at_a_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
