#include "lib/interop/arrays.h"

#include "lib/base/bytes.h"
#include "lib/store/safetensors.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum status
arrays_add(struct arrays *arrays, const struct array *array, size_t bytes)
{
    if (arrays->count == ARRAYS_MOST)
        return FAIL(DAMAGED, "%s: more than %d arrays", arrays->path, ARRAYS_MOST);
    struct array whole = *array;
    size_t last = 0, elements = bytes / dtype_block_bytes(array->dtype);
    whole.count = 1;
    for (size_t i = 0; i < array->rank; i++)
        if (!times(&whole.count, whole.count, array->shape[i]))
            return FAIL(DAMAGED, "%s: %.60s: its sizes overflow", arrays->path, array->name);
    for (size_t i = 0; whole.count > 0 && i < array->rank; i++) {
        size_t step;
        if (!times(&step, array->shape[i] - 1, array->stride[i]) || last > SIZE_MAX - step)
            return FAIL(DAMAGED, "%s: %.60s: its strides overflow", arrays->path, array->name);
        last += step;
    }
    // More elements than there is data (stride 0) would let a small file ask for any memory.
    if (whole.count > 0 && (last >= elements || whole.count > elements))
        return FAIL(DAMAGED, "%s: %.60s: %zu values that reach to element %zu, but %zu are there",
                    arrays->path, array->name, whole.count, last, elements);
    if (arrays->count == arrays->room) {
        size_t room = arrays->room ? 2 * arrays->room : 16;
        struct array *more = realloc(arrays->at, room * sizeof *more);
        if (!more)
            return FAIL(CREATE, "%s: no memory for its arrays", arrays->path);
        arrays->at = more;
        arrays->room = room;
    }
    arrays->at[arrays->count++] = whole;
    return STATUS_OK;
}

static void
close_safetensors(void *file)
{
    struct safetensors *safetensors = file;
    safetensors_close(&safetensors);
}

static enum status
read_safetensors(struct arrays *arrays, const char *path)
{
    struct safetensors *file = NULL;
    TRY(safetensors_open(&file, path));
    arrays->file = file;
    arrays->close = close_safetensors;
    for (size_t i = 0; i < safetensors_count(file); i++) {
        const struct tensor *tensor = safetensors_at(file, i);
        struct array array = {.dtype = tensor->dtype, .rank = tensor->rank, .at = tensor->at};
        if (strlen(tensor->name) >= sizeof array.name)
            continue; // none of ours is so long
        memcpy(array.name, tensor->name, strlen(tensor->name) + 1);
        size_t step = 1;
        for (size_t r = tensor->rank; r-- > 0;) {
            array.shape[r] = tensor->shape[r];
            array.stride[r] = step;
            step *= tensor->shape[r] ? tensor->shape[r] : 1; // checked when the file was opened
        }
        TRY(arrays_add(arrays, &array, tensor->bytes));
    }
    return STATUS_OK;
}

static bool
ends_with(const char *text, const char *end)
{
    size_t length = strlen(text), tail = strlen(end);
    return length >= tail && strcmp(text + length - tail, end) == 0;
}

enum status
arrays_open(struct arrays *out, const char *path)
{
    struct arrays arrays = {.path = strdup(path)};
    *out = (struct arrays){0};
    enum status status;
    if (!arrays.path)
        return FAIL(CREATE, "%s: no memory to read it", path);
    if (ends_with(path, ".npz"))
        status = arrays_read_npz(&arrays, path);
    else if (ends_with(path, ".safetensors"))
        status = read_safetensors(&arrays, path);
    else
        status = arrays_read_torch(&arrays, path);
    if (status != STATUS_OK)
        arrays_close(&arrays);
    else
        *out = arrays;
    return status;
}

void
arrays_close(struct arrays *arrays)
{
    if (arrays->close)
        arrays->close(arrays->file);
    free(arrays->at);
    free(arrays->path);
    *arrays = (struct arrays){0};
}

const struct array *
arrays_find(const struct arrays *arrays, const char *name)
{
    for (size_t i = 0; i < arrays->count; i++)
        if (strcmp(arrays->at[i].name, name) == 0)
            return &arrays->at[i];
    return NULL;
}

static void
shape_words(char *out, size_t room, size_t rank, const size_t *shape)
{
    size_t at = (size_t)snprintf(out, room, "[");
    for (size_t i = 0; i < rank && at + 24 < room; i++)
        at += shape[i] ? (size_t)snprintf(out + at, room - at, "%s%zu", i ? ", " : "", shape[i])
                       : (size_t)snprintf(out + at, room - at, "%sany", i ? ", " : "");
    snprintf(out + at, room - at, "]");
}

enum status
arrays_need(const struct array **out, const struct arrays *arrays, const char *name, size_t rank,
            size_t *shape)
{
    assert(rank <= ARRAY_RANK);
    const struct array *array = arrays_find(arrays, name);
    char wanted[256], found[256];
    shape_words(wanted, sizeof wanted, rank, shape);
    if (!array)
        return FAIL(DAMAGED, "%s: %s is missing, wanted it of shape %s", arrays->path, name,
                    wanted);
    bool fits = array->rank == rank && array->at && dtype_decodes(array->dtype);
    for (size_t i = 0; fits && i < rank; i++)
        fits = array->shape[i] > 0 && (shape[i] == 0 || shape[i] == array->shape[i]);
    shape_words(found, sizeof found, array->rank, array->shape);
    if (!fits)
        return FAIL(DAMAGED, "%s: %s is %s of shape %s, wanted numbers of shape %s", arrays->path,
                    name, array->at ? dtype_name(array->dtype) : "a plain value", found, wanted);
    for (size_t i = 0; i < rank; i++)
        shape[i] = array->shape[i];
    *out = array;
    return STATUS_OK;
}

static bool
in_order(const struct array *array)
{
    size_t step = 1;
    for (size_t i = array->rank; i-- > 0;) {
        if (array->shape[i] > 1 && array->stride[i] != step)
            return false;
        step *= array->shape[i];
    }
    return true;
}

// Element (r, c) of a matrix; a vector is one row.
static enum status
decode_matrix(float *out, const struct array *array, size_t rows, size_t cols, size_t row_step,
              size_t col_step)
{
    size_t size = dtype_block_bytes(array->dtype);
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < cols; c++)
            TRY(dtype_decode(out + r * cols + c, array->dtype,
                             array->at + (r * row_step + c * col_step) * size, 1));
    return STATUS_OK;
}

enum status
arrays_f32(float *out, const struct arrays *arrays, const struct array *array, bool transposed)
{
    assert(array->rank <= 2 && (!transposed || array->rank == 2));
    if (!array->at || dtype_block_elements(array->dtype) != 1 || !dtype_decodes(array->dtype))
        return FAIL(DAMAGED, "%s: %s is %s, wanted F32, F16, BF16 or F64", arrays->path,
                    array->name, array->at ? dtype_name(array->dtype) : "a plain value");
    size_t rows = array->rank == 2 ? array->shape[0] : 1;
    size_t cols = array->rank ? array->shape[array->rank - 1] : 1;
    size_t row_step = array->rank == 2 ? array->stride[0] : 0;
    size_t col_step = array->rank ? array->stride[array->rank - 1] : 1;
    if (transposed)
        TRY(decode_matrix(out, array, cols, rows, col_step, row_step));
    else if (in_order(array))
        TRY(dtype_decode(out, array->dtype, array->at, array->count));
    else
        TRY(decode_matrix(out, array, rows, cols, row_step, col_step));
    for (size_t i = 0; i < array->count; i++)
        if (!isfinite(out[i]))
            return FAIL(DAMAGED, "%s: %s has %g at element %zu, wanted finite values", arrays->path,
                        array->name, (double)out[i], i);
    return STATUS_OK;
}

bool
array_scalar(double *out, const struct array *array)
{
    if (!array || array->text || array->count != 1)
        return false;
    const unsigned char *at =
        array->at ? array->at : (const unsigned char *)(const void *)&array->plain;
    int64_t whole;
    int32_t half;
    float real;
    switch (array->dtype) {
    case DTYPE_I64:
        memcpy(&whole, at, sizeof whole);
        *out = (double)whole;
        return true;
    case DTYPE_I32:
        memcpy(&half, at, sizeof half);
        *out = half;
        return true;
    case DTYPE_U8:
    case DTYPE_BOOL:
        *out = *at;
        return true;
    case DTYPE_F64:
        memcpy(out, at, sizeof *out);
        return true;
    default:
        if (!dtype_decodes(array->dtype) || dtype_block_elements(array->dtype) != 1 ||
            dtype_decode(&real, array->dtype, at, 1) != STATUS_OK)
            return false;
        *out = (double)real;
        return true;
    }
}
