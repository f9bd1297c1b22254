/* Stands between this process and its disk: shows every file operation below one folder to a hook
 * before it happens, and lets the hook make it fail or not happen at all.
 *
 * Loaded with LD_PRELOAD, so that the very libraries are under it which the product uses. It knows
 * nothing of databases; what a disk keeps when the power goes is decided by the hook's owner.
 *
 * A hook returns 0 (go on), an errno (fail with it), or -1 (say that it is done, and do nothing).
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

enum op {
    OPEN, OPENED, CLOSE, READ, WRITE, TRUNCATE, SYNC, UNLINK, RENAME, LINK, MKDIR, RMDIR, LOCK
};

typedef int (*hook_t)(int op, int fd, const char *path, const char *other, long offset,
                      long length, const void *data);

static hook_t hook;
static char root[PATH_MAX];
static size_t root_length;
static int reads_too;

#define FD_MOST 65536
static char watched[FD_MOST];
static __thread int inside;

#define REAL(name) \
    static __typeof__(&name) real; \
    if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

/* --- for whoever controls it ------------------------------------------------------------------ */

void shim_watch(hook_t chosen, const char *folder, int with_reads)
{
    hook = NULL;
    snprintf(root, sizeof root, "%s/", folder);
    root_length = strlen(root);
    reads_too = with_reads;
    hook = chosen;
}

void shim_reads(int with_reads)
{
    reads_too = with_reads;
}

/* --- asking ----------------------------------------------------------------------------------- */

static int ask(int op, int fd, const char *path, const char *other, long offset, long length,
               const void *data)
{
    hook_t chosen = hook;
    if (!chosen || inside) return 0;
    int before = errno;
    inside = 1;
    int said = chosen(op, fd, path, other, offset, length, data);
    inside = 0;
    errno = before;
    return said;
}

static int ours(int fd)
{
    return hook && !inside && fd >= 0 && fd < FD_MOST && watched[fd];
}

static int below(const char *path)
{
    return strncmp(path, root, root_length) == 0;
}

/* The absolute path, if it is below the folder; else NULL. */
static const char *place(int folder, const char *path, char *space)
{
    if (!hook || inside || !path) return NULL;
    if (path[0] == '/') return below(path) ? path : NULL;
    char name[64], at[PATH_MAX];
    if (folder == AT_FDCWD) snprintf(name, sizeof name, "/proc/self/cwd");
    else snprintf(name, sizeof name, "/proc/self/fd/%d", folder);
    ssize_t n = readlink(name, at, sizeof at - 1);
    if (n < 0) return NULL;
    at[n] = 0;
    if (snprintf(space, PATH_MAX, "%s/%s", at, path) >= PATH_MAX) return NULL;
    return below(space) ? space : NULL;
}

#define REFUSED(said, wrong) do { errno = (said); return (wrong); } while (0)

/* --- opening and closing ---------------------------------------------------------------------- */

static int opened(int fd, const char *path, int flags)
{
    if (fd >= 0 && fd < FD_MOST) {
        watched[fd] = path != NULL;
        if (path) ask(OPENED, fd, path, NULL, flags, 0, NULL);
    }
    return fd;
}

#define OPENING(name, folder, call) \
    mode_t mode = 0; \
    if (flags & (O_CREAT | O_TMPFILE)) { \
        va_list more; va_start(more, flags); mode = va_arg(more, mode_t); va_end(more); \
    } \
    char space[PATH_MAX]; \
    const char *found = place(folder, path, space); \
    if (found) { \
        int said = ask(OPEN, -1, found, NULL, flags, 0, NULL); \
        if (said > 0) REFUSED(said, -1); \
    } \
    REAL(name); \
    return opened(call, found, flags)

int open(const char *path, int flags, ...) { OPENING(open, AT_FDCWD, real(path, flags, mode)); }
int open64(const char *path, int flags, ...) { OPENING(open64, AT_FDCWD, real(path, flags, mode)); }
int openat(int folder, const char *path, int flags, ...)
{ OPENING(openat, folder, real(folder, path, flags, mode)); }
int openat64(int folder, const char *path, int flags, ...)
{ OPENING(openat64, folder, real(folder, path, flags, mode)); }

int close(int fd)
{
    REAL(close);
    if (ours(fd)) {
        ask(CLOSE, fd, NULL, NULL, 0, 0, NULL);
        watched[fd] = 0;
    }
    return real(fd);
}

/* --- content ---------------------------------------------------------------------------------- */

static long here(int fd)
{
    int flags = fcntl(fd, F_GETFL);
    return flags & O_APPEND ? lseek(fd, 0, SEEK_END) : lseek(fd, 0, SEEK_CUR);
}

#define GOING_ON(op, fd, offset, length, data, wrong, done) \
    if (ours(fd)) { \
        int said = ask(op, fd, NULL, NULL, offset, length, data); \
        if (said > 0) REFUSED(said, wrong); \
        if (said < 0) return done; \
    }

ssize_t write(int fd, const void *data, size_t length)
{
    REAL(write);
    GOING_ON(WRITE, fd, here(fd), length, data, -1, length)
    return real(fd, data, length);
}

ssize_t pwrite(int fd, const void *data, size_t length, off_t offset)
{
    REAL(pwrite);
    GOING_ON(WRITE, fd, offset, length, data, -1, length)
    return real(fd, data, length, offset);
}

ssize_t pwrite64(int fd, const void *data, size_t length, off64_t offset)
{
    REAL(pwrite64);
    GOING_ON(WRITE, fd, offset, length, data, -1, length)
    return real(fd, data, length, offset);
}

ssize_t read(int fd, void *data, size_t length)
{
    REAL(read);
    if (reads_too) { GOING_ON(READ, fd, 0, length, NULL, -1, 0) }
    return real(fd, data, length);
}

ssize_t pread(int fd, void *data, size_t length, off_t offset)
{
    REAL(pread);
    if (reads_too) { GOING_ON(READ, fd, offset, length, NULL, -1, 0) }
    return real(fd, data, length, offset);
}

ssize_t pread64(int fd, void *data, size_t length, off64_t offset)
{
    REAL(pread64);
    if (reads_too) { GOING_ON(READ, fd, offset, length, NULL, -1, 0) }
    return real(fd, data, length, offset);
}

int ftruncate(int fd, off_t length)
{
    REAL(ftruncate);
    GOING_ON(TRUNCATE, fd, 0, length, NULL, -1, 0)
    return real(fd, length);
}

int ftruncate64(int fd, off64_t length)
{
    REAL(ftruncate64);
    GOING_ON(TRUNCATE, fd, 0, length, NULL, -1, 0)
    return real(fd, length);
}

int fsync(int fd)
{
    REAL(fsync);
    GOING_ON(SYNC, fd, 0, 0, NULL, -1, 0)
    return real(fd);
}

int fdatasync(int fd)
{
    REAL(fdatasync);
    GOING_ON(SYNC, fd, 0, 0, NULL, -1, 0)
    return real(fd);
}

/* --- locks ------------------------------------------------------------------------------------ */

int flock(int fd, int operation)
{
    REAL(flock);
    if (operation != LOCK_UN) { GOING_ON(LOCK, fd, 0, 0, NULL, -1, 0) }
    return real(fd, operation);
}

static int is_locking(int command, void *argument)
{
    return (command == F_SETLK || command == F_SETLKW)
        && ((struct flock *)argument)->l_type != F_UNLCK;
}

#define CONTROLLING(name) \
    va_list more; va_start(more, command); void *argument = va_arg(more, void *); va_end(more); \
    REAL(name); \
    if (is_locking(command, argument)) { GOING_ON(LOCK, fd, 0, 0, NULL, -1, 0) } \
    return real(fd, command, argument)

int fcntl(int fd, int command, ...) { CONTROLLING(fcntl); }
int fcntl64(int fd, int command, ...) { CONTROLLING(fcntl64); }

/* --- names ------------------------------------------------------------------------------------ */

#define NAMING(op, folder, path) \
    char space[PATH_MAX]; \
    const char *found = place(folder, path, space); \
    if (found) { \
        int said = ask(op, -1, found, NULL, 0, 0, NULL); \
        if (said > 0) REFUSED(said, -1); \
    }

int unlink(const char *path)
{
    REAL(unlink);
    NAMING(UNLINK, AT_FDCWD, path)
    return real(path);
}

int unlinkat(int folder, const char *path, int flags)
{
    REAL(unlinkat);
    NAMING(flags & AT_REMOVEDIR ? RMDIR : UNLINK, folder, path)
    return real(folder, path, flags);
}

int rmdir(const char *path)
{
    REAL(rmdir);
    NAMING(RMDIR, AT_FDCWD, path)
    return real(path);
}

int mkdir(const char *path, mode_t mode)
{
    REAL(mkdir);
    NAMING(MKDIR, AT_FDCWD, path)
    return real(path, mode);
}

int rename(const char *path, const char *other)
{
    REAL(rename);
    char space[PATH_MAX], elsewhere[PATH_MAX];
    const char *from = place(AT_FDCWD, path, space), *to = place(AT_FDCWD, other, elsewhere);
    if (from && to) {
        int said = ask(RENAME, -1, from, to, 0, 0, NULL);
        if (said > 0) REFUSED(said, -1);
    }
    return real(path, other);
}

int link(const char *path, const char *other)
{
    REAL(link);
    char space[PATH_MAX], elsewhere[PATH_MAX];
    const char *from = place(AT_FDCWD, path, space), *to = place(AT_FDCWD, other, elsewhere);
    if (from && to) {
        int said = ask(LINK, -1, from, to, 0, 0, NULL);
        if (said > 0) REFUSED(said, -1);
    }
    return real(path, other);
}
