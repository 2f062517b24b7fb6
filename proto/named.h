// named: a bounded list of name -> value, the free maps of messages (the arguments of a command,
// the data of a reply, the numbers of a step).
// Names are [A-Za-z0-9_./-]{1,48}. What does not fit is counted in `lost`, and a message that lost
// something cannot be encoded: nothing is dropped silently.
#ifndef PROTO_NAMED_H
#define PROTO_NAMED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { NAMED_MOST = 512, NAMED_NAME = 49, NAMED_TEXT = 24 * 1024 };
enum named_type { NAMED_REAL, NAMED_WHOLE, NAMED_FLAG, NAMED_WORDS };
struct named_value {
    char name[NAMED_NAME];
    uint8_t type;
    union {
        double real; // NaN travels as nil
        int64_t whole;
        bool flag;
        uint32_t text; // offset of a NUL-terminated text
    };
};
struct named {
    uint32_t count, lost, text_used;
    struct named_value at[NAMED_MOST];
    char text[NAMED_TEXT];
};

void named_clear(struct named *list); // touches the counts only
void named_real(struct named *list, const char *name, double value);
void named_whole(struct named *list, const char *name, int64_t value);
void named_flag(struct named *list, const char *name, bool value);
void named_words(struct named *list, const char *name, const char *text);
// printf into a text value of at most 511 bytes.
void named_print(struct named *list, const char *name, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

const struct named_value *named_find(const struct named *list, const char *name); // or NULL
// The value of a name, or `otherwise` when it is absent or of another type (a whole number serves
// where a real one is asked for).
double named_get_real(const struct named *list, const char *name, double otherwise);
int64_t named_get_whole(const struct named *list, const char *name, int64_t otherwise);
bool named_get_flag(const struct named *list, const char *name, bool otherwise);
const char *named_get_words(const struct named *list, const char *name, const char *otherwise);
bool named_name_valid(const char *name, size_t bytes);
// Copies counts and used parts only.
void named_copy(struct named *to, const struct named *from);
// Same names, types and values in the same order; NaN equals NaN.
bool named_same(const struct named *a, const struct named *b);

#endif
