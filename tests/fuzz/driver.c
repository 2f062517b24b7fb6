// driver: the main of a target where there is no libFuzzer: every file of its corpus as it is, then
// some mutations of each, the same ones every time. Mutations of a mutation, as a fuzzer keeps
// them, are for `make fuzz`; a finding of it is a new file in the corpus and so comes back here.
//     fuzz_NAME CORPUS [ROUNDS]
#include "lib/base/rng.h"
#include "tests/fuzz/fuzz.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SEEDS_MOST = 512, BYTES_MOST = 1 << 16, ROUNDS = 1500 };

static struct seed {
    char *at;
    size_t bytes;
} seeds[SEEDS_MOST];
static size_t seed_count;
static uint64_t draws;

static size_t
draw(size_t below)
{
    uint32_t words[4];
    rng_words(words, 4242, 7, 0, draws++);
    return below ? (size_t)rng_below(words, below) : 0;
}

static size_t
overwrite(uint8_t *at, size_t bytes, const void *value, size_t length)
{
    if (bytes >= length)
        memcpy(at + draw(bytes - length + 1), value, length);
    return bytes;
}

// One change in place; yields the new length, at most BYTES_MOST.
static size_t
change(uint8_t *at, size_t bytes)
{
    static const uint64_t numbers[] = {0,          1,          2,          0x7f,       0x80,
                                       0xff,       0x100,      0x7fff,     0xffff,     0x10000,
                                       0x7fffffff, 0x80000000, 0xffffffff, 1ull << 32, 1ull << 61,
                                       INT64_MAX,  1ull << 63, UINT64_MAX, 8,          64};
    static const char *const words[] = {"0", "-1", "\"",      "{",        "}",
                                        "[", "]",  "null",    "1e999",    ": ",
                                        ",", "\n", "\\u0000", "\xff\xfe", "18446744073709551615"};
    uint64_t number = numbers[draw(sizeof numbers / sizeof *numbers)];
    const char *word = words[draw(sizeof words / sizeof *words)];
    size_t from = draw(bytes), length = draw(bytes - from < 64 ? bytes - from : 64);
    switch (draw(8)) {
    case 0: // a bit
        if (bytes > 0)
            at[draw(bytes)] ^= (uint8_t)(1u << draw(8));
        return bytes;
    case 1: // a byte
        if (bytes > 0)
            at[draw(bytes)] = (uint8_t)draw(256);
        return bytes;
    case 2:
        return overwrite(at, bytes, &number, (size_t)1 << draw(4));
    case 3:
        return overwrite(at, bytes, word, strlen(word));
    case 4: // an end
        return from;
    case 5: // a hole
        memmove(at + from, at + from + length, bytes - from - length);
        return bytes - length;
    case 6: // a piece again
        if (length > BYTES_MOST - bytes)
            return bytes;
        memmove(at + from + length, at + from, bytes - from);
        return bytes + length;
    default: { // a piece of another seed
        const struct seed *other = &seeds[draw(seed_count)];
        size_t start = draw(other->bytes), left = other->bytes - start;
        length = left < bytes - from ? left : bytes - from;
        memcpy(at + from, other->at + start, length);
        return bytes;
    }
    }
}

// The bytes in a block of exactly their size, so that one read too far is seen.
static void
run(const uint8_t *at, size_t bytes)
{
    uint8_t *exact = malloc(bytes ? bytes : 1);
    if (!exact)
        abort();
    memcpy(exact, at, bytes);
    if (LLVMFuzzerTestOneInput(exact, bytes) != 0)
        abort();
    free(exact);
}

static void
read_seeds(const char *folder)
{
    struct dirent **names = NULL;
    int count = scandir(folder, &names, NULL, alphasort);
    for (int i = 0; i < count; i++) {
        char path[PATH_BYTES];
        struct seed *seed = &seeds[seed_count];
        if (names[i]->d_name[0] != '.' && seed_count < SEEDS_MOST) {
            if (path_join(path, folder, names[i]->d_name) != STATUS_OK ||
                file_read(&seed->at, &seed->bytes, path, BYTES_MOST) != STATUS_OK) {
                fprintf(stderr, "%s\n", status_words());
                abort();
            }
            seed_count++;
        }
        free(names[i]);
    }
    free(names);
}

int
main(int count, char **words)
{
    size_t rounds = count > 2 ? strtoul(words[2], NULL, 10) : ROUNDS;
    if (count < 2) {
        fprintf(stderr, "usage: %s CORPUS [ROUNDS]\n", words[0]);
        return 64;
    }
    read_seeds(words[1]);
    if (seed_count == 0) {
        fprintf(stderr, "%s: no seeds\n", words[1]);
        return 66;
    }
    static uint8_t work[BYTES_MOST];
    for (size_t i = 0; i < seed_count; i++)
        run((const uint8_t *)seeds[i].at, seeds[i].bytes);
    for (size_t round = 0; round < rounds; round++) {
        const struct seed *seed = &seeds[round % seed_count];
        size_t bytes = seed->bytes;
        memcpy(work, seed->at, bytes);
        for (size_t changes = 1 + draw(4); changes > 0; changes--)
            bytes = change(work, bytes);
        run(work, bytes);
    }
    run(work, 0);
    printf("%zu seeds, %zu mutations\n", seed_count, rounds);
    for (size_t i = 0; i < seed_count; i++)
        free(seeds[i].at);
    return 0;
}
