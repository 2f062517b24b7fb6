// osae-evaluator: checkpoints in, scores out.
#include "config/arguments.h"
#include "evaluator/daemon.h"
#include "lib/base/say.h"

int
main(int argc, char **argv)
{
    say_as("evaluator");
    struct arguments arguments;
    enum status status = arguments_read(
        &arguments, "osae-evaluator",
        "Follows the checkpoints of one trainer or many and scores each on held-out text, until\n"
        "it is told to stop. Sections: eval, evaluator, model.",
        NULL, 0, argc, argv);
    if (status == STATUS_OK && !arguments.help)
        status = evaluator_run(arguments.config);
    int code = say_failure(status);
    config_free(&arguments.config);
    return code;
}
