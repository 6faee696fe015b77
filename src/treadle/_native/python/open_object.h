/* The common base of the classes that users may extend.
 *
 * What Condition, Semaphore and Event have in common: users may subclass them, refer to them weakly and set attributes,
 * as with the classes of the standard library, which are written in Python. */
#ifndef TREADLE_OPEN_OBJECT_H
#define TREADLE_OPEN_OBJECT_H

#include "python/state.h"

#define OPEN_OBJECT_HEAD \
    PyObject_HEAD        \
    PyObject *weak;      \
    PyObject *dict;      \
    PyObject *code;      \
    int line;
struct open_object {
    OPEN_OBJECT_HEAD
};
PyObject *open_alloc(PyTypeObject *type);
int open_traverse(PyObject *op, visitproc visit, void *arg);
int open_clear(PyObject *op);
void open_dealloc(PyObject *op);
extern PyMemberDef open_members[];
void open_describe(PyObject *op, const char *kind, char *text, size_t size);
/* "treadle.Event" for our own class, "module.Name" for a subclass: what the repr begins with. New reference. */
PyObject *open_type_name(PyObject *op);

#endif
