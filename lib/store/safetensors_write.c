// The writer: the bytes that the reference writer (the safetensors package) would write. Tensors by
// type, wide ones first, then by name, so every one is aligned for its type; the header in the same
// order, padded with spaces to a multiple of 8, __metadata__ first.
#include "lib/base/file.h"
#include "lib/store/safetensors.h"
#include "lib/store/sealed.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PIECE = 4 << 20 }; // hashed while it is still in the cache that write filled

// What the file will be: the order of the tensors and the text of the header.
struct plan {
    const struct tensor_out **order;
    char *header;
    size_t header_bytes; // padded
    size_t data_bytes;
};

static size_t
tensor_out_bytes(const struct tensor_out *t)
{
    assert(t->dtype <= DTYPE_BOOL && t->rank <= 4);
    size_t bytes = dtype_block_bytes(t->dtype);
    for (size_t i = 0; i < t->rank; i++) {
        bool fits = times(&bytes, bytes, t->shape[i]);
        assert(fits); // the caller holds it in memory
    }
    return bytes;
}

// The reference writer's order of types.
static int
place_of(enum dtype dtype)
{
    static const int places[] = {
        [DTYPE_I64] = 0, [DTYPE_F64] = 1, [DTYPE_F32] = 2, [DTYPE_I32] = 3, [DTYPE_BF16] = 4,
        [DTYPE_F16] = 5, [DTYPE_I16] = 6, [DTYPE_I8] = 7,  [DTYPE_U8] = 8,  [DTYPE_BOOL] = 9};
    return places[dtype];
}

static int
by_type_then_name(const void *a, const void *b)
{
    const struct tensor_out *x = *(const struct tensor_out *const *)a,
                            *y = *(const struct tensor_out *const *)b;
    if (x->dtype != y->dtype)
        return place_of(x->dtype) - place_of(y->dtype);
    return strcmp(x->name, y->name);
}

static json_t *
entry_of(const struct tensor_out *t, size_t begin, size_t end)
{
    json_t *shape = json_array();
    for (size_t i = 0; shape && i < t->rank; i++)
        if (json_array_append_new(shape, json_integer((json_int_t)t->shape[i])) != 0) {
            json_decref(shape);
            shape = NULL;
        }
    if (!shape)
        return NULL;
    return json_pack("{s:s, s:o, s:[I, I]}", "dtype", dtype_name(t->dtype), "shape", shape,
                     "data_offsets", (json_int_t)begin, (json_int_t)end);
}

static void
plan_release(struct plan *plan)
{
    free((void *)plan->order);
    free(plan->header);
    *plan = (struct plan){0};
}

// json_object_set_new refuses a NULL value, a name that is no UTF-8, and lack of memory.
static enum status
plan_header(json_t *header, struct plan *plan, size_t count, const struct text_pair *metadata,
            size_t metadata_count, const char *path)
{
    errno = 0;
    if (metadata_count > 0) {
        json_t *object = json_object();
        if (json_object_set_new(header, "__metadata__", object) != 0)
            return FAIL(CREATE, "%s: no memory for its header", path);
        for (size_t i = 0; i < metadata_count; i++)
            if (json_object_set_new(object, metadata[i].key, json_string(metadata[i].value)) != 0)
                return errno == ENOMEM ? FAIL(CREATE, "%s: no memory for its header", path)
                                       : FAIL(CONFIG, "%s: metadata '%s' is no valid UTF-8", path,
                                              metadata[i].key);
    }
    for (size_t i = 0; i < count; i++) {
        const struct tensor_out *t = plan->order[i];
        assert(strcmp(t->name, "__metadata__") != 0 && !json_object_get(header, t->name));
        size_t begin = plan->data_bytes;
        plan->data_bytes += tensor_out_bytes(t);
        if (json_object_set_new(header, t->name, entry_of(t, begin, plan->data_bytes)) != 0)
            return errno == ENOMEM
                       ? FAIL(CREATE, "%s: no memory for its header", path)
                       : FAIL(CONFIG, "%s: tensor name '%s' is no valid UTF-8", path, t->name);
    }
    return STATUS_OK;
}

static enum status
plan_init(struct plan *plan, const struct tensor_out *tensors, size_t count,
          const struct text_pair *metadata, size_t metadata_count, const char *path)
{
    *plan = (struct plan){0};
    enum status status = STATUS_OK;
    char *text = NULL;
    json_t *header = json_object();
    plan->order = calloc(count + 1, sizeof(struct tensor_out *));
    if (!header || !plan->order) {
        status = FAIL(CREATE, "%s: no memory for its header", path);
        goto done;
    }
    for (size_t i = 0; i < count; i++)
        plan->order[i] = &tensors[i];
    qsort(plan->order, count, sizeof(struct tensor_out *), by_type_then_name);
    GOTRY(plan_header(header, plan, count, metadata, metadata_count, path));

    text = json_dumps(header, JSON_COMPACT | JSON_PRESERVE_ORDER);
    size_t length = text ? strlen(text) : 0;
    plan->header_bytes = (length + 7) / 8 * 8; // the u64 before it has 8 too
    plan->header = text && sealed_reads_back(text, header) ? malloc(plan->header_bytes) : NULL;
    if (!plan->header) {
        status = FAIL(CREATE, "%s: no memory for its header", path);
        goto done;
    }
    memset(plan->header, ' ', plan->header_bytes);
    memcpy(plan->header, text, length);
done:
    free(text);
    json_decref(header);
    if (status != STATUS_OK)
        plan_release(plan);
    return status;
}

static enum status
put(int fd, const char *path, const void *at, size_t bytes, struct hasher *hasher)
{
    const char *from = at;
    while (bytes > 0) {
        size_t here = bytes < PIECE ? bytes : PIECE;
        TRY(file_write_all(fd, path, from, here));
        hasher_add(hasher, from, here);
        from += here;
        bytes -= here;
    }
    return STATUS_OK;
}

enum status
safetensors_write(int fd, const char *path, const struct tensor_out *tensors, size_t count,
                  const struct text_pair *metadata, size_t metadata_count, uint64_t *hash,
                  uint64_t *bytes)
{
    enum status status = STATUS_OK;
    struct plan plan = {0};
    struct hasher *hasher = hasher_new();
    if (!hasher) {
        status = FAIL(CREATE, "%s: no memory to write it", path);
        goto done;
    }
    GOTRY(plan_init(&plan, tensors, count, metadata, metadata_count, path));
    uint64_t length = plan.header_bytes;
    GOTRY(put(fd, path, &length, sizeof length, hasher));
    GOTRY(put(fd, path, plan.header, plan.header_bytes, hasher));
    for (size_t i = 0; i < count; i++)
        GOTRY(put(fd, path, plan.order[i]->at, tensor_out_bytes(plan.order[i]), hasher));
    if (hash)
        *hash = hasher_64(hasher);
    if (bytes)
        *bytes = 8 + length + plan.data_bytes;
done:
    plan_release(&plan);
    hasher_free(&hasher);
    return status;
}

size_t
safetensors_size(const struct tensor_out *tensors, size_t count, const struct text_pair *metadata,
                 size_t metadata_count)
{
    struct plan plan;
    if (plan_init(&plan, tensors, count, metadata, metadata_count, "safetensors") != STATUS_OK)
        return 0;
    size_t bytes = 8 + plan.header_bytes + plan.data_bytes;
    plan_release(&plan);
    return bytes;
}

enum status
safetensors_replace(const char *path, const struct tensor_out *tensors, size_t count,
                    const struct text_pair *metadata, size_t metadata_count)
{
    char tmp[PATH_BYTES];
    int length = snprintf(tmp, sizeof tmp, "%s.tmp-%d", path, (int)getpid());
    if (length < 0 || (size_t)length >= sizeof tmp)
        return FAIL(CONFIG, "%.100s...: too long for a path", path);
    unlink(tmp);
    int fd = open(tmp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
    if (fd < 0)
        return FAIL(CREATE, "%s: cannot create: %s", tmp, strerror(errno));
    enum status status =
        safetensors_write(fd, tmp, tensors, count, metadata, metadata_count, NULL, NULL);
    if (status == STATUS_OK && fsync(fd) != 0)
        status = FAIL(IO, "%s: cannot sync: %s", tmp, strerror(errno));
    if (close(fd) != 0 && status == STATUS_OK)
        status = FAIL(IO, "%s: cannot close: %s", tmp, strerror(errno));
    if (status == STATUS_OK && rename(tmp, path) != 0)
        status = FAIL(IO, "%s: cannot rename: %s", tmp, strerror(errno));
    if (status != STATUS_OK)
        unlink(tmp);
    return status;
}
