// SAEs of peers: files that their own classes wrote (tests/golden/peer-saes) give the same
// activations and reconstructions, and damaged or hostile ones one line.
#include "lib/base/bytes.h"
#include "lib/interop/arrays.h"
#include "lib/interop/sae_folder.h"
#include "lib/store/safetensors.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include <cmocka.h>

enum { B = 5, D = 6, K = 16 };
static char root[] = "/tmp/osae-peers-XXXXXX";
static const struct kern *kern;

static int
make_root(void **unused)
{
    (void)unused;
    return mkdtemp(root) && kern_open(&kern, "ref", "test") == STATUS_OK ? 0 : -1;
}

static int
drop_root(void **unused)
{
    (void)unused;
    return path_remove(root) == STATUS_OK ? 0 : -1;
}

static void
golden(char out[PATH_BYTES], const char *folder, const char *file)
{
    int length = snprintf(out, PATH_BYTES, OSAE_TESTS "/golden/peer-saes/%s/%s", folder, file);
    assert_in_range(length, 1, PATH_BYTES - 1);
}

static void
tensor(float *out, const struct safetensors *file, const char *name, size_t cols)
{
    const struct tensor *at;
    assert_int_equal(safetensors_need(&at, file, name, 2, (size_t[]){B, cols}), STATUS_OK);
    assert_int_equal(tensor_to_f32(out, at, name), STATUS_OK);
}

static void
close_to(const float *got, const float *want, size_t count, const char *what)
{
    for (size_t i = 0; i < count; i++)
        if (!(fabsf(got[i] - want[i]) <= 1e-5f * (1 + fabsf(want[i]))))
            fail_msg("%s: element %zu is %g, wanted %g", what, i, (double)got[i], (double)want[i]);
}

struct expected {
    const char *folder;
    enum sae_kind kind;
    enum arch arch;
    const char *name;
    int64_t layer;
    size_t topk;
    bool pre_bias, folded;
};

static void
peers_files_give_the_peers_numbers(void **unused)
{
    (void)unused;
    static const struct expected all[] = {
        {"dl-autoencoder", SAE_DICTIONARY_LEARNING, ARCH_RELU, "standard", 1, 0, true, false},
        {"dl-topk", SAE_DICTIONARY_LEARNING, ARCH_TOPK, "topk", 1, 3, true, false},
        {"dl-batchtopk", SAE_DICTIONARY_LEARNING, ARCH_JUMPRELU, "batchtopk", 1, 3, true, false},
        {"dl-matryoshka", SAE_DICTIONARY_LEARNING, ARCH_JUMPRELU, "batchtopk", 1, 3, true, false},
        {"dl-jumprelu", SAE_DICTIONARY_LEARNING, ARCH_JUMPRELU, "jumprelu", 1, 0, false, false},
        {"dl-views", SAE_DICTIONARY_LEARNING, ARCH_RELU, "standard", -1, 0, true, true},
        {"sparsify/layers.1", SAE_SPARSIFY, ARCH_TOPK, "topk", 1, 3, true, false},
        {"gemma-scope/layer_1/width_16", SAE_GEMMA_SCOPE, ARCH_JUMPRELU, "jumprelu", 1, 0, false,
         true},
    };
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        const struct expected *want = &all[i];
        char path[PATH_BYTES];
        static float x[B * D], f[B * K], xhat[B * D], got_f[B * K], got_xhat[B * D];
        struct safetensors *file = NULL;
        golden(path, want->folder, "golden.safetensors");
        assert_int_equal(safetensors_open(&file, path), STATUS_OK);
        tensor(x, file, "x", D);
        tensor(f, file, "f", K);
        tensor(xhat, file, "xhat", D);
        safetensors_close(&file);

        struct sae_folder folder;
        struct card card;
        struct saelens sae = {0};
        uint64_t hash, again;
        golden(path, want->folder, "");
        if (sae_folder_find(&folder, path) != STATUS_OK ||
            sae_folder_card(&card, &folder) != STATUS_OK ||
            sae_folder_open(&sae, &folder, B, kern) != STATUS_OK)
            fail_msg("%s: %s", want->folder, status_words());
        assert_int_equal(folder.kind, want->kind);
        assert_int_equal(card.arch, want->arch);
        assert_string_equal(card.architecture, want->name);
        assert_int_equal(card.width, D);
        assert_int_equal(card.latents, K);
        assert_int_equal(card.topk, want->topk);
        assert_int_equal(card.layer, want->layer);
        assert_int_equal(card.apply_b_dec_to_input, want->pre_bias);
        assert_int_equal(sae.folded, want->folded);
        saelens_encode(&sae, (struct mat){got_f, B, K}, (struct mat){x, B, D});
        saelens_decode(&sae, (struct mat){got_xhat, B, D}, (struct mat){got_f, B, K});
        close_to(got_xhat, xhat, B * D, want->folder);
        if (!want->folded) // else activations have the size they have in the output
            close_to(got_f, f, B * K, want->folder);
        for (size_t j = 0; j < B * K; j++)
            assert_int_equal(got_f[j] > 0, f[j] > 0);
        saelens_close(&sae);
        assert_int_equal(sae_folder_hash(&hash, &folder), STATUS_OK);
        assert_int_equal(sae_folder_find(&folder, folder.weights), STATUS_OK); // by its file
        assert_int_equal(folder.kind, want->kind);
        assert_int_equal(sae_folder_hash(&again, &folder), STATUS_OK);
        assert_true(hash == again && hash != 0);
    }
}

// A copy of a golden folder, to be damaged.
static void
copy(char out[PATH_BYTES], const char *name, const char *folder, const char *const *files)
{
    char from[PATH_BYTES], to[PATH_BYTES], *text;
    size_t bytes;
    assert_int_equal(path_join(out, root, name), STATUS_OK);
    assert_int_equal(path_make(out, 0755), STATUS_OK);
    for (size_t i = 0; files[i]; i++) {
        golden(from, folder, files[i]);
        assert_int_equal(file_read(&text, &bytes, from, 1 << 20), STATUS_OK);
        assert_int_equal(path_join(to, out, files[i]), STATUS_OK);
        assert_int_equal(file_replace(to, text, bytes), STATUS_OK);
        free(text);
    }
}

static enum status
open_folder(const char *path)
{
    struct sae_folder folder;
    struct saelens sae = {0};
    TRY(sae_folder_find(&folder, path));
    enum status status = sae_folder_open(&sae, &folder, B, kern);
    saelens_close(&sae);
    return status;
}

static void
refused(const char *path, enum status status, const char *words)
{
    enum status got = open_folder(path);
    if (got != status || !strstr(status_words(), words))
        fail_msg("%s, '%s'; wanted %s, '%s'", status_name(got), status_words(), status_name(status),
                 words);
}

static void
write_text(const char *folder, const char *name, const char *text)
{
    char path[PATH_BYTES];
    assert_int_equal(path_join(path, folder, name), STATUS_OK);
    assert_int_equal(file_replace(path, text, strlen(text)), STATUS_OK);
}

static void
what_cannot_be_run_is_named(void **unused)
{
    (void)unused;
    static const char *const dl[] = {"ae.pt", "config.json", NULL};
    static const char *const sparsify[] = {"sae.safetensors", "cfg.json", NULL};
    char path[PATH_BYTES];
    golden(path, "dl-gated", "");
    refused(path, STATUS_CONFIG, "trainer.dict_class is 'GatedAutoEncoder', which osae cannot run");
    golden(path, "", "");
    refused(path, STATUS_MISSING, "no SAE: found ");
    refused(path, STATUS_MISSING, "wanted cfg.json with sae_weights.safetensors (SAELens), ");
    copy(path, "size", "dl-topk", dl);
    write_text(path, "config.json",
               "{\"trainer\":{\"dict_class\":\"AutoEncoderTopK\",\"activation_dim\":7}}");
    refused(path, STATUS_DAMAGED, "activation_dim does not fit the weights, whose is 6");
    write_text(path, "config.json", "{\"trainer\":{\"dict_class\":\"AutoEncoder\"}}");
    refused(path, STATUS_DAMAGED, "bias is missing, wanted it of shape [6]");
    write_text(path, "config.json", "{\"trainer\":{\"dict_class\":\"JumpReluAutoEncoder\"}}");
    refused(path, STATUS_DAMAGED, "W_enc is missing, wanted it of shape [any, any]");
    write_text(path, "config.json", "[1]");
    refused(path, STATUS_DAMAGED, "wanted a JSON object");
    write_text(path, "config.json", "{");
    refused(path, STATUS_DAMAGED, "config.json:1: not JSON: ");
    copy(path, "skip", "sparsify/layers.1", sparsify);
    write_text(path, "cfg.json", "{\"activation\":\"groupmax\",\"k\":3}");
    refused(path, STATUS_CONFIG, "activation is 'groupmax', which osae cannot run");
    write_text(path, "cfg.json", "{\"activation\":\"topk\",\"k\":3,\"transcode\":true}");
    refused(path, STATUS_CONFIG, "transcode is true: a transcoder is no SAE");
    write_text(path, "cfg.json", "{\"k\":17}");
    refused(path, STATUS_DAMAGED, "k is 17, wanted 1 to 16");
    write_text(path, "cfg.json", "{\"k\":2.5}");
    refused(path, STATUS_DAMAGED, "k is 2.5, wanted 1 to 16");
}

// A .pt of stored members around a pickle of ours.
struct bytes {
    unsigned char at[8192];
    size_t count;
};

static void
put(struct bytes *to, const void *at, size_t count)
{
    assert_true(count <= sizeof to->at - to->count);
    memcpy(to->at + to->count, at, count);
    to->count += count;
}

static void
put_number(struct bytes *to, uint64_t value, size_t bytes)
{
    put(to, &value, bytes); // little-endian, as this machine
}

static uint32_t
crc(const unsigned char *at, size_t bytes)
{
    uint32_t sum = 0xffffffff;
    for (size_t i = 0; i < bytes; i++) {
        sum ^= at[i];
        for (int bit = 0; bit < 8; bit++)
            sum = sum >> 1 ^ (sum & 1 ? 0xedb88320 : 0);
    }
    return ~sum;
}

static void
write_pt(const char *folder, const void *pickle, size_t bytes)
{
    static struct bytes zip, directory;
    const float storage[4] = {1, 2, 3, 4};
    const struct {
        const char *name;
        const void *at;
        size_t bytes;
    } members[] = {{"a/data.pkl", pickle, bytes}, {"a/data/0", storage, sizeof storage}};
    zip.count = directory.count = 0;
    for (size_t i = 0; i < 2; i++) {
        size_t local = zip.count, name = strlen(members[i].name);
        uint32_t sum = crc(members[i].at, members[i].bytes);
        for (int central = 0; central < 2; central++) {
            struct bytes *to = central ? &directory : &zip;
            put_number(to, central ? 0x02014b50 : 0x04034b50, 4);
            put_number(to, 0, central ? 8 : 6); // versions, flags, method
            put_number(to, 0, 4);               // time
            put_number(to, sum, 4);
            put_number(to, members[i].bytes, 4);
            put_number(to, members[i].bytes, 4);
            put_number(to, name, 2);
            put_number(to, 0, 2);
            if (central) {
                put_number(to, 0, 8);
                put_number(to, 0, 2);
                put_number(to, local, 4);
            }
            put(to, members[i].name, name);
        }
        put(&zip, members[i].at, members[i].bytes);
    }
    size_t at = zip.count;
    put(&zip, directory.at, directory.count);
    put_number(&zip, 0x06054b50, 4);
    put_number(&zip, 0, 4);
    put_number(&zip, 2, 2);
    put_number(&zip, 2, 2);
    put_number(&zip, directory.count, 4);
    put_number(&zip, at, 4);
    put_number(&zip, 0, 2);
    char path[PATH_BYTES];
    assert_int_equal(path_join(path, folder, "ae.pt"), STATUS_OK);
    assert_int_equal(file_replace(path, zip.at, zip.count), STATUS_OK);
}

#define P(text) text, sizeof(text) - 1
#define STORAGE_0(count)                                                                           \
    "(X\7\0\0\0storagectorch\nFloatStorage\nX\1\0\0\0"                                             \
    "0X\3\0\0\0cpuK" count "tQ"
#define TENSOR(offset, shape, stride)                                                              \
    "}(X\1\0\0\0wctorch._utils\n_rebuild_tensor_v2\n(" STORAGE_0("\4") "K" offset shape stride     \
                                                                       "\x89}tRu."

static void
pickles_are_data_not_programs(void **unused)
{
    (void)unused;
    static const struct {
        const char *code;
        size_t bytes;
        const char *words; // NULL: fine, then W_enc is missing
    } cases[] = {
        {P("\x80\2" TENSOR("\0", "K\2K\2\x86", "K\2K\1\x86")), "encoder.weight is missing"},
        {P("\x80\2cos\nsystem\n(X\4\0\0\0truetR."), "it wants to call os.system, which no list"},
        {P("\x80\4\x8c\2os\x8c\6system\x93."), "it wants to call os.system"},
        {P("\x80\2cbuiltins\neval\n."), "it wants to call builtins.eval"},
        {P("\x80\2ctorch.nn.modules.linear\nLinear\n."), "torch.nn.modules.linear.Linear"},
        {P("\x80\2i(os\nsystem\n."), "operation 0x69"},
        {P("\x80\2o."), "operation 0x6f"},
        {P("\x80\2\x81."), "operation 0x81"},
        {P("\x80\2K\1Q."), "a persistent id that is no storage"},
        {P("\x80\2" TENSOR("\1", "K\2K\2\x86", "K\2K\1\x86")), "w: 4 values that reach to element"},
        {P("\x80\2" TENSOR("\0", "K\4K\4\x86", "K\0K\1\x86")),
         "w: 16 values that reach to element"},
        {P("\x80\2" TENSOR("\0", "\x8a\10\377\377\377\377\377\377\377\177K\2\x86", "K\2K\1\x86")),
         "w: 18446744073709551614 values"},
        {P("\x80\2" TENSOR("\0", "\x8a\1\377K\2\x86", "K\2K\1\x86")), "shape or strides are no"},
        {P("\x80\2" TENSOR("\5", "K\1\x85", "K\1\x85")), "a tensor outside its storage"},
        {P("\x80\2" TENSOR("\0", "K\2K\2\x86", "K\1\x85")), "more strides than sizes"},
        {P("\x80\2" STORAGE_0("\5") "."), "storage '0' holds 4 values, wanted 5"},
        {P("\x80\2}q\0X\1\0\0\0ah\0s."), "encoder.weight is missing"}, // a dict in itself
        {P("\x80\2]q\0h\0a."), "it holds no dict of tensors"},
        {P("\x80\2}"), "cut short"},
        {P(""), "cut short"},
        {P("."), "nothing to take from the stack"},
        {P("\x80\11."), "a protocol above 5"},
        {P("\x80\2(u."), "items for no list, or no pairs for a dict"},
        {P("\x80\2}(K\1u."), "no pairs for a dict"},
        {P("\x80\2u."), "no mark on the stack"},
        {P("\x80\2h\7."), "a memo number that nothing has"},
        {P("\x80\2}r\377\377\377\377."), "a memo number out of range"},
        {P("\x80\2}X\377\377\377\177abc."), "cut short"},
        {P("\x80\2\x8a\11abcdefghi."), "a number of more than 64 bits"},
        {P("\x80\2K\1}b."), "an object that is no dict is built"},
        {P("\x80\2cwithout end"), "a name without end"},
    };
    char path[PATH_BYTES];
    assert_int_equal(path_join(path, root, "pickle"), STATUS_OK);
    assert_int_equal(path_make(path, 0755), STATUS_OK);
    write_text(path, "config.json", "{\"trainer\":{\"dict_class\":\"AutoEncoder\"}}");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        write_pt(path, cases[i].code, cases[i].bytes);
        refused(path, STATUS_DAMAGED, cases[i].words);
    }
    write_text(path, "ae.pt", "\x80\2not a ZIP archive, as before torch 1.6");
    refused(path, STATUS_DAMAGED, "no file of torch.save since 1.6");
}

// Any one byte changed, any length: a status or an SAE, never a crash (ASan and UBSan watch).
static void
damage_never_crashes(void **unused)
{
    (void)unused;
    static const struct {
        const char *folder, *weights, *card;
    } all[] = {{"dl-topk", "ae.pt", "config.json"},
               {"gemma-scope/layer_1/width_16", "params.npz", NULL},
               {"sparsify/layers.1", "sae.safetensors", "cfg.json"}};
    for (size_t i = 0; i < 3; i++) {
        char path[PATH_BYTES], weights[PATH_BYTES], *text;
        size_t bytes, damaged = 0;
        const char *const files[] = {all[i].weights, all[i].card, NULL};
        copy(path, all[i].weights, all[i].folder, files);
        assert_int_equal(path_join(weights, path, all[i].weights), STATUS_OK);
        assert_int_equal(file_read(&text, &bytes, weights, 1 << 20), STATUS_OK);
        assert_int_equal(open_folder(path), STATUS_OK);
        uint64_t state = 9;
        for (size_t at = 0; at < bytes; at += 1 + bytes / 600) {
            char before = text[at];
            state = state * 6364136223846793005u + 1442695040888963407u;
            text[at] = (char)(before ^ (char)(1 + (state >> 40) % 255));
            FILE *file = fopen(weights, "wb"); // no fsync: many
            assert_non_null(file);
            assert_int_equal(fwrite(text, 1, bytes, file), bytes);
            assert_int_equal(fclose(file), 0);
            damaged += open_folder(path) != STATUS_OK;
            text[at] = before;
        }
        assert_true(damaged > 50); // CRCs, heads and names see most of it
        for (size_t cut = 0; cut < bytes; cut += 1 + bytes / 100) {
            FILE *file = fopen(weights, "wb");
            assert_non_null(file);
            assert_int_equal(fwrite(text, 1, cut, file), cut);
            assert_int_equal(fclose(file), 0);
            assert_int_not_equal(open_folder(path), STATUS_OK);
        }
        free(text);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(peers_files_give_the_peers_numbers),
        cmocka_unit_test(what_cannot_be_run_is_named),
        cmocka_unit_test(pickles_are_data_not_programs),
        cmocka_unit_test(damage_never_crashes),
    };
    return cmocka_run_group_tests(tests, make_root, drop_root);
}
