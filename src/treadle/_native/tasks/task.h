/* What the pool's hot paths in C know of a call, a task and a future.  The Python side is pool/task.py, pool/future.py. */
#ifndef TREADLE_TASK_H
#define TREADLE_TASK_H

#include "python/core.h"

/* As in pool/task.py. */
enum { TASK_NEW, TASK_QUEUED, TASK_ASSIGNED, TASK_DONE };
enum { KIND_RETURNED, KIND_RAISED, KIND_RETURNED_PACKED, KIND_RAISED_PACKED, KIND_DIED, KIND_TIMED_OUT, KIND_CANCELLED,
       KIND_BROKEN, KIND_UNLOADABLE, KIND_OVER_MEMORY, KIND_PART };

struct call_object {
    PyObject_HEAD
    PyObject *fn, *args, *kwargs, *function, *payload, *context, *variables;
};

struct task_object {
    PyObject_HEAD
    PyObject *call, *sink, *index, *options;
    PyObject *worker, *pid, *more; /* NULL is None */
    int state, attempts, losses;
    /* A run (run.h): its items have the numbers from `first` on.  Only the brain changes these. */
    char run, cut;          /* cut: its worker has more items of it, which were taken back */
    char one;               /* each item is the one argument of its call, not a tuple of arguments */
    Py_ssize_t count, done; /* items, and how many of them have ended.  Invariant: 0 <= done <= count */
    long long first;        /* set when it is assigned */
    PyObject *rest;         /* the run that was split off from it, or NULL */
};

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

static inline bool core_is_call(struct core_state *state, PyObject *op) { return Py_TYPE(op) == state->call_type; }
static inline bool core_is_task(struct core_state *state, PyObject *op) { return Py_TYPE(op) == state->task_type; }

static inline void task_set_worker(struct task_object *task, PyObject *worker)
{
    PyObject *old = task->worker;
    task->worker = Py_XNewRef(worker);
    Py_XDECREF(old);
}

/* Deliver the end of a task to its sink: here if it is a value for a future that nobody waits for, else by the hook
 * `deliver`.  Raises nothing. */
void core_settle_one(struct core_state *state, PyObject *task, int kind, PyObject *data);

/* The exception that is set, as an object, and it is set no more.  New reference. */
PyObject *core_raised(void);

/* The task that a future stands for; a new reference, or NULL. */
PyObject *future_task(PyObject *future);
/* Finish it with a value, if nobody has asked for its condition.  False: nothing has happened, or its standard way is due. */
bool future_finish(PyObject *future, PyObject *value);
/* Look for a moment, without the interpreter, whether somebody finishes it; was it, with a value? */
bool future_watch(PyObject *future);

/* A payload: small plain values by the codec, the rest pickled.  New references. */
PyObject *core_payload_dumps(PyObject *module, PyObject *value);
PyObject *core_payload_loads(struct core_state *state, PyObject *data);

#endif
