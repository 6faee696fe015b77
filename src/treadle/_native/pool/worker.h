/* The brain's hot fields of one worker: see pool/crew.py, whose class Worker extends it, and dispatch.h. */
#ifndef TREADLE_WORKER_H
#define TREADLE_WORKER_H

#include "python/state.h"

/* Objects that are NULL were not set yet. */
struct worker_object {
    PyObject_HEAD
    PyObject *id, *state, *assigned, *draining;
    PyObject *lane;     /* the driver's: the lane or inbox where a task may be put into without its engine; None or NULL: nowhere */
    long long last;     /* the highest sequence number that it was given */
    Py_ssize_t waiting; /* for how many others it waits */
    char retired;
};

/* NULL with an exception: it is none, or was not set up. */
static inline struct worker_object *as_worker(struct core_state *core, PyObject *op)
{
    struct worker_object *worker = (struct worker_object *)op;
    if (!PyObject_TypeCheck(op, core->worker_type) || worker->id == NULL || worker->assigned == NULL ||
        !PyDict_CheckExact(worker->assigned)) {
        PyErr_SetString(PyExc_TypeError, "a Worker is needed here");
        return NULL;
    }
    return worker;
}

#endif
