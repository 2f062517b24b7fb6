#include "config/packing.h"

enum status
packing(struct packed_settings *out, const struct settings *set, const struct tokenizer *tokenizer)
{
    *out = (struct packed_settings){
        .field = set->text.field,
        .special = set->text.special == SET_SPECIAL_SPLIT ? TOKENIZER_SPLIT : TOKENIZER_TEXT,
        .context = set->model.context,
        .cache = set->storage.cache};
    const char *bos = set->model.bos[0] ? set->model.bos : "auto";
    const char *separator = set->model.separator[0] ? set->model.separator : "auto";
    TRY(tokenizer_pick(&out->bos, tokenizer, bos, tokenizer_bos(tokenizer), "model.bos"));
    return tokenizer_pick(&out->separator, tokenizer, separator, out->bos, "model.separator");
}
