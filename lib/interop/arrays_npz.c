// numpy's .npz: a ZIP of .npy, each "\x93NUMPY", a version, and a Python dict of three entries:
//     {'descr': '<f4', 'fortran_order': False, 'shape': (3, 5), }
#include "lib/base/bytes.h"
#include "lib/interop/arrays.h"
#include "lib/store/zip.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// The dict, being read. Only what numpy writes.
struct reader {
    const char *at, *end;
};

static void
blanks(struct reader *r)
{
    while (r->at < r->end && (*r->at == ' ' || *r->at == '\n' || *r->at == '\t'))
        r->at++;
}

static bool
take(struct reader *r, char c)
{
    blanks(r);
    if (r->at >= r->end || *r->at != c)
        return false;
    r->at++;
    return true;
}

static bool
word(struct reader *r, const char *text)
{
    size_t length = strlen(text);
    blanks(r);
    if ((size_t)(r->end - r->at) < length || memcmp(r->at, text, length) != 0)
        return false;
    r->at += length;
    return true;
}

static bool
quoted(char *out, size_t room, struct reader *r)
{
    blanks(r);
    if (r->at >= r->end || (*r->at != '\'' && *r->at != '"'))
        return false;
    char quote = *r->at++;
    size_t n = 0;
    while (r->at < r->end && *r->at != quote && n + 1 < room)
        out[n++] = *r->at++;
    out[n] = '\0';
    return take(r, quote);
}

static bool
tuple(size_t *rank, size_t *shape, struct reader *r)
{
    *rank = 0;
    if (!take(r, '('))
        return false;
    while (!take(r, ')')) {
        size_t value = 0;
        blanks(r);
        if (*rank == ARRAY_RANK || r->at >= r->end || !isdigit((unsigned char)*r->at))
            return false;
        while (r->at < r->end && isdigit((unsigned char)*r->at))
            if (!times(&value, value, 10) ||
                __builtin_add_overflow(value, (size_t)(*r->at++ - '0'), &value))
                return false;
        shape[(*rank)++] = value;
        if (!take(r, ',') && !(r->at < r->end && *r->at == ')'))
            return false;
    }
    return true;
}

static bool
dict(char descr[16], bool *fortran, size_t *rank, size_t *shape, struct reader *r)
{
    unsigned seen = 0;
    if (!take(r, '{'))
        return false;
    while (!take(r, '}')) {
        char key[16];
        if (!quoted(key, sizeof key, r) || !take(r, ':'))
            return false;
        if (strcmp(key, "descr") == 0 && quoted(descr, 16, r))
            seen |= 1;
        else if (strcmp(key, "fortran_order") == 0 &&
                 ((*fortran = word(r, "True")) || word(r, "False")))
            seen |= 2;
        else if (strcmp(key, "shape") == 0 && tuple(rank, shape, r))
            seen |= 4;
        else
            return false;
        take(r, ',');
    }
    return seen == 7;
}

static bool
type_of(enum dtype *out, const char *descr)
{
    static const struct {
        const char *descr;
        enum dtype dtype;
    } types[] = {{"<f4", DTYPE_F32}, {"<f8", DTYPE_F64}, {"<f2", DTYPE_F16},
                 {"<i4", DTYPE_I32}, {"<i8", DTYPE_I64}, {"<i2", DTYPE_I16},
                 {"|i1", DTYPE_I8},  {"|u1", DTYPE_U8},  {"|b1", DTYPE_BOOL}};
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
        if (strcmp(descr, types[i].descr) == 0) {
            *out = types[i].dtype;
            return true;
        }
    return false;
}

static enum status
read_npy(struct arrays *arrays, const char *name, size_t length, const unsigned char *at,
         size_t bytes)
{
    struct array array = {.rank = 0};
    char descr[16] = "";
    bool fortran = false;
    if (length >= sizeof array.name)
        return FAIL(DAMAGED, "%s: '%.60s...': too long for a name", arrays->path, name);
    memcpy(array.name, name, length);
    if (bytes < 10 || memcmp(at, "\x93NUMPY", 6) != 0 || at[6] < 1 || at[6] > 3)
        return FAIL(DAMAGED, "%s: %.60s.npy is no array of numpy", arrays->path, array.name);
    size_t skip = at[6] == 1 ? 10 : 12;
    if (bytes < skip)
        return FAIL(DAMAGED, "%s: %.60s.npy is cut short", arrays->path, array.name);
    size_t head = at[6] == 1 ? load_u16(at + 8) : load_u32(at + 8);
    if (head > bytes - skip)
        return FAIL(DAMAGED, "%s: %.60s.npy is cut short", arrays->path, array.name);
    struct reader reader = {(const char *)at + skip, (const char *)at + skip + head};
    if (!dict(descr, &fortran, &array.rank, array.shape, &reader))
        return FAIL(DAMAGED, "%s: %.60s.npy: its head is not numpy's", arrays->path, array.name);
    if (!type_of(&array.dtype, descr))
        return FAIL(DAMAGED, "%s: %.60s.npy is of type '%s', wanted numbers, little-endian",
                    arrays->path, array.name, descr);
    size_t step = 1;
    for (size_t i = 0; i < array.rank; i++) {
        size_t r = fortran ? i : array.rank - 1 - i;
        array.stride[r] = step;
        if (!times(&step, step, array.shape[r] ? array.shape[r] : 1))
            return FAIL(DAMAGED, "%s: %.60s: its sizes overflow", arrays->path, array.name);
    }
    array.at = at + skip + head;
    return arrays_add(arrays, &array, bytes - skip - head);
}

static void
close_zip(void *file)
{
    struct zip *zip = file;
    zip_close(&zip);
}

enum status
arrays_read_npz(struct arrays *arrays, const char *path)
{
    struct zip *zip = NULL;
    TRY(zip_open(&zip, path));
    arrays->file = zip;
    arrays->close = close_zip;
    for (size_t i = 0; i < zip_count(zip); i++) {
        const char *name = zip_name(zip, i);
        size_t length = strlen(name), bytes;
        const unsigned char *at;
        if (length < 5 || strcmp(name + length - 4, ".npy") != 0)
            continue;
        TRY(zip_content(&at, &bytes, zip, i, SIZE_MAX));
        TRY(read_npy(arrays, name, length - 4, at, bytes));
    }
    return STATUS_OK;
}
