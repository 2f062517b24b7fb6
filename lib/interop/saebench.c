#include "lib/interop/saebench_inside.h"

#include "lib/store/checkpoint.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

enum { DIGITS = 15, MOST_BYTES = 1 << 30 };

enum status
saebench_eval_id(char out[37])
{
    unsigned char b[16];
    if (getrandom(b, sizeof b, 0) != (ssize_t)sizeof b)
        return FAIL(IO, "no random bytes from the system: %s", strerror(errno));
    b[6] = (unsigned char)((b[6] & 0x0f) | 0x40); // version 4
    b[8] = (unsigned char)((b[8] & 0x3f) | 0x80); // variant of RFC 4122
    snprintf(out, 37, "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", b[0],
             b[1], b[2], b[3], b[4], b[5], b[6], b[7], b[8], b[9], b[10], b[11], b[12], b[13],
             b[14], b[15]);
    return STATUS_OK;
}

const char *
saebench_misleading(const char *path, const char *kind)
{
    static const char *const kinds[] = {
        "tpp", "scr", "absorption", "autointerp", "sparse_probing", "unlearning", "core", NULL};
    for (size_t i = 0; kinds[i]; i++)
        if (strstr(path, kinds[i]))
            return strcmp(kinds[i], kind) == 0 ? NULL : kinds[i];
    return NULL;
}

// ---------------------------------------------------------------- writing

json_t *
saebench_real(double value)
{
    return isfinite(value) ? json_real(value) : json_integer(-1);
}

json_t *
saebench_count(uint64_t value)
{
    return json_integer((json_int_t)(value > INT64_MAX ? INT64_MAX : value));
}

// The kind's own members behind the head's, as SAEBench's files have them.
static json_t *
behind(json_t *head, json_t *own)
{
    bool fine = own && json_object_update(head, own) == 0;
    json_decref(own);
    if (fine)
        return head;
    json_decref(head);
    return NULL;
}

static void
add_head(struct saebench_parts *to, const struct saebench_head *head)
{
    char mh[17], spec[33];
    hex64(mh, head->mh);
    hex128(spec, head->spec);
    to->config =
        behind(json_pack("{s:s, s:s}", "model_name", head->model_name, "llm_dtype", head->dtype),
               to->config);
    to->sae =
        behind(json_pack("{s:s, s:s, s:o, s:o, s:o, s:s, s:o}", "model_name", head->model_name,
                         "architecture", head->architecture, "d_in", saebench_count(head->width),
                         "d_sae", saebench_count(head->latents), "hook_layer",
                         saebench_count(head->layer), "hook_name", head->hook_name,
                         "training_tokens", saebench_count(head->training_tokens)),
               to->sae);
    to->ours =
        behind(json_pack("{s:s, s:s, s:s, s:s, s:s, s:o, s:o}", "ck", head->ck, "mh", mh, "spec",
                         spec, "profile", head->profile, "run", head->run, "step",
                         saebench_count(head->step), "seconds", saebench_real(head->seconds)),
               to->ours);
}

static enum status
make_folder_of(const char *path)
{
    char folder[PATH_BYTES];
    const char *slash = strrchr(path, '/');
    if (!slash || slash == path)
        return STATUS_OK;
    int length = snprintf(folder, sizeof folder, "%.*s", (int)(slash - path), path);
    if (length < 0 || (size_t)length >= sizeof folder)
        return FAIL(CONFIG, "%.100s...: too long for a path", path);
    return path_make(folder, 0755);
}

static char *
text_of_whole(const char *type_id, const struct saebench_head *head, struct saebench_parts *parts)
{
    char commit[80], release[SAEBENCH_TEXT + 32];
    snprintf(commit, sizeof commit, "osae %s", head->version);
    snprintf(release, sizeof release, "osae_%s_step%llu", head->run,
             (unsigned long long)head->step);
    bool ours = json_object_set_new(parts->unstructured, "osae", parts->ours) == 0;
    json_t *whole = json_pack(
        "{s:s, s:o, s:s, s:o, s:o, s:o, s:s, s:s, s:s, s:s, s:o, s:o}", "eval_type_id", type_id,
        "eval_config", parts->config, "eval_id", head->eval_id, "datetime_epoch_millis",
        saebench_count(head->created_ms), "eval_result_metrics", parts->metrics,
        "eval_result_details", parts->details, "sae_bench_commit_hash", commit, "sae_lens_id",
        "custom_sae", "sae_lens_release_id", release, "sae_lens_version", "Unknown", "sae_cfg_dict",
        parts->sae, "eval_result_unstructured", parts->unstructured);
    char *text =
        whole && ours ? json_dumps(whole, JSON_INDENT(2) | JSON_REAL_PRECISION(DIGITS)) : NULL;
    json_decref(whole);
    return text;
}

enum status
saebench_write(const char *path, const char *type_id, const struct saebench_head *head,
               struct saebench_parts parts)
{
    add_head(&parts, head);
    char *text = text_of_whole(type_id, head, &parts);
    if (!text)
        return FAIL(CREATE, "%s: no memory for the result, or a name in it is not UTF-8", path);
    enum status status = make_folder_of(path);
    if (status == STATUS_OK)
        status = file_replace(path, text, strlen(text));
    free(text);
    return status;
}

// ---------------------------------------------------------------- reading

void
saebench_text_of(char *out, size_t room, const json_t *from, const char *key)
{
    const char *text = json_string_value(json_object_get(from, key));
    snprintf(out, room, "%s", text ? text : "");
}

uint64_t
saebench_count_of(const json_t *from, const char *key)
{
    json_int_t value = json_integer_value(json_object_get(from, key));
    return value > 0 ? (uint64_t)value : 0;
}

double
saebench_real_of(const json_t *from, const char *key)
{
    const json_t *at = json_object_get(from, key);
    double value = json_is_number(at) ? json_number_value(at) : -1;
    return value >= 0 ? value : UNDEFINED;
}

#define TEXT_OF(field, from, key) saebench_text_of(head->field, sizeof head->field, from, key)

static enum status
head_of(struct saebench_head *head, const struct saebench_tree *tree, const char *path)
{
    const json_t *whole = tree->whole, *sae = tree->sae, *ours = tree->ours;
    TEXT_OF(model_name, tree->config, "model_name");
    TEXT_OF(dtype, tree->config, "llm_dtype");
    TEXT_OF(architecture, sae, "architecture");
    TEXT_OF(hook_name, sae, "hook_name");
    head->width = saebench_count_of(sae, "d_in");
    head->latents = saebench_count_of(sae, "d_sae");
    head->layer = saebench_count_of(sae, "hook_layer");
    head->training_tokens = saebench_count_of(sae, "training_tokens");
    TEXT_OF(eval_id, whole, "eval_id");
    TEXT_OF(version, whole, "sae_bench_commit_hash");
    if (strncmp(head->version, "osae ", 5) == 0)
        memmove(head->version, head->version + 5, strlen(head->version + 5) + 1);
    head->created_ms = saebench_count_of(whole, "datetime_epoch_millis");
    TEXT_OF(ck, ours, "ck");
    TEXT_OF(profile, ours, "profile");
    TEXT_OF(run, ours, "run");
    head->step = saebench_count_of(ours, "step");
    head->seconds = json_number_value(json_object_get(ours, "seconds"));
    const char *mh = json_string_value(json_object_get(ours, "mh"));
    const char *spec = json_string_value(json_object_get(ours, "spec"));
    if (ours && (!mh || !hex64_parse(&head->mh, mh) || !spec || !hex128_parse(&head->spec, spec)))
        return FAIL(DAMAGED, "%s: osae.mh and osae.spec must be 16 and 32 hex digits", path);
    return STATUS_OK;
}

static enum status
parts_of(struct saebench_tree *tree, const char *path, const char *type_id)
{
    const json_t *whole = tree->whole;
    const char *kind = json_string_value(json_object_get(whole, "eval_type_id"));
    if (kind && type_id && strcmp(kind, type_id) != 0)
        return FAIL(DAMAGED, "%s: eval_type_id is '%.40s', wanted '%s'", path, kind, type_id);
    tree->config = json_object_get(whole, "eval_config");
    tree->metrics = json_object_get(whole, "eval_result_metrics");
    tree->details = json_object_get(whole, "eval_result_details");
    tree->sae = json_object_get(whole, "sae_cfg_dict");
    tree->unstructured = json_object_get(whole, "eval_result_unstructured");
    tree->ours = json_object_get(tree->unstructured, "osae");
    if (!json_is_object(tree->metrics))
        return FAIL(DAMAGED, "%s: no result of SAEBench's shape: eval_result_metrics is missing",
                    path);
    return STATUS_OK;
}

enum status
saebench_open(struct saebench_tree *out, struct saebench_head *head, const char *path,
              const char *type_id)
{
    char *text = NULL;
    size_t bytes;
    json_error_t error;
    *out = (struct saebench_tree){0};
    *head = (struct saebench_head){0};
    TRY(file_read(&text, &bytes, path, MOST_BYTES));
    out->whole = json_loadb(text, bytes, JSON_REJECT_DUPLICATES, &error);
    free(text);
    if (!out->whole)
        return FAIL(DAMAGED, "%s:%d: not JSON: %s", path, error.line, error.text);
    enum status status = parts_of(out, path, type_id);
    if (status == STATUS_OK)
        status = head_of(head, out, path);
    if (status != STATUS_OK)
        saebench_close(out);
    return status;
}

void
saebench_close(struct saebench_tree *tree)
{
    json_decref(tree->whole);
    *tree = (struct saebench_tree){0};
}

// ---------------------------------------------------------------- names

enum { NAME_BYTES = 600 };

static enum status
name_in(char out[PATH_BYTES], const char *folder, const char *run, uint64_t step,
        const char *suffix)
{
    char name[NAME_BYTES];
    int length = snprintf(name, sizeof name, "%s_step-%012llu%s_eval_results.json", run,
                          (unsigned long long)step, suffix);
    if (length < 0 || (size_t)length >= sizeof name)
        return FAIL(CONFIG, "'%.100s...': too long for a run's name", run);
    for (char *c = name; *c; c++)
        if (*c == '/')
            *c = '_';
    TRY(path_join(out, folder, name));
    return STATUS_OK;
}

// The names a result may have: the first that nothing else needs.
enum { NAMES = 3 };

static enum status
name_of(char out[PATH_BYTES], size_t i, const char *folder, const struct saebench_head *head)
{
    char spec[33], mh[17], suffix[NAMES][64] = {""};
    hex128(spec, head->spec);
    hex64(mh, head->mh);
    snprintf(suffix[1], sizeof suffix[1], "_spec-%.8s", spec);
    snprintf(suffix[2], sizeof suffix[2], "_spec-%.8s_mh-%s", spec, mh);
    return name_in(out, folder, head->run, head->step, suffix[i]);
}

// What a file of that name holds, beside what is asked for. Nothing when it is missing or damaged.
enum held { HELD_NOTHING, HELD_OLDER, HELD_NEWER, HELD_OTHER_SPEC, HELD_IT };

static enum held
look(const char *path, const struct saebench_head *asked)
{
    struct saebench_tree tree;
    struct saebench_head head;
    if (!path_exists(path) || saebench_open(&tree, &head, path, NULL) != STATUS_OK)
        return HELD_NOTHING;
    saebench_close(&tree);
    if (head.mh == asked->mh)
        return hash128_same(head.spec, asked->spec) ? HELD_IT : HELD_OTHER_SPEC;
    return checkpoint_incarnation(head.ck) > checkpoint_incarnation(asked->ck) ? HELD_NEWER
                                                                               : HELD_OLDER;
}

enum status
saebench_path(char out[PATH_BYTES], const char *folder, const struct saebench_head *head)
{
    for (size_t i = 0; i < NAMES; i++) {
        TRY(name_of(out, i, folder, head));
        enum held held = look(out, head);
        if (held != HELD_OTHER_SPEC && held != HELD_NEWER)
            break; // the last name is of this result alone
    }
    return STATUS_OK;
}

enum status
saebench_find(bool *found, char path[PATH_BYTES], const char *folder,
              const struct saebench_head *head)
{
    *found = false;
    for (size_t i = 0; i < NAMES && !*found; i++) {
        TRY(name_of(path, i, folder, head));
        *found = look(path, head) == HELD_IT;
    }
    return STATUS_OK;
}
