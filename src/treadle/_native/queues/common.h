/* What queues of one process and of several have in common. */
#ifndef TREADLE_QUEUES_COMMON_H
#define TREADLE_QUEUES_COMMON_H

#include "python/state.h"

/* The arguments ([first], block, timeout) of put() and get(), NULL where one is not given; first: the name of what is put, NULL
 * for get().  0, or -1 with an exception. */
int queue_args(const char *first, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames, PyObject *values[3]);

/* Raise one of the exceptions empty, full and shutdown. */
#define QUEUE_RAISE(op, name) queue_raise(core_state_of(op)->name)
PyObject *queue_raise(PyObject *type);

#endif
