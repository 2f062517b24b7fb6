// tokenizer: text -> token ids and back, the same ids as Hugging Face's `tokenizers` 0.23.3.
//
// Two kinds are read (docs/models.md): byte-level BPE as in GPT-2 and SmolLM2, and
// SentencePiece's BPE with byte fallback as in Gemma. Others are refused by name, never guessed.
//
//     text --cut--> added tokens, gaps --split--> words --symbols, merges--> ids
//
// A gap lies between added tokens; a word is a stretch that no merge can leave, so its ids depend
// on its bytes alone and are kept in a cache of words.
#ifndef LIB_LM_TOKENIZER_H
#define LIB_LM_TOKENIZER_H

#include "lib/base/bytes.h"
#include "lib/base/status.h"
#include "lib/lm/grow.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// Read-only once open, so any number of threads may use one.
struct tokenizer;

// `path` is a GGUF file, a tokenizer.json, a SentencePiece tokenizer.model, or a folder that holds
// one of the latter two (tokenizer.json wins). Beside tokenizer.json, tokenizer_config.json and
// config.json are read where they exist, for the ids of bos, eos, pad and unk.
// DAMAGED: malformed, contradictory, or of a kind we do not read; MISSING, DENIED, IO; CREATE:
// memory.
CHECKED enum status tokenizer_open(struct tokenizer **out, const char *path);
void tokenizer_free(struct tokenizer **t);             // NULL is fine; leaves NULL behind
const char *tokenizer_path(const struct tokenizer *t); // the file that was read

// Scratch memory and a cache of words, bounded: about 4 MiB, and 100 times the longest word met.
// One per thread; it serves the tokenizer it was made for. The ids do not depend on what it has
// seen.
struct tokenizer_cache;
CHECKED enum status tokenizer_cache_new(struct tokenizer_cache **out, const struct tokenizer *t);
void tokenizer_cache_free(struct tokenizer_cache **cache);

// What the text of a special token (`<|endoftext|>`) means inside a document: the token, as the
// peers have it, or just those characters. Added tokens that are not special (Gemma's runs of
// newlines) are tokens either way.
enum tokenizer_special { TOKENIZER_SPLIT, TOKENIZER_TEXT };

// A word longer than this is cut here, so that no document can ask for gigabytes of scratch. (The
// peers do not cut. Words of prose have 20 bytes; only huge text without any white space is met.)
enum { TOKENIZER_WORD_MOST = 1 << 20 };

// Appends the ids of the text to `out`. No BOS is put in front. *added is raised by the number of
// added tokens found; NULL is fine. The text should be valid UTF-8 (unicode.h repairs it); other
// bytes are safe, but then mean something else than U+FFFD. Fails only for lack of memory (CREATE).
CHECKED enum status tokenizer_encode(const struct tokenizer *t, struct tokenizer_cache *cache,
                                     struct token_list *out, const char *text, size_t bytes,
                                     enum tokenizer_special special, size_t *added);

// The first place at or after `at` where a text may be cut in two without changing its ids; `bytes`
// when there is none. Long documents are tokenised in parallel this way.
size_t tokenizer_cut(const struct tokenizer *t, const char *text, size_t bytes, size_t at);

// Appends the text of the ids: valid UTF-8, special tokens as their text, nothing stripped. An id
// that is not in the vocabulary is DAMAGED.
CHECKED enum status tokenizer_decode(const struct tokenizer *t, struct text_list *out,
                                     const uint32_t *ids, size_t count);

// The bytes that one token stands for (a piece of UTF-8, not always whole characters; for byte
// tokens the byte). Borrowed from the tokenizer. {NULL, 0} for an id that has no token.
struct tokenizer_text {
    const char *at;
    size_t bytes;
};
struct tokenizer_text tokenizer_piece(const struct tokenizer *t, uint32_t id);
// An added token (cut out of text before anything else)? A special one?
bool tokenizer_is_added(const struct tokenizer *t, uint32_t id);
bool tokenizer_is_special(const struct tokenizer *t, uint32_t id);

// One more than the highest id. A model may have more rows of embedding than that, never fewer.
size_t tokenizer_count(const struct tokenizer *t);

// Ids with a role; TOKEN_ABSENT when the files name none.
#define TOKEN_ABSENT UINT32_MAX
struct tokenizer_roles {
    uint32_t bos; // as the files have it: for text use tokenizer_bos
    uint32_t eos, pad, unk;
};
struct tokenizer_roles tokenizer_roles(const struct tokenizer *t);

// `model.bos: auto`, the token that begins a context and separates documents:
// - the files say that a BOS is put in front (GGUF add_bos_token, a template in tokenizer.json,
//   add_bos_token in tokenizer_config.json): that BOS. SentencePiece kinds always do. Gemma: 2.
// - else `<|endoftext|>`, if there is such a special token: what byte-level models were trained
//   with. SmolLM2: 0, not the `<|im_start|>` that its GGUF names.
// - else the BOS the files name, else TOKEN_ABSENT.
uint32_t tokenizer_bos(const struct tokenizer *t);

// A setting (model.bos, model.separator) as an id: `auto` (tokenizer_bos), `bos` (the argument),
// `eos`, `pad`, `none` (TOKEN_ABSENT), a number, or the text of an added token. CONFIG otherwise;
// `where` ("run.yaml:7: model.bos") begins the message.
CHECKED enum status tokenizer_pick(uint32_t *out, const struct tokenizer *t, const char *text,
                                   uint32_t bos, const char *where);

// The ids that evaluation masks and the producer may drop (docs/evaluation.md): {pad, eos, bos},
// ascending, without repeats, 0 to 3 of them. `bos` is the one contexts are built with (ABSENT:
// the files'). Missing ones as in TransformerLens: eos is `<|endoftext|>`, pad is eos, bos is eos.
size_t tokenizer_special_ids(uint32_t out[3], const struct tokenizer *t, uint32_t bos);

// Of all that decides which ids a text gets: kind, pieces, merges in order, added tokens (and which
// of them are special, if that matters). Not of file names, roles or format: the same tokenizer has
// the same hash from a GGUF and from a tokenizer.json.
struct hash128 tokenizer_hash(const struct tokenizer *t, enum tokenizer_special special);

#endif
