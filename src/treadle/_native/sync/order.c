/* What the told methods of order.h have in common. */
#include "sync/order.h"
#include "python/arguments.h"
#include "sync/lock_object.h"
#include "sync/sync.h"

static int call(PyObject *hook, PyObject *lock)
{
    PyObject *answer;
    if (hook == NULL)
        return 0;
    answer = PyObject_CallOneArg(hook, lock);
    Py_XDECREF(answer);
    return answer == NULL ? -1 : 0;
}

int core_order_before(PyObject *lock)
{
    return call(core_state_of(lock)->order_before, lock);
}

PyObject *core_order_after(PyObject *lock, PyObject *result, PyCFunction release)
{
    PyObject *type, *value, *traceback, *released;
    if (result != Py_True || call(core_state_of(lock)->order_after, lock) == 0)
        return result;
    Py_DECREF(result);
    PyErr_Fetch(&type, &value, &traceback); /* Ctrl-C in the hook: a `with` would never release what it has */
    released = release(lock, NULL);
    Py_XDECREF(released);
    PyErr_Restore(type, value, traceback);
    return NULL;
}

PyObject *core_order_released(PyObject *lock, PyObject *result)
{
    if (result != NULL && call(core_state_of(lock)->order_released, lock) < 0)
        Py_CLEAR(result);
    return result;
}

int core_order_waits(PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    int64_t timeout = -1;
    if ((nargs != 0 || kwnames != NULL) && core_acquire_args(args, nargs, kwnames, &timeout) < 0)
        return -1;
    return timeout != 0;
}

/* order_watch(): from now on, and for good, locks call the hooks order_before, order_after and order_released. */
static PyObject *order_watch(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    core_order_watch_lock();
    core_order_watch_rlock();
    Py_RETURN_NONE;
}

/* lock_place(lock) -> (file, line) where it was made, or None for a lock without one. */
static PyObject *lock_place(PyObject *module, PyObject *op)
{
    struct lock_object *lock = (struct lock_object *)op;
    if (!core_lock_is_ours(PyModule_GetState(module), op) || lock->code == NULL)
        Py_RETURN_NONE;
    return Py_BuildValue("(Oi)", ((PyCodeObject *)lock->code)->co_filename, lock->line);
}

PyMethodDef core_order_functions[] = {
    {"order_watch", order_watch, METH_NOARGS, NULL},
    {"lock_place", lock_place, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};
