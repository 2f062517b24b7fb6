// saebench_inside: what the kinds of result files share inside: the way in and out of JSON, and the
// head. Only saebench*.c include it.
#ifndef LIB_INTEROP_SAEBENCH_INSIDE_H
#define LIB_INTEROP_SAEBENCH_INSIDE_H

#include "lib/interop/saebench.h"

#include <jansson.h>

// The kind's own parts of a file. The head is added to config, sae, and ours.
struct saebench_parts {
    json_t *config, *metrics, *details;
    json_t *sae;          // more of sae_cfg_dict, or an empty object
    json_t *unstructured; // what SAEBench has no schema for; `osae` is added: ours
    json_t *ours;
};
// Takes the parts over, whatever happens; any may be NULL (no memory, text that is not UTF-8): then
// nothing is written. Makes the folder, replaces the file in one rename.
CHECKED enum status saebench_write(const char *path, const char *type_id,
                                   const struct saebench_head *head, struct saebench_parts parts);

// A file that was read; the parts are borrowed from `whole`. ours is NULL in SAEBench's own.
struct saebench_tree {
    json_t *whole;
    const json_t *config, *metrics, *details, *sae, *unstructured, *ours;
};
// DAMAGED unless it has SAEBench's shape and is of this kind (NULL: any). saebench_close it.
CHECKED enum status saebench_open(struct saebench_tree *out, struct saebench_head *head,
                                  const char *path, const char *type_id);
void saebench_close(struct saebench_tree *tree);

// An undefined number is -1.
json_t *saebench_real(double value);
json_t *saebench_count(uint64_t value);
// A member of an object; "" and 0 where it is absent, null, negative or of another type.
void saebench_text_of(char *out, size_t room, const json_t *from, const char *key);
uint64_t saebench_count_of(const json_t *from, const char *key);
// One that is never negative: UNDEFINED where it is, or is no number.
double saebench_real_of(const json_t *from, const char *key);

#endif
