// Batches off the wire: both payload types, unaligned, and what is not finite.
#include "trainer/intake.h"

#include "lib/base/bytes.h"
#include "lib/kern/gemm.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { ROWS = 67, WIDTH = 5, COUNT = ROWS * WIDTH };

static unsigned char payload[1 + COUNT * 4]; // from byte 1 on: not aligned
static float x[COUNT + 1];

static struct wire_stream
stream_of(int dtype)
{
    return (struct wire_stream){.rows = ROWS, .width = WIDTH, .dtype = dtype};
}

static void
put(int dtype, size_t i, float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    if (dtype == PAYLOAD_BF16) {
        uint16_t upper = (uint16_t)(bits >> 16);
        memcpy(payload + 1 + 2 * i, &upper, sizeof upper);
    } else {
        memcpy(payload + 1 + 4 * i, &bits, sizeof bits);
    }
}

static void
numbers_arrive_as_they_were_sent(void **unused)
{
    (void)unused;
    const int dtypes[] = {PAYLOAD_BF16, PAYLOAD_F32};
    for (size_t d = 0; d < 2; d++) {
        struct wire_stream stream = stream_of(dtypes[d]);
        for (size_t i = 0; i < COUNT; i++)
            put(dtypes[d], i, (float)(i % 64) * 0.25f - 8); // exact in bf16 too
        put(dtypes[d], 3, 0x1.fep127f);                     // the largest bf16 is finite
        put(dtypes[d], 4, -0x1p-133f);                      // a subnormal
        x[COUNT] = 77;
        assert_int_equal(intake(x, payload + 1, &stream, 0, true), STATUS_OK);
        for (size_t i = 0; i < COUNT; i++)
            if (i != 3 && i != 4)
                assert_true(x[i] == (float)(i % 64) * 0.25f - 8);
        assert_true(x[3] == 0x1.fep127f && x[4] == -0x1p-133f && x[COUNT] == 77);
    }
}

static void
the_first_row_that_is_not_finite_is_named(void **unused)
{
    (void)unused;
    const int dtypes[] = {PAYLOAD_BF16, PAYLOAD_F32};
    const float bad[] = {(float)NAN, -(float)NAN, (float)INFINITY, -(float)INFINITY};
    for (size_t d = 0; d < 2; d++)
        for (size_t b = 0; b < 4; b++)
            for (size_t at = 0; at < COUNT; at += at < 8 || at > COUNT - 8 ? 1 : 37) {
                struct wire_stream stream = stream_of(dtypes[d]);
                for (size_t i = 0; i < COUNT; i++)
                    put(dtypes[d], i, 1);
                put(dtypes[d], at, bad[b]);
                put(dtypes[d], COUNT - 1, bad[b]);
                gemm_threads(1 + at % 3);
                assert_int_equal(intake(x, payload + 1, &stream, 12, true), STATUS_DAMAGED);
                char words[96];
                snprintf(words, sizeof words, "batch 12 of the stream: row %zu of 67 holds a NaN",
                         at / WIDTH);
                assert_non_null(strstr(status_words(), words));
                assert_int_equal(intake(x, payload + 1, &stream, 12, false), STATUS_OK);
                assert_true(!isfinite(x[at]));
            }
    gemm_threads(0);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_arrive_as_they_were_sent),
        cmocka_unit_test(the_first_row_that_is_not_finite_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
