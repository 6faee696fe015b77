/* Bound methods that cost little, for `with`. */
#ifndef TREADLE_LIGHT_H
#define TREADLE_LIGHT_H

#include "python/state.h"

/* Make `with` on objects of exactly this type cheap; see light.c.  Its __enter__ is METH_NOARGS, its __exit__ METH_FASTCALL. */
int core_light_methods(PyObject *module, PyTypeObject *type);

#endif
