/* What queues of one process and of several have in common. */
#ifndef TREADLE_QUEUES_COMMON_H
#define TREADLE_QUEUES_COMMON_H

#include "python/state.h"

/* The arguments ([first], block, timeout) of put() and get(), NULL where one is not given; first: the name of what is put, NULL
 * for get().  0, or -1 with an exception. */
static inline int queue_args(const char *first, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames,
                             PyObject *values[3])
{
    const char *const names[] = {first, "block", "timeout"};
    Py_ssize_t from = first == NULL, i, k, keywords = kwnames == NULL ? 0 : PyTuple_GET_SIZE(kwnames);
    values[0] = values[1] = values[2] = NULL;
    if (nargs + from > 3) {
        PyErr_Format(PyExc_TypeError, "takes at most %zd arguments (%zd given)", 3 - from, nargs);
        return -1;
    }
    for (i = 0; i < nargs; i++)
        values[i + from] = args[i];
    for (k = 0; k < keywords; k++) {
        PyObject *key = PyTuple_GET_ITEM(kwnames, k);
        for (i = from; i < 3; i++)
            if (PyUnicode_CompareWithASCIIString(key, names[i]) == 0)
                break;
        if (i == 3 || values[i] != NULL) {
            PyErr_Format(PyExc_TypeError, "unexpected or repeated argument '%U'", key);
            return -1;
        }
        values[i] = args[nargs + k];
    }
    if (first != NULL && values[0] == NULL) {
        PyErr_Format(PyExc_TypeError, "missing 1 required argument: '%s'", first);
        return -1;
    }
    return 0;
}

/* Raise one of the exceptions empty, full and shutdown. */
static inline PyObject *queue_raise(PyObject *type)
{
    if (type == NULL)
        PyErr_SetString(PyExc_SystemError, "treadle.queues is not imported");
    else
        PyErr_SetNone(type);
    return NULL;
}
#define QUEUE_RAISE(op, name) queue_raise(core_state_of(op)->name)

#endif
