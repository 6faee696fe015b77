/* What a task calls, as a line for people: written down each time that a worker turns to another function. */
#include "python/title.h"
#include "python/text.h"

#include <stdio.h>
#include <string.h>

/* Is looking up an attribute sure not to run Python code of the user's? */
static bool plain(PyObject *op) { return Py_TYPE(op)->tp_getattro == PyObject_GenericGetAttr; }

/* What it stands for: functools.partial, chunks of a map and the like.  New reference, or NULL without an exception. */
static PyObject *inner(PyObject *fn)
{
    static const char *const names[] = {"__wrapped__", "func", "fn", "function"};
    size_t i;
    if (PyMethod_Check(fn))
        return Py_NewRef(PyMethod_GET_FUNCTION(fn));
    if (strcmp(Py_TYPE(fn)->tp_name, "functools.partial") == 0) {
        PyObject *func = PyObject_GetAttrString(fn, "func");
        PyErr_Clear();
        return func;
    }
    if (PyType_Check(fn) || !plain(fn))
        return NULL;
    for (i = 0; i < sizeof names / sizeof *names; i++) {
        PyObject *found = PyObject_GetAttrString(fn, names[i]);
        if (found != NULL && PyCallable_Check(found))
            return found;
        Py_XDECREF(found);
        PyErr_Clear();
    }
    return NULL;
}

static void function_text(PyObject *fn, char *text, size_t size)
{
    PyCodeObject *code = (PyCodeObject *)PyFunction_GET_CODE(fn);
    PyObject *name = ((PyFunctionObject *)fn)->func_qualname;
    char called[TL_TASK_SIZE] = "?", file[TL_TASK_SIZE] = "?";
    const char *base;
    if (name != NULL && PyUnicode_Check(name))
        core_copy_str(name, called, sizeof called);
    if (PyUnicode_Check(code->co_filename))
        core_copy_str(code->co_filename, file, sizeof file);
    base = strrchr(file, '/');
    base = base == NULL || base[1] == 0 ? file : base + 1;
    snprintf(text, size, "%.80s (%.36s:%d)", called, base, code->co_firstlineno);
}

void core_title(PyObject *fn, char *text, size_t size)
{
    PyObject *kind, *error, *traceback, *here = Py_NewRef(fn);
    int depth;
    PyErr_Fetch(&kind, &error, &traceback);
    for (depth = 0; depth < 6 && !PyFunction_Check(here) && !PyCFunction_Check(here); depth++) {
        PyObject *next = inner(here);
        if (next == NULL)
            break;
        Py_SETREF(here, next);
    }
    if (PyFunction_Check(here))
        function_text(here, text, size);
    else if (PyCFunction_Check(here))
        snprintf(text, size, "%s", ((PyCFunctionObject *)here)->m_ml->ml_name);
    else if (PyType_Check(here))
        snprintf(text, size, "%s", ((PyTypeObject *)here)->tp_name);
    else
        snprintf(text, size, "%s", Py_TYPE(here)->tp_name);
    Py_DECREF(here);
    PyErr_Restore(kind, error, traceback);
}

void core_task_title(struct tl_cold *cold, struct titled *titled, PyObject *fn)
{
    char text[TL_TASK_SIZE];
    PyObject *name = NULL;
    int line = 0;
    if (!TL_FOR_DIAGNOSIS)
        return;
    if (PyFunction_Check(fn)) {
        name = ((PyFunctionObject *)fn)->func_qualname;
        line = ((PyCodeObject *)PyFunction_GET_CODE(fn))->co_firstlineno;
        if (name != NULL && name == titled->name && line == titled->line)
            return;
    } else if (PyCFunction_Check(fn)) {
        if (titled->builtin == ((PyCFunctionObject *)fn)->m_ml)
            return;
    }
    titled->builtin = PyCFunction_Check(fn) ? ((PyCFunctionObject *)fn)->m_ml : NULL;
    Py_XSETREF(titled->name, Py_XNewRef(name));
    titled->line = line;
    core_title(fn, text, sizeof text);
    tl_task_title(cold, text);
}
