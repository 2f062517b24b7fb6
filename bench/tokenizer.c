// bench_tokenizer MODEL TEXT...: megabytes and tokens a second of one core, cold and warm cache.
// Every file is one document.
#include "lib/lm/tokenizer.h"
#include "lib/base/file.h"
#include "lib/base/tick.h"

#include <stdio.h>
#include <stdlib.h>

static enum status
pass(const struct tokenizer *t, struct tokenizer_cache *cache, struct text_list *texts,
     size_t count, const char *name)
{
    struct token_list ids = {0};
    size_t bytes = 0, tokens = 0;
    double begin = tick_seconds();
    for (size_t i = 0; i < count; i++) {
        ids.count = 0;
        TRY(tokenizer_encode(t, cache, &ids, texts[i].at, texts[i].bytes, TOKENIZER_SPLIT, NULL));
        bytes += texts[i].bytes;
        tokens += ids.count;
    }
    double seconds = tick_seconds() - begin;
    printf("%s: %.2f MB, %zu tokens, %.3f s: %.1f MB/s, %.2f M tokens/s\n", name,
           (double)bytes / 1e6, tokens, seconds, (double)bytes / 1e6 / seconds,
           (double)tokens / 1e6 / seconds);
    token_list_release(&ids);
    return STATUS_OK;
}

static enum status
bench(const char *model, char **paths, size_t count)
{
    struct tokenizer *t = NULL;
    struct tokenizer_cache *cache = NULL;
    struct text_list *texts = calloc(count, sizeof *texts);
    enum status status = texts ? STATUS_OK : FAIL(CREATE, "no memory");
    double begin = tick_seconds();
    if (status == STATUS_OK)
        GOTRY(tokenizer_open(&t, model));
    printf("open: %.3f s\n", tick_seconds() - begin);
    for (size_t i = 0; i < count; i++)
        GOTRY(file_read(&texts[i].at, &texts[i].bytes, paths[i], (size_t)1 << 32));
    GOTRY(tokenizer_cache_new(&cache, t));
    GOTRY(pass(t, cache, texts, count, "cold"));
    for (int i = 0; i < 3; i++)
        GOTRY(pass(t, cache, texts, count, "warm"));
done:
    for (size_t i = 0; texts && i < count; i++)
        text_list_release(&texts[i]);
    free(texts);
    tokenizer_cache_free(&cache);
    tokenizer_free(&t);
    return status;
}

int
main(int count, char **args)
{
    if (count < 3) {
        fprintf(stderr, "usage: bench_tokenizer MODEL TEXT...\n");
        return 64;
    }
    enum status status = bench(args[1], args + 2, (size_t)count - 2);
    if (status != STATUS_OK)
        fprintf(stderr, "%s\n", status_words());
    return status_exit_code(status);
}
