/* os.h for Linux: futex, memfd, /proc. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "os.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
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

void os_wake(_Atomic uint32_t *word, int n)
{
    (void)syscall(SYS_futex, (uint32_t *)word, FUTEX_WAKE, n, NULL, NULL, 0);
}

void os_wake_private(_Atomic uint32_t *word, int n)
{
    (void)syscall(SYS_futex, (uint32_t *)word, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, n, NULL, NULL, 0);
}

int os_memory_new(const char *name, size_t size)
{
    int fd = (int)syscall(SYS_memfd_create, name, MFD_CLOEXEC);
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
    int fd = open(path, O_RDWR | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
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

uint32_t os_process_id(void)
{
    return (uint32_t)getpid();
}

uint32_t os_thread_id(void)
{
    return (uint32_t)syscall(SYS_gettid);
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

int os_cpu_count(void)
{
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    return n < 1 ? 1 : (int)n;
}

void os_yield(void)
{
    sched_yield();
}
