/* Preloaded into a child process, keeps a journal of what the child writes to regular files and what it syncs:
 *   w <inode> <offset> <length>    before a write
 *   s <thread> <inode>             before a sync
 *   S <thread> <inode> <size>      after a sync that succeeded
 *   a                              before a write to standard output, which is where the child acknowledges
 *
 * With UNSYNCED_DIE_AT=n the child is killed in front of its n-th sync, when what that sync was for is written and no more.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static int journal = -1;
static atomic_long syncs_left = -1;

__attribute__((constructor)) static void open_journal(void) {
    const char *path = getenv("UNSYNCED_JOURNAL");
    if (path) journal = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    const char *die_at = getenv("UNSYNCED_DIE_AT");
    if (die_at) syncs_left = atol(die_at);
}

static void note(const char *line, int len) {
    if (journal >= 0 && len > 0) syscall(SYS_write, journal, line, (size_t)len);
}

static void note_write(int fd, off_t offset, size_t len) {
    char line[96];
    struct stat st;
    if (fd == 1) {
        note("a\n", 2);
        return;
    }
    if (journal < 0 || len == 0 || fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) return;
    if (offset < 0) offset = fcntl(fd, F_GETFL) & O_APPEND ? st.st_size : lseek(fd, 0, SEEK_CUR);
    note(line, snprintf(line, sizeof line, "w %lu %lld %zu\n", (unsigned long)st.st_ino, (long long)offset, len));
}

static size_t total(const struct iovec *parts, int count) {
    size_t sum = 0;
    for (int i = 0; i < count; i++) sum += parts[i].iov_len;
    return sum;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

ssize_t write(int fd, const void *bytes, size_t len) {
    note_write(fd, -1, len);
    return REAL(write)(fd, bytes, len);
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    note_write(fd, -1, total(parts, count));
    return REAL(writev)(fd, parts, count);
}

ssize_t pwrite(int fd, const void *bytes, size_t len, off_t offset) {
    note_write(fd, offset, len);
    return REAL(pwrite)(fd, bytes, len, offset);
}

ssize_t pwrite64(int fd, const void *bytes, size_t len, off64_t offset) {
    note_write(fd, offset, len);
    return REAL(pwrite64)(fd, bytes, len, offset);
}

static int note_sync(int fd, int (*sync)(int)) {
    char line[96];
    struct stat st;
    long thread = syscall(SYS_gettid);
    int known = journal >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
    if (known && atomic_fetch_sub(&syncs_left, 1) == 1) kill(getpid(), SIGKILL);
    if (known) note(line, snprintf(line, sizeof line, "s %ld %lu\n", thread, (unsigned long)st.st_ino));
    int result = sync(fd);
    if (known && result == 0)
        note(line, snprintf(line, sizeof line, "S %ld %lu %lld\n", thread, (unsigned long)st.st_ino, (long long)st.st_size));
    return result;
}

int fsync(int fd) { return note_sync(fd, REAL(fsync)); }
int fdatasync(int fd) { return note_sync(fd, REAL(fdatasync)); }
