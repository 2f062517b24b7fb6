#include "lib/base/flags.h"

#include "lib/base/field.h"

#include <assert.h>

static const struct flag *
flag_named(const struct flag *flags, size_t count, const char *name, size_t length)
{
    for (size_t i = 0; i < count; i++)
        if (strlen(flags[i].name) == length && memcmp(flags[i].name, name, length) == 0)
            return &flags[i];
    return NULL;
}

static enum status
unknown(const struct flag *flags, size_t count, const char *who, const char *name, size_t length)
{
    const char *names[WORDS_MOST] = {NULL};
    char asked[64];
    assert(count <= WORDS_MOST);
    for (size_t i = 0; i < count; i++)
        names[i] = flags[i].name;
    snprintf(asked, sizeof asked, "%.*s", length < 60 ? (int)length : 60, name);
    const char *near = name_nearest(names, count, asked);
    return FAIL(USAGE, "%s: unknown flag %s%s%s%s", who, asked, near ? ", did you mean " : "",
                near ? near : "", near ? "?" : "");
}

static enum status
word_add(struct words *words, const char *word, const char *who)
{
    if (words->count == WORDS_MOST)
        return FAIL(USAGE, "%s: more than %d of a kind: %.80s", who, WORDS_MOST, word);
    words->at[words->count++] = word;
    return STATUS_OK;
}

static enum status
value_put(const struct flag *flag, const char *value, const char *who)
{
    if (flag->words)
        return word_add(flag->words, value, who);
    assert(flag->text);
    if (*flag->text)
        return FAIL(USAGE, "%s: %s is given twice", who, flag->name);
    *flag->text = value;
    return STATUS_OK;
}

enum status
flags_read(const struct flag *flags, size_t count, const char *who, int argc, char *const *argv,
           struct words *rest)
{
    bool over = false;
    for (int i = 1; i < argc; i++) {
        const char *word = argv[i];
        if (over || word[0] != '-' || word[1] == '\0') { // "-" alone is a word
            TRY(word_add(rest, word, who));
            continue;
        }
        if (strcmp(word, "--") == 0) {
            over = true;
            continue;
        }
        const char *is = strchr(word, '=');
        size_t length = is ? (size_t)(is - word) : strlen(word);
        const struct flag *flag = flag_named(flags, count, word, length);
        if (!flag)
            return unknown(flags, count, who, word, length);
        if (!flag->value) {
            if (is)
                return FAIL(USAGE, "%s: %s takes no value", who, flag->name);
            *flag->on = true;
        } else if (is) {
            TRY(value_put(flag, is + 1, who));
        } else if (i + 1 < argc) {
            TRY(value_put(flag, argv[++i], who));
        } else {
            return FAIL(USAGE, "%s: %s wants a value: %s %s", who, flag->name, flag->name,
                        flag->value);
        }
    }
    return STATUS_OK;
}

bool
flags_help_wanted(int argc, char *const *argv)
{
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++)
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)
            return true;
    return false;
}

void
flags_print(FILE *out, const struct flag *flags, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const char *value = flags[i].value;
        int width = fprintf(out, "  %s%s%s", flags[i].name, value ? " " : "", value ? value : "");
        fprintf(out, "%*s%s\n", width < 26 ? 26 - width : 2, "", flags[i].doc);
    }
}
