/* Cells: where a ring keeps what is no record of its log: large messages, and messages that are held by a receipt.
 *
 * A cell has a range of the segment's file, its extent, which it keeps from message to message.  Producers write it
 * with a system call from the user's own buffer (a full machine is an error of that call, never SIGBUS), without any
 * lock; consumers read it in the same way.  Extents of free cells give their memory back beyond a few megabytes.
 *
 * word = owner's token | state.  Every change of it is a compare-and-swap by the one who may make it:
 *
 *   FREE                 -> FILLING (anybody)
 *   FILLING, by a writer -> USED (under the producers' lock, before the record that names the cell is published)
 *                        -> HELD (a receipt's copy of a small message; under the consumers' lock)
 *   USED                 -> TAKEN or HELD (under the consumers' lock, before the head moves on)
 *   HELD, by a process   -> TAKEN (done) or BACK (to be taken again) or DEAD (tried too often)
 *   BACK                 -> TAKEN or HELD (under the consumers' lock)
 *   DEAD                 -> TAKEN
 *   TAKEN, by a reader   -> FREE
 */
#ifndef TREADLE_CELLS_H
#define TREADLE_CELLS_H

#include "memory/ring.h"

enum cell_state { CELL_FREE, CELL_FILLING, CELL_USED, CELL_TAKEN, CELL_HELD, CELL_BACK, CELL_DEAD };
#define CELL_STATE(word) ((enum cell_state)((word) & 0xff))

struct ring_cell {
    _Atomic uint64_t word;
    /* The tail (of a USED cell) or the record's place (of a HELD one) when it was marked: which message it is.
     * Invariant: position >= head in a TAKEN or HELD cell, or >= tail in a USED one, only while the side's lock is
     * held: a holder that died leaves it so, and the next one repairs it. */
    _Atomic uint64_t position;
    _Atomic uint64_t length;
    /* Invariant: capacity > 0 => [offset, offset+capacity) of the file is this cell's alone. */
    _Atomic uint64_t offset, capacity;
    _Atomic uint32_t hollow;  /* the extent was given back: it has no memory */
    _Atomic uint32_t attempt; /* how often the message was taken with a receipt */
    _Atomic uint32_t encoding;
    uint32_t unused;
    _Atomic uint64_t filled; /* bytes of the extent that surely have memory */
};

/* A free cell with room for length bytes, FILLING and ours.  0 or an errno. Needs no lock. */
int cell_claim(struct ring *ring, tl_token owner, uint64_t length, uint32_t *index);
/* Copy to and from it. 0 or an errno. */
int cell_write(struct ring *ring, uint32_t index, uint64_t at, const void *from, uint64_t size);
int cell_read(struct ring *ring, uint32_t index, uint64_t at, void *to, uint64_t size);
/* Give memory back that free cells keep, if no cell was used of late (or now).  Needs no lock. */
void cells_trim(struct ring *ring, tl_token owner, bool now);
/* Its owner is done with it. */
void cell_release(struct ring *ring, uint32_t index);

/* It could not be written: the system would not give it memory there.  Its owner puts it back without an extent. */
void cell_fail(struct ring *ring, uint32_t index);

static inline struct ring_cell *cell_at(struct ring *ring, uint32_t index) { return &ring->cells[index]; }
/* Change the word from `from` to `to`; false if it was not `from`. */
static inline bool cell_turn(struct ring *ring, uint32_t index, uint64_t from, uint64_t to)
{
    return atomic_compare_exchange_strong(&ring->cells[index].word, &from, to);
}

/* Consumers' lock held.  The returned message that was put first: 1 and its cell, or 0. */
int cell_returned(struct ring *ring, uint32_t *index);
/* Consumers' lock held.  What dead processes have left: readers' cells are freed, receipts' messages come back.
 * How many came back. */
uint32_t cells_sweep(struct ring *ring);
/* A held message, ours, comes back (or is a dead letter). */
void cell_give_back(struct ring *ring, uint32_t index, uint64_t word);

/* Parts of ring_repair_put and ring_repair_get. */
void cells_repair_put(struct ring *ring);
void cells_repair_get(struct ring *ring);
/* In ring.c: the page of the table that begins with that cell gets memory. */
int ring_grow_cells(struct ring *ring, uint32_t from);

#endif
