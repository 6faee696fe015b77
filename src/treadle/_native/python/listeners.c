#include "python/listeners.h"

static PyObject *get(struct listeners *listeners)
{
    PyObject *all;
    tl_guard_enter(&listeners->guard, TL_RANK_REGISTRY);
    all = Py_XNewRef(listeners->all);
    tl_guard_leave(&listeners->guard);
    return all;
}

void listeners_call(struct listeners *listeners)
{
    PyObject *all = get(listeners);
    Py_ssize_t i;
    for (i = 0; all != NULL && i < PyTuple_GET_SIZE(all); i++) {
        PyObject *listener = PyTuple_GET_ITEM(all, i), *result = PyObject_CallNoArgs(listener);
        if (result == NULL)
            PyErr_WriteUnraisable(listener);
        Py_XDECREF(result);
    }
    Py_XDECREF(all);
}

/* `old` with one more or one less.  0 and *fresh (NULL if that leaves none), or -1. */
static int changed(PyObject *old, PyObject *extra, PyObject *gone, PyObject **fresh)
{
    PyObject *list = old == NULL ? PyList_New(0) : PySequence_List(old);
    Py_ssize_t i;
    *fresh = NULL;
    if (list == NULL)
        return -1;
    if (extra != NULL && PyList_Append(list, extra) < 0)
        goto failed;
    for (i = 0; gone != NULL && i < PyList_GET_SIZE(list); i++)
        if (PyList_GET_ITEM(list, i) == gone) {
            if (PyList_SetSlice(list, i, i + 1, NULL) < 0)
                goto failed;
            break;
        }
    if (PyList_GET_SIZE(list) > 0 && (*fresh = PyList_AsTuple(list)) == NULL)
        goto failed;
    Py_DECREF(list);
    return 0;
failed:
    Py_DECREF(list);
    return -1;
}

PyObject *listeners_change(struct listeners *listeners, PyObject *extra, PyObject *gone)
{
    for (;;) {
        PyObject *old = get(listeners), *fresh;
        bool same;
        if (changed(old, extra, gone, &fresh) < 0) {
            Py_XDECREF(old);
            return NULL;
        }
        tl_guard_enter(&listeners->guard, TL_RANK_REGISTRY);
        same = listeners->all == old;
        if (same)
            __atomic_store_n(&listeners->all, fresh, __ATOMIC_SEQ_CST);
        tl_guard_leave(&listeners->guard);
        Py_XDECREF(old);
        if (same) {
            Py_XDECREF(old); /* the one that the object had */
            Py_RETURN_NONE;
        }
        Py_XDECREF(fresh); /* somebody else was faster */
    }
}
