/* Segments and this process's registry of them; see segment.h. */
#include "memory/segment.h"
#include "system/points.h"
#include "board/self.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

/* Guards the registry.  A leaf: nothing else is taken inside.  Held over system calls, so it is no tl_guard. */
static pthread_mutex_t registry_mutex = PTHREAD_MUTEX_INITIALIZER;
static struct tl_segment *registry;
static bool watches_forks;
static _Atomic uint32_t waits_for_arrivals; /* how many are kept only because they have not arrived, as of the last look */

static void close_segment(struct tl_segment *segment)
{
    os_memory_unmap(segment->head, TL_SEGMENT_DATA);
    os_memory_close(segment->fd);
    free(segment);
}

/* Let go of what nobody here uses and nobody is waited for to receive.  forked: nothing was sent from here yet. */
static void tidy(bool forked, uint64_t lost)
{
    struct tl_segment **at = &registry, *segment;
    uint64_t now = 0;
    uint32_t kept = 0;
    while ((segment = *at) != NULL) {
        if (segment->pinned) {
            if (now == 0)
                now = os_now();
            segment->pinned = !forked && atomic_load(&segment->head->transit) > 0 && now - segment->sent < lost;
        }
        if (segment->refs == 0 && !segment->pinned) {
            *at = segment->next;
            close_segment(segment);
        } else {
            kept += segment->refs == 0;
            at = &segment->next;
        }
    }
    atomic_store_explicit(&waits_for_arrivals, kept, memory_order_relaxed);
}

void tl_segments_tidy(uint64_t lost)
{
    if (atomic_load_explicit(&waits_for_arrivals, memory_order_relaxed) == 0)
        return;
    pthread_mutex_lock(&registry_mutex);
    tidy(false, lost);
    pthread_mutex_unlock(&registry_mutex);
}

static void before_fork(void) { pthread_mutex_lock(&registry_mutex); }
static void after_fork(void) { pthread_mutex_unlock(&registry_mutex); }
static void in_child(void)
{
    tidy(true, TL_SEGMENT_LOST);
    pthread_mutex_unlock(&registry_mutex);
}

static void enter(void)
{
    pthread_mutex_lock(&registry_mutex);
    if (!watches_forks)
        watches_forks = pthread_atfork(before_fork, after_fork, in_child) == 0;
    tidy(false, TL_SEGMENT_LOST);
}

static void leave(void) { pthread_mutex_unlock(&registry_mutex); }

static void name_of(uint64_t id, char *name, size_t size)
{
    snprintf(name, size, "treadle-%016llx", (unsigned long long)id);
}

/* A registry entry for an open descriptor, which is closed on failure.  NULL and errno. */
static struct tl_segment *adopt(int fd, uint64_t id)
{
    struct tl_segment *segment = malloc(sizeof *segment);
    struct tl_segment_head *head = segment == NULL ? NULL : os_memory_map(fd, TL_SEGMENT_DATA);
    int saved = segment == NULL ? ENOMEM : errno;
    if (head == NULL) {
        os_memory_close(fd);
        free(segment);
        errno = saved;
        return NULL;
    }
    segment->id = id;
    segment->fd = fd;
    segment->head = head;
    segment->refs = 1;
    segment->pinned = false;
    segment->sent = 0;
    return segment;
}

static void enrol(struct tl_segment *segment)
{
    segment->next = registry;
    registry = segment;
}

struct tl_segment *tl_segment_new(uint64_t size)
{
    struct tl_segment *segment;
    uint64_t id = os_random();
    char name[32];
    int fd, error;

    if (size > (uint64_t)INT64_MAX - TL_SEGMENT_DATA) {
        errno = ENOMEM;
        return NULL;
    }
    name_of(id, name, sizeof name);
    fd = os_memory_new(name, 0);
    if (fd < 0)
        return NULL;
    error = os_memory_grow(fd, 0, TL_SEGMENT_DATA + size);
    if (error != 0) {
        os_memory_close(fd);
        errno = error;
        return NULL;
    }
    segment = adopt(fd, id);
    if (segment == NULL)
        return NULL;
    segment->head->id = id;
    atomic_store(&segment->head->size, size);
    atomic_store(&segment->head->magic, TL_SEGMENT_MAGIC);
    enter();
    enrol(segment);
    leave();
    return segment;
}

/* Is this descriptor that segment? */
static bool is_segment(int fd, size_t size, uint64_t id)
{
    struct { uint64_t magic, id; } start;
    return size >= TL_SEGMENT_DATA && os_memory_read(fd, &start, sizeof start, 0) == (int64_t)sizeof start &&
           start.magic == TL_SEGMENT_MAGIC && start.id == id;
}

/* Look through the processes of the session.  A descriptor, or -1 and errno. */
static int search(uint64_t id, uint32_t not_pid)
{
    uint32_t high = atomic_load(&tl_board.head->high), number, last = 0;
    char name[32];
    name_of(id, name, sizeof name);
    for (number = 1; number < high; number++) {
        uint32_t pid = atomic_load(&tl_board.hot[number].pid);
        size_t size;
        int fd;
        if (pid == 0 || pid == last || pid == not_pid || pid == tl_process.pid)
            continue;
        last = pid; /* most records of a process stand together */
        fd = os_memory_find(pid, name, &size);
        if (fd >= 0 && is_segment(fd, size, id))
            return fd;
        os_memory_close(fd);
    }
    errno = ENOENT;
    return -1;
}

static int open_handle(const struct tl_handle *handle)
{
    char path[48];
    size_t size;
    int fd;
    snprintf(path, sizeof path, "/proc/%u/fd/%d", handle->pid, handle->fd);
    fd = os_memory_open(path, &size);
    if (fd >= 0) {
        if (is_segment(fd, size, handle->id))
            return fd;
        os_memory_close(fd);
    } else if (errno == EMFILE || errno == ENFILE || errno == ENOMEM) {
        return -1;
    }
    /* It may have the segment under another number: the handle was made in its parent, say. */
    return search(handle->id, 0);
}

static void arrived(struct tl_segment *segment)
{
    int32_t transit = atomic_load(&segment->head->transit);
    while (transit > 0 && !atomic_compare_exchange_weak(&segment->head->transit, &transit, transit - 1))
        ;
}

static struct tl_segment *find(uint64_t id)
{
    struct tl_segment *segment = registry;
    while (segment != NULL && segment->id != id)
        segment = segment->next;
    return segment;
}

struct tl_segment *tl_segment_join(const struct tl_handle *handle)
{
    struct tl_segment *segment;
    int fd, saved;
    enter();
    segment = find(handle->id);
    if (segment != NULL) {
        segment->refs++;
    } else {
        fd = open_handle(handle);
        segment = fd < 0 ? NULL : adopt(fd, handle->id);
        if (segment != NULL)
            enrol(segment);
    }
    saved = errno;
    /* Between the two, this process has it open and the sender still keeps it: a kill leaves it kept too long. */
    TL_POINT("segment.join.opened");
    if (segment != NULL)
        arrived(segment);
    leave();
    errno = saved;
    return segment;
}

struct tl_segment *tl_segment_take(int fd)
{
    struct { uint64_t magic, id; } start;
    struct tl_segment *segment;
    if (os_memory_read(fd, &start, sizeof start, 0) != (int64_t)sizeof start || start.magic != TL_SEGMENT_MAGIC) {
        os_memory_close(fd);
        errno = EINVAL;
        return NULL;
    }
    enter();
    segment = find(start.id);
    if (segment != NULL) {
        segment->refs++;
        os_memory_close(fd);
    } else if ((segment = adopt(fd, start.id)) != NULL) {
        enrol(segment);
    }
    leave();
    return segment;
}

void tl_segment_drop(struct tl_segment *segment)
{
    pthread_mutex_lock(&registry_mutex);
    segment->refs--;
    tidy(false, TL_SEGMENT_LOST);
    pthread_mutex_unlock(&registry_mutex);
}

struct tl_handle tl_segment_send(struct tl_segment *segment)
{
    struct tl_handle handle = {tl_process.pid, segment->fd, segment->id};
    enter();
    atomic_fetch_add(&segment->head->transit, 1);
    segment->sent = os_now();
    segment->pinned = true;
    leave();
    return handle;
}

int tl_segment_grow(struct tl_segment *segment, uint64_t size)
{
    uint64_t now = atomic_load(&segment->head->size);
    int error;
    if (size <= now)
        return 0;
    if (size > (uint64_t)INT64_MAX - TL_SEGMENT_DATA)
        return ENOMEM;
    error = os_memory_grow(segment->fd, TL_SEGMENT_DATA + now, size - now);
    if (error != 0)
        return error;
    TL_POINT("segment.grow.allocated");
    while (now < size && !atomic_compare_exchange_weak(&segment->head->size, &now, size))
        ;
    return 0;
}
