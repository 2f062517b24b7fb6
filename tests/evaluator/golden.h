// Arrays out of tests/golden/evaluation-golden.json.
#ifndef TESTS_EVALUATOR_GOLDEN_H
#define TESTS_EVALUATOR_GOLDEN_H

#include <jansson.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

static inline json_t *
golden_open(void)
{
    json_error_t error;
    json_t *golden = json_load_file(OSAE_TESTS "/golden/evaluation-golden.json", 0, &error);
    if (!golden)
        fail_msg("evaluation-golden.json:%d: %s", error.line, error.text);
    return golden;
}

// A member by path "a.b.c"; it must be there.
static inline const json_t *
golden_at(const json_t *from, const char *path)
{
    char part[64];
    const json_t *at = from;
    for (const char *p = path; *p;) {
        size_t n = 0;
        while (*p && *p != '.' && n < sizeof part - 1)
            part[n++] = *p++;
        part[n] = 0;
        p += *p == '.';
        at = json_object_get(at, part);
    }
    if (!at)
        fail_msg("%s is not in the golden file", path);
    return at;
}

// All numbers of nested lists, in order; null is NaN. Returns how many; at most `room`.
static inline size_t
golden_numbers(double *out, size_t room, const json_t *list)
{
    if (!json_is_array(list)) {
        assert_true(room > 0);
        *out = json_is_number(list) ? json_number_value(list) : (double)NAN;
        return 1;
    }
    size_t n = 0, i;
    json_t *at;
    json_array_foreach(list, i, at) n += golden_numbers(out + n, room - n, at);
    return n;
}

static inline size_t
golden_floats(float *out, size_t room, const json_t *list)
{
    double *wide = calloc(room, sizeof *wide);
    assert_non_null(wide);
    size_t n = golden_numbers(wide, room, list);
    for (size_t i = 0; i < n; i++)
        out[i] = (float)wide[i];
    free(wide);
    return n;
}

// Relative to the larger of 1e-3 and the value: a golden value near zero has no more digits.
static inline void
near_(double got, double want, double relative, const char *what, const char *file, int line)
{
    if (isnan(want) && isnan(got))
        return;
    double scale = fabs(want) > 1e-3 ? fabs(want) : 1e-3;
    if (!(fabs(got - want) <= relative * scale)) {
        print_error("%s:%d: %s is %.12g, wanted %.12g\n", file, line, what, got, want);
        _fail(file, line);
    }
}
#define near(got, want, relative) near_((got), (want), (relative), #got, __FILE__, __LINE__)

#endif
