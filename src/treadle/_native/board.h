/* The board: one segment for a session (a process and its descendants), with a record for each thread that ever
 * took a lock or blocked.  Locks name their owner by its record; waiters publish there what they wait for; they
 * park on a word of it; diagnosis reads it from any process.
 *
 * Nothing here is a pointer: the processes map the board at different addresses.
 */
#ifndef TREADLE_BOARD_H
#define TREADLE_BOARD_H

#include "os.h"

/* A token names an owner for good:  generation (32) | record number (24) | 8 bits that belong to the lock word.
 * Record number 0 is nobody, so the token 0 is "no owner". */
typedef uint64_t tl_token;
#define TL_OWNER_MASK (~(uint64_t)0xff)
#define TL_RECORD_OF(token) ((uint32_t)((token) >> 8) & 0xffffffu)
#define TL_GENERATION_OF(token) ((uint32_t)((token) >> 32))
#define TL_TOKEN(generation, number) (((uint64_t)(generation) << 32) | ((uint64_t)(number) << 8))

/* state = episode << 3 | phase.  The episode changes with each wait, so a compare-and-swap on the state can only
 * ever touch the wait that it has looked at. */
/* An interrupted wait may still be claimed; the interrupt itself is the exception that its thread then finds. */
enum tl_phase { TL_IDLE = 0, TL_WAITING = 1, TL_NOTIFIED = 2, TL_INTERRUPTED = 3 };
#define TL_PHASE_OF(state) ((state) & 7u)

enum tl_kind {
    TL_NOTHING, TL_LOCK, TL_RLOCK, TL_CONDITION, TL_SEMAPHORE, TL_EVENT, TL_JOIN, TL_QUEUE_GET, TL_QUEUE_PUT,
    TL_QUEUE_JOIN, TL_KINDS
};

enum tl_wait_flags {
    TL_PRIVATE = 1, /* the object lives in the waiter's private memory: only its process can mean it */
    TL_TIMED = 2,   /* the wait has a time-out, so it can't be part of a deadlock */
    TL_KIND_SHIFT = 8,
};

/* The part that others look through: one cache line. */
struct tl_hot {
    /* Invariant: pid == 0 <=> the record is free.  Only the thread that claimed it publishes in it. */
    _Atomic uint32_t pid;
    _Atomic uint32_t generation; /* grows when the record is given back; a token with an older one is a dead owner */
    /* Invariant: object, ticket, flags and since belong to the episode in state: they are stored before it is
     * published (SYNC POINT: publish) and only after the one before was withdrawn. */
    _Atomic uint32_t state;
    _Atomic uint32_t flags;
    _Atomic uint64_t object;
    _Atomic uint64_t ticket; /* order of arrival, over the whole board */
    _Atomic uint64_t since;  /* os_now() */
    /* Whom this thread waits for, as it saw it when it last looked, with the bits of the lock word; 0: nobody in
     * particular.  beat grows by one after each look. */
    _Atomic uint64_t edge;
    _Atomic uint32_t beat;
    _Atomic uint32_t asked; /* somebody wants its text: it writes it before it sleeps again */
    uint64_t unused;
};

#define TL_NAME_SIZE 64
#define TL_WHAT_SIZE 256
#define TL_STACK_SIZE 1664

/* The part that only diagnosis reads. Text is written by its own thread, before it sleeps long, and may be torn. */
struct tl_cold {
    _Atomic uint64_t start; /* of the process: os_process_start; 0 until it is known */
    _Atomic uint64_t ident; /* threading.get_ident() */
    _Atomic uint32_t tid;
    _Atomic uint32_t text_state; /* the state for which what and stack were written */
    _Atomic uint32_t nested;     /* this record serves a wait inside a signal handler of record number nested */
    uint32_t unused[9];
    _Atomic char name[TL_NAME_SIZE];
    _Atomic char what[TL_WHAT_SIZE];
    _Atomic char stack[TL_STACK_SIZE];
};

#define TL_BOARD_MAGIC 0x3164616f62647274u /* "trdboad1" */
#define TL_BOARD_RECORDS 32768u
#define TL_BOARD_CHUNK 64u /* records that get their memory at once */

struct tl_board_head {
    _Atomic uint64_t magic; /* stored last by the maker */
    uint32_t hot_size, cold_size, records, kinds;
    _Atomic uint32_t ready; /* records [0, ready) have memory */
    _Atomic uint32_t high;  /* no record at or above high was ever claimed; only grows */
    _Atomic uint64_t ticket;
    _Atomic uint32_t identity; /* a random number that tells boards apart */
};

struct tl_board {
    struct tl_board_head *head; /* NULL until opened */
    struct tl_hot *hot;
    struct tl_cold *cold;
    size_t size;
    int fd;
};

/* This process's board.  Written once, before the first record is claimed. */
extern struct tl_board tl_board;

#define TL_HOT_OFFSET 4096u
#define TL_COLD_OFFSET (TL_HOT_OFFSET + TL_BOARD_RECORDS * sizeof(struct tl_hot))
#define TL_BOARD_SIZE (TL_COLD_OFFSET + TL_BOARD_RECORDS * sizeof(struct tl_cold))

/* Open the board at path (/proc/PID/fd/N), or make a new one if path is NULL. 0 or an errno.
 * A second call changes nothing. */
int tl_board_open(const char *path);
/* Map a board of another session for reading; the caller closes it. */
int tl_board_view(const char *path, struct tl_board *view);
void tl_board_close(struct tl_board *view);

/* A free record of this board for the calling thread: its number, or 0 with *error set to an errno. */
uint32_t tl_record_claim(int *error);
/* Give it back: every token with it is dead from now on. */
void tl_record_release(uint32_t number);
/* The token of the record as it is now. */
static inline tl_token tl_record_token(uint32_t number)
{
    return TL_TOKEN(atomic_load_explicit(&tl_board.hot[number].generation, memory_order_acquire), number);
}
/* Does the owner that token names still exist?  Looks at the process only if it is another one. */
bool tl_token_alive(tl_token token);
/* Forget the records that dead processes have left behind. How many. */
uint32_t tl_board_sweep(void);

/* Text of a record. */
void tl_text_store(_Atomic char *to, size_t size, const char *from);
void tl_text_load(const _Atomic char *from, size_t size, char *to);

#endif
