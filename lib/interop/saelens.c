#include "lib/interop/saelens.h"

#include "lib/base/file.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// to [cols x rows] = from [rows x cols] transposed, in squares that fit a cache.
static void
transpose(float *to, const float *from, size_t rows, size_t cols)
{
    enum { SIDE = 32 };
#pragma omp parallel for schedule(static)
    for (size_t r0 = 0; r0 < rows; r0 += SIDE)
        for (size_t c0 = 0; c0 < cols; c0 += SIDE)
            for (size_t c = c0; c < cols && c < c0 + SIDE; c++)
                for (size_t r = r0; r < rows && r < r0 + SIDE; r++)
                    to[c * rows + r] = from[r * cols + c];
}

static bool
has_threshold(enum arch arch)
{
    return arch == ARCH_JUMPRELU || arch == ARCH_BATCHTOPK;
}

// Out

size_t
saelens_bytes(enum arch arch, size_t k, size_t d)
{
    size_t matrix, bytes;
    if (!times(&matrix, k, d) || !times(&matrix, matrix, 2) ||
        !times(&bytes, matrix, sizeof(float)))
        return SIZE_MAX;
    size_t vectors = (k * (has_threshold(arch) ? 2 : 1) + d) * sizeof(float);
    return bytes > SIZE_MAX - vectors ? SIZE_MAX : bytes + vectors;
}

size_t
saelens_fill(struct tensor_out out[SAELENS_TENSORS], float *room, const struct saelens_source *from)
{
    size_t k = from->k, d = from->d;
    assert(from->scale > 0 && isfinite(from->scale));
    float *w_enc = room, *w_dec = w_enc + k * d, *b_enc = w_dec + k * d, *b_dec = b_enc + k;
    float *threshold = b_dec + d;
    transpose(w_enc, from->w_enc, k, d);
    memcpy(w_dec, from->w_dec, k * d * sizeof *w_dec);
    for (size_t i = 0; i < k; i++)
        b_enc[i] = (float)((double)from->b_enc[i] / from->scale);
    for (size_t c = 0; c < d; c++)
        b_dec[c] = (float)((double)from->b_dec[c] / from->scale);
    size_t n = 0;
    out[n++] = (struct tensor_out){"W_enc", DTYPE_F32, 2, {d, k}, w_enc};
    out[n++] = (struct tensor_out){"W_dec", DTYPE_F32, 2, {k, d}, w_dec};
    out[n++] = (struct tensor_out){"b_enc", DTYPE_F32, 1, {k}, b_enc};
    out[n++] = (struct tensor_out){"b_dec", DTYPE_F32, 1, {d}, b_dec};
    if (!has_threshold(from->arch))
        return n;
    double running = from->running_threshold > 0 ? from->running_threshold : 0;
    for (size_t i = 0; i < k; i++) {
        double tau = from->arch == ARCH_BATCHTOPK ? running : (double)from->tau[i];
        threshold[i] = (float)(tau / from->scale);
    }
    out[n++] = (struct tensor_out){"threshold", DTYPE_F32, 1, {k}, threshold};
    return n;
}

enum status
saelens_write(const char *folder, const struct card *card, const struct saelens_source *from)
{
    assert(card->latents == from->k && card->width == from->d && card->arch == from->arch);
    char path[PATH_BYTES], *text = NULL;
    float *room = NULL;
    struct tensor_out tensors[SAELENS_TENSORS];
    enum status status = STATUS_OK;
    size_t bytes = saelens_bytes(from->arch, from->k, from->d);
    room = bytes == SIZE_MAX ? NULL : malloc(bytes);
    if (!room) {
        status = FAIL(CREATE, "%s: no memory for the weights, %zu bytes", folder, bytes);
        goto done;
    }
    size_t count = saelens_fill(tensors, room, from);
    GOTRY(path_make(folder, 0755));
    GOTRY(path_join(path, folder, "sae_weights.safetensors"));
    GOTRY(safetensors_replace(path, tensors, count, &(struct text_pair){"format", "pt"}, 1));
    GOTRY(card_write(&text, card));
    GOTRY(path_join(path, folder, "cfg.json"));
    GOTRY(file_replace(path, text, strlen(text)));
done:
    free(text);
    free(room);
    return status;
}

// In

// Where the first value is that is not finite; count if there is none.
static size_t
first_unsound(const float *at, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (!isfinite(at[i]))
            return i;
    return count;
}

static enum status
take(float *out, const struct safetensors *file, const char *name, size_t rank, const size_t *shape)
{
    const struct tensor *tensor;
    TRY(safetensors_need(&tensor, file, name, rank, shape));
    TRY(tensor_to_f32(out, tensor, safetensors_path(file)));
    size_t bad = first_unsound(out, tensor->count);
    if (bad < tensor->count)
        return FAIL(DAMAGED, "%s: %s has %g at element %zu, wanted finite values",
                    safetensors_path(file), name, (double)out[bad], bad);
    return STATUS_OK;
}

// Exactly the tensors of the architecture; `scaling_factor` of ones is an old file's, and ignored.
static enum status
names_fit(const struct safetensors *file, enum arch arch)
{
    static const char *const known[] = {"W_enc", "W_dec", "b_enc", "b_dec", "threshold"};
    size_t wanted = arch == ARCH_JUMPRELU ? 5 : 4;
    for (size_t i = 0; i < safetensors_count(file); i++) {
        const struct tensor *tensor = safetensors_at(file, i);
        bool fits = false;
        for (size_t j = 0; j < wanted; j++)
            fits = fits || strcmp(tensor->name, known[j]) == 0;
        if (fits)
            continue;
        if (strcmp(tensor->name, "scaling_factor") == 0 && tensor->dtype == DTYPE_F32) {
            bool ones = true;
            for (size_t j = 0; j < tensor->count && ones; j++) {
                float value;
                memcpy(&value, tensor->at + j * sizeof value, sizeof value);
                ones = value >= 1 && value <= 1;
            }
            if (ones)
                continue;
        }
        return FAIL(DAMAGED,
                    "%s: tensor '%.60s' does not belong to this architecture, wanted "
                    "W_enc, W_dec, b_enc, b_dec%s%s",
                    safetensors_path(file), tensor->name, wanted == 5 ? " and threshold" : " only",
                    strcmp(tensor->name, "log_threshold") == 0
                        ? " (a training checkpoint of SAELens: export it first)"
                        : "");
    }
    return STATUS_OK;
}

enum status
saelens_weights(float *w_enc, float *b_enc, float *w_dec, float *b_dec, float *tau,
                const struct safetensors *file, enum arch arch, size_t k, size_t d)
{
    TRY(names_fit(file, arch));
    TRY(take(b_enc, file, "b_enc", 1, &k));
    TRY(take(b_dec, file, "b_dec", 1, &d));
    if (arch == ARCH_JUMPRELU) {
        TRY(take(tau, file, "threshold", 1, &k));
        for (size_t i = 0; i < k; i++)
            tau[i] = tau[i] > 0 ? tau[i] : 0;
    }
    // W_enc comes through W_dec's room, which its own tensor fills afterwards.
    TRY(take(w_dec, file, "W_enc", 2, (size_t[]){d, k}));
    transpose(w_enc, w_dec, d, k);
    TRY(take(w_dec, file, "W_dec", 2, (size_t[]){k, d}));
    return STATUS_OK;
}

// Decoder rows to norm 1, their norms into the encoder (or the stretch). Tolerates what rounding
// leaves: our own rows are kept bit for bit.
enum status
saelens_unit_rows(struct saelens *saelens, const char *folder)
{
    struct mat w_enc = sae_param(saelens->sae, SAE_W_ENC),
               w_dec = sae_param(saelens->sae, SAE_W_DEC);
    float *b_enc = sae_param(saelens->sae, SAE_B_ENC).at;
    float *tau = sae_param(saelens->sae, SAE_THRESHOLD).at;
    size_t k = w_dec.rows, d = w_dec.cols;
    double *norms = calloc(k, sizeof *norms);
    if (!norms)
        return FAIL(CREATE, "%s: no memory for %zu norms", folder, k);
    bool apart = false;
    for (size_t i = 0; i < k; i++) {
        double sum = 0;
        for (size_t c = 0; c < d; c++)
            sum += (double)w_dec.at[i * d + c] * (double)w_dec.at[i * d + c];
        norms[i] = sum > 0 ? sqrt(sum) : 1; // a latent without direction stays as it is
        apart = apart || fabs(norms[i] - 1) > 1e-5;
    }
    saelens->folded = apart;
    bool after = saelens->card.arch == ARCH_TOPK && !saelens->card.rescale_by_decoder;
    if (apart && after) {
        saelens->stretch = calloc(k, sizeof *saelens->stretch);
        if (!saelens->stretch) {
            free(norms);
            return FAIL(CREATE, "%s: no memory for %zu norms", folder, k);
        }
    }
    for (size_t i = 0; apart && i < k; i++) {
        for (size_t c = 0; c < d; c++) {
            w_dec.at[i * d + c] = (float)((double)w_dec.at[i * d + c] / norms[i]);
            if (!after)
                w_enc.at[i * d + c] = (float)((double)w_enc.at[i * d + c] * norms[i]);
        }
        if (after) {
            saelens->stretch[i] = (float)norms[i];
            continue;
        }
        b_enc[i] = (float)((double)b_enc[i] * norms[i]);
        if (tau)
            tau[i] = (float)((double)tau[i] * norms[i]);
    }
    free(norms);
    return STATUS_OK;
}

static enum status
read_card(struct card *card, const char *folder)
{
    enum { MOST = 16 << 20 };
    char path[PATH_BYTES], *text = NULL;
    size_t bytes;
    TRY(path_join(path, folder, "cfg.json"));
    TRY(file_read(&text, &bytes, path, MOST));
    enum status status = card_read(card, text, bytes, path);
    free(text);
    TRY(status);
    return STATUS_OK;
}

enum status
saelens_open(struct saelens *out, const char *folder, size_t rows_most, const struct kern *kern)
{
    enum status status = STATUS_OK;
    struct saelens saelens = {.sae = NULL};
    struct safetensors *file = NULL;
    char path[PATH_BYTES];
    GOTRY(read_card(&saelens.card, folder));
    GOTRY(path_join(path, folder, "sae_weights.safetensors"));
    GOTRY(safetensors_open(&file, path));
    size_t k = (size_t)saelens.card.latents, d = (size_t)saelens.card.width;
    // Before any memory is taken for it: what cfg.json claims must be in the file.
    const struct tensor *tensor;
    GOTRY(safetensors_need(&tensor, file, "W_enc", 2, (size_t[]){d, k}));
    GOTRY(safetensors_need(&tensor, file, "W_dec", 2, (size_t[]){k, d}));
    const struct recipe_sae set = {
        .arch = saelens.card.arch,
        .latents = k,
        .topk = saelens.card.arch == ARCH_TOPK ? (size_t)saelens.card.topk : 1,
        .bandwidth = 0.001,
        .pre_bias = saelens.card.apply_b_dec_to_input,
    };
    GOTRY(sae_new(&saelens.sae, &set, d, rows_most, kern));
    GOTRY(
        saelens_weights(sae_param(saelens.sae, SAE_W_ENC).at, sae_param(saelens.sae, SAE_B_ENC).at,
                        sae_param(saelens.sae, SAE_W_DEC).at, sae_param(saelens.sae, SAE_B_DEC).at,
                        sae_param(saelens.sae, SAE_THRESHOLD).at, file, saelens.card.arch, k, d));
    GOTRY(saelens_unit_rows(&saelens, folder));
done:
    safetensors_close(&file);
    if (status != STATUS_OK)
        saelens_close(&saelens);
    else
        *out = saelens;
    return status;
}

void
saelens_close(struct saelens *saelens)
{
    sae_free(&saelens->sae);
    free(saelens->stretch);
    saelens->stretch = NULL;
}

void
saelens_encode(struct saelens *saelens, struct mat f, struct mat x)
{
    sae_encode(saelens->sae, f, x);
    if (!saelens->stretch)
        return;
#pragma omp parallel for schedule(static)
    for (size_t r = 0; r < f.rows; r++)
        for (size_t i = 0; i < f.cols; i++)
            f.at[r * f.cols + i] *= saelens->stretch[i];
}

void
saelens_decode(const struct saelens *saelens, struct mat xhat, struct mat f)
{
    sae_decode(saelens->sae, xhat, f);
}

enum status
saelens_fits(const struct saelens *saelens, const char *folder, uint64_t layer, size_t width)
{
    const struct card *card = &saelens->card;
    if (card->width != width)
        return FAIL(CONFIG, "%s/cfg.json: d_in is %llu, wanted the model's width, %zu", folder,
                    (unsigned long long)card->width, width);
    if (card->layer < 0 && card->hook_name[0])
        return FAIL(CONFIG, "%s/cfg.json: hook_name is '%s', wanted the output of block %llu",
                    folder, card->hook_name, (unsigned long long)layer);
    if (card->layer >= 0 && (uint64_t)card->layer != layer)
        return FAIL(CONFIG,
                    "%s/cfg.json: the SAE is of the output of block %lld (%s), wanted block %llu",
                    folder, (long long)card->layer, card->hook_name, (unsigned long long)layer);
    return STATUS_OK;
}
