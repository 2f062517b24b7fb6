// osae-producer: text and a language model in, numbered batches of activations out.
#include "config/arguments.h"
#include "lib/base/say.h"
#include "producer/daemon.h"

int
main(int argc, char **argv)
{
    say_as("producer");
    struct arguments arguments;
    enum status status = arguments_read(
        &arguments, "osae-producer",
        "Tokenises the text once, runs the model up to the hook, and serves batches to trainers\n"
        "over ZeroMQ until it is told to stop. Sections: text, model, stream, producer, pace.",
        NULL, 0, argc, argv);
    if (status == STATUS_OK && !arguments.help)
        status = producer_run(arguments.config);
    int code = say_failure(status);
    config_free(&arguments.config);
    return code;
}
