#include "lib/lm/arch.h"

const char *
family_name(enum family family)
{
    static const char *const names[] = {
#define F(name, hf, gguf) hf,
        FAMILY_LIST(F)
#undef F
    };
    return names[family];
}

static enum status
size_in_range(size_t value, size_t most, const char *what, const char *path)
{
    if (value < 1 || value > most)
        return FAIL(DAMAGED, "%s: %s is %zu, wanted 1 to %zu", path, what, value, most);
    return STATUS_OK;
}

enum status
arch_check(const struct arch *a, const char *path)
{
    TRY(size_in_range(a->layers, ARCH_LAYERS_MOST, "the number of blocks", path));
    TRY(size_in_range(a->width, ARCH_SIZE_MOST, "the width", path));
    TRY(size_in_range(a->heads, 4096, "the number of heads", path));
    TRY(size_in_range(a->kv_heads, a->heads, "the number of key and value heads", path));
    TRY(size_in_range(a->head_dim, 4096, "the width of a head", path));
    TRY(size_in_range(a->ffn, ARCH_SIZE_MOST, "the width of the MLP", path));
    TRY(size_in_range(a->vocab, ARCH_SIZE_MOST, "the vocabulary", path));
    TRY(size_in_range(a->positions, ARCH_SIZE_MOST, "the longest context", path));
    if (a->heads % a->kv_heads != 0)
        return FAIL(DAMAGED, "%s: %zu heads cannot share %zu key and value heads evenly", path,
                    a->heads, a->kv_heads);
    if (a->rotary % 2 != 0 || a->rotary > a->head_dim)
        return FAIL(DAMAGED, "%s: rope turns %zu dimensions of a head of %zu, wanted an even part",
                    path, a->rotary, a->head_dim);
    if (a->rotary > 0 && !(a->theta >= 1 && a->theta <= 1e12))
        return FAIL(DAMAGED, "%s: rope's theta is %g, wanted 1 to 1e12", path, a->theta);
    if (!(a->eps >= 0 && a->eps <= 1))
        return FAIL(DAMAGED, "%s: the norms' epsilon is %g, wanted 0 to 1", path, a->eps);
    if (!(a->attention_scale > 0 && a->attention_scale <= 1e6))
        return FAIL(DAMAGED, "%s: the attention scale is %g, wanted above 0", path,
                    a->attention_scale);
    if (!(a->attention_cap >= 0 && a->attention_cap <= 1e9) ||
        !(a->final_cap >= 0 && a->final_cap <= 1e9))
        return FAIL(DAMAGED, "%s: the softcaps are %g and %g, wanted 0 (none) to 1e9", path,
                    a->attention_cap, a->final_cap);
    return STATUS_OK;
}
