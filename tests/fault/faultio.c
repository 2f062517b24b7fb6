// faultio.h. Every wrapper is: is it ours, does it fail now, the call, the record.
#include "tests/fault/faultio.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define PUBLIC __attribute__((visibility("default")))

enum { FDS = 4096 };

static struct {
    char root[PATH_MAX];
    size_t root_length;
    const char *calls, *full;
    uint64_t at;
    long slow_ms;
    bool ever, counts_memory, cuts, kill_before, kill_after;
    int error;
    uint64_t *count, own_count;
    int log;
    bool ours[FDS]; // descriptors opened below the root
} plan = {.log = -1};

static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; // counting, and calls with their records

// The calls of the C library below ours, by the kernel's own names: no search for symbols.
#define OPENAT(folder, path, flags, mode) (int)syscall(SYS_openat, folder, path, flags, mode)

static void
take_how(const char *how)
{
    static const struct {
        const char *name;
        int error;
    } errors[] = {
        {"EIO", EIO}, {"ENOSPC", ENOSPC}, {"EACCES", EACCES}, {"EINTR", EINTR}, {"ENOMEM", ENOMEM}};
    plan.error = EIO;
    for (size_t i = 0; i < sizeof errors / sizeof errors[0]; i++)
        if (strcmp(how, errors[i].name) == 0)
            plan.error = errors[i].error;
    plan.cuts = strcmp(how, "short") == 0;
    plan.kill_before = strcmp(how, "kill") == 0;
    plan.kill_after = strcmp(how, "killed") == 0;
}

static void
take_plan(void)
{
    const char *root = getenv("FAULTIO_ROOT"), *at = getenv("FAULTIO_AT"),
               *how = getenv("FAULTIO_HOW"), *log = getenv("FAULTIO_LOG"),
               *count = getenv("FAULTIO_COUNT");
    plan.count = &plan.own_count;
    if (!root || !*root || strlen(root) >= sizeof plan.root)
        return;
    plan.root_length = strlen(root);
    memcpy(plan.root, root, plan.root_length + 1);
    plan.calls = getenv("FAULTIO_CALLS");
    plan.full = getenv("FAULTIO_FULL");
    plan.at = at ? strtoull(at, NULL, 10) : 0;
    const char *slow = getenv("FAULTIO_SLOW");
    plan.slow_ms = slow ? strtol(slow, NULL, 10) : 0;
    plan.ever = getenv("FAULTIO_EVER") != NULL;
    plan.counts_memory = plan.calls && strchr(plan.calls, 'm');
    take_how(how ? how : "EIO");
    if (log && *log)
        plan.log = OPENAT(AT_FDCWD, log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    int fd = count && *count ? OPENAT(AT_FDCWD, count, O_RDWR | O_CREAT | O_CLOEXEC, 0600) : -1;
    if (fd >= 0 && syscall(SYS_ftruncate, fd, sizeof *plan.count) == 0) {
        void *page = mmap(NULL, sizeof *plan.count, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (page != MAP_FAILED)
            plan.count = page;
        syscall(SYS_close, fd);
    }
}

// A path below the root, relative to it; NULL: not ours. Our programs use absolute paths there.
static const char *
below(const char *path)
{
    pthread_once(&once, take_plan);
    if (!path || plan.root_length == 0 || strncmp(path, plan.root, plan.root_length) != 0)
        return NULL;
    path += plan.root_length;
    if (*path != '/' && *path != '\0')
        return NULL;
    while (*path == '/')
        path++;
    return path;
}

static bool
is_ours(int fd)
{
    pthread_once(&once, take_plan);
    return fd >= 0 && fd < FDS && plan.ours[fd];
}

enum verdict { GO_ON, FAILS, CUTS };

// One more call of this kind. FAILS: errno is set.
static enum verdict
judge(char letter, bool wants_space)
{
    if (plan.full && wants_space && syscall(SYS_faccessat, AT_FDCWD, plan.full, F_OK) == 0) {
        errno = ENOSPC;
        return FAILS;
    }
    if (plan.calls && !strchr(plan.calls, letter))
        return GO_ON;
    uint64_t number = ++*plan.count;
    if (plan.at == 0 || (plan.ever ? number < plan.at : number != plan.at) || plan.kill_after)
        return GO_ON;
    if (plan.kill_before)
        kill(getpid(), SIGKILL);
    if (plan.cuts)
        return CUTS;
    errno = plan.error;
    return FAILS;
}

static void
after(void)
{
    if (plan.kill_after && plan.at != 0 && *plan.count == plan.at)
        kill(getpid(), SIGKILL);
}

static void
record(enum faultio_what what, const char *from, const char *to, uint64_t inode, uint64_t at,
       const void *data, size_t bytes)
{
    if (plan.log < 0)
        return;
    struct faultio_head head = {.what = (uint32_t)what,
                                .from_bytes = from ? (uint32_t)strlen(from) : 0,
                                .to_bytes = to ? (uint32_t)strlen(to) : 0,
                                .data_bytes = (uint32_t)bytes,
                                .inode = inode,
                                .at = at};
    struct iovec parts[] = {{&head, sizeof head},
                            {(void *)(uintptr_t)from, head.from_bytes},
                            {(void *)(uintptr_t)to, head.to_bytes},
                            {(void *)(uintptr_t)data, bytes}};
    int error = errno;
    if (syscall(SYS_writev, plan.log, parts, 4) < 0)
        abort();
    errno = error;
}

static uint64_t
inode_of(int fd)
{
    struct stat info;
    return fstat(fd, &info) == 0 ? (uint64_t)info.st_ino : 0;
}

PUBLIC void
faultio_mark(uint64_t number)
{
    pthread_once(&once, take_plan);
    pthread_mutex_lock(&lock);
    record(FAULTIO_MARK, NULL, NULL, 0, number, NULL, 0);
    pthread_mutex_unlock(&lock);
}

// ---- open

static int
open_any(int folder, const char *path, int flags, mode_t mode)
{
    const char *name = below(path);
    if (!name)
        return OPENAT(folder, path, flags, mode);
    pthread_mutex_lock(&lock);
    int fd = -1;
    bool is_new = (flags & O_CREAT) && syscall(SYS_faccessat, AT_FDCWD, path, F_OK) != 0;
    if (judge('o', is_new) == GO_ON)
        fd = OPENAT(folder, path, flags, mode);
    if (fd >= 0 && fd < FDS)
        plan.ours[fd] = true;
    if (fd >= 0 && is_new)
        record(FAULTIO_CREATE, name, NULL, inode_of(fd), 0, NULL, 0);
    if (fd >= 0 && (flags & O_TRUNC) && !is_new)
        record(FAULTIO_SIZE, NULL, NULL, inode_of(fd), 0, NULL, 0);
    after();
    pthread_mutex_unlock(&lock);
    return fd;
}

#define OPEN_MODE(flags, mode)                                                                     \
    mode_t mode = 0;                                                                               \
    if (flags & (O_CREAT | O_TMPFILE)) {                                                           \
        va_list rest;                                                                              \
        va_start(rest, flags);                                                                     \
        mode = va_arg(rest, mode_t);                                                               \
        va_end(rest);                                                                              \
    }

PUBLIC int
open(const char *path, int flags, ...)
{
    OPEN_MODE(flags, mode)
    return open_any(AT_FDCWD, path, flags, mode);
}

PUBLIC int
open64(const char *path, int flags, ...)
{
    OPEN_MODE(flags, mode)
    return open_any(AT_FDCWD, path, flags | O_LARGEFILE, mode);
}

PUBLIC int
openat(int folder, const char *path, int flags, ...)
{
    OPEN_MODE(flags, mode)
    return open_any(folder, path, flags, mode);
}

PUBLIC int
openat64(int folder, const char *path, int flags, ...)
{
    OPEN_MODE(flags, mode)
    return open_any(folder, path, flags | O_LARGEFILE, mode);
}

PUBLIC int
close(int fd)
{
    if (is_ours(fd))
        plan.ours[fd] = false;
    return (int)syscall(SYS_close, fd);
}

// ---- names

PUBLIC int
mkdir(const char *path, mode_t mode)
{
    const char *name = below(path);
    if (!name)
        return (int)syscall(SYS_mkdirat, AT_FDCWD, path, mode);
    pthread_mutex_lock(&lock);
    struct stat info;
    int failed = -1;
    if (stat(path, &info) == 0)
        errno = EEXIST; // asks nothing of the disk
    else if (judge('d', true) == GO_ON)
        failed = (int)syscall(SYS_mkdirat, AT_FDCWD, path, mode);
    if (!failed && stat(path, &info) == 0)
        record(FAULTIO_MKDIR, name, NULL, (uint64_t)info.st_ino, 0, NULL, 0);
    after();
    pthread_mutex_unlock(&lock);
    return failed;
}

PUBLIC int
renameat2(int from_folder, const char *from, int to_folder, const char *to, unsigned flags)
{
    const char *old = below(from), *new = below(to);
    if (!old || !new)
        return (int)syscall(SYS_renameat2, from_folder, from, to_folder, to, flags);
    pthread_mutex_lock(&lock);
    int failed = -1;
    if (judge('r', false) == GO_ON)
        failed = (int)syscall(SYS_renameat2, from_folder, from, to_folder, to, flags);
    if (!failed)
        record(flags & RENAME_EXCHANGE ? FAULTIO_EXCHANGE : FAULTIO_RENAME, old, new, 0, 0, NULL,
               0);
    after();
    pthread_mutex_unlock(&lock);
    return failed;
}

PUBLIC int
renameat(int from_folder, const char *from, int to_folder, const char *to)
{
    return renameat2(from_folder, from, to_folder, to, 0);
}

PUBLIC int
rename(const char *from, const char *to)
{
    return renameat2(AT_FDCWD, from, AT_FDCWD, to, 0);
}

static int
unlink_any(int folder, const char *path, int flags)
{
    const char *name = below(path);
    if (!name)
        return (int)syscall(SYS_unlinkat, folder, path, flags);
    pthread_mutex_lock(&lock);
    int failed = -1;
    if (syscall(SYS_faccessat, AT_FDCWD, path, F_OK) != 0)
        errno = ENOENT;
    else if (judge('u', false) == GO_ON)
        failed = (int)syscall(SYS_unlinkat, folder, path, flags);
    if (!failed)
        record(FAULTIO_UNLINK, name, NULL, 0, 0, NULL, 0);
    after();
    pthread_mutex_unlock(&lock);
    return failed;
}

PUBLIC int
unlink(const char *path)
{
    return unlink_any(AT_FDCWD, path, 0);
}

PUBLIC int
unlinkat(int folder, const char *path, int flags)
{
    return unlink_any(folder, path, flags);
}

PUBLIC int
rmdir(const char *path)
{
    return unlink_any(AT_FDCWD, path, AT_REMOVEDIR);
}

PUBLIC int
remove(const char *path)
{
    struct stat info;
    bool is_folder = lstat(path, &info) == 0 && S_ISDIR(info.st_mode);
    return unlink_any(AT_FDCWD, path, is_folder ? AT_REMOVEDIR : 0);
}

// ---- bytes

// Where a write without a position goes: the end of the file, for all of ours append or begin new.
static uint64_t
position(int fd)
{
    struct stat info;
    if ((fcntl(fd, F_GETFL) & O_APPEND) && fstat(fd, &info) == 0)
        return (uint64_t)info.st_size;
    return (uint64_t)lseek(fd, 0, SEEK_CUR);
}

static ssize_t
write_any(int fd, const void *from, size_t bytes, bool has_at, off_t at)
{
    pthread_mutex_lock(&lock);
    ssize_t put = -1;
    enum verdict verdict = judge('w', true);
    if (verdict != FAILS) {
        size_t some = verdict == CUTS && bytes > 1 ? bytes / 2 : bytes;
        uint64_t where = has_at ? (uint64_t)at : position(fd);
        put =
            has_at ? syscall(SYS_pwrite64, fd, from, some, at) : syscall(SYS_write, fd, from, some);
        if (put > 0)
            record(FAULTIO_WRITE, NULL, NULL, inode_of(fd), where, from, (size_t)put);
    }
    after();
    pthread_mutex_unlock(&lock);
    return put;
}

PUBLIC ssize_t
write(int fd, const void *from, size_t bytes)
{
    return is_ours(fd) ? write_any(fd, from, bytes, false, 0) : syscall(SYS_write, fd, from, bytes);
}

PUBLIC ssize_t
pwrite(int fd, const void *from, size_t bytes, off_t at)
{
    return is_ours(fd) ? write_any(fd, from, bytes, true, at)
                       : syscall(SYS_pwrite64, fd, from, bytes, at);
}

PUBLIC ssize_t
pwrite64(int fd, const void *from, size_t bytes, off_t at)
{
    return pwrite(fd, from, bytes, at);
}

// The first part alone: a short write, which is a writev's right.
PUBLIC ssize_t
writev(int fd, const struct iovec *parts, int count)
{
    if (!is_ours(fd))
        return syscall(SYS_writev, fd, parts, count);
    for (int i = 0; i < count; i++)
        if (parts[i].iov_len > 0)
            return write_any(fd, parts[i].iov_base, parts[i].iov_len, false, 0);
    return 0;
}

static ssize_t
read_any(int fd, void *into, size_t bytes, bool has_at, off_t at)
{
    pthread_mutex_lock(&lock);
    enum verdict verdict = judge('i', false);
    after();
    pthread_mutex_unlock(&lock);
    if (verdict == FAILS)
        return -1;
    size_t some = verdict == CUTS && bytes > 1 ? bytes / 2 : bytes;
    return has_at ? syscall(SYS_pread64, fd, into, some, at) : syscall(SYS_read, fd, into, some);
}

PUBLIC ssize_t
read(int fd, void *into, size_t bytes)
{
    return is_ours(fd) ? read_any(fd, into, bytes, false, 0) : syscall(SYS_read, fd, into, bytes);
}

PUBLIC ssize_t
pread(int fd, void *into, size_t bytes, off_t at)
{
    return is_ours(fd) ? read_any(fd, into, bytes, true, at)
                       : syscall(SYS_pread64, fd, into, bytes, at);
}

PUBLIC ssize_t
pread64(int fd, void *into, size_t bytes, off_t at)
{
    return pread(fd, into, bytes, at);
}

static int
sync_any(int fd, long number)
{
    if (!is_ours(fd))
        return (int)syscall(number, fd);
    struct timespec slow = {plan.slow_ms / 1000, plan.slow_ms % 1000 * 1000000};
    nanosleep(&slow, NULL);
    pthread_mutex_lock(&lock);
    int failed = judge('s', false) == GO_ON ? (int)syscall(number, fd) : -1;
    if (!failed)
        record(FAULTIO_SYNC, NULL, NULL, inode_of(fd), 0, NULL, 0);
    after();
    pthread_mutex_unlock(&lock);
    return failed;
}

PUBLIC int
fsync(int fd)
{
    return sync_any(fd, SYS_fsync);
}

PUBLIC int
fdatasync(int fd)
{
    return sync_any(fd, SYS_fdatasync);
}

PUBLIC int
ftruncate(int fd, off_t size)
{
    if (!is_ours(fd))
        return (int)syscall(SYS_ftruncate, fd, size);
    pthread_mutex_lock(&lock);
    int failed = judge('t', false) == GO_ON ? (int)syscall(SYS_ftruncate, fd, size) : -1;
    if (!failed)
        record(FAULTIO_SIZE, NULL, NULL, inode_of(fd), (uint64_t)size, NULL, 0);
    after();
    pthread_mutex_unlock(&lock);
    return failed;
}

PUBLIC int
ftruncate64(int fd, off_t size)
{
    return ftruncate(fd, size);
}

PUBLIC int
fallocate(int fd, int mode, off_t at, off_t bytes)
{
    if (!is_ours(fd))
        return (int)syscall(SYS_fallocate, fd, mode, at, bytes);
    pthread_mutex_lock(&lock);
    int failed = judge('t', true) == GO_ON ? (int)syscall(SYS_fallocate, fd, mode, at, bytes) : -1;
    if (!failed && mode == 0)
        record(FAULTIO_SIZE, NULL, NULL, inode_of(fd), (uint64_t)(at + bytes), NULL, 0);
    after();
    pthread_mutex_unlock(&lock);
    return failed;
}

PUBLIC int
fallocate64(int fd, int mode, off_t at, off_t bytes)
{
    return fallocate(fd, mode, at, bytes);
}

// ---- memory, when 'm' is asked for by name

void *__libc_malloc(size_t bytes);
void *__libc_calloc(size_t count, size_t bytes);
void *__libc_realloc(void *old, size_t bytes);
void *__libc_memalign(size_t align, size_t bytes);

// Counted without the lock: whoever holds it allocates nothing.
static bool
memory_fails(void)
{
    if (!plan.counts_memory)
        return false;
    uint64_t number = __atomic_add_fetch(plan.count, 1, __ATOMIC_RELAXED);
    if (plan.at == 0 || (plan.ever ? number < plan.at : number != plan.at))
        return false;
    errno = ENOMEM;
    return true;
}

PUBLIC void *
malloc(size_t bytes)
{
    return memory_fails() ? NULL : __libc_malloc(bytes);
}

PUBLIC void *
calloc(size_t count, size_t bytes)
{
    return memory_fails() ? NULL : __libc_calloc(count, bytes);
}

PUBLIC void *
realloc(void *old, size_t bytes)
{
    return memory_fails() ? NULL : __libc_realloc(old, bytes);
}

PUBLIC void *
aligned_alloc(size_t align, size_t bytes)
{
    return memory_fails() ? NULL : __libc_memalign(align, bytes);
}
