/* What the pool's hot paths in C know of a future.  The Python side is pool/future.py. */
#ifndef TREADLE_FUTURE_H
#define TREADLE_FUTURE_H

#include "python/state.h"

/* A future's word: its state, and whether its condition was made.  Who finishes a future without a condition does so in
 * one compare-and-swap; from the moment that there is one, only who holds the condition changes the state. */
enum { FUTURE_PENDING, FUTURE_RUNNING, FUTURE_CANCELLED, FUTURE_NOTIFIED, FUTURE_FINISHED };
#define FUTURE_STATE 7u
#define FUTURE_WATCHED 8u
#define FUTURE_UNREAD 16u /* it holds a failure, and nobody has asked for its condition since */

struct future_object {
    PyObject_HEAD
    _Atomic uint32_t word;
    _Atomic uint32_t finisher; /* the board's record of the thread that has finished it, if that was done here; else 0 */
    /* Written before the word says finished, and not after. */
    PyObject *result, *exception;
    _Atomic(PyObject *) condition, waiters, callbacks; /* NULL: not made yet */
    PyObject *driver;
    _Atomic(PyObject *) task; /* NULL once it has ended */
};

/* Deliver the end of a task to its sink: here if it is a value for a future that nobody waits for, else by the hook
 * `deliver`.  Raises nothing. */
void core_settle_one(struct core_state *state, PyObject *task, int kind, PyObject *data);

/* The task that a future stands for; a new reference, or NULL. */
PyObject *future_task(PyObject *future);
/* Finish it with a value, if nobody has asked for its condition.  False: nothing has happened, or its standard way is due. */
bool future_finish(PyObject *future, PyObject *value);
/* Look for a moment, without the interpreter, whether somebody finishes it; was it, with a value? */
bool future_watch(PyObject *future);

#endif
