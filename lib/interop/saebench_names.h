// saebench_names: where a result lies, whatever its kind. FOLDER is .../eval/KIND;
//     FOLDER/<run>_step-<12 digits>_eval_results.json        "/" in the run's name becomes "_"
// and, where that holds a result of the same checkpoint under another spec,
//     FOLDER/<run>_step-<12 digits>_spec-<8 hex>_eval_results.json
#ifndef LIB_INTEROP_SAEBENCH_NAMES_H
#define LIB_INTEROP_SAEBENCH_NAMES_H

#include "lib/base/bytes.h"
#include "lib/base/file.h"

#include <stdbool.h>

// Whose result a file of the kind is; false where it is missing or damaged.
typedef bool saebench_owner(const char *path, uint64_t *mh, struct hash128 *spec);

// The name a result of (mh, spec) should have.
CHECKED enum status saebench_names_path(char out[PATH_BYTES], const char *folder, const char *run,
                                        uint64_t step, uint64_t mh, struct hash128 spec,
                                        saebench_owner *owner);
// Is there a result of (mh, spec) for this step in the folder? Damaged files count as none.
CHECKED enum status saebench_names_find(bool *found, char path[PATH_BYTES], const char *folder,
                                        const char *run, uint64_t step, uint64_t mh,
                                        struct hash128 spec, saebench_owner *owner);

#endif
