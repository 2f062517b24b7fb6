// osae-evaluator: checkpoints in, scores out.
#include "config/arguments.h"
#include "evaluator/daemon.h"
#include "evaluator/once.h"
#include "lib/base/say.h"

#include <string.h>

int
main(int argc, char **argv)
{
    say_as("evaluator");
    if (argc > 1 && strcmp(argv[1], "eval") == 0) { // what `osae eval` becomes
        say_as("osae");
        return say_failure(once_run(argc - 1, argv + 1));
    }
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
