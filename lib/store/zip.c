#include "lib/store/zip.h"

#include "lib/base/bytes.h"
#include "lib/base/file.h"

#include <stdlib.h>
#include <string.h>
#include <zlib.h>

// Signatures, and the sizes of the fixed parts behind them.
enum { LOCAL = 0x04034b50, CENTRAL = 0x02014b50, END = 0x06054b50, END64 = 0x06064b50 };
enum { LOCATOR64 = 0x07064b50 };
enum { LOCAL_BYTES = 30, CENTRAL_BYTES = 46, END_BYTES = 22, END64_BYTES = 56, LOCATOR_BYTES = 20 };
enum { METHOD_STORED = 0, METHOD_DEFLATED = 8, FLAG_ENCRYPTED = 1, EXTRA_ZIP64 = 1 };

struct member {
    char *name;
    const unsigned char *at; // as packed
    size_t packed, bytes;
    uint32_t crc;
    bool deflated, checked;
    unsigned char *own; // inflated
};

struct zip {
    char path[PATH_BYTES];
    struct file_map map;
    struct member *members;
    size_t count;
};

struct directory {
    uint64_t at, bytes, count;
};

static enum status
damaged(const struct zip *zip, const char *what)
{
    return FAIL(DAMAGED, "%s: %s", zip->path, what);
}

// The end record: at the end, but for a comment of at most 65,535 bytes.
static enum status
find_end(size_t *end, const struct zip *zip)
{
    size_t bytes = zip->map.bytes;
    if (bytes < END_BYTES)
        return damaged(zip, "too short for a ZIP archive");
    size_t last = bytes - END_BYTES, first = last > 0xffff ? last - 0xffff : 0;
    for (size_t at = last + 1; at-- > first;)
        if (load_u32(zip->map.at + at) == END && load_u16(zip->map.at + at + 20) == last - at) {
            *end = at;
            return STATUS_OK;
        }
    return damaged(zip, "no ZIP archive: its end record is missing (cut short?)");
}

static enum status
find_directory(struct directory *out, const struct zip *zip)
{
    size_t end;
    TRY(find_end(&end, zip));
    const unsigned char *at = zip->map.at + end;
    *out = (struct directory){load_u32(at + 16), load_u32(at + 12), load_u16(at + 10)};
    bool large = out->at == UINT32_MAX || out->bytes == UINT32_MAX || out->count == UINT16_MAX;
    if (end >= LOCATOR_BYTES && load_u32(at - LOCATOR_BYTES) == LOCATOR64) {
        uint64_t where = load_u64(at - LOCATOR_BYTES + 8);
        if (where > end || end - where < END64_BYTES || load_u32(zip->map.at + where) != END64)
            return damaged(zip, "its ZIP64 end record is not where it should be");
        const unsigned char *more = zip->map.at + where;
        *out = (struct directory){load_u64(more + 48), load_u64(more + 40), load_u64(more + 32)};
    } else if (large) {
        return damaged(zip, "its ZIP64 end record is missing");
    }
    if (out->at > end || out->bytes > end - out->at)
        return damaged(zip, "its directory lies outside the file");
    if (out->count > ZIP_MEMBERS_MOST || out->count > out->bytes / CENTRAL_BYTES)
        return FAIL(DAMAGED, "%s: a directory of %llu members in %llu bytes", zip->path,
                    (unsigned long long)out->count, (unsigned long long)out->bytes);
    return STATUS_OK;
}

// Values that do not fit 32 bits stand in the extra field, in this order.
static enum status
widen(uint64_t *bytes, uint64_t *packed, uint64_t *local, const struct zip *zip,
      const unsigned char *extra, size_t left)
{
    uint64_t *const wide[] = {bytes, packed, local};
    while (left >= 4) {
        size_t id = load_u16(extra), length = load_u16(extra + 2);
        if (length > left - 4)
            return damaged(zip, "an extra field is longer than its place");
        const unsigned char *at = extra + 4;
        size_t rest = length;
        for (size_t i = 0; id == EXTRA_ZIP64 && i < 3; i++) {
            if (*wide[i] != UINT32_MAX)
                continue;
            if (rest < 8)
                return damaged(zip, "a ZIP64 field is cut short");
            *wide[i] = load_u64(at);
            at += 8;
            rest -= 8;
        }
        extra += 4 + length;
        left -= 4 + length;
    }
    return STATUS_OK;
}

static enum status
place(struct member *member, const struct zip *zip, uint64_t local, uint64_t packed, uint64_t bytes)
{
    size_t size = zip->map.bytes;
    if (local > size || size - local < LOCAL_BYTES ||
        load_u32(zip->map.at + local) != (uint32_t)LOCAL)
        return FAIL(DAMAGED, "%s: member '%.60s' is not where the directory says", zip->path,
                    member->name);
    const unsigned char *at = zip->map.at + local;
    uint64_t skip = LOCAL_BYTES + (uint64_t)load_u16(at + 26) + load_u16(at + 28);
    if (skip > size - local || packed > size - local - skip ||
        (!member->deflated && packed != bytes))
        return FAIL(DAMAGED, "%s: member '%.60s' of %llu bytes does not fit in the file", zip->path,
                    member->name, (unsigned long long)packed);
    member->at = at + skip;
    member->packed = (size_t)packed;
    member->bytes = (size_t)bytes;
    return STATUS_OK;
}

// One entry of the directory; *used bytes of it.
static enum status
read_entry(struct member *member, size_t *used, const struct zip *zip, const unsigned char *at,
           size_t left)
{
    if (left < CENTRAL_BYTES || load_u32(at) != CENTRAL)
        return damaged(zip, "its directory is cut short");
    size_t name = load_u16(at + 28), extra = load_u16(at + 30), comment = load_u16(at + 32);
    *used = CENTRAL_BYTES + name + extra + comment;
    if (*used > left)
        return damaged(zip, "its directory is cut short");
    if (name == 0 || name > ZIP_NAME_MOST || memchr(at + CENTRAL_BYTES, 0, name))
        return damaged(zip, "a member's name is empty, too long, or holds a NUL");
    member->name = strndup((const char *)at + CENTRAL_BYTES, name);
    if (!member->name)
        return FAIL(CREATE, "%s: no memory for its directory", zip->path);
    unsigned flags = load_u16(at + 8), method = load_u16(at + 10);
    if (flags & FLAG_ENCRYPTED)
        return FAIL(DAMAGED, "%s: member '%.60s' is encrypted", zip->path, member->name);
    if (method != METHOD_STORED && method != METHOD_DEFLATED)
        return FAIL(DAMAGED, "%s: member '%.60s' is packed by method %u, wanted 0 or 8 (deflate)",
                    zip->path, member->name, method);
    member->deflated = method == METHOD_DEFLATED;
    member->crc = load_u32(at + 16);
    uint64_t packed = load_u32(at + 20), bytes = load_u32(at + 24), local = load_u32(at + 42);
    TRY(widen(&bytes, &packed, &local, zip, at + CENTRAL_BYTES + name, extra));
    return place(member, zip, local, packed, bytes);
}

static int
by_name(const void *a, const void *b)
{
    const struct member *const *left = a, *const *right = b;
    return strcmp((*left)->name, (*right)->name);
}

static enum status
names_differ(const struct zip *zip)
{
    const struct member **sorted = calloc(zip->count + 1, sizeof *sorted);
    if (!sorted)
        return FAIL(CREATE, "%s: no memory for its directory", zip->path);
    for (size_t i = 0; i < zip->count; i++)
        sorted[i] = &zip->members[i];
    qsort(sorted, zip->count, sizeof *sorted, by_name);
    enum status status = STATUS_OK;
    for (size_t i = 1; i < zip->count && status == STATUS_OK; i++)
        if (strcmp(sorted[i - 1]->name, sorted[i]->name) == 0)
            status = FAIL(DAMAGED, "%s: two members are named '%.60s'", zip->path, sorted[i]->name);
    free(sorted);
    return status;
}

enum status
zip_open(struct zip **out, const char *path)
{
    enum status status;
    struct zip *zip = calloc(1, sizeof *zip);
    if (!zip)
        return FAIL(CREATE, "%s: no memory to read it", path);
    if (strlen(path) >= sizeof zip->path)
        GOTRY(FAIL(CONFIG, "%.100s...: too long for a path", path));
    memcpy(zip->path, path, strlen(path) + 1);
    GOTRY(file_map_open(&zip->map, path));
    struct directory directory;
    GOTRY(find_directory(&directory, zip));
    zip->members = calloc((size_t)directory.count + 1, sizeof *zip->members);
    if (!zip->members)
        GOTRY(FAIL(CREATE, "%s: no memory for its directory", path));
    const unsigned char *at = zip->map.at + directory.at;
    size_t left = (size_t)directory.bytes;
    while (zip->count < directory.count) {
        size_t used;
        GOTRY(read_entry(&zip->members[zip->count++], &used, zip, at, left));
        at += used;
        left -= used;
    }
    GOTRY(names_differ(zip));
done:
    if (status != STATUS_OK)
        zip_close(&zip);
    *out = zip;
    return status;
}

void
zip_close(struct zip **zip)
{
    if (!*zip)
        return;
    for (size_t i = 0; i < (*zip)->count; i++) {
        free((*zip)->members[i].name);
        free((*zip)->members[i].own);
    }
    free((*zip)->members);
    file_map_close(&(*zip)->map);
    free(*zip);
    *zip = NULL;
}

size_t
zip_count(const struct zip *zip)
{
    return zip->count;
}

const char *
zip_name(const struct zip *zip, size_t i)
{
    return zip->members[i].name;
}

bool
zip_find(size_t *i, const struct zip *zip, const char *name)
{
    for (*i = 0; *i < zip->count; ++*i)
        if (strcmp(zip->members[*i].name, name) == 0)
            return true;
    return false;
}

// zlib counts in 32 bits: both sides go in pieces.
static enum status
inflate_all(unsigned char *out, const struct member *member, const char *path)
{
    enum { PIECE = 1 << 30 };
    z_stream stream = {0};
    if (inflateInit2(&stream, -MAX_WBITS) != Z_OK)
        return FAIL(CREATE, "%s: no memory to inflate '%.60s'", path, member->name);
    size_t read = 0, written = 0;
    int code = Z_OK;
    while (code == Z_OK) {
        size_t in = member->packed - read, room = member->bytes - written;
        stream.avail_in = (uInt)(in < PIECE ? in : PIECE);
        stream.avail_out = (uInt)(room < PIECE ? room : PIECE);
        // zlib changes nothing there
        union {
            const unsigned char *from;
            unsigned char *to;
        } source = {.from = member->at + read};
        stream.next_in = source.to;
        stream.next_out = out + written;
        uInt had_in = stream.avail_in, had_out = stream.avail_out;
        code = inflate(&stream, Z_NO_FLUSH);
        read += had_in - stream.avail_in;
        written += had_out - stream.avail_out;
        if (code == Z_OK && had_in == stream.avail_in && had_out == stream.avail_out)
            break; // it wants more than there is
    }
    inflateEnd(&stream);
    if (code != Z_STREAM_END || written != member->bytes)
        return FAIL(DAMAGED, "%s: member '%.60s' does not inflate to the %zu bytes it claims", path,
                    member->name, member->bytes);
    return STATUS_OK;
}

static uint32_t
crc_of(const unsigned char *at, size_t bytes)
{
    enum { PIECE = 1 << 30 };
    uLong crc = crc32(0, NULL, 0);
    for (size_t done = 0; done < bytes;) {
        size_t n = bytes - done < PIECE ? bytes - done : PIECE;
        crc = crc32(crc, at + done, (uInt)n);
        done += n;
    }
    return (uint32_t)crc;
}

enum status
zip_content(const unsigned char **at, size_t *bytes, struct zip *zip, size_t i, size_t most)
{
    struct member *member = &zip->members[i];
    if (member->bytes > most)
        return FAIL(DAMAGED, "%s: member '%.60s' has %zu bytes, wanted at most %zu", zip->path,
                    member->name, member->bytes, most);
    if (member->deflated && !member->own) {
        // Deflate packs at most 1032 to 1: what claims more is a lie, or a bomb.
        if (member->bytes / 1032 > member->packed)
            return FAIL(DAMAGED, "%s: member '%.60s' claims %zu bytes in %zu", zip->path,
                        member->name, member->bytes, member->packed);
        unsigned char *own = malloc(member->bytes ? member->bytes : 1);
        if (!own)
            return FAIL(CREATE, "%s: no memory for '%.60s', %zu bytes", zip->path, member->name,
                        member->bytes);
        enum status status = inflate_all(own, member, zip->path);
        if (status != STATUS_OK) {
            free(own);
            return status;
        }
        member->own = own;
    }
    *at = member->own ? member->own : member->at;
    *bytes = member->bytes;
    if (!member->checked && crc_of(*at, *bytes) != member->crc)
        return FAIL(DAMAGED, "%s: member '%.60s' has another CRC than the directory says",
                    zip->path, member->name);
    member->checked = true;
    return STATUS_OK;
}
