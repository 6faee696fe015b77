/* The board: one segment for a session (a process and its descendants), with a record for each thread that ever
 * took a lock or blocked.  Locks name their owner by its record; waiters publish there what they wait for; they
 * park on a word of it; diagnosis reads it from any process.
 *
 * Nothing here is a pointer: the processes map the board at different addresses.
 */
#ifndef TREADLE_BOARD_H
#define TREADLE_BOARD_H

#include "system/os.h"

/* In a build with TREADLE_MUTE=1, what only diagnosis reads is not written: to measure what that costs
 * (benchmarks/rows/board.py), and for nothing else. */
#ifdef TREADLE_MUTE
#define TL_FOR_DIAGNOSIS false
#else
#define TL_FOR_DIAGNOSIS true
#endif

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
    TL_QUEUE_JOIN, TL_BARRIER, TL_KINDS
};

enum tl_wait_flags {
    TL_PRIVATE = 1, /* the object lives in the waiter's private memory: only its process can mean it */
    TL_TIMED = 2,   /* the wait has a time-out, so it can't be part of a deadlock */
    TL_SLICED = 4,  /* for tl_notify: its waiters look for themselves with each slice, so a dead one may be woken by mistake */
    TL_HEIRS = 8,   /* who claims it means one waiter: if that one dies before its wait has returned, another one inherits */
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
    _Atomic uint16_t asked; /* somebody wants its text: it writes it before it sleeps again */
    /* Invariant: 1 while its thread is, or is about to be, in the system call that sleeps; 0 while it spins. */
    _Atomic uint16_t parked;
    /* Hints, for a woken thread that wants the GIL of the one that woke it: who that was, and whether this thread has
     * let go of the interpreter to sleep (bit 0), and on which processor it did that or came back from it (the others). */
    _Atomic uint32_t waker;
    _Atomic uint32_t asleep;
};

#define TL_NAME_SIZE 64
#define TL_WHAT_SIZE 256
#define TL_STACK_SIZE 1512
#define TL_TASK_SIZE 128

/* What a record is. */
enum tl_role {
    TL_ROLE_THREAD,  /* a thread of the program's */
    TL_ROLE_WORKER,  /* a thread that runs a pool's tasks */
    TL_ROLE_SERVICE, /* a thread of treadle's own: it acts only for others */
    TL_ROLE_PROCESS, /* no thread: what a process holds as a whole */
    TL_ROLE_POOL,    /* no thread: a pool's plate */
    TL_ROLES
};

/* What a pool says of itself, each figure by itself: written by whoever holds the pool's lock. */
struct tl_plate {
    _Atomic uint64_t queued, done, failed, cancelled, restarts, retrying, workers, limit;
    _Atomic uint64_t watches; /* looks at a running task that are to come, because it has a time-out, say */
};

/* The part that only diagnosis reads. Text is written by its own thread, before it sleeps long, and may be torn. */
struct tl_cold {
    _Atomic uint64_t start; /* of the process: os_process_start; 0 until it is known */
    _Atomic uint64_t ident; /* threading.get_ident() */
    _Atomic uint32_t tid;
    _Atomic uint32_t text_state; /* the state for which what and stack were written */
    _Atomic uint32_t nested;     /* this record serves a wait inside a signal handler of record number nested */
    _Atomic uint16_t role; /* enum tl_role */
    /* Grows before and after `task` is changed, so it is odd meanwhile: who reads the text looks at it twice. */
    _Atomic uint16_t task_turn;
    /* generation (32) | the thread has ended (1) | balance (31): see tl_record_end. Beginning with TL_BALANCE. */
    _Atomic uint64_t balance;
    /* A worker's: the token of its pool's plate; the task that it runs, by its number in the pool, or 0; since when.
     * By its own thread; since before task. */
    _Atomic uint64_t pool, task, task_since;
    /* Since when its thread waits in slices with a time-out each, for something without one; 0: it does not. */
    _Atomic uint64_t sliced;
    /* For waits with TL_HEIRS. debt: the object whose claim this thread may have, from before it withdraws its wait until
     * that has returned; else 0. claimed: the board's ticket when it was claimed last; who came later does not inherit. */
    _Atomic uint64_t debt, claimed;
    _Atomic char name[TL_NAME_SIZE];
    _Atomic char what[TL_WHAT_SIZE];
    _Atomic char title[TL_TASK_SIZE]; /* the function that the last task called */
    union {
        _Atomic char stack[TL_STACK_SIZE];
        struct tl_plate plate; /* of a record with TL_ROLE_POOL */
    };
};

/* What has happened, for those who ask later why nothing happens any more. A ring in the board's first page. */
enum tl_event_kind { TL_EVENT_NOTHING, TL_EVENT_RECOVERED };
#define TL_EVENTS 16u
#define TL_EVENT_TEXT 84

struct tl_event {
    /* 2n+1 while the event number n is being written, 2n+2 when it is. A writer that is killed leaves one odd. */
    _Atomic uint64_t turn;
    _Atomic uint64_t when; /* os_now() */
    _Atomic uint64_t dead; /* the token of the owner that had died */
    _Atomic uint32_t dead_pid, pid, tid; /* 0: not known any more; who has noticed */
    _Atomic uint16_t kind;
    _Atomic char text[TL_EVENT_TEXT];
};

#define TL_BOARD_MAGIC 0x3464616f62647274u /* "trdboad4" */
#define TL_BOARD_RECORDS 32768u
#define TL_BOARD_CHUNK 64u /* records that get their memory at once */

struct tl_board_head {
    _Atomic uint64_t magic; /* stored last by the maker */
    uint32_t hot_size, cold_size, records, kinds;
    _Atomic uint32_t ready; /* records [0, ready) have memory */
    _Atomic uint32_t high;  /* no record at or above high was ever claimed; only grows */
    _Atomic uint64_t ticket;
    _Atomic uint32_t identity; /* a random number that tells boards apart */
    _Atomic uint64_t events;   /* how many there were; only grows */
    /* The recording (trace.h); on a line of its own, for it is looked at often and hardly ever changes.
     * Invariant: while trace is not 0, trace_place is its file: pid << 32 | descriptor, of the process with that start. */
    _Alignas(64) _Atomic uint64_t trace;
    _Atomic uint64_t trace_claim, trace_place, trace_start;
    /* Somebody watches until then (os_now; see gauge.h), 0: nobody; grows when somebody begins to. */
    _Atomic uint64_t watch_until, watch_number;
};

struct tl_board {
    struct tl_board_head *head; /* NULL until opened */
    struct tl_hot *hot;
    struct tl_cold *cold;
    char *arena; /* see arena.h */
    size_t size;
    int fd;
};

/* This process's board.  Written once, before the first record is claimed. */
extern struct tl_board tl_board;
/* Its watch_until; a word that is 0 for as long as there is no board. */
extern _Atomic(_Atomic uint64_t *) tl_watch;

#define TL_EVENTS_OFFSET 2048u
static inline struct tl_event *tl_events(const struct tl_board *board)
{
    return (struct tl_event *)((char *)board->head + TL_EVENTS_OFFSET);
}

#define TL_HOT_OFFSET 4096u
#define TL_COLD_OFFSET (TL_HOT_OFFSET + TL_BOARD_RECORDS * sizeof(struct tl_hot))
#define TL_ARENA_OFFSET (TL_COLD_OFFSET + TL_BOARD_RECORDS * sizeof(struct tl_cold))
#define TL_ARENA_SIZE ((size_t)4096 + 32768u * 256u + 1024u * 64u + (size_t)1024 * 32768 * 8) /* hardly any has memory */
#define TL_GAUGE_OFFSET (TL_ARENA_OFFSET + TL_ARENA_SIZE)
#define TL_GAUGES 512u
#define TL_GAUGE_SIZE (TL_GAUGES * 256u) /* has memory once somebody has watched */
#define TL_BOARD_SIZE (TL_GAUGE_OFFSET + TL_GAUGE_SIZE)

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
/* The calling thread ends with the record, holding `held` locks in shared memory, less those that others have released for
 * it.  If none is left, the record is given back; else it stays until the last of them is released, by tl_record_let_go:
 * a lock may be released by somebody else than who took it, so the end of a thread does not make it anybody's. */
void tl_record_end(uint32_t number, uint32_t held);
/* Somebody else has released a lock in shared memory that this token held. */
void tl_record_let_go(tl_token token);
/* Has the thread of that token ended, and its record stayed? */
bool tl_token_ended(tl_token token);
#define TL_ENDED ((uint64_t)1 << 31)
#define TL_BALANCE ((uint64_t)1 << 30)
/* The token of the record as it is now. */
static inline tl_token tl_record_token(uint32_t number)
{
    return TL_TOKEN(atomic_load_explicit(&tl_board.hot[number].generation, memory_order_acquire), number);
}
/* Does the owner that token names still exist?  Looks at the process only if it is another one. */
bool tl_token_alive(tl_token token);
/* Of which object the thread of that record has a notification that its wait has not returned with yet (TL_HEIRS); 0: none.
 * Also its state: NOTIFIED if the wait was not even withdrawn. */
uint64_t tl_legacy(uint32_t number, uint32_t *state);
/* Forget the records that dead processes have left behind, unless somebody is about to inherit from them. How many. */
uint32_t tl_board_sweep(void);

/* Note that what the text names was taken over from the owner dead, which has died. */
void tl_note_recovery(tl_token dead, uint32_t dead_pid, const char *text);

/* The calling thread is a worker: it begins a task, or is done with it (number 0). */
static inline void tl_task_now(struct tl_cold *cold, uint64_t number, uint64_t since)
{
    if (!TL_FOR_DIAGNOSIS)
        return;
    atomic_store_explicit(&cold->task_since, since, memory_order_relaxed);
    atomic_store_explicit(&cold->task, number, memory_order_release);
}
static inline void tl_task_over(struct tl_cold *cold)
{
    if (TL_FOR_DIAGNOSIS)
        atomic_store_explicit(&cold->task, 0, memory_order_relaxed);
}
void tl_task_title(struct tl_cold *cold, const char *title);

/* Text of a record. */
void tl_text_store(_Atomic char *to, size_t size, const char *from);
void tl_text_load(const _Atomic char *from, size_t size, char *to);

#endif
