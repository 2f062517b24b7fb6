// saebench: result files in SAEBench's shape, whatever their kind: where they lie, and the head
// that all have. What a kind measures is saebench_core.h, saebench_absorption.h,
// saebench_probing.h; SAEBench's numbers stand under SAEBench's names, ours under
// eval_result_unstructured.osae (docs/evaluation.md).
#ifndef LIB_INTEROP_SAEBENCH_H
#define LIB_INTEROP_SAEBENCH_H

#include "lib/base/bytes.h"
#include "lib/base/file.h"
#include "lib/base/status.h"

#include <math.h>
#include <stdbool.h>
#include <stdint.h>

#define UNDEFINED ((double)NAN)

enum { SAEBENCH_TEXT = 512 };

// Whose result it is, of which SAE of which model. Texts are NUL-terminated UTF-8. In a file of
// SAEBench's own, what only ours has is 0 or empty.
struct saebench_head {
    // eval_config
    char model_name[SAEBENCH_TEXT], dtype[16];
    // eval_result_unstructured.osae: checkpoint "<run>/<step>-<incarnation>", hash of its manifest,
    // and of the evaluation's configuration
    char ck[SAEBENCH_TEXT], profile[16], run[SAEBENCH_TEXT];
    uint64_t mh, step;
    struct hash128 spec;
    // sae_cfg_dict
    char architecture[64], hook_name[SAEBENCH_TEXT];
    uint64_t width, latents, layer, training_tokens;
    // when and by what
    char eval_id[37], version[64];
    uint64_t created_ms; // since 1970
    double seconds;      // it took
};

// A random UUID, version 4: one per run of the evaluator.
CHECKED enum status saebench_eval_id(char out[37]);

// What names a result: head's run, step, mh and spec. `folder` is .../eval/KIND; the file is
//     FOLDER/<run>_step-<12 digits>_eval_results.json        "/" in the run's name becomes "_"
// and, where that holds a result of the same checkpoint under another spec, or one of a newer
// checkpoint of the same step (its file was damaged, and it was written again: whoever still works
// on the older one must not replace that),
//     FOLDER/<run>_step-<12 digits>_spec-<8 hex>_eval_results.json
//     FOLDER/<run>_step-<12 digits>_spec-<8 hex>_mh-<16 hex>_eval_results.json
CHECKED enum status saebench_path(char out[PATH_BYTES], const char *folder,
                                  const struct saebench_head *head);
// Is there a result of (mh, spec) for this step in the folder, as far as its head tells?
CHECKED enum status saebench_find(bool *found, char path[PATH_BYTES], const char *folder,
                                  const struct saebench_head *head);

// SAEBench's plots take a file for the first of tpp, scr, absorption, autointerp, sparse_probing,
// unlearning, core that occurs anywhere in its path. The one that would hide `kind` ("scr" in
// /scratch/.../eval/core), or NULL: worth a warning.
const char *saebench_misleading(const char *path, const char *kind);

#endif
