// training: a pretended training run. The state of step s is a function of s and of `next`, so
// whoever loads a checkpoint can tell whether it is whole.
#ifndef TESTS_STORE_TRAINING_H
#define TESTS_STORE_TRAINING_H

#include "lib/store/checkpoint.h"
#include "tests/store/scratch.h"

#include <dirent.h>

enum { WEIGHTS = 600 };

static const struct checkpoint_policy keep_two = {.keep_last = 2};

static inline enum status
training_open(struct runfolder **run, const char *path)
{
    struct runfolder_opener opener = {"tiny", "trainer-1", "0.1", "cpu, test", false};
    return runfolder_open(run, path, &opener);
}

static inline struct checkpoint_facts
training_facts(uint64_t step, uint64_t next)
{
    return (struct checkpoint_facts){.step = step,
                                     .stream = {1, 2},
                                     .next = next,
                                     .chain = {step * 7, next},
                                     .trajectory = {3, UINT64_MAX}};
}

static inline float
training_weight(uint64_t step, uint64_t next, size_t i)
{
    return (float)(step * 1000 + next) + (float)i / 1024;
}

static inline enum status
training_save(struct runfolder *run, uint64_t step, uint64_t next,
              const struct checkpoint_policy *policy, uint64_t *mh)
{
    float weights[WEIGHTS];
    for (size_t i = 0; i < WEIGHTS; i++)
        weights[i] = training_weight(step, next, i);
    int64_t steps = (int64_t)step;
    static const char config[] = "{\"architecture\": \"standard\"}\n";
    const struct tensor_out sae[] = {{"W_dec", DTYPE_F32, 2, {20, WEIGHTS / 20}, weights}};
    const struct tensor_out state[] = {{"adam.t", DTYPE_I64, 0, {0}, &steps},
                                       {"adam.v.W_dec", DTYPE_F32, 1, {WEIGHTS}, weights}};
    const struct text_pair metadata[] = {{"format", "pt"}};
    const struct checkpoint_file files[] = {
        {.name = "cfg.json", .text = config, .text_bytes = sizeof config - 1},
        {.name = "sae_weights.safetensors",
         .tensors = sae,
         .tensor_count = 1,
         .metadata = metadata,
         .metadata_count = 1},
        {.name = "train_state.safetensors", .tensors = state, .tensor_count = 2},
    };
    struct checkpoint_facts facts = training_facts(step, next);
    return checkpoint_write(mh, run, &facts, files, 3, policy);
}

// Do the weights of this folder belong to its facts?
static inline bool
training_is_whole(const char *folder, const struct checkpoint_facts *facts)
{
    char path[PATH_BYTES];
    snprintf(path, sizeof path, "%.3000s/sae_weights.safetensors", folder);
    struct safetensors *file;
    if (safetensors_open(&file, path) != STATUS_OK)
        return false;
    const struct tensor *t;
    size_t shape[2] = {20, WEIGHTS / 20};
    bool whole = safetensors_need(&t, file, "W_dec", 2, shape) == STATUS_OK;
    for (size_t i = 0; whole && i < WEIGHTS; i++) {
        float value, want = training_weight(facts->step, facts->next, i);
        memcpy(&value, t->at + 4 * i, 4);
        whole = value == want;
    }
    safetensors_close(&file);
    struct checkpoint_facts want = training_facts(facts->step, facts->next);
    return whole && hash128_same(want.chain, facts->chain) &&
           hash128_same(want.stream, facts->stream) &&
           hash128_same(want.trajectory, facts->trajectory);
}

// Names in a folder that contain a text.
static inline size_t
names_with(const char *folder, const char *text)
{
    size_t count = 0;
    DIR *entries = opendir(folder);
    const struct dirent *entry;
    while (entries && (entry = readdir(entries)))
        count += strstr(entry->d_name, text) != NULL;
    if (entries)
        closedir(entries);
    return count;
}

static inline void
flip(const char *path, size_t at, unsigned char mask)
{
    unsigned char byte;
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0 || pread(fd, &byte, 1, (off_t)at) != 1)
        abort();
    byte ^= mask;
    if (pwrite(fd, &byte, 1, (off_t)at) != 1 || close(fd) != 0)
        abort();
}

#endif
