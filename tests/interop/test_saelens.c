// SAELens folders: round trips of every architecture, folding, other types of numbers, and files
// that must be refused.
#include "lib/base/file.h"
#include "lib/interop/saelens.h"

#include <fcntl.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

enum { K = 37, D = 11, B = 9 };
static char root[40];
static const struct kern *kern;

static int
make_root(void **unused)
{
    (void)unused;
    snprintf(root, sizeof root, "/tmp/osae-saelens-XXXXXX");
    return mkdtemp(root) ? 0 : -1;
}

static int
drop_root(void **unused)
{
    (void)unused;
    return path_remove(root) == STATUS_OK ? 0 : -1;
}

struct weights {
    float w_enc[K * D], b_enc[K], w_dec[K * D], b_dec[D], tau[K];
};

static float
noise(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (float)(*state >> 40) / (1 << 23) - 1;
}

static void
random_weights(struct weights *w, bool unit)
{
    uint64_t state = 77;
    for (size_t i = 0; i < K * D; i++)
        w->w_enc[i] = noise(&state);
    for (size_t i = 0; i < K * D; i++)
        w->w_dec[i] = noise(&state);
    for (size_t i = 0; i < K; i++) {
        w->b_enc[i] = 0.3f * noise(&state);
        w->tau[i] = 0.2f + 0.1f * noise(&state);
        float sum = 0;
        for (size_t c = 0; c < D; c++)
            sum += w->w_dec[i * D + c] * w->w_dec[i * D + c];
        for (size_t c = 0; unit && c < D; c++)
            w->w_dec[i * D + c] /= sqrtf(sum);
    }
    for (size_t c = 0; c < D; c++)
        w->b_dec[c] = 0.2f * noise(&state);
}

static struct saelens_source
source(const struct weights *w, enum arch arch)
{
    return (struct saelens_source){
        .arch = arch,
        .k = K,
        .d = D,
        .w_enc = w->w_enc,
        .b_enc = w->b_enc,
        .w_dec = w->w_dec,
        .b_dec = w->b_dec,
        .tau = w->tau,
        .running_threshold = 0.25,
        .scale = 1,
    };
}

static struct card
card_for(enum arch arch, bool pre_bias)
{
    struct card card = {
        .arch = arch,
        .width = D,
        .latents = K,
        .topk = arch == ARCH_TOPK || arch == ARCH_BATCHTOPK ? 5 : 0,
        .apply_b_dec_to_input = pre_bias,
        .model_name = "tiny",
        .context = 128,
        .prepend_bos = true,
    };
    card_hook(&card, 2, true);
    snprintf(card.architecture, sizeof card.architecture, "%s", card_true_name(arch, 0));
    return card;
}

// f and xhat of a row by the definition, in double. `select` is what topk looks at.
static void
slowly(double *f, double *xhat, const struct weights *w, enum arch arch, bool pre_bias,
       double scale, const float *x)
{
    double z[K];
    for (size_t i = 0; i < K; i++) {
        z[i] = (double)w->b_enc[i] / scale;
        for (size_t c = 0; c < D; c++)
            z[i] += ((double)x[c] - (pre_bias ? (double)w->b_dec[c] / scale : 0)) *
                    (double)w->w_enc[i * D + c];
    }
    for (size_t i = 0; i < K; i++) {
        size_t above = 0;
        for (size_t j = 0; j < K; j++)
            above += z[j] > z[i];
        bool on = z[i] > 0;
        if (arch == ARCH_TOPK)
            on = on && above < 5;
        if (arch == ARCH_BATCHTOPK)
            on = on && z[i] > 0.25 / scale;
        if (arch == ARCH_JUMPRELU)
            on = on && z[i] > (double)w->tau[i] / scale;
        f[i] = on ? z[i] : 0;
    }
    for (size_t c = 0; c < D; c++) {
        xhat[c] = (double)w->b_dec[c] / scale;
        for (size_t i = 0; i < K; i++)
            xhat[c] += f[i] * (double)w->w_dec[i * D + c];
    }
}

static void
folder_of(char out[PATH_BYTES], const char *name)
{
    assert_int_equal(path_join(out, root, name), STATUS_OK);
}

static void
open_or_fail(struct saelens *out, const char *folder)
{
    if (saelens_open(out, folder, 4, kern) != STATUS_OK)
        fail_msg("%s", status_words());
}

// Written, read, run: the same f and xhat as by the definition, in every architecture, with the
// scale of `normalize` divided out.
static void
there_and_back(void **unused)
{
    (void)unused;
    char folder[PATH_BYTES];
    struct weights w;
    random_weights(&w, true);
    float x[B * D], f[B * K], xhat[B * D];
    uint64_t state = 3;
    for (size_t i = 0; i < B * D; i++)
        x[i] = 2 * noise(&state);
    for (int arch = ARCH_RELU; arch <= ARCH_JUMPRELU; arch++)
        for (int pre_bias = 0; pre_bias < 2; pre_bias++)
            for (double scale = 1; scale < 4; scale += 1.5) {
                struct card card = card_for((enum arch)arch, pre_bias);
                struct saelens_source from = source(&w, (enum arch)arch);
                struct saelens sae;
                from.scale = scale;
                folder_of(folder, "round");
                assert_int_equal(saelens_write(folder, &card, &from), STATUS_OK);
                open_or_fail(&sae, folder);
                assert_true(!sae.folded && !sae.stretch);
                assert_int_equal(sae.card.arch, arch == ARCH_BATCHTOPK ? ARCH_JUMPRELU : arch);
                assert_int_equal(saelens_fits(&sae, folder, 2, D), STATUS_OK);
                // bit for bit: what was not divided
                assert_memory_equal(sae_param(sae.sae, SAE_W_ENC).at, w.w_enc, sizeof w.w_enc);
                assert_memory_equal(sae_param(sae.sae, SAE_W_DEC).at, w.w_dec, sizeof w.w_dec);
                saelens_encode(&sae, (struct mat){f, B, K}, (struct mat){x, B, D});
                saelens_decode(&sae, (struct mat){xhat, B, D}, (struct mat){f, B, K});
                size_t on = 0;
                for (size_t b = 0; b < B; b++) {
                    double want_f[K], want_x[D];
                    slowly(want_f, want_x, &w, (enum arch)arch, pre_bias, scale, x + b * D);
                    for (size_t i = 0; i < K; i++) {
                        assert_true(fabs((double)f[b * K + i] - want_f[i]) < 1e-5);
                        on += want_f[i] > 0;
                    }
                    for (size_t c = 0; c < D; c++)
                        assert_true(fabs((double)xhat[b * D + c] - want_x[c]) < 1e-5);
                }
                assert_true(on > B);
                saelens_close(&sae);
                saelens_close(&sae); // twice is fine
            }
}

// Decoder rows of other norms: the output is the same, the activations have their true size.
static void
folded(void **unused)
{
    (void)unused;
    char folder[PATH_BYTES];
    struct weights w;
    random_weights(&w, false);
    memset(w.w_dec + 4 * D, 0, D * sizeof *w.w_dec); // without direction
    float x[B * D], f[B * K], xhat[B * D];
    uint64_t state = 4;
    for (size_t i = 0; i < B * D; i++)
        x[i] = 2 * noise(&state);
    static const enum arch arches[] = {ARCH_RELU, ARCH_TOPK, ARCH_JUMPRELU};
    for (size_t a = 0; a < 3; a++) {
        struct card card = card_for(arches[a], false);
        struct saelens_source from = source(&w, arches[a]);
        struct saelens sae;
        folder_of(folder, "fold");
        assert_int_equal(saelens_write(folder, &card, &from), STATUS_OK);
        open_or_fail(&sae, folder);
        assert_true(sae.folded && (sae.stretch != NULL) == (arches[a] == ARCH_TOPK));
        saelens_encode(&sae, (struct mat){f, B, K}, (struct mat){x, B, D});
        saelens_decode(&sae, (struct mat){xhat, B, D}, (struct mat){f, B, K});
        for (size_t b = 0; b < B; b++) {
            double want_f[K], want_x[D];
            slowly(want_f, want_x, &w, arches[a], false, 1, x + b * D);
            for (size_t i = 0; i < K; i++) {
                double norm2 = 0;
                for (size_t c = 0; c < D; c++)
                    norm2 += (double)w.w_dec[i * D + c] * (double)w.w_dec[i * D + c];
                double norm = norm2 > 0 ? sqrt(norm2) : 1;
                assert_true(fabs((double)f[b * K + i] - want_f[i] * norm) < 1e-4);
            }
            for (size_t c = 0; c < D; c++)
                assert_true(fabs((double)xhat[b * D + c] - want_x[c]) < 1e-4);
        }
        saelens_close(&sae);
    }
    // rescale_acts_by_decoder_norm: selects by z |w_i|, so folding into the encoder is exact
    char path[PATH_BYTES], *text;
    size_t bytes;
    struct card card = card_for(ARCH_TOPK, false);
    struct saelens_source from = source(&w, ARCH_TOPK);
    struct saelens sae;
    folder_of(folder, "rescale");
    assert_int_equal(saelens_write(folder, &card, &from), STATUS_OK);
    assert_int_equal(path_join(path, folder, "cfg.json"), STATUS_OK);
    assert_int_equal(file_read(&text, &bytes, path, 1 << 20), STATUS_OK);
    char *at = strstr(text, "\"rescale_acts_by_decoder_norm\": false");
    assert_non_null(at);
    memcpy(at, "\"rescale_acts_by_decoder_norm\": true ", 37);
    assert_int_equal(file_replace(path, text, bytes), STATUS_OK);
    free(text);
    open_or_fail(&sae, folder);
    assert_true(sae.folded && !sae.stretch);
    saelens_encode(&sae, (struct mat){f, B, K}, (struct mat){x, B, D});
    for (size_t b = 0; b < B; b++) {
        double z[K];
        for (size_t i = 0; i < K; i++) {
            double norm2 = 0;
            z[i] = (double)w.b_enc[i];
            for (size_t c = 0; c < D; c++) {
                z[i] += (double)x[b * D + c] * (double)w.w_enc[i * D + c];
                norm2 += (double)w.w_dec[i * D + c] * (double)w.w_dec[i * D + c];
            }
            z[i] *= norm2 > 0 ? sqrt(norm2) : 1;
        }
        for (size_t i = 0; i < K; i++) {
            size_t above = 0;
            for (size_t j = 0; j < K; j++)
                above += z[j] > z[i];
            double want = above < 5 && z[i] > 0 ? z[i] : 0;
            assert_true(fabs((double)f[b * K + i] - want) < 1e-4);
        }
    }
    saelens_close(&sae);
}

static void
write_file(const char *folder, const struct tensor_out *tensors, size_t count)
{
    char path[PATH_BYTES];
    assert_int_equal(path_make(folder, 0755), STATUS_OK);
    assert_int_equal(path_join(path, folder, "sae_weights.safetensors"), STATUS_OK);
    unlink(path);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    assert_true(fd >= 0);
    assert_int_equal(safetensors_write(fd, path, tensors, count, NULL, 0, NULL, NULL), STATUS_OK);
    assert_int_equal(close(fd), 0);
}

static void
write_card(const char *folder, const struct card *card)
{
    char path[PATH_BYTES], *text;
    assert_int_equal(path_make(folder, 0755), STATUS_OK);
    assert_int_equal(path_join(path, folder, "cfg.json"), STATUS_OK);
    assert_int_equal(card_write(&text, card), STATUS_OK);
    assert_int_equal(file_replace(path, text, strlen(text)), STATUS_OK);
    free(text);
}

// The four types SAELens writes, and an old file's scaling factor of ones.
static void
other_types(void **unused)
{
    (void)unused;
    static uint16_t half[D * K], zeros16[K];
    static double wide[K * D];
    static float zeros[K], ones[K];
    for (size_t i = 0; i < D * K; i++)
        half[i] = f32_to_bf16((float)i / 64);
    for (size_t i = 0; i < K * D; i++)
        wide[i] = i % (D + 1) == 0 ? 1 : 0;
    for (size_t i = 0; i < K; i++)
        ones[i] = 1;
    struct tensor_out tensors[] = {
        {"W_enc", DTYPE_BF16, 2, {D, K}, half},      {"W_dec", DTYPE_F64, 2, {K, D}, wide},
        {"b_enc", DTYPE_F16, 1, {K}, zeros16},       {"b_dec", DTYPE_F32, 1, {D}, zeros},
        {"scaling_factor", DTYPE_F32, 1, {K}, ones},
    };
    char folder[PATH_BYTES];
    folder_of(folder, "types");
    struct card card = card_for(ARCH_RELU, true);
    write_card(folder, &card);
    write_file(folder, tensors, 5);
    struct saelens sae;
    open_or_fail(&sae, folder);
    struct mat w = sae_param(sae.sae, SAE_W_ENC);
    for (size_t i = 0; i < K; i++)
        for (size_t c = 0; c < D; c++)
            assert_true(w.at[i * D + c] == bf16_to_f32(half[c * K + i]));
    saelens_close(&sae);
    ones[3] = 2;
    write_file(folder, tensors, 5);
    assert_int_equal(saelens_open(&sae, folder, 4, kern), STATUS_DAMAGED);
    assert_non_null(strstr(status_words(), "scaling_factor"));
}

static void
refused(void **unused)
{
    (void)unused;
    struct weights w;
    random_weights(&w, true);
    struct card card = card_for(ARCH_JUMPRELU, false);
    struct saelens_source from = source(&w, ARCH_JUMPRELU);
    struct saelens sae;
    char folder[PATH_BYTES], path[PATH_BYTES];
    folder_of(folder, "refused");
    static float room[2 * K * D + 3 * K + D];
    assert_int_equal(saelens_bytes(ARCH_JUMPRELU, K, D), (2 * K * D + 2 * K + D) * sizeof(float));
    struct tensor_out good[SAELENS_TENSORS];
    assert_int_equal(saelens_fill(good, room, &from), 5);
    write_card(folder, &card);

    // cfg.json there, weights not
    assert_int_equal(saelens_open(&sae, folder, 4, kern), STATUS_MISSING);
    // one tensor missing
    for (size_t skip = 0; skip < 5; skip++) {
        struct tensor_out four[4];
        for (size_t i = 0, n = 0; i < 5; i++)
            if (i != skip)
                four[n++] = good[i];
        write_file(folder, four, 4);
        assert_int_equal(saelens_open(&sae, folder, 4, kern), STATUS_DAMAGED);
        assert_non_null(strstr(status_words(), good[skip].name));
    }
    // transposed, scalar threshold, a training checkpoint's log_threshold
    struct tensor_out bad[SAELENS_TENSORS + 1];
    memcpy(bad, good, sizeof good);
    bad[0].shape[0] = K;
    bad[0].shape[1] = D;
    write_file(folder, bad, 5);
    assert_int_equal(saelens_open(&sae, folder, 4, kern), STATUS_DAMAGED);
    memcpy(bad, good, sizeof good);
    bad[4].rank = 0;
    write_file(folder, bad, 5);
    assert_int_equal(saelens_open(&sae, folder, 4, kern), STATUS_DAMAGED);
    assert_non_null(strstr(status_words(), "threshold"));
    memcpy(bad, good, sizeof good);
    bad[4].name = "log_threshold";
    write_file(folder, bad, 5);
    assert_int_equal(saelens_open(&sae, folder, 4, kern), STATUS_DAMAGED);
    assert_non_null(strstr(status_words(), "training checkpoint"));
    // an extra one
    memcpy(bad, good, sizeof good);
    bad[5] = good[2];
    bad[5].name = "b_mag";
    write_file(folder, bad, 6);
    assert_int_equal(saelens_open(&sae, folder, 4, kern), STATUS_DAMAGED);
    assert_non_null(strstr(status_words(), "b_mag"));
    // not finite, in each tensor; the place is named
    for (size_t i = 0; i < 5; i++) {
        float *at = room + ((const float *)good[i].at - room) + 5, kept = *at;
        *at = i % 2 ? NAN : INFINITY;
        write_file(folder, good, 5);
        *at = kept;
        assert_int_equal(saelens_open(&sae, folder, 4, kern), STATUS_DAMAGED);
        assert_non_null(strstr(status_words(), good[i].name));
        assert_non_null(strstr(status_words(), "element 5"));
    }
    // the card claims more than the file holds: refused before memory is taken
    write_file(folder, good, 5);
    card.latents = 1 << 25;
    card.width = 1 << 19;
    write_card(folder, &card);
    assert_int_equal(saelens_open(&sae, folder, 4, kern), STATUS_DAMAGED);
    card = card_for(ARCH_RELU, false); // a threshold too many
    write_card(folder, &card);
    assert_int_equal(saelens_open(&sae, folder, 4, kern), STATUS_DAMAGED);
    // truncated at many places
    card = card_for(ARCH_JUMPRELU, false);
    write_card(folder, &card);
    assert_int_equal(path_join(path, folder, "sae_weights.safetensors"), STATUS_OK);
    char *text;
    size_t bytes;
    assert_int_equal(file_read(&text, &bytes, path, 1 << 20), STATUS_OK);
    for (size_t cut = 0; cut < bytes; cut += 61) {
        assert_int_equal(file_replace(path, text, cut), STATUS_OK);
        assert_int_equal(saelens_open(&sae, folder, 4, kern), STATUS_DAMAGED);
    }
    assert_int_equal(file_replace(path, text, bytes), STATUS_OK);
    free(text);
    // a negative threshold is what relu makes of it: 0
    w.tau[7] = -3;
    assert_int_equal(saelens_write(folder, &card, &from), STATUS_OK);
    open_or_fail(&sae, folder);
    assert_true(sae_tau(sae.sae)[7] == 0 && sae_tau(sae.sae)[8] == w.tau[8]);
    // of another block, another model
    assert_int_equal(saelens_fits(&sae, folder, 3, D), STATUS_CONFIG);
    assert_non_null(strstr(status_words(), "block 2"));
    assert_int_equal(saelens_fits(&sae, folder, 2, D + 1), STATUS_CONFIG);
    assert_non_null(strstr(status_words(), "d_in is 11"));
    sae.card.layer = -1;
    snprintf(sae.card.hook_name, sizeof sae.card.hook_name, "blocks.2.hook_mlp_out");
    assert_int_equal(saelens_fits(&sae, folder, 2, D), STATUS_CONFIG);
    assert_non_null(strstr(status_words(), "hook_mlp_out"));
    sae.card.hook_name[0] = 0; // an old file that does not say: taken at the user's word
    assert_int_equal(saelens_fits(&sae, folder, 2, D), STATUS_OK);
    saelens_close(&sae);
    folder_of(folder, "nowhere");
    assert_int_equal(saelens_open(&sae, folder, 4, kern), STATUS_MISSING);
    assert_true(saelens_bytes(ARCH_RELU, SIZE_MAX / 2, 8) == SIZE_MAX);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(there_and_back),
        cmocka_unit_test(folded),
        cmocka_unit_test(other_types),
        cmocka_unit_test(refused),
    };
    kern = &kern_ref;
    int failed = cmocka_run_group_tests(tests, make_root, drop_root);
    kern = &kern_cpu;
    return failed + cmocka_run_group_tests(tests, make_root, drop_root);
}
