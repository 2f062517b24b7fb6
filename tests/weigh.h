// What a test holds of memory: for those that see to it that something does not grow.
#ifndef TESTS_WEIGH_H
#define TESTS_WEIGH_H

#include <malloc.h>
#include <stddef.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
size_t __sanitizer_get_current_allocated_bytes(void); // of the runtime; gcc has no header for it
#endif

// Bytes allocated and not freed, those of the libraries too.
static inline size_t
weigh(void)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    return __sanitizer_get_current_allocated_bytes();
#else
    struct mallinfo2 info = mallinfo2();
    return info.uordblks + info.hblkhd;
#endif
}

#endif
