/* What the module has from this folder. */
#ifndef TREADLE_VALUES_H
#define TREADLE_VALUES_H

#include "python/state.h"

int core_add_segment(PyObject *module, struct core_state *state);
int core_add_loan(PyObject *module, struct core_state *state);
int core_add_store(PyObject *module, struct core_state *state);
int core_add_pack(PyObject *module, struct core_state *state);
extern PyMethodDef core_payload_functions[];

#endif
