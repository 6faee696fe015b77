/* The calling thread and process, as the core knows them. */
#ifndef TREADLE_SELF_H
#define TREADLE_SELF_H

#include "board/board.h"

struct tl_process {
    uint32_t pid;
    uint64_t start;          /* os_process_start(pid) */
    _Atomic uint32_t forks;  /* how often this process's line of ancestors forked: the guards' epoch */
    bool several;            /* there are several processors */
    bool spins;              /* worth spinning for a moment before sleeping: several processors, and no GIL */
};
extern struct tl_process tl_process;

#define TL_DEPTH 8   /* waits nest when a signal handler waits inside a wait */
#define TL_OWED 8

/* Invariant: records[0] is the record that locks name; records[d] serves the wait at depth d; 0 if not claimed.
 * Invariant: depth is the index of the record that the next wait takes. */
struct tl_self {
    tl_token token; /* of records[0]: what this thread writes into the locks that it takes */
    uint32_t depth;
    uint32_t records[TL_DEPTH];
    /* Waiters of a condition that were notified, and are woken when the notifier lets go of the lock. */
    uint32_t owed_count;
    struct tl_owed { uint32_t record, state; } owed[TL_OWED];
    /* Tokens that this thread had in its ancestors: private locks that it held at a fork still carry them. */
    uint32_t alias_count, alias_room;
    tl_token *aliases;
    /* Has spinning before sleeping been worth it lately?  And how many waits went without since. */
    int32_t spin_credit;
    uint32_t spin_skipped;
    uint32_t partner; /* the record of the thread that woke this one last, 0: none; it may be another thread's by now */
    /* Locks in shared memory that this thread took, less those that it released itself. */
    uint32_t held;
    /* The dead owner from whom this thread took a lock over last, and its pid if that is still known. */
    tl_token robbed;
    uint32_t robbed_pid;
    struct tl_tracer *tracer; /* see trace.h; NULL until this thread records something */
    bool name_was_asked; /* its name on the board is what threading called it last: it may have changed */
    uint32_t guard_rank; /* rank of the innermost internal guard held; checked in debug builds */
};

#if defined(__GLIBC__) && defined(__ELF__)
#define TL_TLS_MODEL __attribute__((tls_model("initial-exec"))) /* one load; musl can't do it in a loaded library */
#else
#define TL_TLS_MODEL
#endif
extern _Thread_local struct tl_self *tl_self_here TL_TLS_MODEL;

/* Make a record for this thread.  NULL with errno if that fails. */
struct tl_self *tl_self_new(void);

static inline struct tl_self *tl_self(void)
{
    struct tl_self *self = tl_self_here;
    return __builtin_expect(self != NULL, 1) ? self : tl_self_new();
}

/* Once a process, before anything else of the core: 0 or an errno. */
int tl_self_setup(bool spins);
/* Does this private lock word's owner name the calling thread? */
bool tl_self_was(const struct tl_self *self, tl_token token);
static inline bool tl_self_is(const struct tl_self *self, tl_token token)
{
    return (token & TL_OWNER_MASK) == self->token ||
           (__builtin_expect(self->alias_count > 0, 0) && tl_self_was(self, token));
}
/* The record for a wait that starts now; 0 and errno if there is none.  tl_self_leave gives the depth back. */
uint32_t tl_self_enter(struct tl_self *self);
/* A token that lives as long as this process: who owns what outlives the thread that took it.  0 and errno. */
tl_token tl_process_token(void);
static inline void tl_self_leave(struct tl_self *self) { self->depth--; }

#endif
