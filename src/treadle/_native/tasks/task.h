/* What the pool's hot paths in C know of a call and a task.  The Python side is pool/task.py. */
#ifndef TREADLE_TASK_H
#define TREADLE_TASK_H

#include "python/state.h"

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

static inline bool core_is_call(struct core_state *state, PyObject *op) { return Py_TYPE(op) == state->call_type; }
static inline bool core_is_task(struct core_state *state, PyObject *op) { return Py_TYPE(op) == state->task_type; }

static inline void task_set_worker(struct task_object *task, PyObject *worker)
{
    PyObject *old = task->worker;
    task->worker = Py_XNewRef(worker);
    Py_XDECREF(old);
}

#endif
