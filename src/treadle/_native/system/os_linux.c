/* os.h for Linux: futex, memfd, /proc. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "system/os.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#ifndef MFD_CLOEXEC
#define MFD_CLOEXEC 0x0001U
#endif

uint64_t os_now(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

uint64_t os_lately(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

uint64_t os_wall(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static enum os_wake sleep_on(_Atomic uint32_t *word, uint32_t expected, int64_t ns, int flag)
{
    struct timespec ts, *limit = NULL;
    if (ns >= 0) {
        ts.tv_sec = (time_t)(ns / 1000000000);
        ts.tv_nsec = (long)(ns % 1000000000);
        limit = &ts;
    }
    if (syscall(SYS_futex, (uint32_t *)word, FUTEX_WAIT | flag, expected, limit, NULL, 0) == 0)
        return OS_WOKEN;
    switch (errno) {
    case ETIMEDOUT: return OS_TIMEOUT;
    case EINTR: return OS_SIGNAL;
    default: return OS_WOKEN; /* EAGAIN: the word had changed already */
    }
}

enum os_wake os_sleep(_Atomic uint32_t *word, uint32_t expected, int64_t ns)
{
    return sleep_on(word, expected, ns, 0);
}

enum os_wake os_sleep_private(_Atomic uint32_t *word, uint32_t expected, int64_t ns)
{
    return sleep_on(word, expected, ns, FUTEX_PRIVATE_FLAG);
}

int os_wake(_Atomic uint32_t *word, int n)
{
    long woken = syscall(SYS_futex, (uint32_t *)word, FUTEX_WAKE, n, NULL, NULL, 0);
    return woken > 0 ? (int)woken : 0;
}

void os_wake_private(_Atomic uint32_t *word, int n)
{
    (void)syscall(SYS_futex, (uint32_t *)word, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, n, NULL, NULL, 0);
}

/* Descriptors 0 to 2 belong to the program, even while they are closed. */
static int above_standard(int fd)
{
    int higher, saved;
    if (fd < 0 || fd > 2)
        return fd;
    higher = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    saved = errno;
    close(fd);
    errno = saved;
    return higher;
}

int os_memory_new(const char *name, size_t size)
{
    int fd = above_standard((int)syscall(SYS_memfd_create, name, MFD_CLOEXEC));
    if (fd < 0)
        return -1;
    if (ftruncate(fd, (off_t)size) < 0) {
        int saved = errno;
        close(fd);
        errno = saved;
        return -1;
    }
    return fd;
}

int os_memory_open(const char *path, size_t *size)
{
    struct stat st;
    int fd = above_standard(open(path, O_RDWR | O_CLOEXEC | O_NOCTTY | O_NONBLOCK));
    if (fd < 0)
        return -1;
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
        close(fd);
        errno = EINVAL;
        return -1;
    }
    *size = (size_t)st.st_size;
    return fd;
}

int os_memory_grow(int fd, size_t offset, size_t length)
{
    int rc;
    if (fd < 0)
        return 0;
    do
        rc = fallocate(fd, 0, (off_t)offset, (off_t)length);
    while (rc < 0 && errno == EINTR);
    return rc < 0 ? errno : 0;
}

int os_memory_fill(int fd, uint64_t offset, size_t length)
{
    static const char zeros[4096];
    int error = os_memory_grow(fd, offset, length);
    if (error != EOPNOTSUPP && error != ENOSYS)
        return error;
    while (length > 0) {
        int64_t n = os_memory_write(fd, zeros, length < sizeof zeros ? length : sizeof zeros, offset);
        if (n <= 0)
            return n < 0 ? errno : ENOSPC;
        offset += (uint64_t)n;
        length -= (size_t)n;
    }
    return 0;
}

void *os_memory_map(int fd, size_t size)
{
    int flags = MAP_SHARED | MAP_NORESERVE | (fd < 0 ? MAP_ANONYMOUS : 0);
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, flags, fd, 0);
    return memory == MAP_FAILED ? NULL : memory;
}

void os_memory_unmap(void *memory, size_t size)
{
    munmap(memory, size);
}

void os_memory_close(int fd)
{
    if (fd >= 0)
        close(fd);
}

void *os_memory_map_at(int fd, uint64_t offset, size_t size)
{
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, (off_t)offset);
    return memory == MAP_FAILED ? NULL : memory;
}

int64_t os_memory_read(int fd, void *to, size_t size, uint64_t offset)
{
    ssize_t n;
    do
        n = pread(fd, to, size, (off_t)offset);
    while (n < 0 && errno == EINTR);
    return n;
}

int64_t os_memory_write(int fd, const void *from, size_t size, uint64_t offset)
{
    ssize_t n;
    do
        n = pwrite(fd, from, size, (off_t)offset);
    while (n < 0 && errno == EINTR);
    return n;
}

int os_memory_punch(int fd, uint64_t offset, uint64_t length)
{
    int rc;
    do
        rc = fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)length);
    while (rc < 0 && errno == EINTR);
    return rc < 0 ? errno : 0;
}

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

int os_memory_own(int fd, uint64_t offset, void *memory, size_t size)
{
    char *page;
    int rc;
    /* What other threads write meanwhile is either in the memory before, or in the private mapping after it. */
    if (mmap(memory, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE | MAP_FIXED, fd, (off_t)offset) ==
        MAP_FAILED)
        return errno;
    do
        rc = madvise(memory, size, MADV_POPULATE_WRITE);
    while (rc < 0 && errno == EINTR);
    if (rc == 0)
        return 0;
    if (errno != EINVAL)
        return errno;
    /* An older kernel.  A write that changes nothing makes a page this process's own, whatever others do meanwhile. */
    for (page = memory; page < (char *)memory + size; page += 4096)
        __atomic_fetch_or(page, 0, __ATOMIC_RELAXED);
    return 0;
}

int os_memory_find(uint32_t pid, const char *name, size_t *size)
{
    char folder[40], path[320], target[128], wanted[128];
    struct dirent *entry;
    int fd = -1;
    DIR *entries;

    snprintf(wanted, sizeof wanted, "/memfd:%s (deleted)", name);
    snprintf(folder, sizeof folder, "/proc/%u/fd", pid);
    entries = opendir(folder);
    if (entries == NULL)
        return -1;
    while (fd < 0 && (entry = readdir(entries)) != NULL) {
        ssize_t n;
        if (strlen(entry->d_name) > 20 || entry->d_name[0] == '.')
            continue;
        snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        n = readlink(path, target, sizeof target - 1);
        if (n <= 0)
            continue;
        target[n] = 0;
        if (strcmp(target, wanted) == 0)
            fd = os_memory_open(path, size);
    }
    closedir(entries);
    if (fd < 0)
        errno = ENOENT;
    return fd;
}

uint64_t os_random(void)
{
    uint64_t number;
    if (getrandom(&number, sizeof number, GRND_NONBLOCK) == (ssize_t)sizeof number)
        return number;
    /* The kernel has no randomness yet, early at boot: the time and the process tell names apart as well. */
    return os_now() * 0x9e3779b97f4a7c15u ^ ((uint64_t)os_process_id() << 40);
}

uint32_t os_process_id(void)
{
    return (uint32_t)getpid();
}

uint32_t os_parent_id(void)
{
    return (uint32_t)getppid();
}

int os_event_signal(int fd)
{
    uint64_t one = 1;
    ssize_t rc;
    do
        rc = write(fd, &one, sizeof one);
    while (rc < 0 && errno == EINTR);
    return rc < 0 && errno != EAGAIN ? errno : 0; /* EAGAIN: it was signalled very often, and nobody has looked */
}

uint32_t os_thread_id(void)
{
    return (uint32_t)syscall(SYS_gettid);
}

void os_kill_self(void)
{
    kill(getpid(), SIGKILL);
}

enum os_wake os_readable(int fd, int64_t ns)
{
    struct pollfd entry = {.fd = fd, .events = POLLIN};
    struct timespec limit = {.tv_sec = (time_t)(ns / 1000000000), .tv_nsec = (long)(ns % 1000000000)};
    int rc = ppoll(&entry, 1, &limit, NULL);
    if (rc < 0)
        return errno == EINTR ? OS_SIGNAL : OS_WOKEN;
    return rc == 0 ? OS_TIMEOUT : OS_WOKEN;
}

int os_die_with_parent(void)
{
    return prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) == 0 ? 0 : errno;
}

uint64_t os_process_start(uint32_t pid)
{
    char path[40], text[512], *p;
    unsigned long long start;
    ssize_t n;
    int fd, field;

    snprintf(path, sizeof path, "/proc/%u/stat", pid);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) /* /proc may be hidden or not mounted: then only the pid itself can be asked */
        return kill((pid_t)pid, 0) == 0 || errno == EPERM ? UINT64_MAX : 0;
    do
        n = read(fd, text, sizeof text - 1);
    while (n < 0 && errno == EINTR);
    close(fd);
    if (n <= 0)
        return 0;
    text[n] = 0;
    p = strrchr(text, ')'); /* the command's name may hold anything, brackets and spaces too */
    if (p == NULL || p[1] == 0 || p[2] == 0)
        return 0;
    p += 2; /* field 3, the state */
    if (*p == 'Z' || *p == 'X' || *p == 'x')
        return 0;
    for (field = 3; field < 22 && p != NULL; field++) {
        p = strchr(p, ' ');
        if (p != NULL)
            p++;
    }
    if (p == NULL)
        return 0;
    start = strtoull(p, NULL, 10);
    return start == 0 ? 1 : (uint64_t)start; /* the first process of a container starts at tick 0 */
}

bool os_process_alive(uint32_t pid, uint64_t start)
{
    uint64_t now = os_process_start(pid);
    return now != 0 && (start == 0 || now == start || now == UINT64_MAX || start == UINT64_MAX);
}

uint32_t os_cpu(void)
{
    int cpu = sched_getcpu();
    return cpu < 0 ? 0 : (uint32_t)cpu;
}

int os_cpu_count(void)
{
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    return n < 1 ? 1 : (int)n;
}

void os_yield(void)
{
    sched_yield();
}
