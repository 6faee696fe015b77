/* The ring: a queue of messages in one segment, for any number of producers and consumers in any processes.
 *
 * Small messages are records of a log.  A position is a byte offset in the log that only grows; the log is cut into
 * chunks of 64 KiB, and chunk_state says which physical chunk holds which logical one.  A physical chunk is free if its
 * logical number lies before the head's: nobody has to mark it.  Producers write at the tail and publish with one store
 * of its position; consumers copy out at the head and take with one store of its position.  Large messages lie in cells
 * (cells.h), and the log has a record that names the cell.
 *
 * Everything here is called with the side's lock held, except where it says otherwise.  README.md tells why a kill at
 * any instruction is harmless.
 */
#ifndef TREADLE_RING_H
#define TREADLE_RING_H

#include "board/lock.h"
#include "memory/segment.h"

#define RING_MAGIC 0x31676e6972647274u /* "trdring1" */
#define RING_SHIFT 16
#define RING_CHUNK ((uint64_t)1 << RING_SHIFT)
#define RING_GROUP_CHUNKS 16u /* chunks that lie together in the file, and are mapped at once */
#define RING_GROUP (RING_CHUNK * RING_GROUP_CHUNKS)
#define RING_CHUNKS (1u << 20)
#define RING_GROUPS (RING_CHUNKS / RING_GROUP_CHUNKS)
#define RING_CELLS (1u << 19)
#define RING_INLINE 16384u /* longer messages go into cells */
#define RING_KEEP 16u      /* free chunks that keep their memory */
#define RING_NOWHERE UINT64_MAX
#define RING_PLACE 128u
#define RING_EXTENTS 64u   /* mappings of large messages that a process keeps */

/* chunk_state = (logical number + 1) << 2 | tag; 0: never used. */
enum { CHUNK_SERVES = 0, CHUNK_PUNCHING = 1, CHUNK_HOLLOW = 2 };

/* One for the producers, whose position is the tail, and one for the consumers, whose position is the head. */
struct ring_side {
    struct tl_lock lock;
    /* What the holder of the lock is about to do.  Invariant: next_position == position => next_count is the count. */
    _Atomic uint64_t next_position, next_count;
    _Atomic uint32_t chunk; /* the physical chunk of position: a hint that chunk_state confirms */
    uint32_t unused[7];
    _Alignas(64) _Atomic uint64_t position;
    _Atomic uint64_t count; /* messages, or one less while next_position == position: see ring_count() */
};

enum ring_state { RING_OPEN, RING_SHUT, RING_DROPPED };
enum ring_mark { RING_GETTERS, RING_PUTTERS, RING_JOINERS, RING_MARKS };

struct ring_head {
    _Atomic uint64_t magic; /* stored last by the maker */
    uint32_t head_size, cell_size;
    _Alignas(64) struct ring_side put;
    struct ring_side get;
    _Alignas(64) _Atomic uint32_t marks[RING_MARKS]; /* somebody may wait; see ring_object.c */
    _Atomic uint32_t state; /* enum ring_state; to SHUT under the producers' lock, to DROPPED under the consumers' */
    _Atomic int64_t maxsize;
    _Atomic uint64_t file_end; /* ranges of the file from here on were never given out */
    _Atomic uint32_t chunks;   /* physical chunks; only grows, under the producers' lock */
    _Atomic uint32_t chunk_scan;
    _Atomic int32_t resident; /* chunks that have memory, about: says when to give some back */
    _Atomic uint32_t max_attempts; /* 0: no limit */
    /* task_done() was called so often, or the message was dropped.  Never more than were put. */
    _Alignas(64) _Atomic uint64_t done;
    _Atomic uint64_t frozen; /* state RING_DROPPED: how many had been taken by then; no others need be done */
    /* Cells; see cells.h. */
    _Alignas(64) _Atomic uint32_t cells;  /* cells [0, cells) have memory in the table; only grows */
    _Atomic uint32_t cell_scan;
    _Atomic int64_t cells_free;  /* about */
    _Atomic int64_t spare;       /* bytes of memory that free cells keep, about */
    _Atomic uint64_t cell_used;  /* os_now() when one was claimed last */
    _Atomic uint32_t held;       /* messages held by a receipt or given back, about: never 0 while there is one */
    _Atomic uint32_t returned;   /* one may be back, to be taken before the log's */
    _Atomic uint32_t dead;       /* one may be a dead letter */
    _Alignas(64) _Atomic char place[RING_PLACE]; /* file:line where it was made, for people; "" until its maker says so */
};

struct ring_cell;

struct ring {
    struct tl_segment *segment; /* owned */
    char *memory;               /* the mapped tables */
    struct ring_head *head;
    _Atomic uint64_t *chunk_state;
    _Atomic uint64_t *groups; /* file offsets of the groups of chunks; 0: not given out yet */
    struct ring_cell *cells;
    _Atomic(char *) *maps[RING_GROUPS / 256]; /* where this process has mapped the groups; made when needed */
    struct extent *extents[RING_EXTENTS];        /* see extents.h; under its mutex */
    uint64_t extents_seen[RING_EXTENTS];         /* their offsets, mapped or not */
};

enum { RECORD_INLINE = 1, RECORD_CELL = 2, RECORD_LINK = 3 };

struct ring_record {
    uint32_t length; /* of the payload; RECORD_LINK: the next physical chunk */
    uint8_t kind, encoding;
    uint16_t unused;
};

/* A message at the head, as ring_peek() found it. */
struct ring_message {
    uint64_t position, next; /* of this record, and behind it */
    const char *data;        /* RECORD_INLINE */
    uint32_t length, cell;
    uint8_t kind, encoding;
    uint32_t chunk;      /* physical */
    uint32_t left_chunk; /* physical chunk that is left with this message; UINT32_MAX: none */
};

/* 0 or an errno. */
int ring_new(struct ring *ring, int64_t maxsize, uint32_t max_attempts);
/* Takes over the reference to the segment, also on failure. */
int ring_open(struct ring *ring, struct tl_segment *segment);
void ring_close(struct ring *ring);

/* The ids of what may be waited for: no address, since the top bit is set. */
enum ring_object { RING_PUT_LOCK, RING_GET_LOCK, RING_WAIT_GET, RING_WAIT_PUT, RING_WAIT_JOIN };
static inline uint64_t ring_object(const struct ring *ring, enum ring_object which)
{
    return ((ring->segment->id | (uint64_t)1 << 63) & ~(uint64_t)7) | (uint64_t)which;
}

/* How many messages the side has put or taken.  Needs no lock: then it may be behind, never ahead. */
uint64_t ring_count(const struct ring_side *side);
/* Messages in the log.  Needs no lock. */
uint64_t ring_size(const struct ring *ring);
static inline bool ring_log_empty(const struct ring *ring)
{
    return atomic_load(&ring->head->get.position) == atomic_load(&ring->head->put.position);
}
static inline bool ring_full(const struct ring *ring)
{
    int64_t most = atomic_load_explicit(&ring->head->maxsize, memory_order_relaxed);
    return most > 0 && ring_size(ring) >= (uint64_t)most;
}

/* The lock was taken over from a dead process: finish or undo what it was doing. */
void ring_repair_put(struct ring *ring);
void ring_repair_get(struct ring *ring);

/* Producers.  Append a record and publish it; 0 or an errno, and then nothing has changed. */
int ring_append(struct ring *ring, uint8_t kind, uint8_t encoding, const void *data, uint32_t length);

/* Consumers.  1 and the message at the head; 0 if there is none; or a negative errno. */
int ring_peek(struct ring *ring, struct ring_message *message);
/* Take it. */
void ring_take(struct ring *ring, const struct ring_message *message);
/* Is there a record of that cell at the head? */
bool ring_head_names(struct ring *ring, uint32_t cell);

#endif
