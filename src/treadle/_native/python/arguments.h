/* Arguments that many methods have: time-outs, and those of acquire(). */
#ifndef TREADLE_ARGUMENTS_H
#define TREADLE_ARGUMENTS_H

#include "python/state.h"

/* A time-out argument: None or a number of seconds -> nanoseconds, -1 for none.  0 on success, -1 with an exception.
 * Negative numbers count as 0. */
int core_timeout(PyObject *value, int64_t *timeout);
/* The arguments (timeout=None) of wait(). */
int core_wait_args(PyObject *args, PyObject *kwargs, int64_t *timeout);
/* The arguments (blocking=True, timeout=-1) of acquire().  *timeout: -1 forever, 0 don't wait. */
int core_acquire_args(PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames, int64_t *timeout);
/* Two optional arguments of acquire(), `first` and "timeout"; NULL where one is not given. */
int core_two_args(PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames, const char *first, PyObject *values[2]);

#endif
