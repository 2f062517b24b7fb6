// RUN/eval: result files of every kind that a report shows.
#include "front/report_run.h"
#include "front/report_table.h"
#include "lib/store/checkpoint.h"

#include <dirent.h>
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>

enum { RESULTS_MOST = 4096 };

static int
is_result(const struct dirent *entry)
{
    static const char end[] = "_eval_results.json";
    size_t length = strlen(entry->d_name), tail = sizeof end - 1;
    return length > tail && strcmp(entry->d_name + length - tail, end) == 0;
}

static enum status
eval_folder(char out[PATH_BYTES], const struct report_run *run, const char *kind)
{
    char root[PATH_BYTES];
    if (run->config && run->config->set.eval.out[0])
        snprintf(root, sizeof root, "%s", run->config->set.eval.out);
    else
        TRY(path_join(root, run->path, "eval"));
    return path_join(out, root, kind);
}

static enum status
add_score(struct report_run *run, const char *path)
{
    if (run->score_count == run->score_room) {
        size_t room = run->score_room ? 2 * run->score_room : 8;
        struct report_score *grown = realloc(run->scores, room * sizeof *grown);
        if (!grown)
            return FAIL(CREATE, "no memory for %zu results", room);
        run->scores = grown;
        run->score_room = room;
    }
    struct report_score *score = &run->scores[run->score_count];
    if (saebench_core_read(&score->file, path) != STATUS_OK) {
        report_run_leave_out(run);
        return STATUS_OK;
    }
    // A folder named by eval.out is shared by many runs.
    bool shared = run->config && run->config->set.eval.out[0];
    if (shared && strcmp(score->file.head.run, run->name) != 0)
        return STATUS_OK;
    words_clean(score->file.head.model_name);
    words_clean(score->file.dataset);
    words_clean(score->file.head.hook_name);
    words_clean(score->file.head.architecture);
    run->score_count++;
    return STATUS_OK;
}

static enum status
add_absorption(struct report_run *run, const char *path, uint64_t step)
{
    if (run->absorption_count == run->absorption_room) {
        size_t room = run->absorption_room ? 2 * run->absorption_room : 4;
        struct absorption_file *grown = realloc(run->absorptions, room * sizeof *grown);
        if (!grown)
            return FAIL(CREATE, "no memory for %zu results", room);
        run->absorptions = grown;
        run->absorption_room = room;
    }
    struct absorption_file *file = &run->absorptions[run->absorption_count];
    if (saebench_absorption_read(file, path) != STATUS_OK) {
        report_run_leave_out(run);
        return STATUS_OK;
    }
    bool shared = run->config && run->config->set.eval.out[0];
    if (shared && strcmp(file->head.run, run->name) != 0)
        return STATUS_OK;
    file->head.step = step; // SAEBench's own files say it in their name alone
    words_clean(file->head.profile);
    run->absorption_count++;
    return STATUS_OK;
}

static int
by_step(const struct saebench_head *x, const struct saebench_head *y)
{
    if (x->step != y->step)
        return x->step < y->step ? -1 : 1;
    uint32_t a = checkpoint_incarnation(x->ck), b = checkpoint_incarnation(y->ck);
    if (a != b)
        return a < b ? -1 : 1;
    return (x->created_ms > y->created_ms) - (x->created_ms < y->created_ms);
}

// Was its checkpoint replaced by one of the same step, which has the next result?
static bool
is_replaced(const struct saebench_head *head, const struct saebench_head *next)
{
    return head->step == next->step &&
           checkpoint_incarnation(head->ck) < checkpoint_incarnation(next->ck);
}

// Only the newest step's is kept, and of that the newest.
static enum status
add_probing(struct report_run *run, const char *path, uint64_t step)
{
    struct probing_file *file = calloc(1, sizeof *file);
    if (!file)
        return FAIL(CREATE, "no memory for a result");
    if (saebench_probing_read(file, path) != STATUS_OK) {
        report_run_leave_out(run);
        free(file);
        return STATUS_OK;
    }
    file->head.step = step;
    bool shared = run->config && run->config->set.eval.out[0];
    const struct probing_file *had = run->probing;
    bool older = had && by_step(&file->head, &had->head) < 0;
    if (older || (shared && strcmp(file->head.run, run->name) != 0)) {
        probing_file_release(file);
        free(file);
        return STATUS_OK;
    }
    for (size_t s = 0; s < file->count; s++)
        words_clean(file->sets[s].name);
    if (run->probing)
        probing_file_release(run->probing);
    free(run->probing);
    run->probing = file;
    return STATUS_OK;
}

// NAME_step-000000000186_eval_results.json
static bool
step_of_name(uint64_t *step, const char *name)
{
    const char *at = strstr(name, "_step-");
    for (const char *next = at; next; next = strstr(next + 1, "_step-"))
        at = next;
    if (!at || strspn(at + 6, "0123456789") != 12)
        return false;
    *step = strtoull(at + 6, NULL, 10);
    return true;
}

static enum status
read_result(struct report_run *run, const char *kind, const char *folder, const char *name)
{
    char path[PATH_BYTES];
    uint64_t step;
    TRY(path_join(path, folder, name));
    if (strcmp(kind, "core") == 0)
        return add_score(run, path);
    if (!step_of_name(&step, name))
        return STATUS_OK;
    if (strcmp(kind, "sparse_probing") == 0)
        return add_probing(run, path, step);
    return add_absorption(run, path, step);
}

static enum status
read_results(struct report_run *run, const char *kind)
{
    char folder[PATH_BYTES];
    struct dirent **names;
    TRY(eval_folder(folder, run, kind));
    int count = scandir(folder, &names, is_result, alphasort);
    if (count < 0 && errno != ENOENT) {
        (void)FAIL(IO, "%s: cannot list: %s", folder, strerror(errno));
        report_run_leave_out(run);
    }
    enum status status = STATUS_OK;
    for (int i = 0; i < count; i++) {
        if (status == STATUS_OK && i < RESULTS_MOST)
            status = read_result(run, kind, folder, names[i]->d_name);
        free(names[i]);
    }
    if (count >= 0)
        free(names);
    return status;
}

static int
by_score_step(const void *a, const void *b)
{
    return by_step(&((const struct report_score *)a)->file.head,
                   &((const struct report_score *)b)->file.head);
}

static int
by_absorption_step(const void *a, const void *b)
{
    return by_step(&((const struct absorption_file *)a)->head,
                   &((const struct absorption_file *)b)->head);
}

// In order, results of replaced checkpoints stand before their successors': they go. How many stay.
static size_t
leave_replaced(void *results, size_t count, size_t bytes, size_t head)
{
    char *all = results;
    size_t left = count;
    for (size_t i = count; i-- > 0;) {
        const void *mine = all + i * bytes + head, *next = all + left * bytes + head;
        if (left == count || !is_replaced(mine, next))
            memmove(all + --left * bytes, all + i * bytes, bytes);
    }
    if (left > 0)
        memmove(all, all + left * bytes, (count - left) * bytes);
    return count - left;
}

enum status
report_results_read(struct report_run *run)
{
    TRY(read_results(run, "core"));
    TRY(read_results(run, "absorption"));
    TRY(read_results(run, "sparse_probing"));
    if (run->score_count)
        qsort(run->scores, run->score_count, sizeof *run->scores, by_score_step);
    if (run->absorption_count)
        qsort(run->absorptions, run->absorption_count, sizeof *run->absorptions,
              by_absorption_step);
    run->score_count = leave_replaced(run->scores, run->score_count, sizeof *run->scores,
                                      offsetof(struct report_score, file.head));
    run->absorption_count =
        leave_replaced(run->absorptions, run->absorption_count, sizeof *run->absorptions,
                       offsetof(struct absorption_file, head));
    return STATUS_OK;
}
