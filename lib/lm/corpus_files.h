// corpus_files: from paths to the list of files of a corpus. Inside the corpus only.
#ifndef LIB_LM_CORPUS_FILES_H
#define LIB_LM_CORPUS_FILES_H

#include "lib/lm/corpus.h"

struct corpus_list {
    struct corpus_file *files; // their paths are owned
    size_t count, room;
};

CHECKED enum status corpus_list_fill(struct corpus_list *list, const struct texts *paths);
void corpus_list_release(struct corpus_list *list);

#endif
