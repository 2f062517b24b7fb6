#include "evaluator/probing_chosen.h"

#include "lib/base/file.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// ---------------------------------------------------------------- files

static int
by_name(const void *a, const void *b)
{
    const char *const *x = a, *const *y = b;
    return strcmp(*x, *y);
}

// The .jsonl files of a folder, by name; or the file itself.
static enum status
add_paths(char **paths, size_t *count, const char *path)
{
    if (!path_is_folder(path)) {
        if (*count == PROBING_SETS)
            return FAIL(CONFIG, "eval.probe_sets: more than %d sets", PROBING_SETS);
        if (!(paths[*count] = strdup(path)))
            return FAIL(CREATE, "no memory for the names of the sets");
        ++*count;
        return STATUS_OK;
    }
    DIR *folder = opendir(path);
    size_t first = *count;
    enum status status = STATUS_OK;
    if (!folder)
        return FAIL(DENIED, "%s: cannot be read", path);
    for (struct dirent *entry; status == STATUS_OK && (entry = readdir(folder));) {
        size_t length = strlen(entry->d_name);
        char file[PATH_BYTES];
        if (entry->d_name[0] == '.' || length < 7 ||
            strcmp(entry->d_name + length - 6, ".jsonl") != 0)
            continue;
        status = path_join(file, path, entry->d_name);
        if (status == STATUS_OK)
            status = add_paths(paths, count, file);
    }
    closedir(folder);
    TRY(status);
    if (*count == first)
        return FAIL(MISSING, "%s: no .jsonl files in it (eval.probe_sets)", path);
    qsort(paths + first, *count - first, sizeof *paths, by_name);
    return STATUS_OK;
}

enum status
probing_chosen_paths(char *paths[PROBING_SETS], size_t *count, const struct texts *named)
{
    *count = 0;
    if (named->count == 0)
        return FAIL(CONFIG, "eval.probe_sets: no labelled sets (osae data --probe fetches some)");
    for (size_t i = 0; i < named->count; i++)
        TRY(add_paths(paths, count, named->at[i]));
    return STATUS_OK;
}

// ---------------------------------------------------------------- draws

// At most so many rows of each class and side, drawn; members[class][side] are places in texts.
static enum status
choose(struct probing_chosen *set, uint32_t *members[PROBING_CLASSES][PROBING_SIDES],
       size_t counts[PROBING_CLASSES][PROBING_SIDES], const size_t most[PROBING_SIDES])
{
    const struct probing_set *from = &set->set;
    uint32_t *all = calloc(from->count + 1, sizeof *all);
    set->texts = calloc(from->count + 1, sizeof *set->texts);
    if (!all || !set->texts) {
        free(all);
        return FAIL(CREATE, "no memory for %zu texts", from->count);
    }
    struct pyrandom *random = malloc(sizeof *random);
    enum status status = random ? STATUS_OK : FAIL(CREATE, "no memory for a generator");
    if (random)
        pyrandom_seed(random, PROBING_SEED);
    for (size_t c = 0; c < from->class_count && status == STATUS_OK; c++)
        for (size_t side = 0; side < PROBING_SIDES; side++) {
            size_t n = 0;
            for (size_t i = 0; i < from->count; i++)
                if (from->texts[i].class == c && from->texts[i].side == side)
                    all[n++] = (uint32_t)i;
            if (n > 1)
                pyrandom_shuffle(random, all, (uint32_t)n);
            n = n < most[side] ? n : most[side];
            members[c][side] = calloc(n + 1, sizeof *members[c][side]);
            if (!members[c][side]) {
                status = FAIL(CREATE, "no memory for %zu texts", n);
                break;
            }
            counts[c][side] = n;
            for (size_t i = 0; i < n; i++) {
                members[c][side][i] = (uint32_t)set->count;
                set->texts[set->count++] = all[i];
            }
        }
    free(random);
    free(all);
    return status;
}

static enum status
draw_tasks(struct probing_chosen *set, const struct settings_eval *eval)
{
    uint32_t *members[PROBING_CLASSES][PROBING_SIDES] = {{NULL}};
    size_t counts[PROBING_CLASSES][PROBING_SIDES] = {{0}};
    const size_t most[PROBING_SIDES] = {eval->probing_train / 2, eval->probing_test / 2};
    struct pyrandom *random = malloc(sizeof *random);
    enum status status = STATUS_OK;
    if (!random)
        return FAIL(CREATE, "no memory for a generator");
    GOTRY(choose(set, members, counts, most));
    for (size_t c = 0; c < set->set.class_count; c++) {
        // Each task draws for itself, so that a class more or less changes no other.
        pyrandom_seed(random,
                      PROBING_SEED ^ hash64(set->set.classes[c], strlen(set->set.classes[c])));
        for (size_t side = 0; side < PROBING_SIDES; side++) {
            uint32_t *lists[PROBING_CLASSES];
            size_t sizes[PROBING_CLASSES];
            for (size_t i = 0; i < set->set.class_count; i++) {
                lists[i] = members[i][side];
                sizes[i] = counts[i][side];
            }
            GOTRY(probing_draw(&set->tasks[c][side], lists, sizes, set->set.class_count, c,
                               eval->probing_share, random));
        }
    }
done:
    for (size_t c = 0; c < PROBING_CLASSES; c++)
        for (size_t side = 0; side < PROBING_SIDES; side++)
            free(members[c][side]);
    free(random);
    return status;
}

// ---------------------------------------------------------------- one set

static enum status
open_stream(struct probing_chosen *set, const struct probing_plan *plan, struct model *model,
            const struct tokenizer *tokenizer)
{
    const char **at = calloc(set->count + 1, sizeof *at);
    size_t *bytes = calloc(set->count + 1, sizeof *bytes);
    enum status status = STATUS_OK;
    if (!at || !bytes)
        GOTRY(FAIL(CREATE, "no memory for %zu texts", set->count));
    for (size_t i = 0; i < set->count; i++) {
        at[i] = set->set.texts[set->texts[i]].at;
        bytes[i] = set->set.texts[set->texts[i]].bytes;
    }
    status = probing_stream_new(&set->stream, plan, model, tokenizer, at, bytes, set->count);
    if (status == STATUS_DAMAGED) {
        char why[256];
        snprintf(why, sizeof why, "%.200s", status_words());
        status = FAIL(DAMAGED, "%s: %s", set->set.name, why);
    }
done:
    free(at);
    free(bytes);
    return status;
}

enum status
probing_chosen_open(struct probing_chosen *out, const char *path, const struct settings *set,
                    const struct probing_plan *plan, struct model *model,
                    const struct tokenizer *tokenizer)
{
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    struct probing_choice choice = {.classes = set->eval.probing_classes};
    if (strncmp(name, "code", 4) == 0)
        choice.skip = set->eval.probing_skip;
    TRY(probing_set_open(&out->set, path, &choice));
    TRY(draw_tasks(out, &set->eval));
    return open_stream(out, plan, model, tokenizer);
}

void
probing_chosen_close(struct probing_chosen *chosen)
{
    probing_set_close(&chosen->set);
    probing_stream_free(&chosen->stream);
    for (size_t c = 0; c < PROBING_CLASSES; c++)
        for (size_t side = 0; side < PROBING_SIDES; side++)
            probing_task_free(&chosen->tasks[c][side]);
    free(chosen->texts);
}

void
probing_chosen_hash(const struct probing_chosen *chosen, struct hasher *hasher)
{
    struct hash128 key = probing_stream_key(chosen->stream);
    hasher_add(hasher, &key, sizeof key);
    hasher_add(hasher, chosen->set.name, sizeof chosen->set.name);
    for (size_t c = 0; c < chosen->set.class_count; c++) {
        hasher_add(hasher, chosen->set.classes[c], PROBING_NAME);
        for (size_t side = 0; side < PROBING_SIDES; side++) {
            const struct probing_task *task = &chosen->tasks[c][side];
            hasher_add(hasher, task->rows, task->count * sizeof *task->rows);
            hasher_add(hasher, task->positive, task->count * sizeof *task->positive);
        }
    }
}
