// settled: checkpoints that lack nothing of ours, the last so many: looking for the files of each
// of them again and again would cost more than it is worth. What is forgotten is looked for once
// more. No allocation; begins as {0}.
#ifndef EVALUATOR_SETTLED_H
#define EVALUATOR_SETTLED_H

#include "proto/messages.h"

enum { SETTLED_MOST = 4 * CK_MOST };
struct settled {
    uint64_t keys[SETTLED_MOST]; // of name and manifest
    size_t count;                // ever
};

bool settled_has(const struct settled *settled, const struct msg_ck_entry *entry);
void settled_add(struct settled *settled, const struct msg_ck_entry *entry);

#endif
