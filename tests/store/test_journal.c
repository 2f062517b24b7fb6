// The journal: its bytes, torn tails, damage in the middle, failed writes and syncs.
//
// Invariants: D2 D5 D6
#include "lib/base/bytes.h"
#include "lib/base/fault.h"
#include "lib/base/say.h"
#include "lib/store/journal.h"
#include "tests/store/scratch.h"
#include "tests/weigh.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/stat.h>

#include <cmocka.h>

enum { RECORDS = 6 };

static const char *
fill(const char *name)
{
    const char *path = scratch_path(name);
    unlink(path);
    struct journal *j;
    assert_int_equal(journal_open(&j, path, false), STATUS_OK);
    for (int i = 1; i <= RECORDS; i++)
        assert_int_equal(journal_append(j, i % 2 ? "set" : "caf\xc3\xa9", "{s:i, s:s}", "n", i,
                                        "text", i == 3 ? "line\nend \"\\" : "x"),
                         STATUS_OK);
    journal_close(&j);
    return path;
}

// Every record is there with its lsn and its n; how many.
static size_t
count(struct journal *j)
{
    size_t n = 0;
    json_t *record;
    for (size_t at = 0;;) {
        assert_int_equal(journal_next(&record, j, &at), STATUS_OK);
        if (!record)
            return n;
        n++;
        assert_int_equal(json_integer_value(json_object_get(record, "lsn")), n);
        if (json_object_get(record, "n"))
            assert_int_equal(json_integer_value(json_object_get(record, "n")), n);
        json_decref(record);
    }
}

static size_t
open_and_count(const char *path)
{
    struct journal *j;
    if (journal_open(&j, path, false) != STATUS_OK)
        fail_msg("%s", status_words());
    size_t n = count(j);
    journal_close(&j);
    return n;
}

static void
the_bytes_of_a_line_are_these(void **unused)
{
    (void)unused;
    const char *path = scratch_path("bytes.jsonl");
    struct journal *j;
    assert_int_equal(journal_open(&j, path, false), STATUS_OK);
    assert_int_equal(journal_append(j, "stop", "{s:s}", "why", "asked"), STATUS_OK);
    journal_close(&j);
    size_t bytes;
    char *text = file_get(path, &bytes);
    // The sum was computed by the xxhash package for Python.
    assert_string_equal(
        text, "{\"lsn\":1,\"type\":\"stop\",\"why\":\"asked\",\"sum\":\"1ae01e459dd942b7\"}\n");
    free(text);
    struct stat info;
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0600);
}

static void
records_come_back_and_more_may_follow(void **unused)
{
    (void)unused;
    const char *path = fill("back.jsonl");
    struct journal *j;
    assert_int_equal(journal_open(&j, path, false), STATUS_OK);
    assert_int_equal(count(j), RECORDS);
    assert_int_equal(journal_append(j, "set", "{s:i}", "n", RECORDS + 1), STATUS_OK);
    assert_int_equal(count(j), RECORDS + 1);
    assert_int_equal(journal_append(j, "bad", "{s:s}", "text", "\xff"), STATUS_INTERNAL);
    char *big = malloc(JOURNAL_LINE_MOST + 1);
    memset(big, 'a', JOURNAL_LINE_MOST);
    big[JOURNAL_LINE_MOST] = '\0';
    assert_int_equal(journal_append(j, "big", "{s:s}", "text", big), STATUS_INTERNAL);
    free(big);
    journal_close(&j);
    assert_int_equal(open_and_count(path), RECORDS + 1);
}

static void
a_journal_cut_anywhere_keeps_its_whole_lines(void **unused)
{
    (void)unused;
    size_t bytes;
    const char *path = fill("cut.jsonl");
    char *whole = file_get(path, &bytes);
    for (size_t at = 0; at <= bytes; at++) {
        size_t lines = 0, records, left;
        bool torn;
        for (size_t i = 0; i < at; i++)
            lines += whole[i] == '\n';
        file_put(path, whole, at);
        assert_int_equal(journal_check(&records, &torn, path), STATUS_OK);
        assert_int_equal(records, lines);
        assert_int_equal(torn, at > 0 && whole[at - 1] != '\n');
        struct journal *j;
        assert_int_equal(journal_open(&j, path, false), STATUS_OK);
        assert_int_equal(count(j), lines);
        // The tail is gone, so what follows begins a line.
        assert_int_equal(journal_append(j, "set", "{s:I}", "n", (json_int_t)lines + 1), STATUS_OK);
        journal_close(&j);
        assert_int_equal(open_and_count(path), lines + 1);
        free(file_get(path, &left));
        assert_true(left > 0);
    }
    free(whole);
}

static void
damage_in_the_middle_is_refused_unless_salvaged(void **unused)
{
    (void)unused;
    size_t bytes;
    const char *path = fill("damaged.jsonl");
    char *whole = file_get(path, &bytes);
    size_t last = bytes - 1; // where the last line begins
    while (whole[last - 1] != '\n')
        last--;
    for (size_t at = 0; at < bytes; at++) {
        char *copy = malloc(bytes);
        memcpy(copy, whole, bytes);
        copy[at] ^= (char)(1 << at % 8);
        file_put(path, copy, bytes);
        free(copy);
        struct journal *j;
        if (at < last - 1) {
            assert_int_equal(journal_open(&j, path, false), STATUS_DAMAGED);
            size_t records;
            bool torn;
            assert_int_equal(journal_check(&records, &torn, path), STATUS_DAMAGED);
            if (at % 7 == 0) {
                assert_int_equal(journal_open(&j, path, true), STATUS_OK);
                size_t n = 0, dropped = 0;
                json_t *record;
                for (size_t pos = 0; journal_next(&record, j, &pos) == STATUS_OK && record; n++) {
                    assert_int_equal(json_integer_value(json_object_get(record, "lsn")), n + 1);
                    dropped = (size_t)json_integer_value(json_object_get(record, "dropped"));
                    json_decref(record);
                }
                // A flipped line end joins two lines; a new one in a line makes two of it.
                assert_in_range(dropped, 1, 2);
                assert_in_range(n, RECORDS - 1, RECORDS); // with the record of the salvage
                journal_close(&j);
                assert_int_equal(journal_check(&records, &torn, path), STATUS_OK);
                assert_true(records == n && !torn);
                char aside[PATH_BYTES];
                snprintf(aside, sizeof aside, "%s.damaged", path);
                size_t kept;
                free(file_get(aside, &kept));
                assert_int_equal(kept, bytes);
            }
        } else { // in the last line, or the end of the one before: a torn tail
            assert_int_equal(open_and_count(path), at < last ? RECORDS - 2 : RECORDS - 1);
        }
    }
    // A line that is gone, with sound ones on both sides.
    char *second = strchr(whole, '\n') + 1, *third = strchr(second, '\n') + 1;
    memmove(second, third, bytes - (size_t)(third - whole));
    file_put(path, whole, bytes - (size_t)(third - second));
    struct journal *j;
    assert_int_equal(journal_open(&j, path, false), STATUS_DAMAGED);
    free(whole);
}

static void
any_bytes_are_a_torn_tail_or_refused(void **unused)
{
    (void)unused;
    static const char *const texts[] = {"", "\n", "\n\n\n", "{}\n", "null\n", "{\"lsn\":1}\n", "x"};
    const char *path = scratch_path("any.jsonl");
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        file_put(path, texts[i], strlen(texts[i]));
        assert_int_equal(open_and_count(path), 0);
    }
    static char zeros[100000];
    file_put(path, zeros, sizeof zeros);
    assert_int_equal(open_and_count(path), 0);
    memset(zeros, '\n', sizeof zeros);
    file_put(path, zeros, sizeof zeros);
    assert_int_equal(open_and_count(path), 0);
    struct journal *j;
    assert_int_equal(journal_open(&j, scratch, false), STATUS_CREATE); // a folder
    assert_int_equal(journal_open(&j, scratch_path("no/such"), false), STATUS_CREATE);
}

static void
after_a_failed_write_or_sync_the_file_is_a_new_one(void **unused)
{
    (void)unused;
    static const char *const places[] = {"journal.write:1", "journal.sync:1", "file.write:1"};
    for (size_t i = 0; i < 3; i++) {
        const char *path = fill("failing.jsonl");
        struct journal *j;
        struct stat before, after;
        assert_int_equal(journal_open(&j, path, false), STATUS_OK);
        assert_int_equal(stat(path, &before), 0);
        fault_set(places[i]);
        assert_int_equal(journal_append(j, "set", "{s:i}", "n", 7), STATUS_IO);
        assert_int_equal(fault_visits(), 1);
        assert_int_equal(count(j), RECORDS);
        // The new file may fail as well; nothing is lost, and nothing counts twice.
        fault_set("file.sync:1");
        assert_int_equal(journal_append(j, "set", "{s:i}", "n", 7), STATUS_IO);
        fault_set("journal.sync:0"); // never again on the old file
        assert_int_equal(journal_append(j, "set", "{s:i}", "n", 7), STATUS_OK);
        assert_int_equal(fault_visits(), 0);
        fault_set(NULL);
        assert_int_equal(stat(path, &after), 0);
        assert_int_not_equal(before.st_ino, after.st_ino);
        assert_int_equal(journal_append(j, "set", "{s:i}", "n", 8), STATUS_OK);
        journal_close(&j);
        assert_int_equal(open_and_count(path), 8);
    }
    const char *path = fill("tail.jsonl");
    int fd = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);
    assert_int_equal(write(fd, "{\"lsn", 5), 5);
    close(fd);
    fault_set("journal.cut:1");
    struct journal *j;
    assert_int_equal(journal_open(&j, path, false), STATUS_IO);
    fault_set(NULL);
    assert_int_equal(open_and_count(path), RECORDS);
}

// Long lines and short ones, many times what is kept in memory: they come back whole, also from the
// middle, while more are added, and after the file had to be written anew.
static void
a_long_history_comes_back_and_is_not_held(void **unused)
{
    (void)unused;
    enum { LONG = 60000, ROUNDS = 60, LINES = 3 * ROUNDS };
    const char *path = scratch_path("long.jsonl");
    char *text = malloc(LONG + 1);
    struct journal *j;
    json_t *record;
    assert_int_equal(journal_open(&j, path, false), STATUS_OK);
    size_t before = weigh(), reading = 0;
    int n = 0;
    for (int round = 0; round < ROUNDS; round++) {
        memset(text, 'a' + round % 26, LONG);
        text[LONG - round % 7] = '\0';
        assert_int_equal(journal_append(j, "long", "{s:i, s:s}", "n", ++n, "text", text),
                         STATUS_OK);
        for (int i = 0; i < 2; i++)
            assert_int_equal(journal_append(j, "short", "{s:i}", "n", ++n), STATUS_OK);
        for (int i = 0; i < 3; i++) {
            assert_int_equal(journal_next(&record, j, &reading), STATUS_OK);
            assert_int_equal(json_integer_value(json_object_get(record, "lsn")), n - 2 + i);
            const char *back = json_string_value(json_object_get(record, "text"));
            assert_true(i == 0 ? back && strcmp(back, text) == 0 : !back);
            json_decref(record);
        }
        if (round % 20 == 7)
            assert_int_equal(count(j), n);
        if (round % 20 == 13) { // a disk that fails once
            fault_set(round > 20 ? "journal.sync:1" : "journal.write:1");
            assert_int_equal(journal_append(j, "short", "{s:i}", "n", n + 1), STATUS_IO);
            fault_set(NULL);
            assert_int_equal(count(j), n);
        }
    }
    size_t after = weigh();
    assert_true(after < before + JOURNAL_LINE_MOST);
    assert_int_equal(count(j), LINES);
    journal_close(&j);
    assert_int_equal(open_and_count(path), LINES);
    // Cut by somebody else: said, not made up.
    assert_int_equal(journal_open(&j, path, false), STATUS_OK);
    assert_int_equal(truncate(path, LONG), 0);
    size_t at = 0;
    assert_int_equal(journal_next(&record, j, &at), STATUS_IO);
    assert_null(record);
    journal_close(&j);
    free(text);
}

static void *
append_many(void *journal)
{
    for (int i = 0; i < 200; i++)
        if (journal_append(journal, "set", "{s:i}", "k", i) != STATUS_OK)
            return journal;
    return NULL;
}

static void
threads_append_whole_lines(void **unused)
{
    (void)unused;
    const char *path = scratch_path("threads.jsonl");
    struct journal *j;
    assert_int_equal(journal_open(&j, path, false), STATUS_OK);
    pthread_t threads[4];
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, append_many, j), 0);
    for (int i = 0; i < 4; i++) {
        void *failed;
        assert_int_equal(pthread_join(threads[i], &failed), 0);
        assert_null(failed);
    }
    journal_close(&j);
    assert_int_equal(open_and_count(path), 800);
}

int
main(void)
{
    say_level(SAY_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_bytes_of_a_line_are_these),
        cmocka_unit_test(records_come_back_and_more_may_follow),
        cmocka_unit_test(a_journal_cut_anywhere_keeps_its_whole_lines),
        cmocka_unit_test(damage_in_the_middle_is_refused_unless_salvaged),
        cmocka_unit_test(any_bytes_are_a_torn_tail_or_refused),
        cmocka_unit_test(after_a_failed_write_or_sync_the_file_is_a_new_one),
        cmocka_unit_test(a_long_history_comes_back_and_is_not_held),
        cmocka_unit_test(threads_append_whole_lines),
    };
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
