// clerk: what evaluators ask of a trainer: which checkpoints there are, who works on which, their
// files, and that their results are taken. On the comm thread; the board is what it goes by.
//
// 1. A result is in the journal before it is acknowledged; the same one said twice is recorded
// once.
// 2. A claim keeps others from the same work for a while, and retention from the checkpoint. It is
//    memory only: after a restart two may do the same, which costs time, since results are keyed.
// 3. A claim is its owner's by name: an evaluator that was killed and is back goes on at once.
#ifndef TRAINER_CLERK_H
#define TRAINER_CLERK_H

#include "config/settings.h"
#include "proto/control.h"
#include "proto/publish.h"
#include "trainer/board.h"

struct clerk;
struct clerk_settings { // all borrowed
    const struct settings *set;
    struct runfolder *run;
    struct board *board;
    struct control *control;
    struct publisher *publisher;
    const struct msg_hello *me;
};
// Binds trainer.blob.
CHECKED enum status clerk_open(struct clerk **out, struct channel *channel,
                               const struct clerk_settings *set);
void clerk_close(struct clerk **clerk);
// Sends files; when to come again at the latest.
int64_t clerk_turn(struct clerk *clerk, int64_t now);
// Answers CKLIST, CLAIM or RESULT. True: what retention must spare may have changed.
bool clerk_take(struct clerk *clerk, const struct request *request, int64_t now);

#endif
