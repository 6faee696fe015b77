/* The arena: objects in shared memory, and who has them.
 *
 * It lies in the board's memory, behind the records: slots of 256 bytes, a table of processes, and for each process a row
 * with one word for each slot.  A process has a slot exactly if its own word says so.  Nobody counts references in a
 * shared counter, so a kill leaves nothing wrong: the row of a dead process is ignored, and cleared by the next sweep.
 * README.md has the protocol and why it is safe.
 */
#ifndef TREADLE_ARENA_H
#define TREADLE_ARENA_H

#include "board/lock.h"

#define TL_SLOTS 32768u
#define TL_SLOT_CHUNK 64u /* slots that get their memory at once */
#define TL_PROCESSES 1024u
#define TL_ROW_PAGE 512u /* words of a row that get their memory at once: 4096 bytes */
#define TL_SLOT_NAME 64
#define TL_SLOT_PLACE 128

/* state = generation (32) | serial (24) | phase (8).  The generation names one life of the slot, for ever; the serial
 * grows with each attempt to free it, so that only that attempt can complete what it has looked up. */
enum tl_slot_phase { TL_SLOT_FREE = 0, TL_SLOT_LIVE = 1, TL_SLOT_DYING = 2 };
#define TL_SLOT_PHASE(state) ((state) & 0xffu)
#define TL_SLOT_GENERATION(state) ((uint32_t)((state) >> 32))

/* What a slot is. The numbers are in shared memory. */
enum tl_slot_kind {
    TL_SLOT_NOTHING, TL_SLOT_LOCK, TL_SLOT_RLOCK, TL_SLOT_SEMAPHORE, TL_SLOT_BOUNDED, TL_SLOT_CONDITION, TL_SLOT_EVENT,
    TL_SLOT_BARRIER, TL_SLOT_CELLS
};

#define TL_CELLS 30u

struct tl_slot {
    _Atomic uint64_t state;
    _Atomic uint32_t transit; /* pickles of it that nobody has loaded yet, as far as is known: they keep it alive */
    _Atomic uint32_t kind;
    union {
        struct {
            union {
                struct {
                    struct tl_lock lock;
                    /* Invariant: 1 or more while the lock is owned, and only its owner touches it. */
                    _Atomic uint32_t count;
                    _Atomic uint32_t raises; /* taking it over from a dead process: 0 warns, 1 is an error, 2 is nothing */
                } lock;
                struct {
                    _Atomic uint64_t word; /* see permits.h */
                    _Atomic uint64_t initial;
                    _Atomic uint64_t bound;
                } permits;
                struct {
                    _Atomic uint32_t word;
                } event;
                struct {
                    _Atomic uint64_t word; /* see rounds.h */
                    _Atomic uint32_t parties;
                    _Atomic uint32_t next; /* the first slot of its cells */
                } barrier;
                _Atomic uint64_t words[6];
            } u;
            _Atomic char name[TL_SLOT_NAME];
            _Atomic char place[TL_SLOT_PLACE]; /* file:line where it was made */
        };
        _Atomic uint64_t cells[TL_CELLS]; /* of a slot of kind TL_SLOT_CELLS: see rounds.h */
    };
};

/* owner = epoch (24) | flags (8) | pid (32).  pid 0: the entry is free.  The epoch grows when it is given back. */
#define TL_ENTRY_FORKING ((uint64_t)1 << 32) /* reserved by its parent for a child that is being forked */
#define TL_ENTRY_PID(owner) ((uint32_t)(owner))
#define TL_ENTRY_EPOCH(owner) ((uint32_t)((owner) >> 40))
#define TL_ENTRY_DEAD 0xffffffffu /* a pid that no process has: found dead, being cleared */

struct tl_entry {
    _Atomic uint64_t owner;
    _Atomic uint64_t start; /* of the process; 0 while it is not known */
    _Atomic uint64_t stamp; /* os_now() of the fork */
    _Atomic uint64_t rows;  /* bit p: page p of its row has memory */
    uint64_t unused[4];
};

/* A word of a row:  held (1) | epoch (10) | generation of the slot (11) | permits (22) | sequence (20).
 * The epoch is that of the entry: what a slow sweeper believes of a process that is gone can't touch its successor's.
 * The sequence is never set back, neither for another process nor for another life of the slot: an operation on permits
 * is named by entry and sequence, and who compares such names must not meet an old one again. */
#define TL_HELD ((uint64_t)1 << 63)
#define TL_HOLD_EPOCH(word) ((uint32_t)((word) >> 53) & 0x3ffu)
#define TL_HOLD_GENERATION(word) ((uint32_t)((word) >> 42) & 0x7ffu)
#define TL_HOLD_NET(word) ((uint32_t)((word) >> 20) & 0x3fffffu)
#define TL_HOLD_SEQUENCE(word) ((uint32_t)(word) & 0xfffffu)
#define TL_HOLD_TAGS (~(((uint64_t)1 << 42) - 1))
#define TL_HOLD_NUMBERS(net, sequence) \
    ((((uint64_t)(net) & 0x3fffffu) << 20) | ((uint64_t)(sequence) & 0xfffffu))
#define TL_HOLD_CLEAR(word) ((word) & 0xfffffu)
#define TL_HOLD_IS_CLEAR(word) ((word) == TL_HOLD_CLEAR(word))
#define TL_NET_MOST 0x3fffffu

struct tl_arena_head {
    _Atomic uint32_t ready;     /* slots [0, ready) have memory */
    _Atomic uint32_t high;      /* no slot at or above it was ever used; only grows */
    _Atomic uint32_t hint;      /* where a free slot may be */
    _Atomic uint32_t freed;     /* how many were freed since a search last began at the start */
    _Atomic uint32_t processes; /* no entry at or above it was ever used; only grows */
};

#define TL_ARENA_SLOTS 4096u
#define TL_ARENA_ENTRIES (TL_ARENA_SLOTS + TL_SLOTS * sizeof(struct tl_slot))
#define TL_ARENA_ROWS (TL_ARENA_ENTRIES + TL_PROCESSES * sizeof(struct tl_entry))

static inline struct tl_arena_head *tl_arena_head(void)
{
    return (struct tl_arena_head *)tl_board.arena;
}
static inline struct tl_slot *tl_slot(uint32_t number)
{
    return (struct tl_slot *)(tl_board.arena + TL_ARENA_SLOTS) + number;
}
static inline struct tl_entry *tl_entry(uint32_t entry)
{
    return (struct tl_entry *)(tl_board.arena + TL_ARENA_ENTRIES) + entry;
}
/* The word of process `entry` for a slot.  It has memory if the entry's rows say so. */
static inline _Atomic uint64_t *tl_hold(uint32_t entry, uint32_t number)
{
    return (_Atomic uint64_t *)(tl_board.arena + TL_ARENA_ROWS) + (size_t)entry * TL_SLOTS + number;
}
static inline bool tl_hold_ready(uint32_t entry, uint32_t number)
{
    return atomic_load(&tl_entry(entry)->rows) >> (number / TL_ROW_PAGE) & 1;
}
/* What waiters of a shared object park on; the same in all processes. */
static inline uint64_t tl_slot_id(uint32_t number, uint32_t generation)
{
    return (uint64_t)generation << 32 | number;
}

struct tl_arena {
    uint32_t entry; /* this process's; 0 if it has none yet */
    /* This process was forked and could not be given what its parent had: its shared objects must not be touched. */
    bool lost;
};
extern struct tl_arena tl_arena;

/* Once a process, after tl_self_setup. 0 or an errno. */
int tl_arena_setup(void);
/* A new slot, which this process has: 0 or an errno. */
int tl_arena_new(enum tl_slot_kind kind, uint32_t *number, uint32_t *generation);
/* Have it too, or once more: 0, ESTALE if that life of the slot is over, or another errno. */
int tl_arena_attach(uint32_t number, uint32_t generation);
/* Undo one of these; the last one of the last process frees the slot. */
void tl_arena_drop(uint32_t number, uint32_t generation);
/* A pickle of it is on its way, or has come. */
void tl_arena_sent(uint32_t number);
void tl_arena_received(uint32_t number);
/* Does the process of that entry live? */
bool tl_entry_alive(uint32_t entry);
/* Clear away what dead processes have left, and free what nobody has; pressure: also what only pickles keep.
 * How many slots were freed. */
uint32_t tl_arena_sweep(bool pressure);
/* How many slots and entries are in use. */
void tl_arena_used(uint32_t *slots, uint32_t *entries);

#endif
