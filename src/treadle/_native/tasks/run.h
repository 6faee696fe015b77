/* Runs: several items of a map that travel as one task, and stay items all the same.
 *
 * A run has a number for each of its items, in order.  The worker publishes the number of each before it starts it, and
 * writes the result of each before it starts the next one, just as with single tasks: so blame, revoking and killing are
 * as exact as there.  Only what the brain does is done once a run, and once for all results that have come together. */
#ifndef TREADLE_RUN_H
#define TREADLE_RUN_H

#include "tasks/task.h"

/* How one item has ended that did not return a plain value. */
struct odd_object {
    PyObject_HEAD
    int kind;
    PyObject *data;
};

static inline bool run_is_odd(struct core_state *core, PyObject *op) { return Py_TYPE(op) == core->odd_type; }
PyObject *run_odd(struct core_state *core, int kind, PyObject *data);

/* What has become of some items of a run, the end that its sink is told: (index of the first one, [value or Odd, ...] or a
 * Pack, nanoseconds).  The list is the caller's still. */
PyObject *run_part(Py_ssize_t index, PyObject *values, long long nanoseconds);

/* A run of so many items, which are the call's args (a list, or a Pack), with their payloads one behind the other as items_put() writes
 * them.  With `one` an item is the only argument of its call, else a tuple of all of them. */
PyObject *run_make(struct core_state *core, PyObject *call, PyObject *sink, Py_ssize_t index, Py_ssize_t count, bool one);

/* Methods of a task: see task_object.c. */
PyObject *run_split(PyObject *op, PyObject *count);
PyObject *run_ended(PyObject *op, PyObject *const *args, Py_ssize_t nargs);

#endif
