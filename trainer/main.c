// osae-trainer: batches of activations in, checkpoints of a sparse autoencoder out.
#include "config/arguments.h"
#include "lib/base/say.h"
#include "trainer/daemon.h"

int
main(int argc, char **argv)
{
    say_as("trainer");
    struct trainer_options options = {0};
    const struct flag flags[] = {
        {"--from-scratch", NULL, "put aside the checkpoints that are there and begin anew",
         .on = &options.from_scratch},
        {"--accept-config-change", NULL, "go on although settings that decide the numbers differ",
         .on = &options.accept_change},
        {"--salvage", NULL, "mend a journal that is damaged in the middle", .on = &options.salvage},
    };
    struct arguments arguments;
    enum status status = arguments_read(
        &arguments, "osae-trainer",
        "Takes batches in order from the producer, trains the SAE, writes and announces\n"
        "checkpoints in storage.runs/run.name. Started again, it goes on with the same bits.",
        flags, FLAGS_COUNT(flags), argc, argv);
    if (status == STATUS_OK && !arguments.help)
        status = trainer_run(arguments.config, &options);
    int code = say_failure(status);
    config_free(&arguments.config);
    return code;
}
