/* The waiting loop: every wait of every primitive goes through core_wait. */
#ifndef TREADLE_WAIT_H
#define TREADLE_WAIT_H

#include "python/state.h"

/* TREADLE_DEADLOCK */
enum { DEADLOCK_OFF, DEADLOCK_WARN, DEADLOCK_RAISE };
extern _Atomic int core_deadlock_mode;

enum wait_result { WAIT_GOT, WAIT_TIMEOUT, WAIT_ERROR };

struct wait {
    uint64_t object;
    uint32_t flags; /* TL_PRIVATE, and kind << TL_KIND_SHIFT */
    /* The claim is what was waited for (a condition, an event): no look after it. */
    bool claim_is_success;
    bool spun;     /* who waits has looked for a moment already: no use in spinning */
    /* It sleeps until this descriptor is readable, or a slice is over; else until it is woken. */
    bool sleeps_on_descriptor;
    int descriptor;
    uint32_t record; /* set by core_wait: that of the wait; 0 if it did not come to that */
    bool hopeless; /* set by core_wait: it failed because it could never have ended */
    /* Called once the wait is published, with the interpreter.  Negative with an exception set: give up. May be NULL. */
    int (*prepare)(struct wait *wait, struct tl_self *self);
    /* Look at the object: true if this thread now has what it waits for.  Called without the interpreter as well, so it
     * may touch C data only. entitled: it has waited for a while, or was woken; inspect: a slice is over. */
    bool (*look)(struct wait *wait, struct tl_self *self, bool entitled, bool inspect);
    /* Whom it waits for; NULL or 0: nobody in particular. */
    tl_token (*edge)(struct wait *wait, struct tl_self *self);
    /* The wait ends without success, or without having used the claim on it: undo what prepare and look did, and let
     * somebody else have the claim.  May be NULL. */
    void (*leave)(struct wait *wait, struct tl_self *self, bool claimed);
    /* A line that says what is waited for. With the interpreter; must not run Python code. */
    void (*describe)(struct wait *wait, char *text, size_t size);
};

/* A thread that waits without core_wait, detached from the interpreter, says so: those whom it has woken see by it that it is
 * out of their way (core_await_turn). */
void core_asleep(struct tl_self *self, bool asleep);
/* Still detached, after a wake-up: wait for a moment until the thread of that record, which woke this one and still has the
 * GIL, goes to sleep itself.  0: nobody. */
void core_await_turn(uint32_t waker);

/* Call a hook; what it returns is an exception to raise, or None.  -1 if there now is an exception.  Takes arguments. */
int core_ask(PyObject *hook, PyObject *arguments);

/* Wait for at most timeout nanoseconds (forever if negative).  Called with the interpreter; others run meanwhile. */
enum wait_result core_wait(struct core_state *state, struct wait *wait, int64_t timeout);

/* The main thread has waited for a while, for something without a time-out: let the layers above look whether anybody
 * is awake at all. *next: in how many nanoseconds it should do so again.  With the interpreter.  0, or -1 with an
 * exception. */
int core_idle(struct core_state *state, int64_t *next);

/* Is there an exception that another thread has left for this one (Thread.interrupt)? */
bool core_interrupt_pending(void);

#endif
