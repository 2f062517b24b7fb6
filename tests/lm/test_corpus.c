#include "lib/lm/corpus.h"
#include "tests/lm/folder.h"

#include <setjmp.h>
#include <unistd.h>

#include <cmocka.h>

// Reads all documents into one text, each behind "|".
static void
gather(char out[4096], struct corpus_counts *counts, const struct texts *paths, const char *field)
{
    struct corpus *corpus;
    struct corpus_document d;
    size_t used = 0;
    bool more = true;
    if (corpus_open(&corpus, paths, field) != STATUS_OK)
        fail_msg("%s", status_words());
    for (;;) {
        if (corpus_next(corpus, &d, &more) != STATUS_OK)
            fail_msg("%s", status_words());
        if (!more)
            break;
        assert_true(used + d.bytes + 2 < 4096);
        out[used++] = '|';
        memcpy(out + used, d.text, d.bytes);
        used += d.bytes;
    }
    out[used] = '\0';
    if (counts)
        *counts = corpus_counts(corpus);
    corpus_close(&corpus);
    assert_null(corpus);
}

static void
expect(const char *want, const struct texts *paths)
{
    char got[4096];
    gather(got, NULL, paths, NULL);
    assert_string_equal(got, want);
}

static void
refuse(enum status wanted, const char *words, const struct texts *paths)
{
    struct corpus *corpus;
    struct corpus_document d;
    bool more = true;
    enum status status = corpus_open(&corpus, paths, NULL);
    while (status == STATUS_OK && more)
        status = corpus_next(corpus, &d, &more);
    corpus_close(&corpus);
    if (status != wanted || !strstr(status_words(), words))
        fail_msg("%s '%s', wanted %s '%s'", status_name(status), status_words(),
                 status_name(wanted), words);
}

static void
lines_of_json(void **state)
{
    (void)state;
    struct corpus_counts counts;
    char got[4096];
    const char *path = put_text("a.jsonl", "{\"text\":\"one\"}\n\n  \r\n{\"text\":\"two\\n\"}\r\n"
                                           "{\"text\":\"\"}\n{\"text\":\"no newline at the end\"}");
    gather(got, &counts, paths_of(path, NULL), NULL);
    assert_string_equal(got, "|one|two\n||no newline at the end");
    assert_int_equal(counts.documents, 4);
    assert_int_equal(counts.files, 1);
    assert_int_equal(counts.text_bytes, 28);
    assert_int_equal(counts.bytes_done, counts.bytes_total);
    assert_int_equal(counts.invalid, 0);
    gather(got, NULL,
           paths_of(put_text("b.json", "\xEF\xBB\xBF{\"body\":\"x\",\"text\":\"y\"}"), NULL),
           "body");
    assert_string_equal(got, "|x");
}

static void
plain_files_are_one_document_each(void **state)
{
    (void)state;
    expect("|a\n\nb\r\n|c", paths_of(put_text("p/1.txt", "a\n\nb\r\n"), put_text("p/2.md", "c"),
                                     put_text("p/3.txt", ""), NULL));
    expect("|\xC3\xA9", paths_of(put_text("p/4.txt", "\xEF\xBB\xBF\xC3\xA9"), NULL));
}

static void
compressed_files_of_many_frames(void **state)
{
    (void)state;
    char lines[3000] = "";
    char want[3000] = "";
    for (size_t i = 0; i < 40; i++) {
        snprintf(lines + strlen(lines), sizeof lines - strlen(lines), "{\"text\":\"doc %zu\"}\n",
                 i);
        snprintf(want + strlen(want), sizeof want - strlen(want), "|doc %zu", i);
    }
    expect(want, paths_of(put_zstd("z.jsonl.zst", lines, strlen(lines), 1), NULL));
    expect(want, paths_of(put_zstd("z.json.zst", lines, strlen(lines), 7), NULL));
    expect("|plain", paths_of(put_zstd("z.txt.zst", "plain", 5, 3), NULL));

    char *packed;
    size_t bytes;
    const char *path = put_zstd("whole.jsonl.zst", lines, strlen(lines), 2);
    assert_int_equal(file_read(&packed, &bytes, path, 1 << 20), STATUS_OK);
    path = put_file("cut.jsonl.zst", packed, bytes - 3);
    refuse(STATUS_DAMAGED, "cut.jsonl.zst: ends inside a zstd frame", paths_of(path, NULL));
    path = put_file("half.jsonl.zst", packed, 10);
    refuse(STATUS_DAMAGED, "half.jsonl.zst: ends inside", paths_of(path, NULL));
    packed[bytes - 8] ^= 0x55;
    path = put_file("bad.jsonl.zst", packed, bytes);
    refuse(STATUS_DAMAGED, "bad.jsonl.zst:", paths_of(path, NULL));
    refuse(STATUS_DAMAGED,
           "no.txt.zst: zstd: ", paths_of(put_text("no.txt.zst", "not zstd"), NULL));
    free(packed);
}

static void
folders_are_sorted_and_searched(void **state)
{
    (void)state;
    put_text("t/b.txt", "b");
    put_text("t/a/2.txt", "a2");
    put_text("t/a/1.jsonl", "{\"text\":\"a1\"}");
    put_text("t/a/tokenizer.json", "{}");
    put_text("t/.git/x.txt", "hidden");
    put_text("t/c.py", "code");
    put_text("t/A.md", "upper");
    char link[PATH_BYTES], root[PATH_BYTES];
    snprintf(root, sizeof root, "%s/t", folder);
    snprintf(link, sizeof link, "%s/t/loop", folder);
    assert_int_equal(symlink(root, link), 0); // to a folder: not followed
    snprintf(link, sizeof link, "%s/t/d.txt", folder);
    assert_int_equal(symlink("b.txt", link), 0); // to a file: read
    expect("|upper|a1|a2|b|b", paths_of(root, NULL));

    put_text("e/only.py", "code");
    snprintf(root, sizeof root, "%s/e", folder);
    refuse(STATUS_MISSING, "/e: no text in this folder, wanted files .jsonl", paths_of(root, NULL));
}

static void
invalid_text_is_repaired_and_counted(void **state)
{
    (void)state;
    struct corpus_counts counts;
    char got[4096];
    gather(got, &counts,
           paths_of(put_text("i.txt", "a\xFF\xE2\x82z"),
                    put_text("i.jsonl", "{\"text\":\"\\ud800\xC3\"}\n{\"text\":\"fine\"}\n"), NULL),
           NULL);
    assert_string_equal(got, "|a\xEF\xBF\xBD\xEF\xBF\xBDz|\xEF\xBF\xBD\xEF\xBF\xBD|fine");
    assert_int_equal(counts.invalid, 4);
    assert_int_equal(counts.documents, 3);
}

static void
bad_input_is_one_line_with_file_and_line(void **state)
{
    (void)state;
    const char *bad = put_text("bad.jsonl", "{\"text\":\"a\"}\n\n{\"text\":7}\n");
    refuse(STATUS_DAMAGED, "bad.jsonl:3: field 'text' is a number, wanted a string",
           paths_of(bad, NULL));
    refuse(STATUS_DAMAGED, "prose.jsonl:1: column 1: found 'o', wanted an object",
           paths_of(put_text("prose.jsonl", "once\n"), NULL));
    refuse(STATUS_MISSING, "/nowhere.txt: no such file", paths_of("/nowhere.txt", NULL));
    refuse(STATUS_CONFIG, "x.parquet: not a kind of text we know",
           paths_of(put_text("x.parquet", "PAR1"), NULL));
    refuse(STATUS_CONFIG, "no text: no file or folder is given", paths_of(NULL));
    refuse(STATUS_DAMAGED, "empty.txt: no document: the file is empty",
           paths_of(put_text("empty.txt", ""), NULL));
    refuse(STATUS_DAMAGED, "and the others: no document: all files are empty",
           paths_of(put_text("empty.txt", ""), put_text("empty.jsonl", "\n \n"), NULL));
    refuse(STATUS_DAMAGED, "wide.txt: is UTF-16, wanted UTF-8",
           paths_of(put_file("wide.txt",
                             "\xFF\xFE"
                             "a\0b\0",
                             6),
                    NULL));
    refuse(STATUS_DAMAGED, "nul.jsonl:1: column 1: found byte 0x00",
           paths_of(put_file("nul.jsonl", "\0\n", 2), NULL));
}

// Documents of a plain file above the bound: cut after a blank line, nothing lost.
static void
long_files_are_cut_at_blank_lines(void **state)
{
    (void)state;
    size_t bytes = (size_t)CORPUS_DOCUMENT_MOST + (5 << 20), blank = CORPUS_DOCUMENT_MOST - 1000;
    char *text = malloc(bytes);
    assert_non_null(text);
    memset(text, 'x', bytes);
    for (size_t i = 99; i < bytes; i += 100)
        text[i] = '\n';
    memcpy(text + blank - 2, "\n\n", 2);
    const char *path = put_file("long.txt", text, bytes);
    struct corpus *corpus;
    struct corpus_document d;
    bool more;
    assert_int_equal(corpus_open(&corpus, paths_of(path, NULL), NULL), STATUS_OK);
    assert_int_equal(corpus_next(corpus, &d, &more), STATUS_OK);
    assert_int_equal(d.bytes, blank);
    assert_memory_equal(d.text, text, blank);
    assert_int_equal(corpus_next(corpus, &d, &more), STATUS_OK);
    assert_int_equal(d.bytes, bytes - blank);
    assert_memory_equal(d.text, text + blank, bytes - blank);
    assert_int_equal(corpus_next(corpus, &d, &more), STATUS_OK);
    assert_false(more);
    corpus_close(&corpus);

    // Without a blank line after the last line; without a line between characters.
    memcpy(text + blank - 2, "xx", 2);
    path = put_zstd("long.txt.zst", text, bytes, 1);
    assert_int_equal(corpus_open(&corpus, paths_of(path, NULL), NULL), STATUS_OK);
    assert_int_equal(corpus_next(corpus, &d, &more), STATUS_OK);
    assert_int_equal(d.bytes, CORPUS_DOCUMENT_MOST / 100 * 100);
    corpus_close(&corpus);
    for (size_t i = 0; i + 2 < bytes; i += 3)
        memcpy(text + i, "\xE2\x82\xAC", 3);
    path = put_zstd("long.txt.zst", text, bytes / 3 * 3, 1);
    assert_int_equal(corpus_open(&corpus, paths_of(path, NULL), NULL), STATUS_OK);
    assert_int_equal(corpus_next(corpus, &d, &more), STATUS_OK);
    assert_int_equal(d.bytes, CORPUS_DOCUMENT_MOST / 3 * 3);
    assert_int_equal(d.invalid, 0);
    corpus_close(&corpus);
    free(text);
}

static void
a_line_of_megabytes_is_read(void **state)
{
    (void)state;
    size_t bytes = 6 << 20;
    char *line = malloc(bytes + 32);
    assert_non_null(line);
    memcpy(line, "{\"text\":\"", 9);
    memset(line + 9, 'y', bytes);
    memcpy(line + 9 + bytes, "\"}\n{\"text\":\"z\"}\n", 17);
    struct corpus *corpus;
    struct corpus_document d;
    bool more;
    const char *path = put_file("wide.jsonl", line, bytes + 25);
    assert_int_equal(corpus_open(&corpus, paths_of(path, NULL), NULL), STATUS_OK);
    assert_int_equal(corpus_next(corpus, &d, &more), STATUS_OK);
    assert_int_equal(d.bytes, bytes);
    assert_int_equal(d.line, 1);
    assert_int_equal(corpus_next(corpus, &d, &more), STATUS_OK);
    assert_int_equal(d.bytes, 1);
    assert_int_equal(d.line, 2);
    corpus_close(&corpus);
    free(line);
}

static void
rows_of_tokens(void **state)
{
    (void)state;
    const char *path = put_text(
        "rows.jsonl", "{\"input_ids\":[1,2,3,4,5]}\n{\"tokens\":[6]}\n{\"input_ids\":[]}\n");
    struct corpus *corpus;
    struct corpus_row row;
    bool more;
    assert_int_equal(corpus_open(&corpus, paths_of(path, NULL), NULL), STATUS_OK);
    static const size_t counts[] = {3, 1, 0};
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(corpus_next_row(corpus, &row, 3, &more), STATUS_OK);
        assert_true(more);
        assert_int_equal(row.count, counts[i]);
        assert_int_equal(row.line, i + 1);
        if (i == 0)
            assert_memory_equal(row.ids, ((uint32_t[]){1, 2, 3}), 12);
    }
    assert_int_equal(corpus_next_row(corpus, &row, 3, &more), STATUS_OK);
    assert_false(more);
    corpus_close(&corpus);

    assert_int_equal(corpus_open(&corpus, paths_of(put_text("r.txt", "x"), NULL), NULL), STATUS_OK);
    assert_int_equal(corpus_next_row(corpus, &row, 3, &more), STATUS_CONFIG);
    corpus_close(&corpus);
    assert_int_equal(corpus_open(&corpus, paths_of(path, NULL), "ids"), STATUS_OK);
    assert_int_equal(corpus_next_row(corpus, &row, 3, &more), STATUS_DAMAGED);
    assert_non_null(strstr(status_words(), "rows.jsonl:1: no field 'ids' (it has: input_ids)"));
    corpus_close(&corpus);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_of_json),
        cmocka_unit_test(plain_files_are_one_document_each),
        cmocka_unit_test(compressed_files_of_many_frames),
        cmocka_unit_test(folders_are_sorted_and_searched),
        cmocka_unit_test(invalid_text_is_repaired_and_counted),
        cmocka_unit_test(bad_input_is_one_line_with_file_and_line),
        cmocka_unit_test(long_files_are_cut_at_blank_lines),
        cmocka_unit_test(a_line_of_megabytes_is_read),
        cmocka_unit_test(rows_of_tokens),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
