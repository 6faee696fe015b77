/* See extents.h. */
#include "memory/extents.h"
#include "memory/cells.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static bool watches_forks;
void (*_Atomic extents_before_fork)(void);

static void before_fork(void)
{
    void (*call)(void) = atomic_load(&extents_before_fork);
    pthread_mutex_lock(&mutex);
    if (call != NULL)
        call();
}

static void after_fork(void) { pthread_mutex_unlock(&mutex); }

void extents_enter(void)
{
    pthread_mutex_lock(&mutex);
    if (!watches_forks)
        watches_forks = pthread_atfork(before_fork, after_fork, after_fork) == 0;
}

void extents_leave(void) { pthread_mutex_unlock(&mutex); }

/* Mutex held. */
static void unref(struct extent *extent)
{
    if (extent == NULL || --extent->refs > 0)
        return;
    os_memory_unmap(extent->memory, extent->size);
    free(extent);
}

static struct extent *make(struct ring *ring, uint64_t offset, uint64_t size)
{
    struct extent *extent = malloc(sizeof *extent);
    if (extent == NULL) {
        errno = ENOMEM;
        return NULL;
    }
    extent->offset = offset;
    extent->size = size;
    extent->refs = 1;
    extent->memory = os_memory_map_at(ring->segment->fd, offset, size);
    if (extent->memory == NULL) {
        int saved = errno;
        free(extent);
        errno = saved;
        return NULL;
    }
    return extent;
}

struct extent *extent_use(struct ring *ring, uint32_t cell, bool at_once)
{
    uint64_t offset = atomic_load(&cell_at(ring, cell)->offset), size = atomic_load(&cell_at(ring, cell)->capacity);
    struct extent **kept = &ring->extents[cell % RING_EXTENTS], *extent;
    extents_enter();
    extent = *kept;
    if (extent == NULL || extent->offset != offset || extent->size != size) {
        bool seen = ring->extents_seen[cell % RING_EXTENTS] == offset;
        ring->extents_seen[cell % RING_EXTENTS] = offset;
        extent = at_once || seen ? make(ring, offset, size) : NULL;
        if (extent != NULL) {
            unref(*kept);
            *kept = extent;
        }
    }
    if (extent != NULL)
        extent->refs++;
    extents_leave();
    return extent;
}

void extent_drop(struct extent *extent)
{
    extents_enter();
    unref(extent);
    extents_leave();
}

void extent_forget(struct ring *ring, uint32_t cell, struct extent *extent)
{
    struct extent **kept = &ring->extents[cell % RING_EXTENTS];
    if (*kept == extent) {
        *kept = NULL;
        unref(extent);
    }
}

void extents_close(struct ring *ring)
{
    uint32_t i;
    extents_enter();
    for (i = 0; i < RING_EXTENTS; i++)
        unref(ring->extents[i]);
    extents_leave();
}
