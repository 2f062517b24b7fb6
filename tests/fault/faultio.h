// faultio: a library to preload (LD_PRELOAD=libfaultio.so) that lets calls of the file system fail
// and writes down what a process does to a folder. It sees open*, mkdir, write, pwrite, writev,
// fsync, fdatasync, ftruncate, fallocate, rename*, unlink*, remove, rmdir, read, pread, and of
// these only what concerns names below FAULTIO_ROOT and descriptors opened there.
//
//     FAULTIO_ROOT    the folder; unset: nothing is touched
//     FAULTIO_CALLS   which calls count: letters of the list below; unset: all but m
//     FAULTIO_AT      the n-th of them (from 1) fails; 0 or unset: none
//     FAULTIO_EVER    set: and all that follow it
//     FAULTIO_HOW     EIO (the default), ENOSPC, EACCES, EINTR, ENOMEM: errno; short: a write or
//                     read does a half; kill: SIGKILL before the call, killed: after it
//     FAULTIO_FULL    a file: while it is there, what needs space fails with ENOSPC
//     FAULTIO_SLOW    each sync takes so many milliseconds longer
//     FAULTIO_COUNT   a file: holds, as 8 bytes, how many calls counted so far
//     FAULTIO_LOG     a file outside the folder: the operations, as the records below
//
// A sanitizer's runtime wants to be first: not for programs built with one.
#ifndef TESTS_FAULT_FAULTIO_H
#define TESTS_FAULT_FAULTIO_H

#include <stdint.h>

//  o open   d mkdir   w write, pwrite, writev   s fsync, fdatasync   t ftruncate, fallocate
//  r rename*          u unlink*, remove, rmdir  i read, pread
// and, only when asked for:  m malloc, calloc, realloc, aligned_alloc (from the first open on)

// A record: the head, then the bytes of `from`, of `to` (paths, relative to the root), and of
// `data`. Only what succeeded is written down, in the order in which it happened.
enum faultio_what {
    FAULTIO_CREATE = 1, // a file, made by open: from, inode
    FAULTIO_MKDIR,      // from, inode
    FAULTIO_WRITE,      // inode, at, data
    FAULTIO_SIZE,       // inode, at: the new size
    FAULTIO_SYNC,       // inode, of a file or folder
    FAULTIO_RENAME,     // from, to
    FAULTIO_EXCHANGE,   // from, to
    FAULTIO_UNLINK,     // from, a file or an empty folder
    FAULTIO_MARK,       // at: a number the process says
};
struct faultio_head {
    uint32_t what, from_bytes, to_bytes, data_bytes;
    uint64_t inode, at;
};

// For the process itself: NULL where the library is not loaded.
void faultio_mark(uint64_t number) __attribute__((weak));

#endif
