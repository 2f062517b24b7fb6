#include "front/report_failed.h"

#include "lib/base/say.h"
#include "lib/store/failure.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>

enum { SHOWN_MOST = 50 };

struct page {
    FILE *out;
    const struct report_run *run;
    enum table_style style;
    size_t count;
};

static void
print_one(struct page *page, struct failure *failure)
{
    static const char *const heads[] = {"\nFailed evaluations\n\n", "\n## Failed evaluations\n\n",
                                        "<h3>Failed evaluations</h3>\n<ul>\n"};
    if (page->count++ == 0)
        fputs(heads[page->style], page->out);
    if (page->count > SHOWN_MOST)
        return;
    words_clean(failure->kind);
    words_clean(failure->reason);
    words_clean(failure->created);
    fputs(page->style == TABLE_HTML       ? "<li>"
          : page->style == TABLE_MARKDOWN ? "- "
                                          : "  ",
          page->out);
    fprintf(page->out, "step %llu, ", (unsigned long long)failure->step);
    words_print(page->out, failure->kind, page->style);
    fputs(": ", page->out);
    words_print(page->out, failure->reason, page->style);
    fprintf(page->out, " (%llu attempt%s, ", (unsigned long long)failure->attempts,
            failure->attempts == 1 ? "" : "s");
    words_print(page->out, failure->created, page->style);
    fputs(page->style == TABLE_HTML ? ")</li>\n" : ")\n", page->out);
}

static int
is_failure(const struct dirent *entry)
{
    return failure_name(entry->d_name);
}

static enum status
read_kind(struct page *page, const char *folder)
{
    struct dirent **names;
    int count = scandir(folder, &names, is_failure, alphasort);
    enum status status = STATUS_OK;
    for (int i = 0; i < count; i++) {
        char path[PATH_BYTES];
        struct failure *failure = status == STATUS_OK ? malloc(sizeof *failure) : NULL;
        if (failure && path_join(path, folder, names[i]->d_name) == STATUS_OK) {
            if (failure_read(failure, path) != STATUS_OK)
                say(SAY_WARN, "%s", status_words());
            else if (strcmp(failure->run, page->run->name) == 0)
                print_one(page, failure);
        } else if (!failure && status == STATUS_OK) {
            status = FAIL(CREATE, "no memory for a record");
        }
        free(failure);
        free(names[i]);
    }
    if (count >= 0)
        free(names);
    return status;
}

enum status
report_failed(FILE *out, const struct report_run *run, enum table_style style)
{
    struct page page = {out, run, style, 0};
    char root[PATH_BYTES], folder[PATH_BYTES];
    if (run->config && run->config->set.eval.out[0])
        snprintf(root, sizeof root, "%s", run->config->set.eval.out);
    else
        TRY(path_join(root, run->path, "eval"));
    struct dirent **kinds;
    int count = scandir(root, &kinds, NULL, alphasort);
    enum status status = STATUS_OK;
    for (int i = 0; i < count; i++) {
        if (status == STATUS_OK && kinds[i]->d_name[0] != '.' &&
            path_join(folder, root, kinds[i]->d_name) == STATUS_OK)
            status = read_kind(&page, folder);
        free(kinds[i]);
    }
    if (count >= 0)
        free(kinds);
    if (page.count > SHOWN_MOST)
        fprintf(out, "%sand %zu more%s\n", style == TABLE_HTML ? "<li>" : "  ",
                page.count - SHOWN_MOST, style == TABLE_HTML ? "</li>" : "");
    if (page.count > 0)
        fputs(style == TABLE_HTML ? "</ul>\n" : "\n", out);
    return status;
}
