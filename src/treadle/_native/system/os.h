/* The only place of the core that touches the operating system.
 *
 * Another system is one more os_<name>.c with these functions.  None of them needs the interpreter, and none
 * allocates: they may be called with or without the GIL, and after fork.
 */
#ifndef TREADLE_OS_H
#define TREADLE_OS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum os_wake { OS_WOKEN = 0, OS_TIMEOUT = 1, OS_SIGNAL = 2 };

/* Monotonic nanoseconds; comparable between the processes of one machine. */
uint64_t os_now(void);
/* The same, a few milliseconds behind, for a fraction of the price. */
uint64_t os_lately(void);
/* Nanoseconds since 1970. */
uint64_t os_wall(void);

/* Sleep while *word == expected, for at most ns nanoseconds (forever if negative).  May wake for no reason. */
enum os_wake os_sleep(_Atomic uint32_t *word, uint32_t expected, int64_t ns);
/* Wake at most n sleepers of word, in any process that maps it.  How many slept. */
int os_wake(_Atomic uint32_t *word, int n);
/* The same within one process (cheaper: no page lookup). */
enum os_wake os_sleep_private(_Atomic uint32_t *word, uint32_t expected, int64_t ns);
void os_wake_private(_Atomic uint32_t *word, int n);

/* Anonymous shared memory that the kernel frees with its last user.  A descriptor, or -1 and errno. */
int os_memory_new(const char *name, size_t size);
/* Open another process's memory by the path /proc/PID/fd/N.  A descriptor, or -1 and errno. */
int os_memory_open(const char *path, size_t *size);
/* Make sure that [offset, offset+length) has real pages, so that touching it can't raise SIGBUS. 0 or errno. */
int os_memory_grow(int fd, size_t offset, size_t length);
/* The same, also where the file system has no such call: it is filled with zeros. 0 or errno. */
int os_memory_fill(int fd, uint64_t offset, size_t length);
/* Map size bytes, shared; fd -1 means memory shared with forked children only.  NULL and errno on failure. */
void *os_memory_map(int fd, size_t size);
void os_memory_unmap(void *memory, size_t size);
void os_memory_close(int fd);
/* Map a part of it; offset is a multiple of the page size. */
void *os_memory_map_at(int fd, uint64_t offset, size_t size);
/* Make a mapping of a part of it this process's own, in place: what it writes from now on, and what others write, is not
 * shared any more.  0 or errno. */
int os_memory_own(int fd, uint64_t offset, void *memory, size_t size);
/* Copy size bytes from or to it, or fewer: how many.  0 at the end, -1 and errno on failure. */
int64_t os_memory_read(int fd, void *to, size_t size, uint64_t offset);
int64_t os_memory_write(int fd, const void *from, size_t size, uint64_t offset);
/* Give the pages of [offset, offset+length) back; they read as zeros, and have no memory until it is grown again. */
int os_memory_punch(int fd, uint64_t offset, uint64_t length);
/* Open the memory of that name among the descriptors of process pid.  A descriptor, or -1 and errno.  Allocates. */
int os_memory_find(uint32_t pid, const char *name, size_t *size);
/* A random number: names for what must not be confused. */
uint64_t os_random(void);

/* Wait until something can be read from the descriptor (its end counts), for at most ns nanoseconds. */
enum os_wake os_readable(int fd, int64_t ns);

/* Add one to an eventfd, so that who polls it wakes.  0 or errno. */
int os_event_signal(int fd);

uint32_t os_process_id(void);
uint32_t os_parent_id(void);
uint32_t os_thread_id(void);
/* End this process as kill -9 does. */
void os_kill_self(void);
/* Be killed when the thread that made this process ends. 0 or errno. */
int os_die_with_parent(void);
/* When process pid started, in clock ticks since boot: (pid, start) names a process for good.
 * 0 if there is none, or if it is a zombie (dead, not yet reaped); UINT64_MAX if it lives but its start is hidden. */
uint64_t os_process_start(uint32_t pid);
/* Does the process (pid, start) live? A start of 0 means unknown: then any live pid will do. */
bool os_process_alive(uint32_t pid, uint64_t start);

int os_cpu_count(void);
/* The number of the processor that the calling thread runs on now. */
uint32_t os_cpu(void);
void os_yield(void);

static inline void os_relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ __volatile__("yield" ::: "memory");
#else
    atomic_signal_fence(memory_order_seq_cst);
#endif
}

#endif
