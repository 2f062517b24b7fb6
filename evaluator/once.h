// once: `osae-evaluator eval`, what `osae eval` becomes: SAEs named on the command line, scored one
// after the other on one model and one text, without any daemon. Results are files where a daemon
// would have put them, so nothing is computed twice whoever asked first; a table goes to stdout.
#ifndef EVALUATOR_ONCE_H
#define EVALUATOR_ONCE_H

#include "lib/base/status.h"

// argv[0] is skipped. An SAE that cannot be scored is one line on stderr; the others are scored,
// and the status is that of the first failure.
CHECKED enum status once_run(int argc, char *const *argv);

#endif
