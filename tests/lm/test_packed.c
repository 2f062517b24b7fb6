#include "lib/lm/packed.h"
#include "lib/lm/packer.h"
#include "tests/lm/folder.h"

#include <dirent.h>
#include <setjmp.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

static struct tokenizer *llama;
static char cache[PATH_BYTES];

static struct packed_settings
settings_of(const struct texts *files)
{
    return (struct packed_settings){
        .files = files, .context = 32, .bos = 0, .separator = 0, .cache = cache};
}

static struct packed *
opened(const struct packed_settings *s)
{
    struct packed *p;
    if (packed_open(&p, llama, s, NULL, NULL) != STATUS_OK)
        fail_msg("%s", status_words());
    return p;
}

// Words of changing length, some documents huge, some empty, some with specials and bad bytes.
static const char *
make_text(size_t documents)
{
    char *text = malloc(4 << 20);
    size_t used = 0;
    uint64_t seed = 9;
    for (size_t d = 0; d < documents; d++) {
        used += (size_t)snprintf(text + used, 64, "{\"n\":%zu,\"text\":\"", d);
        size_t words = d == 3 ? 60000 : d % 5 * 40;
        for (size_t w = 0; w < words; w++) {
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            static const char *const list[] = {"the ", "tokenizer",    "<|endoftext|>", "\\n",
                                               "\xFF", "caf\xC3\xA9 ", "it's ",         "12 "};
            const char *word = list[seed >> 61];
            used += (size_t)snprintf(text + used, 32, "%s", word);
        }
        used += (size_t)snprintf(text + used, 8, "\"}\n");
    }
    const char *path = put_file("text.jsonl", text, used);
    free(text);
    return path;
}

static int
begin(void **state)
{
    if (make_folder(state) != 0 || tokenizer_open(&llama, OSAE_TESTS "/golden/tiny-llama"))
        return -1;
    snprintf(cache, sizeof cache, "%s/cache", folder);
    return 0;
}

static int
end(void **state)
{
    tokenizer_free(&llama);
    return remove_folder(state);
}

// Document by document with one thread and no chunks: what the file must hold.
static void
pack_directly(struct token_list *out, struct packed_counts *counts, const struct packed_settings *s)
{
    struct corpus *corpus;
    struct corpus_document d;
    struct tokenizer_cache *words;
    struct packer packer;
    struct token_list ids = {0};
    bool more;
    *counts = (struct packed_counts){0};
    assert_int_equal(corpus_open(&corpus, s->files, s->field), STATUS_OK);
    assert_int_equal(tokenizer_cache_new(&words, llama), STATUS_OK);
    assert_int_equal(packer_init(&packer, s->context, s->bos, s->separator), STATUS_OK);
    while (corpus_next(corpus, &d, &more) == STATUS_OK && more) {
        size_t added = 0;
        ids.count = 0;
        assert_int_equal(tokenizer_encode(llama, words, &ids, d.text, d.bytes, s->special, &added),
                         STATUS_OK);
        packer_begin(&packer);
        assert_int_equal(packer_add(&packer, out, ids.ids, ids.count), STATUS_OK);
        counts->documents++;
        counts->text_bytes += d.bytes;
        counts->invalid += d.invalid;
        counts->added += added;
    }
    packer_release(&packer);
    tokenizer_cache_free(&words);
    token_list_release(&ids);
    corpus_close(&corpus);
}

static void
the_file_holds_what_direct_packing_gives(void **state)
{
    (void)state;
    struct packed_settings s = settings_of(paths_of(make_text(60), NULL));
    struct token_list want = {0};
    struct packed_counts counts;
    pack_directly(&want, &counts, &s);
    assert_true(want.count > 100000 && counts.invalid > 1000 && counts.added > 1000);
    struct packed *p = opened(&s);
    assert_true(packed_was_made(p));
    assert_int_equal(packed_context(p), 32);
    assert_int_equal(packed_contexts(p) * 32, want.count);
    assert_memory_equal(packed_ids(p), want.ids, want.count * sizeof *want.ids);
    assert_true(hash128_same(packed_hash(p), hash128(want.ids, want.count * sizeof *want.ids)));
    struct packed_counts got = packed_counts(p);
    assert_memory_equal(&got, &counts, sizeof counts);
    packed_close(&p);
    assert_null(p);

    p = opened(&s); // found now, and the same
    assert_false(packed_was_made(p));
    assert_memory_equal(packed_ids(p), want.ids, want.count * sizeof *want.ids);
    got = packed_counts(p);
    assert_memory_equal(&got, &counts, sizeof counts);
    packed_close(&p);
    token_list_release(&want);
}

static void
any_number_of_threads_gives_the_same_bytes(void **state)
{
    (void)state;
    struct packed_settings s = settings_of(paths_of(make_text(40), NULL));
    struct hash128 first = {0, 0};
    for (int threads = 1; threads <= 5; threads += 2) {
        s.threads = threads;
        assert_int_equal(path_remove(cache), STATUS_OK);
        struct packed *p = opened(&s);
        assert_true(packed_was_made(p));
        if (threads == 1)
            first = packed_hash(p);
        assert_true(hash128_same(first, packed_hash(p)));
        packed_close(&p);
    }
}

static void
the_bound_cuts_the_same_stream(void **state)
{
    (void)state;
    struct packed_settings s = settings_of(paths_of(make_text(30), NULL));
    struct packed *all = opened(&s);
    uint64_t documents = 0;
    static const uint64_t bounds[] = {32, 1000, 50000, 1u << 30};
    for (size_t i = 0; i < 4; i++) {
        s.tokens = bounds[i];
        struct packed *some = opened(&s);
        size_t contexts = packed_contexts(some);
        if (i < 3)
            assert_int_equal(contexts, bounds[i] / 32);
        else
            assert_int_equal(contexts, packed_contexts(all));
        assert_memory_equal(packed_ids(some), packed_ids(all), contexts * 32 * sizeof(uint32_t));
        assert_true(packed_counts(some).documents >= documents);
        documents = packed_counts(some).documents;
        packed_close(&some);
    }
    assert_int_equal(documents, 30);
    packed_close(&all);
}

// Every input has a file of its own, names and places have not.
static void
the_key_is_what_decides_the_ids(void **state)
{
    (void)state;
    struct tokenizer *gemma;
    const char *text =
        "{\"text\":\"one two three four five six seven\",\"other\":\"eight nine ten\"}\n";
    static struct texts first, other; // paths_of has one list only
    first = *paths_of(put_text("k/a.jsonl", text), NULL);
    other = *paths_of(put_text("k/a.txt", text), NULL);
    struct packed_settings base = settings_of(&first);
    base.context = 4;
    struct packed_settings s[9];
    for (size_t i = 0; i < 9; i++)
        s[i] = base;
    s[1].context = 5;
    s[2].bos = 1;
    s[3].separator = TOKEN_ABSENT;
    s[4].tokens = 8;
    s[5].special = TOKENIZER_TEXT;
    s[6].field = "other";
    s[7].files = &other;
    char paths[10][PATH_BYTES];
    for (size_t i = 0; i < 9; i++) {
        struct packed *p = NULL;
        if (i == 8) {
            assert_int_equal(tokenizer_open(&gemma, OSAE_TESTS "/golden/tiny-gemma2"), STATUS_OK);
            assert_int_equal(packed_open(&p, gemma, &s[i], NULL, NULL), STATUS_OK);
            tokenizer_free(&gemma);
        } else {
            p = opened(&s[i]);
        }
        assert_true(packed_was_made(p));
        snprintf(paths[i], PATH_BYTES, "%s", packed_path(p));
        for (size_t k = 0; k < i; k++)
            assert_string_not_equal(paths[k], paths[i]);
        packed_close(&p);
    }
    s[0].files = paths_of(put_text("elsewhere/b.jsonl", text), NULL);
    s[0].threads = 3;
    struct packed *p = opened(&s[0]);
    assert_false(packed_was_made(p));
    assert_string_equal(packed_path(p), paths[0]);
    packed_close(&p);
}

static void
damage(const char *path, const char *end, size_t at, bool cut)
{
    char other[PATH_BYTES];
    snprintf(other, sizeof other, "%.*s%s", (int)(strlen(path) - 3), path, end);
    if (cut) {
        assert_int_equal(truncate(other, (off_t)at), 0);
        return;
    }
    FILE *file = fopen(other, "r+");
    assert_non_null(file);
    assert_int_equal(fseek(file, (long)at, SEEK_SET), 0);
    int byte = fgetc(file);
    assert_int_equal(fseek(file, (long)at, SEEK_SET), 0);
    assert_int_not_equal(fputc(byte ^ 1, file), EOF);
    assert_int_equal(fclose(file), 0);
}

static void
damaged_files_are_made_again(void **state)
{
    (void)state;
    struct packed_settings s = settings_of(paths_of(make_text(12), NULL));
    struct packed *p = opened(&s);
    struct hash128 hash = packed_hash(p);
    size_t bytes = packed_contexts(p) * 32 * sizeof(uint32_t);
    char path[PATH_BYTES];
    snprintf(path, sizeof path, "%s", packed_path(p));
    packed_close(&p);
    static const struct {
        const char *end;
        size_t at;
        bool cut;
    } rows[] = {{"u32", 7, false},  {"u32", 4096, true}, {"u32", 0, true},
                {"json", 20, true}, {"json", 0, true},   {"json", 3, false}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        damage(path, rows[i].end, rows[i].at, rows[i].cut);
        p = opened(&s);
        assert_true(packed_was_made(p));
        assert_true(hash128_same(packed_hash(p), hash));
        packed_close(&p);
    }
    damage(path, "u32", bytes - 1, false); // the last byte counts, too
    p = opened(&s);
    assert_true(packed_was_made(p));
    packed_close(&p);
    assert_int_equal(unlink(path), 0);
    p = opened(&s);
    assert_true(packed_was_made(p));
    packed_close(&p);
    p = opened(&s);
    assert_false(packed_was_made(p));
    packed_close(&p);
}

static void
changed_text_is_noticed_and_unchanged_text_not_read_again(void **state)
{
    (void)state;
    const char *path = put_text("c.txt", "one two three four five six seven eight nine ten");
    struct packed_settings s = settings_of(paths_of(path, NULL));
    s.context = 4;
    const struct timespec old[2] = {{.tv_sec = 1000000}, {.tv_sec = 1000000}};
    assert_int_equal(utimensat(AT_FDCWD, path, old, 0), 0);
    struct packed *p = opened(&s);
    struct hash128 hash = packed_hash(p);
    packed_close(&p);
    // Same size, same mtime: only the ctime tells.
    put_text("c.txt", "one two three four five six seven eight nine TEN");
    assert_int_equal(utimensat(AT_FDCWD, path, old, 0), 0);
    p = opened(&s);
    assert_true(packed_was_made(p));
    assert_false(hash128_same(hash, packed_hash(p)));
    packed_close(&p);
}

static enum status
stop_while_tokenising(void *context, const struct packed_progress *progress)
{
    size_t *calls = context;
    ++*calls;
    return progress->phase == PACKED_TOKENISING ? FAIL(AGAIN, "stopped") : STATUS_OK;
}

static void
a_stop_leaves_nothing_behind(void **state)
{
    (void)state;
    struct packed_settings s = settings_of(paths_of(make_text(20), NULL));
    s.separator = 3;
    struct packed *p;
    size_t calls = 0;
    assert_int_equal(packed_open(&p, llama, &s, stop_while_tokenising, &calls), STATUS_AGAIN);
    assert_string_equal(status_words(), "stopped");
    assert_null(p);
    assert_true(calls > 0);
    char path[PATH_BYTES];
    assert_int_equal(path_join(path, cache, "tokens"), STATUS_OK);
    DIR *dir = opendir(path);
    assert_non_null(dir);
    for (struct dirent *e; (e = readdir(dir));)
        assert_null(strstr(e->d_name, ".new"));
    closedir(dir);
    p = opened(&s);
    assert_true(packed_was_made(p));
    packed_close(&p);
}

struct waiter {
    int release; // a pipe: writing lets the other process go
    bool waited;
};

static enum status
let_go(void *context, const struct packed_progress *progress)
{
    struct waiter *w = context;
    if (progress->phase == PACKED_WAITING && !w->waited) {
        w->waited = true;
        if (write(w->release, "x", 1) != 1)
            return FAIL(IO, "pipe");
    }
    return STATUS_OK;
}

static void
two_processes_do_not_make_it_twice(void **state)
{
    (void)state;
    struct packed_settings s = settings_of(paths_of(make_text(10), NULL));
    s.separator = 4;
    struct packed *p = opened(&s);
    char path[PATH_BYTES], lock[PATH_BYTES];
    snprintf(path, sizeof path, "%s", packed_path(p));
    snprintf(lock, sizeof lock, "%.*slock", (int)(strlen(path) - 3), path);
    packed_close(&p);
    assert_int_equal(unlink(path), 0);
    int held[2], release[2];
    assert_int_equal(pipe(held) + pipe(release), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) { // holds the lock until told to let go
        char byte;
        int fd = open(lock, O_RDWR);
        _exit(fd < 0 || flock(fd, LOCK_EX) != 0 || write(held[1], "x", 1) != 1 ||
              read(release[0], &byte, 1) != 1);
    }
    char byte;
    assert_int_equal(read(held[0], &byte, 1), 1);
    struct waiter waiter = {release[1], false};
    assert_int_equal(packed_open(&p, llama, &s, let_go, &waiter), STATUS_OK);
    assert_true(waiter.waited);
    packed_close(&p);
    int code;
    assert_int_equal(waitpid(child, &code, 0), child);
    assert_int_equal(code, 0);
    for (size_t i = 0; i < 2; i++) {
        close(held[i]);
        close(release[i]);
    }
}

static void
too_little_text_and_other_refusals(void **state)
{
    (void)state;
    struct packed *p;
    struct packed_settings s = settings_of(paths_of(put_text("few.txt", "just a bit"), NULL));
    assert_int_equal(packed_open(&p, llama, &s, NULL, NULL), STATUS_CONFIG);
    assert_non_null(strstr(status_words(), "few.txt: gives only"));
    assert_non_null(strstr(status_words(), "wanted at least a context of 32"));
    s.context = 1;
    assert_int_equal(packed_open(&p, llama, &s, NULL, NULL), STATUS_CONFIG);
    s.context = 32;
    s.tokens = 31;
    assert_int_equal(packed_open(&p, llama, &s, NULL, NULL), STATUS_CONFIG);
    s.tokens = 0;
    s.files = paths_of(put_text("bad.jsonl", "{\"text\":\"fine\"}\nnot fine\n"), NULL);
    assert_int_equal(packed_open(&p, llama, &s, NULL, NULL), STATUS_DAMAGED);
    assert_non_null(strstr(status_words(), "bad.jsonl:2: column 1"));
    s.files = paths_of(put_text("x.txt", ""), NULL);
    assert_int_equal(packed_open(&p, llama, &s, NULL, NULL), STATUS_DAMAGED);
    s.files = paths_of("/nowhere", NULL);
    assert_int_equal(packed_open(&p, llama, &s, NULL, NULL), STATUS_MISSING);
    s.cache = "/dev/null/cache";
    s.files = paths_of(put_text("few.txt", "just a bit"), NULL);
    assert_int_equal(packed_open(&p, llama, &s, NULL, NULL), STATUS_CREATE);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_file_holds_what_direct_packing_gives),
        cmocka_unit_test(any_number_of_threads_gives_the_same_bytes),
        cmocka_unit_test(the_bound_cuts_the_same_stream),
        cmocka_unit_test(the_key_is_what_decides_the_ids),
        cmocka_unit_test(damaged_files_are_made_again),
        cmocka_unit_test(changed_text_is_noticed_and_unchanged_text_not_read_again),
        cmocka_unit_test(a_stop_leaves_nothing_behind),
        cmocka_unit_test(two_processes_do_not_make_it_twice),
        cmocka_unit_test(too_little_text_and_other_refusals),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
