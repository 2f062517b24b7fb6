// docs/protocol.md ends with what the rows print. To renew it: OSAE_RENEW=1 test_proto_manual.
#include "proto/frame.h"

#include "lib/base/file.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const char page_path[] = OSAE_TESTS "/../docs/protocol.md";
static const char mark[] = "holds it to the rows. -->\n";

static void
the_page_has_the_tables_of_the_rows(void **unused)
{
    (void)unused;
    char *now = NULL, *page = NULL;
    size_t now_bytes = 0, page_bytes = 0;
    FILE *out = open_memstream(&now, &now_bytes);
    assert_non_null(out);
    messages_print(out);
    assert_int_equal(fclose(out), 0);
    assert_int_equal(file_read(&page, &page_bytes, page_path, 1 << 20), STATUS_OK);
    char *tables = strstr(page, mark);
    assert_non_null(tables);
    tables += strlen(mark);
    if (getenv("OSAE_RENEW")) {
        FILE *to = fopen(page_path, "w");
        assert_non_null(to);
        fprintf(to, "%.*s\n%s", (int)(tables - page), page, now);
        assert_int_equal(fclose(to), 0);
    } else if (tables[0] != '\n' || strcmp(tables + 1, now) != 0) {
        fail_msg("docs/protocol.md is old: OSAE_RENEW=1 test_proto_manual");
    }
    free(now);
    free(page);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(the_page_has_the_tables_of_the_rows)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
