/* Recording as Python sees it. */
#include "python/recording.h"
#include "diagnose/diagnose.h"

#include <errno.h>

static PyObject *trace_start(PyObject *module, PyObject *args)
{
    unsigned long long limit;
    uint64_t id;
    int fd;
    (void)module;
    if (!PyArg_ParseTuple(args, "iK:trace_start", &fd, &limit))
        return NULL;
    if (core_self() == NULL) /* the board is there */
        return NULL;
    id = tl_trace_start(fd, limit);
    if (id == 0 && errno != EBUSY)
        return PyErr_SetFromErrno(PyExc_OSError);
    return PyLong_FromUnsignedLongLong(id);
}

static PyObject *trace_stop(PyObject *module, PyObject *arg)
{
    unsigned long long id = PyLong_AsUnsignedLongLong(arg);
    (void)module;
    return PyErr_Occurred() ? NULL : PyBool_FromLong(tl_trace_stop(id));
}

static PyObject *trace_place(PyObject *module, PyObject *Py_UNUSED(ignored))
{
    uint32_t pid;
    uint64_t id;
    int fd;
    (void)module;
    id = tl_trace_place(&pid, &fd);
    if (id == 0)
        Py_RETURN_NONE;
    return Py_BuildValue("(KIi)", (unsigned long long)id, pid, fd);
}

/* trace_title(title, weak=False): weak: only if it has none. */
static PyObject *trace_title(PyObject *module, PyObject *args)
{
    PyObject *value;
    int weak = 0;
    (void)module;
    if (!PyArg_ParseTuple(args, "U|p:trace_title", &value, &weak))
        return NULL;
    core_trace_title(value, weak != 0);
    Py_RETURN_NONE;
}

/* trace_mark(text, worker): a moment in the life of the process with that token. */
static PyObject *trace_mark(PyObject *module, PyObject *args)
{
    uint64_t id = tl_trace_on(), now = os_now();
    unsigned long long worker;
    PyObject *value;
    if (!PyArg_ParseTuple(args, "UK:trace_mark", &value, &worker))
        return NULL;
    if (id != 0) {
        if (core_self() == NULL)
            return NULL;
        core_trace_mark(PyModule_GetState(module), id, value, worker, now);
    }
    Py_RETURN_NONE;
}

/* trace_begin(name, seq=-1, worker=0): a task if seq >= 0, else something that takes time.  None, or for trace_end. */
static PyObject *trace_begin(PyObject *module, PyObject *args)
{
    struct core_state *state = PyModule_GetState(module);
    PyObject *name;
    long long seq = -1;
    unsigned long long worker = 0;
    uint64_t id = tl_trace_on();
    struct tl_span span;
    if (id == 0)
        Py_RETURN_NONE;
    if (!PyArg_ParseTuple(args, "O|LK:trace_begin", &name, &seq, &worker))
        return NULL;
    if (seq >= 0) {
        span = core_trace_task(state, id, name, (uint64_t)seq, -1, worker);
    } else {
        if (core_self() == NULL)
            return NULL;
        span = core_trace_span(state, id, name);
    }
    if (span.at == 0)
        Py_RETURN_NONE;
    return Py_BuildValue("(KK)", (unsigned long long)span.id, (unsigned long long)span.at);
}

static PyObject *trace_end(PyObject *module, PyObject *args)
{
    unsigned long long id, at;
    struct tl_span span;
    int failed = 0;
    (void)module;
    if (!PyArg_ParseTuple(args, "(KK)|p:trace_end", &id, &at, &failed))
        return NULL;
    span.id = id;
    span.at = at;
    core_trace_over(span, failed != 0);
    Py_RETURN_NONE;
}

PyMethodDef core_trace_functions[] = {
    {"trace_start", trace_start, METH_VARARGS, NULL},
    {"trace_stop", trace_stop, METH_O, NULL},
    {"trace_place", trace_place, METH_NOARGS, NULL},
    {"trace_title", trace_title, METH_VARARGS, NULL},
    {"trace_mark", trace_mark, METH_VARARGS, NULL},
    {"trace_begin", trace_begin, METH_VARARGS, NULL},
    {"trace_end", trace_end, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};
