/* What the module has from this folder. */
#ifndef TREADLE_POOL_H
#define TREADLE_POOL_H

#include "python/state.h"

int core_add_worker(PyObject *module, struct core_state *state);
int core_add_dispatch(PyObject *module, struct core_state *state);
int core_add_seat(PyObject *module, struct core_state *state);
int core_add_known(PyObject *module, struct core_state *state);
int core_add_desk(PyObject *module, struct core_state *state);

#endif
