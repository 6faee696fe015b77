/* Extents of cells, mapped: where this process has large messages in its memory.
 *
 * Mappings are kept from message to message, because making one costs a page fault every few pages; a cell that is
 * used again has its pages in place.  Whoever uses one has a reference. */
#ifndef TREADLE_EXTENTS_H
#define TREADLE_EXTENTS_H

#include "memory/ring.h"

#define EXTENT_LEAST ((uint64_t)256 << 10) /* bytes: smaller ones are not worth a mapping */

struct extent {
    char *memory;
    uint64_t offset, size; /* which part of the file */
    /* Under the mutex: */
    uint32_t refs; /* users, and one for the ring that keeps it */
};

/* The cell's extent, with a reference.  The cell is the caller's.  NULL if it can't be mapped, or if it is not mapped, is
 * met for the first time, and at_once is false: to write to a fresh mapping costs more than a system call. */
struct extent *extent_use(struct ring *ring, uint32_t cell, bool at_once);
void extent_drop(struct extent *extent);
/* The ring keeps it no more. */
void extent_forget(struct ring *ring, uint32_t cell, struct extent *extent);
void extents_close(struct ring *ring);

/* Held over forks, so that a child finds all as it should be; loan.c has its list under it as well.  A leaf. */
void extents_enter(void);
void extents_leave(void);
/* Called in the parent before each fork, with the mutex held. */
extern void (*_Atomic extents_before_fork)(void);

#endif
