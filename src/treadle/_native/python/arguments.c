/* See arguments.h. */
#include "python/arguments.h"

#include <math.h>

#define LONGEST 9223372036.0 /* seconds: threading.TIMEOUT_MAX */

static int seconds(PyObject *value, double *result)
{
    *result = PyFloat_AsDouble(value);
    if (*result == -1.0 && PyErr_Occurred())
        return -1;
    if (isnan(*result)) {
        PyErr_SetString(PyExc_ValueError, "Invalid value NaN (not a number)");
        return -1;
    }
    return 0;
}

static int64_t nanoseconds(double value)
{
    double ns = ceil(value * 1e9);
    return ns <= 0 ? 0 : ns >= 9.2e18 ? INT64_MAX : (int64_t)ns;
}

int core_timeout(PyObject *value, int64_t *timeout)
{
    double number;
    if (value == NULL || value == Py_None) {
        *timeout = -1;
        return 0;
    }
    if (seconds(value, &number) < 0)
        return -1;
    if (number > LONGEST) {
        PyErr_SetString(PyExc_OverflowError, "timeout value is too large");
        return -1;
    }
    *timeout = nanoseconds(number);
    return 0;
}

int core_wait_args(PyObject *args, PyObject *kwargs, int64_t *timeout)
{
    static char *names[] = {"timeout", NULL};
    PyObject *value = NULL;
    return PyArg_ParseTupleAndKeywords(args, kwargs, "|O:wait", names, &value) ? core_timeout(value, timeout) : -1;
}

int core_two_args(PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames, const char *first, PyObject *values[2])
{
    Py_ssize_t i, keywords = kwnames == NULL ? 0 : PyTuple_GET_SIZE(kwnames);

    values[0] = values[1] = NULL;
    if (nargs + keywords > 2) {
        PyErr_Format(PyExc_TypeError, "acquire() takes at most 2 arguments (%zd given)", nargs + keywords);
        return -1;
    }
    for (i = 0; i < nargs; i++)
        values[i] = args[i];
    for (i = 0; i < keywords; i++) {
        PyObject *key = PyTuple_GET_ITEM(kwnames, i);
        int which = PyUnicode_CompareWithASCIIString(key, first) == 0       ? 0
                    : PyUnicode_CompareWithASCIIString(key, "timeout") == 0 ? 1 : -1;
        if (which < 0 || values[which] != NULL) {
            PyErr_Format(PyExc_TypeError, which < 0 ? "acquire() got an unexpected keyword argument '%U'"
                                                    : "argument for acquire() given by name ('%U') and position", key);
            return -1;
        }
        values[which] = args[nargs + i];
    }
    return 0;
}

int core_acquire_args(PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames, int64_t *timeout)
{
    PyObject *values[2];
    int blocking = 1;
    double number = -1;

    if (core_two_args(args, nargs, kwnames, "blocking", values) < 0)
        return -1;
    if (values[0] != NULL && (blocking = PyObject_IsTrue(values[0])) < 0)
        return -1;
    if (values[1] != NULL) {
        if (values[1] == Py_None) {
            PyErr_SetString(PyExc_TypeError, "timeout must be a number of seconds, not None");
            return -1;
        }
        if (seconds(values[1], &number) < 0)
            return -1;
    }
    if (!blocking && number != -1) {
        PyErr_SetString(PyExc_ValueError, "can't specify a timeout for a non-blocking call");
        return -1;
    }
    if (number < 0 && number != -1) {
        PyErr_SetString(PyExc_ValueError, "timeout value must be a non-negative number");
        return -1;
    }
    if (number > LONGEST) {
        PyErr_SetString(PyExc_OverflowError, "timeout value is too large");
        return -1;
    }
    *timeout = !blocking ? 0 : number == -1 ? -1 : nanoseconds(number);
    return 0;
}
