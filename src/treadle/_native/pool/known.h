/* Pickled functions that are remembered; see known_object.c. */
#ifndef TREADLE_KNOWN_H
#define TREADLE_KNOWN_H

#include "python/state.h"

/* The pickle of a Known, while what it has taken along is unchanged; borrowed.  NULL without an exception: it is to be made
 * anew. */
PyObject *known_function(struct core_state *core, PyObject *known);

/* As PyDict_GetItemRef: 1 and a new reference, 0, or -1 with an exception. */
int known_find(PyObject *dict, PyObject *key, PyObject **found);

#endif
