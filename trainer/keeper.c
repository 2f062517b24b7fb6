#include "trainer/keeper.h"

#include <assert.h>
#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

enum { REST_MOST = STATE_TENSORS + 2 }; // + last_hash, seconds

struct keeper {
    struct keeper_settings set;
    struct runfolder *run;
    struct train *train;
    unsigned char *arena;
    size_t arena_bytes;
    atomic_bool busy;
    atomic_uint_fast64_t durable; // steps of the newest durable checkpoint + 1; 0: none
    // the snapshot, all of it in the arena or here
    struct place place;
    struct card card;
    int64_t last_hash; // as it goes to the file
    struct tensor_out weights[SAELENS_TENSORS], rest[REST_MOST];
    size_t weight_count, rest_count;
};

static size_t
aligned(size_t bytes)
{
    return bytes > SIZE_MAX - 63 ? SIZE_MAX : (bytes + 63) / 64 * 64;
}

static size_t
sum(size_t a, size_t b)
{
    return a > SIZE_MAX - b ? SIZE_MAX : a + b;
}

// The parameters twice (as the SAELens folder wants them, and those it holds in another form),
// moments, f_prev, counters: an upper bound that needs no live state.
size_t
keeper_bytes(const struct recipe *recipe)
{
    size_t k = recipe->sae.latents, d = recipe->width, total, features;
    size_t weights = saelens_bytes((enum arch)recipe->sae.arch, k, d);
    if (weights == SIZE_MAX || !times(&features, recipe->rows, k) ||
        features > SIZE_MAX / sizeof(float))
        return SIZE_MAX;
    total = sum(aligned(weights), aligned(weights)); // exact forms: at most as much again
    total = sum(total, aligned(weights));            // second moments
    if (recipe->optimiser.beta1 > 0)
        total = sum(total, aligned(weights));
    if (recipe->loss.lambda_t > 0)
        total = sum(total, aligned(features * sizeof(float)));
    return sum(sum(total, k * sizeof(int64_t)), 64 * REST_MOST + 4096);
}

enum status
keeper_new(struct keeper **out, const struct keeper_settings *set, struct runfolder *run,
           struct train *train)
{
    *out = NULL;
    size_t bytes = keeper_bytes(train_recipe(train));
    struct keeper *keeper = calloc(1, sizeof *keeper);
    if (keeper && bytes != SIZE_MAX)
        keeper->arena = aligned_alloc(64, aligned(bytes));
    if (!keeper || !keeper->arena) {
        free(keeper);
        return FAIL(CREATE, "no memory for a snapshot of the training state (%zu MiB)",
                    bytes >> 20);
    }
    keeper->set = *set;
    keeper->run = run;
    keeper->train = train;
    keeper->arena_bytes = aligned(bytes);
    *out = keeper;
    return STATUS_OK;
}

void
keeper_free(struct keeper **keeper)
{
    if (*keeper) {
        free((*keeper)->arena);
        free(*keeper);
    }
    *keeper = NULL;
}

bool
keeper_busy(const struct keeper *keeper)
{
    return atomic_load(&keeper->busy);
}

static enum dtype
file_type(enum state_type type)
{
    return type == STATE_F32 ? DTYPE_F32 : type == STATE_F64 ? DTYPE_F64 : DTYPE_I64;
}

static void
snapshot_weights(struct keeper *keeper, size_t *used)
{
    struct train *train = keeper->train;
    struct sae *sae = train_sae(train);
    const struct recipe *recipe = train_recipe(train);
    struct saelens_source source = {
        .arch = (enum arch)recipe->sae.arch,
        .k = recipe->sae.latents,
        .d = recipe->width,
        .w_enc = sae_param(sae, SAE_W_ENC).at,
        .b_enc = sae_param(sae, SAE_B_ENC).at,
        .w_dec = sae_param(sae, SAE_W_DEC).at,
        .b_dec = sae_param(sae, SAE_B_DEC).at,
        .tau = sae_tau(sae),
        .running_threshold = *sae_running_threshold(sae),
        .scale = train_scale(train),
    };
    keeper->weight_count = saelens_fill(keeper->weights, (float *)(void *)keeper->arena, &source);
    *used = aligned(saelens_bytes(source.arch, source.k, source.d));
    keeper->card = keeper->set.card;
    keeper->card.lambda_s = recipe->loss.lambda_s; // which may change while the run goes
    keeper->card.lambda_o = recipe->loss.lambda_o;
    keeper->card.lambda_t = recipe->loss.lambda_t;
    snprintf(keeper->card.architecture, sizeof keeper->card.architecture, "%s",
             card_true_name(keeper->card.arch, recipe->loss.lambda_o));
    keeper->card.step = keeper->place.next;
    keeper->card.tokens = keeper->place.next * recipe->rows;
    double running = *sae_running_threshold(sae);
    keeper->card.threshold = running > 0 ? running / train_scale(train) : 0;
    hex128(keeper->card.stream, keeper->place.stream);
}

static void
snapshot_rest(struct keeper *keeper, size_t used)
{
    struct state_tensor list[STATE_TENSORS];
    size_t count = train_rest(keeper->train, list);
    for (size_t i = 0; i < count; i++) {
        size_t bytes = state_bytes(&list[i]);
        assert(used + bytes <= keeper->arena_bytes);
        memcpy(keeper->arena + used, list[i].at, bytes);
        keeper->rest[i] = (struct tensor_out){.name = list[i].name,
                                              .dtype = file_type(list[i].type),
                                              .rank = list[i].rank,
                                              .shape = {list[i].shape[0], list[i].shape[1]},
                                              .at = keeper->arena + used};
        used += aligned(bytes);
    }
    memcpy(&keeper->last_hash, &keeper->place.last_hash, sizeof keeper->last_hash);
    keeper->rest[count++] =
        (struct tensor_out){.name = "last_hash", .dtype = DTYPE_I64, .at = &keeper->last_hash};
    keeper->rest[count++] =
        (struct tensor_out){.name = "seconds", .dtype = DTYPE_F64, .at = &keeper->place.seconds};
    keeper->rest_count = count;
}

void
keeper_snapshot(struct keeper *keeper, const struct place *place)
{
    assert(!keeper_busy(keeper) && place->next == train_steps(keeper->train));
    size_t used;
    keeper->place = *place;
    snapshot_weights(keeper, &used);
    snapshot_rest(keeper, used);
    atomic_store(&keeper->busy, true);
}

enum status
keeper_persist(struct keeper *keeper, struct kept *out)
{
    assert(keeper_busy(keeper));
    const struct place *place = &keeper->place;
    struct checkpoint_facts facts = {.step = place->next,
                                     .stream = place->stream,
                                     .next = place->next,
                                     .chain = place->chain,
                                     .trajectory = keeper->set.trajectory};
    char *card = NULL;
    TRY(card_write(&card, &keeper->card));
    static const struct text_pair metadata[] = {{"format", "pt"}}; // as the peers' writers put it
    struct checkpoint_file files[] = {
        {.name = "cfg.json", .text = card, .text_bytes = strlen(card)},
        {.name = "sae_weights.safetensors",
         .tensors = keeper->weights,
         .tensor_count = keeper->weight_count,
         .metadata = metadata,
         .metadata_count = 1},
        {.name = "train_state.safetensors",
         .tensors = keeper->rest,
         .tensor_count = keeper->rest_count},
    };
    *out = (struct kept){.step = place->next,
                         .next = place->next,
                         .incarnation = runfolder_incarnation(keeper->run),
                         .bytes = strlen(card)};
    for (size_t i = 1; i < 3; i++)
        out->bytes += safetensors_size(files[i].tensors, files[i].tensor_count, files[i].metadata,
                                       files[i].metadata_count);
    enum status status =
        checkpoint_path(out->path, runfolder_checkpoints(keeper->run), place->next);
    if (status == STATUS_OK)
        status = checkpoint_write(&out->mh, keeper->run, &facts, files, 3, &keeper->set.policy);
    free(card);
    if (status == STATUS_OK) {
        atomic_store(&keeper->durable, place->next + 1);
        atomic_store(&keeper->busy, false);
    }
    return status;
}

bool
keeper_has(const struct keeper *keeper, uint64_t step)
{
    return atomic_load(&keeper->durable) == step + 1;
}

void
keeper_forget(struct keeper *keeper)
{
    atomic_store(&keeper->busy, false);
}

enum status
keeper_retain(struct keeper *keeper, const uint64_t *pinned, size_t count)
{
    struct checkpoint_policy policy = keeper->set.policy;
    policy.pinned = pinned;
    policy.pinned_count = count;
    return checkpoint_retain(keeper->run, &policy);
}

static enum status
restore_weights(struct keeper *keeper, const char *path)
{
    struct sae *sae = train_sae(keeper->train);
    const struct recipe *recipe = train_recipe(keeper->train);
    struct safetensors *file = NULL;
    float *tau = NULL;
    TRY(safetensors_open(&file, path));
    // BatchTopK stands in the file as a JumpReLU; its thresholds come back with train_state.
    bool batchtopk = recipe->sae.arch == ARCH_BATCHTOPK;
    enum arch arch = batchtopk ? ARCH_JUMPRELU : (enum arch)recipe->sae.arch;
    float *threshold = sae_param(sae, SAE_THRESHOLD).at;
    enum status status = STATUS_OK;
    if (batchtopk && !(threshold = tau = malloc(recipe->sae.latents * sizeof *tau)))
        status = FAIL(CREATE, "no memory for %zu thresholds", recipe->sae.latents);
    if (status == STATUS_OK)
        status = saelens_weights(sae_param(sae, SAE_W_ENC).at, sae_param(sae, SAE_B_ENC).at,
                                 sae_param(sae, SAE_W_DEC).at, sae_param(sae, SAE_B_DEC).at,
                                 threshold, file, arch, recipe->sae.latents, recipe->width);
    free(tau);
    safetensors_close(&file);
    return status;
}

static enum status
restore_rest(struct keeper *keeper, const char *path, struct place *place)
{
    struct safetensors *file = NULL;
    TRY(safetensors_open(&file, path));
    struct state_tensor list[STATE_TENSORS];
    size_t count = train_rest(keeper->train, list);
    enum status status = STATUS_OK;
    for (size_t i = 0; i < count; i++) {
        const struct tensor *tensor;
        GOTRY(safetensors_need(&tensor, file, list[i].name, list[i].rank, list[i].shape));
        if (tensor->dtype != file_type(list[i].type)) {
            status = FAIL(DAMAGED, "%s: %s is %s, wanted %s", path, list[i].name,
                          dtype_name(tensor->dtype), dtype_name(file_type(list[i].type)));
            goto done;
        }
        memcpy(list[i].at, tensor->at, tensor->bytes);
    }
    int64_t last_hash;
    GOTRY(tensor_scalar_i64(&last_hash, file, "last_hash"));
    memcpy(&place->last_hash, &last_hash, sizeof last_hash);
    GOTRY(tensor_scalar_f64(&place->seconds, file, "seconds"));
    if (!(place->seconds >= 0 && isfinite(place->seconds)))
        status = FAIL(DAMAGED, "%s: seconds is %g, wanted a number from 0", path, place->seconds);
done:
    safetensors_close(&file);
    return status;
}

enum status
keeper_restore(struct keeper *keeper, const struct checkpoint_found *found, struct place *place)
{
    char weights[PATH_BYTES], rest[PATH_BYTES];
    TRY(path_join(weights, found->path, "sae_weights.safetensors"));
    TRY(path_join(rest, found->path, "train_state.safetensors"));
    *place = (struct place){
        .stream = found->facts.stream, .next = found->facts.next, .chain = found->facts.chain};
    TRY(restore_weights(keeper, weights));
    train_restore_steps(keeper->train, found->facts.step);
    TRY(restore_rest(keeper, rest, place));
    atomic_store(&keeper->durable, found->facts.step + 1);
    return train_restored(keeper->train, found->path);
}
