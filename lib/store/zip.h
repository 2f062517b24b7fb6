// zip: the archives that numpy (.npz) and torch (.pt) write, read-only. Stored and deflated
// members, ZIP64, sizes and places from the central directory alone (numpy's local headers say
// nothing). Encrypted, split and otherwise packed archives are refused by name.
#ifndef LIB_STORE_ZIP_H
#define LIB_STORE_ZIP_H

#include "lib/base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { ZIP_MEMBERS_MOST = 1 << 16, ZIP_NAME_MOST = 1024 };

struct zip;

// Maps the file and checks its directory: every member lies inside the file, names are unique.
CHECKED enum status zip_open(struct zip **out, const char *path);
void zip_close(struct zip **zip); // NULL is fine
size_t zip_count(const struct zip *zip);
const char *zip_name(const struct zip *zip, size_t i);
bool zip_find(size_t *i, const struct zip *zip, const char *name);

// The content of a member, checked against its CRC the first time; valid until zip_close. A member
// that claims more than `most` bytes is DAMAGED before any memory is taken.
CHECKED enum status zip_content(const unsigned char **at, size_t *bytes, struct zip *zip, size_t i,
                                size_t most);

#endif
