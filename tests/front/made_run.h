// made_run: folders of runs for `osae report` and `osae fsck`, by the real writers.
#ifndef TESTS_FRONT_MADE_RUN_H
#define TESTS_FRONT_MADE_RUN_H

#include "config/render.h"
#include "lib/host/meter.h"
#include "lib/interop/card.h"
#include "lib/interop/saebench_absorption.h"
#include "lib/interop/saebench_core.h"
#include "tests/front/typed.h"
#include "tests/store/training.h"

#include <math.h>

enum { STEPS = 120, ROWS = 64, LATENTS = 32, WIDTH = 16 };

static inline void
write_config(const char *run, const char *const *sets, size_t count)
{
    char name[128], path[PATH_BYTES];
    struct config *config = NULL;
    const char *all[16] = {"model.path=/models/tiny.gguf",
                           "model.layer=3",
                           "trainer.steps=120",
                           "stream.rows=64",
                           "sae.latents=32",
                           "sae.topk=4",
                           "curriculum.recon_end=20",
                           "curriculum.sparsity_end=60"};
    size_t used = 8;
    snprintf(name, sizeof name, "run.name=%s", run);
    all[used++] = name;
    for (size_t i = 0; i < count; i++)
        all[used++] = sets[i];
    assert_int_equal(config_load(&config, NULL, all, used), STATUS_OK);
    assert_int_equal(path_make(scratch_path(run), 0700), STATUS_OK);
    assert_int_equal(path_join(path, scratch_path(run), "config.yaml"), STATUS_OK);
    assert_int_equal(render_freeze(config, path), STATUS_OK);
    config_free(&config);
}

// Lines of a run that went to 80, was killed, and went on from 60: those from 61 on come twice.
static inline void
write_metrics(const char *run)
{
    char folder[PATH_BYTES];
    struct meter *meter;
    assert_int_equal(path_join(folder, scratch_path(run), "metrics"), STATUS_OK);
    for (int life = 0; life < 2; life++) {
        assert_int_equal(meter_open(&meter, folder, 64 << 20, 0), STATUS_OK);
        for (uint64_t step = life ? 61 : 1; step <= (life ? STEPS : 80); step++) {
            double x = (double)step / STEPS;
            const struct reading readings[] = {
                {"loss", 600 * exp(-4 * x) + (life ? 0 : 5)},
                {"mse_sum", 500 * exp(-4 * x)},
                {"fvu", step == 1 ? (double)NAN : exp(-2 * x)},
                {"l0", 16 * (1 - x) + 2},
                {"dead_latents", floor(8 * x)},
                {"tokens_trained", (double)(step * ROWS)},
                {"step_seconds", 0.75},
                {"wait_seconds", 0.25},
                {"unheard_of", 1},
            };
            assert_int_equal(meter_write(meter, step, readings, 9), STATUS_OK);
        }
        meter_close(&meter);
    }
}

static inline void
write_checkpoints(const char *run, const uint64_t *steps, size_t count)
{
    struct runfolder *folder;
    struct card card = {.arch = ARCH_RELU,
                        .width = WIDTH,
                        .latents = LATENTS,
                        .context = 128,
                        .ours = true,
                        .lambda_o = 0.01};
    snprintf(card.model_name, sizeof card.model_name, "tiny|<model>");
    snprintf(card.architecture, sizeof card.architecture, "orthogonal");
    snprintf(card.version, sizeof card.version, "0.1.0");
    card_hook(&card, 3, false);
    char *text;
    assert_int_equal(card_write(&text, &card), STATUS_OK);
    assert_int_equal(training_open(&folder, scratch_path(run)), STATUS_OK);
    float weights[WEIGHTS] = {0};
    const struct tensor_out sae[] = {{"W_dec", DTYPE_F32, 2, {20, WEIGHTS / 20}, weights}};
    const struct checkpoint_file files[] = {
        {.name = "cfg.json", .text = text, .text_bytes = strlen(text)},
        {.name = "sae_weights.safetensors", .tensors = sae, .tensor_count = 1},
    };
    for (size_t i = 0; i < count; i++) {
        struct checkpoint_facts facts = training_facts(steps[i], steps[i]);
        assert_int_equal(checkpoint_write(NULL, folder, &facts, files, 2,
                                          &(struct checkpoint_policy){.keep_last = 9}),
                         STATUS_OK);
    }
    runfolder_close(&folder);
    free(text);
}

// By the checkpoint of that step of a life of the trainer.
static inline void
write_score_of(const char *run, uint64_t step, unsigned life, double better)
{
    char folder[PATH_BYTES], path[PATH_BYTES];
    struct core_file file = {.head = {.step = step,
                                      .mh = 1000 * life + step,
                                      .spec = {1, 2},
                                      .latents = LATENTS,
                                      .width = WIDTH,
                                      .layer = 3,
                                      .created_ms = 1795355664987},
                             .context = 128};
    core_undefined(&file.core);
    file.core.ce_loss_score = 0.9 + better;
    file.core.ce_loss_without_sae = 3.25;
    file.core.ce_loss_with_sae = 3.75 - better;
    file.core.ce_loss_with_ablation = 10.803;
    file.core.kl_div_score = 0.8 + better;
    file.core.l0 = 12.25;
    file.core.fvu = 0.1234 - better;
    file.core.mse_sum = 61.25;
    file.core.dead_latents = 8;
    file.core.dense_latents = 1;
    file.core.tokens_ce = 20320;
    file.core.tokens_variance = 65024;
    snprintf(file.head.run, sizeof file.head.run, "%s", run);
    snprintf(file.head.ck, sizeof file.head.ck, "%s/%llu-%u", run, (unsigned long long)step, life);
    snprintf(file.head.model_name, sizeof file.head.model_name, "tiny");
    snprintf(file.dataset, sizeof file.dataset, "held\033out.jsonl"); // an escape sequence
    snprintf(file.head.hook_name, sizeof file.head.hook_name, "model.layers.3");
    snprintf(file.head.architecture, sizeof file.head.architecture, "orthogonal");
    snprintf(file.head.version, sizeof file.head.version, "0.1.0");
    assert_int_equal(saebench_eval_id(file.head.eval_id), STATUS_OK);
    assert_int_equal(path_join(folder, scratch_path(run), "eval/core"), STATUS_OK);
    assert_int_equal(saebench_path(path, folder, &file.head), STATUS_OK);
    assert_int_equal(saebench_core_write(path, &file, NULL), STATUS_OK);
}

static inline void
write_score(const char *run, uint64_t step, double better)
{
    write_score_of(run, step, 1, better);
}

static inline void
write_whole(const char *run)
{
    static const uint64_t steps[] = {60, 120};
    write_config(run, NULL, 0);
    write_checkpoints(run, steps, 2);
    write_metrics(run);
    write_score(run, 60, 0);
    write_score(run, 120, 0.05);
}

static inline void
write_absorption(const char *run, uint64_t step, double full, const char *profile)
{
    char folder[PATH_BYTES], path[PATH_BYTES];
    struct absorption_file *file = calloc(1, sizeof *file);
    assert_non_null(file);
    struct absorption *a = &file->absorption;
    a->full = (struct absorption_mean){full, 0.01, full / 2, full * 2};
    a->fraction = (struct absorption_mean){0.5, 0.1, 0.45, 0.55};
    a->splits = (struct absorption_mean){1.5, 0.2, (double)NAN, (double)NAN};
    a->missed = (struct absorption_mean){0.0125, 0.2, 0, 0.1};
    a->letters[0] = (struct absorption_letter){
        'a', true, 0.9, 40, 0.5, 10, 9, 2, {17, 4000}, 3, {0.5, 0.75, 0.7}};
    a->letters[1] = (struct absorption_letter){'x', false, 0.25, 1, 0, 0, 0, 1, {3}, 1, {0.125}};
    a->count = 2;
    a->used = 1;
    a->words = 8000;
    a->examples = 3;
    a->mean_f1 = 0.9;
    file->least_f1 = 0.6;
    file->head.step = step;
    file->head.mh = 7;
    file->head.spec.low = strlen(profile);
    snprintf(file->head.run, sizeof file->head.run, "%s", run);
    snprintf(file->head.profile, sizeof file->head.profile, "%s", profile);
    assert_int_equal(path_join(folder, scratch_path(run), "eval/absorption"), STATUS_OK);
    assert_int_equal(saebench_path(path, folder, &file->head), STATUS_OK);
    assert_int_equal(saebench_absorption_write(path, file), STATUS_OK);
    free(file);
}

#endif
