/* The lane: two rings of bytes in one piece of shared memory, between a pool's parent and one of its workers.
 *
 * Each ring has one writer and one reader, so there is no lock in it, and nothing to repair: a record exists once `tail`,
 * which only the writer stores, is behind it, and is gone once `head`, which only the reader stores, is.  Killed before
 * such a store, a process has written or taken nothing.  What a worker may damage is its own lane, and the parent checks
 * all that it reads there.
 *
 * The first page also has the words in which the worker publishes what it runs; see lane_start() and lane_revoke().
 */
#ifndef TREADLE_LANE_H
#define TREADLE_LANE_H

#include "system/os.h"

#define LANE_MAGIC 0x31656e616c647274u /* "trdlane1" */
#define LANE_PAGE 4096u
#define LANE_ROOM ((uint64_t)256 << 10) /* bytes of each ring; a power of two */
#define LANE_SIZE (LANE_PAGE + 2 * LANE_ROOM)
#define LANE_PART ((uint32_t)16 << 10) /* a payload with more bytes travels in parts of this size */
#define SPIN_NS 20000u /* how long to look before sleeping: about what a sleep and a wake-up cost */
#define SPIN_LEAST 1000u
#define LANE_UNIT 32u                  /* records begin at multiples of it, which is also the size of their head */

/* What a record is.  From 1 on: frames, whose meaning is the pool's affair (pool/transport/base.py). */
enum { LANE_PAD = 0, LANE_FIRST = 1, LANE_TASK = 4, LANE_RETURNED = 7, LANE_RAISED = 8, LANE_SKIPPED = 9, LANE_RUN = 18,
       LANE_TOTAL = 254, LANE_SOME = 255 };
/* Flags: the payload came before, in parts; it is a place in the store, from where it may be taken; the task was sent by a
 * thread that may be about to wait for its result; the payload is in the head itself (lane_put_inline); a result of an item of
 * a run, and of its first one. */
enum { LANE_IN_PARTS = 1, LANE_IN_STORE = 2, LANE_MAY_TAKE = 4, LANE_DIRECT = 8, LANE_INLINE = 16, LANE_OF_RUN = 32,
       LANE_RUN_BEGINS = 64 };

/* A task's b: from this bit on the number of its context variables (pool/transport/base.py); the same of a run, whose b begins
 * with how many items it has, and whether each of these is one argument, not a tuple of them. */
enum { LANE_VARIABLES = 2, LANE_RUN_VARIABLES = 16, LANE_RUN_ONE = 1 << 15 };

struct lane_record {
    uint32_t length; /* of the payload that follows */
    uint8_t kind, flags;
    uint16_t more; /* inline: how long the payload is, and its first byte */
    uint64_t seq, a, b;
};
#define LANE_INLINE_MOST 9u

struct lane_ring {
    _Alignas(64) _Atomic uint64_t tail; /* stored by the writer */
    _Atomic uint32_t starved;           /* the writer waits for room (its futex), or wants to be told of it */
    _Alignas(64) _Atomic uint64_t head; /* stored by the reader */
    _Atomic uint32_t asleep;            /* who waits for records, see below */
};

/* What `asleep` says: nobody has to be told; the reader does (the worker by this futex, the parent by its eventfd); or,
 * above that, a thread of the parent's that waits for one result sleeps on this futex, under a number of its own. */
enum { LANE_AWAKE = 0, LANE_ASLEEP = 1 };

/* Each field an aligned word with a single writer. */
struct lane_page {
    _Atomic uint64_t magic;   /* stored last by the parent */
    _Atomic uint64_t token;   /* the worker's process, on the board.  By the worker, before anything else */
    _Atomic uint64_t current; /* the task that the worker runs, or ran last; 0: none.  By the worker */
    _Atomic uint64_t since;   /* when it started, ns.  By the worker, before current */
    _Atomic uint64_t called;  /* when its function was called, after loading; 0: not yet.  By the worker, when measured */
    _Atomic uint64_t cpu;     /* its process's CPU time then, ns.  By the worker, before called */
    _Atomic uint64_t queued;  /* as cpu, time in the run queue */
    _Atomic uint64_t base;    /* bytes of memory in use when a task with a limit began; 0: no limit.  By the worker */
    _Atomic uint32_t worker_cpu; /* where the worker ran when it took that, or its run.  By the worker */
    _Alignas(64) _Atomic uint64_t limit; /* the worker starts nothing with a higher number.  By the parent */
    _Atomic uint32_t parent_cpu; /* where the thread ran that has sent something last.  By the parent */
    struct lane_ring tasks, results;
};

/* One process's view of one ring. */
struct lane_end {
    struct lane_ring *ring;
    char *memory;
    uint64_t mine;   /* the writer's tail, or the reader's head: as far as this process has come, published or not */
    uint64_t others; /* the other side's word, as last seen */
};

struct lane {
    struct lane_page *page; /* the mapping */
    struct lane_end write, read;
};

/* A new one, and the descriptor by which the worker opens it; 0 or errno. */
int lane_new(struct lane *lane, int *fd);
/* The worker's end of it.  0 or errno. */
int lane_open(struct lane *lane, int fd);
void lane_close(struct lane *lane);

/* Write a record, to be seen by the reader with the next lane_publish().  False: there is no room now. */
bool lane_put(struct lane_end *end, uint8_t kind, uint8_t flags, uint64_t seq, uint64_t a, uint64_t b, const void *data,
              uint32_t length);
/* The same for a payload of 1 to LANE_INLINE_MOST bytes, which needs no room of its own, but takes the place of `b`. */
bool lane_put_inline(struct lane_end *end, uint8_t kind, uint8_t flags, uint64_t seq, uint64_t a, const char *data,
                     uint32_t length);
/* That payload, and its length; 0: the record is damaged. */
uint32_t lane_inline(const struct lane_record *record, char data[LANE_INLINE_MOST]);
/* Take back what was written and not published. */
static inline void lane_take_back(struct lane_end *end)
{
    end->mine = atomic_load_explicit(&end->ring->tail, memory_order_relaxed);
}
/* Is something written that was not published? */
static inline bool lane_behind(struct lane_end *end)
{
    return atomic_load_explicit(&end->ring->tail, memory_order_relaxed) != end->mine;
}
/* Let the reader see what was written.  Other than LANE_AWAKE: so does the reader sleep, and it is the caller who has to
 * wake it. */
uint32_t lane_publish(struct lane_end *end);
/* Its two halves, for who would rather wait a moment with the second. */
bool lane_show(struct lane_end *end);
uint32_t lane_rouse(struct lane_end *end);
/* The writer found no room: ask to be told when there is some.  False: there is some already. */
bool lane_starve(struct lane_end *end, uint32_t length);

enum lane_found { LANE_EMPTY, LANE_FOUND, LANE_DAMAGED };
/* The next record, which stays where it is until lane_take().  *payload lies in the ring. */
enum lane_found lane_next(struct lane_end *end, struct lane_record *record, const char **payload);
/* That record is read: done with it, its room can be used again once the head is published. */
void lane_take(struct lane_end *end, const struct lane_record *record);
/* Give the room of all that was taken back.  True: the writer waits for it, and it is the caller who has to tell it. */
bool lane_give_room(struct lane_end *end);
/* The reader is about to sleep: ask to be told.  False: something has come, and nobody was asked. */
bool lane_rest(struct lane_end *end);
/* How long to look the next time, after having looked for so long: a look that has paid may take longer. */
static inline uint32_t lane_spin_next(uint32_t budget, bool paid)
{
    budget = paid ? budget * 2 : budget / 2;
    return budget < SPIN_LEAST ? SPIN_LEAST : budget > SPIN_NS ? SPIN_NS : budget;
}

static inline bool lane_has(struct lane_end *end)
{
    return atomic_load_explicit(&end->ring->tail, memory_order_acquire) != end->mine;
}

/* The worker: publish that seq starts, now.  False if it was revoked meanwhile. */
bool lane_start(struct lane *lane, uint64_t seq, uint64_t now);
static inline void lane_here(struct lane *lane)
{
    atomic_store_explicit(&lane->page->worker_cpu, os_cpu(), memory_order_relaxed);
}
/* Looking for what the other side does pays only while that runs on another processor. */
static inline bool lane_apart(_Atomic uint32_t *others)
{
    return atomic_load_explicit(others, memory_order_relaxed) != os_cpu();
}

/* The parent: let nothing further start.  The highest number that may have. */
uint64_t lane_revoke(struct lane *lane);

#endif
