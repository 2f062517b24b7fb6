// `osae eval` inside a test, in a folder of its own, on an SAE of tiny-llama; and the results it
// leaves.
#ifndef TESTS_EVALUATOR_EVAL_ONCE_H
#define TESTS_EVALUATOR_EVAL_ONCE_H

#include "evaluator/once.h"
#include "lib/base/file.h"
#include "lib/interop/saelens.h"

#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

enum { EVAL_WIDTH = 64, EVAL_LATENTS = 128, EVAL_CONTEXT = 16 }; // of tiny-llama and the SAE

static char eval_root[] = "/tmp/osae-once-XXXXXX";

// A group's set-up begins with it: we are in a fresh folder, which is also the cache.
static inline int
eval_start(void)
{
    return mkdtemp(eval_root) && chdir(eval_root) == 0 ? setenv("OSAE_CACHE", eval_root, 1) : -1;
}

static inline int
eval_finish(void **unused)
{
    (void)unused;
    return chdir("/") == 0 && path_remove(eval_root) == STATUS_OK ? 0 : -1;
}

// f = (relu(x), relu(-x)), so xhat = x; turned so that latent i is channel (i * turn) mod K of it.
// A negative layer: it does not say which.
static inline void
write_identity(const char *folder, int64_t layer, size_t turn)
{
    enum { D = EVAL_WIDTH, K = EVAL_LATENTS };
    static float w_enc[K * D], b_enc[K], w_dec[K * D], b_dec[D];
    memset(w_enc, 0, sizeof w_enc);
    memset(w_dec, 0, sizeof w_dec);
    for (size_t i = 0; i < K; i++) {
        size_t at = i * turn % K;
        w_enc[i * D + at % D] = w_dec[i * D + at % D] = at < D ? 1 : -1;
    }
    struct card card = {.arch = ARCH_RELU, .width = D, .latents = K, .context = EVAL_CONTEXT};
    if (layer >= 0)
        card_hook(&card, (uint64_t)layer, true);
    const struct saelens_source from = {.arch = ARCH_RELU,
                                        .k = K,
                                        .d = D,
                                        .w_enc = w_enc,
                                        .b_enc = b_enc,
                                        .w_dec = w_dec,
                                        .b_dec = b_dec,
                                        .scale = 1};
    assert_int_equal(saelens_write(folder, &card, &from), STATUS_OK);
}

// `osae eval`: words of a command line, blanks between, `always` in front; the table goes to the
// file `table` of the folder we are in.
static inline enum status
eval_once(const char *always, const char *line)
{
    char copy[4096], *argv[64], *left = copy;
    int argc = 0;
    snprintf(copy, sizeof copy, "eval %s %s", always, line);
    for (char *word; (word = strsep(&left, " ")) != NULL;)
        if (*word)
            argv[argc++] = word;
    argv[argc] = NULL;
    assert_int_equal(fflush(stdout), 0);
    int before = dup(STDOUT_FILENO),
        to = open("table", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(before >= 0 && to >= 0 && dup2(to, STDOUT_FILENO) >= 0 && close(to) == 0);
    enum status status = once_run(argc, argv);
    fflush(stdout);
    assert_true(dup2(before, STDOUT_FILENO) >= 0 && close(before) == 0);
    return status;
}

// The results in a folder; the path of the last.
static inline size_t
results(char path[PATH_BYTES], const char *folder)
{
    size_t count = 0;
    DIR *dir = opendir(folder);
    assert_non_null(dir);
    for (struct dirent *entry; (entry = readdir(dir));) {
        if (entry->d_name[0] == '.')
            continue;
        count++;
        assert_int_equal(path_join(path, folder, entry->d_name), STATUS_OK);
    }
    closedir(dir);
    return count;
}

#endif
