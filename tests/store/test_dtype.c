// Types: every block format against values decoded by the gguf package, all halves, all roundings.
#include "lib/store/dtype.h"
#include "lib/store/safetensors.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static uint32_t
bits_of(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static void
every_block_type_decodes_to_the_reference_bits(void **unused)
{
    (void)unused;
    struct safetensors *golden;
    assert_int_equal(safetensors_open(&golden, OSAE_TESTS "/golden/quant-blocks.safetensors"),
                     STATUS_OK);
    static const enum dtype types[] = {
        DTYPE_F16,  DTYPE_BF16, DTYPE_Q4_0, DTYPE_Q4_1, DTYPE_Q5_0,
        DTYPE_Q5_1, DTYPE_Q8_0, DTYPE_Q4_K, DTYPE_Q5_K, DTYPE_Q6_K,
    };
    assert_int_equal(safetensors_count(golden), 2 * sizeof types / sizeof types[0]);
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        char name[32];
        snprintf(name, sizeof name, "%s.raw", dtype_name(types[i]));
        const struct tensor *raw = safetensors_find(golden, name);
        snprintf(name, sizeof name, "%s.f32", dtype_name(types[i]));
        const struct tensor *want = safetensors_find(golden, name);
        assert_non_null(raw);
        assert_non_null(want);
        size_t count = raw->bytes / dtype_block_bytes(types[i]) * dtype_block_elements(types[i]);
        assert_int_equal(count, want->count);

        // As it stands; then many times over, from an odd address, by all threads.
        enum { REPEATS = 2100 }; // 2,150,400 elements: 33 pieces, the last one short
        size_t repeats = (size_t)REPEATS * 1024 / count;
        unsigned char *many = malloc(repeats * raw->bytes + 1);
        float *got = malloc(repeats * count * sizeof *got);
        assert_int_equal(dtype_decode(got, types[i], raw->at, count), STATUS_OK);
        assert_memory_equal(got, want->at, want->bytes);
        for (size_t r = 0; r < repeats; r++)
            memcpy(many + 1 + r * raw->bytes, raw->at, raw->bytes);
        memset(got, 0xff, repeats * count * sizeof *got);
        assert_int_equal(dtype_decode(got, types[i], many + 1, repeats * count), STATUS_OK);
        for (size_t r = 0; r < repeats; r++)
            assert_memory_equal(got + r * count, want->at, want->bytes);
        free(got);
        free(many);
    }
    safetensors_close(&golden);
}

static void
all_halves_have_their_value(void **unused)
{
    (void)unused;
    for (uint32_t h = 0; h < 65536; h++) {
        int exponent = (int)(h >> 10 & 31), fraction = (int)(h & 1023);
        float got = f16_to_f32((uint16_t)h);
        assert_int_equal(bits_of(got) >> 31, h >> 15);
        if (exponent == 31 && fraction != 0)
            assert_true(isnan(got));
        else if (exponent == 31)
            assert_true(isinf(got));
        else
            assert_true(
                fabs((double)got) ==
                (exponent == 0 ? ldexp(fraction, -24) : ldexp(1024 + fraction, exponent - 25)));
    }
}

static void
bf16_rounds_to_nearest_even(void **unused)
{
    (void)unused;
    static const uint32_t tails[] = {0, 1, 0x7fff, 0x8000, 0x8001, 0xffff};
    for (uint32_t upper = 0; upper < 65536; upper++)
        for (size_t i = 0; i < sizeof tails / sizeof tails[0]; i++) {
            uint32_t bits = upper << 16 | tails[i];
            float value;
            memcpy(&value, &bits, sizeof value);
            uint16_t got = f32_to_bf16(value);
            if (isnan(value)) {
                assert_true(isnan(bf16_to_f32(got)));
                continue;
            }
            uint32_t want = upper;
            if (tails[i] > 0x8000 || (tails[i] == 0x8000 && (upper & 1)))
                want++; // carries into the exponent, and into infinity, as it should
            assert_int_equal(got, want);
        }
    assert_true(f32_to_bf16(3.4028235e38f) == 0x7f80);
}

static void
f64_rounds_and_integers_are_refused(void **unused)
{
    (void)unused;
    double from[3] = {0.1, -1e300, 1 + 0x1p-24};
    float got[3];
    assert_int_equal(dtype_decode(got, DTYPE_F64, from, 3), STATUS_OK);
    assert_true(got[0] == 0.1f && isinf(got[1]) && got[1] < 0 && got[2] == 1.0f);
    assert_int_equal(dtype_decode(got, DTYPE_I64, from, 3), STATUS_INTERNAL);
    assert_int_equal(dtype_decode(got, DTYPE_BOOL, from, 3), STATUS_INTERNAL);
    assert_int_equal(dtype_decode(got, DTYPE_F32, from, 0), STATUS_OK);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_block_type_decodes_to_the_reference_bits),
        cmocka_unit_test(all_halves_have_their_value),
        cmocka_unit_test(bf16_rounds_to_nearest_even),
        cmocka_unit_test(f64_rounds_and_integers_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
