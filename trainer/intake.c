#include "trainer/intake.h"

#include "lib/base/bytes.h"

#include <inttypes.h>
#include <string.h>

// Infinities and NaNs are the numbers whose exponent is all ones.
static bool
row_is_finite(const float *x, size_t width)
{
    uint32_t bad = 0;
    for (size_t i = 0; i < width; i++) {
        uint32_t bits;
        memcpy(&bits, &x[i], sizeof bits);
        bad |= (bits & 0x7f800000) == 0x7f800000;
    }
    return !bad;
}

enum status
intake(float *x, const unsigned char *payload, const struct wire_stream *stream, uint64_t seq,
       bool check)
{
    size_t rows = stream->rows, width = stream->width, first_bad = rows;
    bool bf16 = stream->dtype == PAYLOAD_BF16;
#pragma omp parallel for schedule(static) reduction(min : first_bad)
    for (size_t row = 0; row < rows; row++) {
        float *to = x + row * width;
        const unsigned char *from = payload + row * width * (bf16 ? 2 : 4);
        if (!bf16)
            memcpy(to, from, width * sizeof *to);
        for (size_t i = 0; bf16 && i < width; i++) {
            uint32_t bits = (uint32_t)load_u16(from + 2 * i) << 16;
            memcpy(&to[i], &bits, sizeof bits);
        }
        if (check && row < first_bad && !row_is_finite(to, width))
            first_bad = row;
    }
    if (first_bad < rows)
        return FAIL(DAMAGED,
                    "batch %" PRIu64 " of the stream: row %zu of %zu holds a NaN or an infinity "
                    "(data.check_finite)",
                    seq, first_bad, rows);
    return STATUS_OK;
}
