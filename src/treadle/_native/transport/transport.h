/* What the module has from this folder. */
#ifndef TREADLE_TRANSPORT_H
#define TREADLE_TRANSPORT_H

#include "python/state.h"

int core_add_lane(PyObject *module, struct core_state *state);
int core_add_port(PyObject *module, struct core_state *state);

#endif
