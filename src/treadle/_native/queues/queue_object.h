/* The queue of one process, for what it is made of. */
#ifndef TREADLE_QUEUE_OBJECT_H
#define TREADLE_QUEUE_OBJECT_H

#include "python/listeners.h"
#include "python/open_object.h"
#include "python/wait.h"
#include "board/park.h"

struct queue_object {
    OPEN_OBJECT_HEAD
    struct tl_guard guard;
    /* Under the guard: */
    PyObject **ring;     /* room slots, of which count from head on hold a reference */
    size_t room, head, count; /* room is a power of two or 0 */
    uint64_t puts; /* ever; also of an open queue */
    int64_t unfinished;
    uint32_t getters, putters, joiners; /* waits that have registered */
    bool getters_told, putters_told;    /* all of them were claimed, and none has registered since */
    bool lifo, closed;
    /* Invariant: 0 if the queue is closed or open, else the room, or maxsize if that is less: put_quickly may put while
     * there are fewer. */
    size_t quick;
    bool plain; /* the class has no put() or get() of its own, which put_nowait() and get_nowait() would have to call */
    _Atomic bool open;   /* the Python methods serve; never taken back */
    _Atomic int64_t maxsize;
    struct listeners listeners;
};

enum side { GETTER, PUTTER, JOINER };

static inline uint64_t queue_side_id(struct queue_object *self, enum side side)
{
    return side == GETTER   ? (uint64_t)(uintptr_t)&self->getters
           : side == PUTTER ? (uint64_t)(uintptr_t)&self->putters
                            : (uint64_t)(uintptr_t)&self->joiners;
}

static inline void queue_enter(struct queue_object *self)
{
    tl_guard_enter(&self->guard, TL_RANK_QUEUE);
}

static inline void queue_leave(struct queue_object *self, struct tl_self *me)
{
    tl_guard_leave(&self->guard);
    if (me->owed_count > 0)
        tl_pay(me);
}

/* -- under the guard -------------------------------------------------------------------------------------------------- */

static inline void queue_tell_getter(struct queue_object *self, struct tl_self *me, int64_t n)
{
    if (self->getters > 0 && !self->getters_told)
        self->getters_told = tl_notify(queue_side_id(self, GETTER), TL_PRIVATE, n, me).left == 0;
}

static inline void queue_tell_putter(struct queue_object *self, struct tl_self *me, int64_t n)
{
    if (self->putters > 0 && !self->putters_told)
        self->putters_told = tl_notify(queue_side_id(self, PUTTER), TL_PRIVATE, n, me).left == 0;
}

static inline bool queue_is_full(struct queue_object *self)
{
    int64_t most = atomic_load_explicit(&self->maxsize, memory_order_relaxed);
    return most > 0 && self->count >= (size_t)most;
}

static inline bool queue_ready(struct queue_object *self, enum side side)
{
    if (self->open || (side != JOINER && self->closed))
        return true;
    return side == GETTER ? self->count > 0 : side == PUTTER ? !queue_is_full(self) : self->unfinished <= 0;
}

/* -- waiting; see queue_wait.c ---------------------------------------------------------------------------------------- */

#define TOO_LONG (INT64_MAX - 1) /* a time-out that no clock can hold: an error only for who has to wait */

/* Wait until that side may be able to go on. */
enum wait_result queue_wait(struct queue_object *self, struct tl_self *me, enum side side, int64_t timeout);

#endif
