/* What the module has from this folder. */
#ifndef TREADLE_SYNC_H
#define TREADLE_SYNC_H

#include "python/state.h"

int core_add_lock(PyObject *module, struct core_state *state);
int core_add_rlock(PyObject *module, struct core_state *state);
int core_add_condition(PyObject *module, struct core_state *state);
int core_add_semaphore(PyObject *module, struct core_state *state);
int core_add_event(PyObject *module, struct core_state *state);
int core_add_shared(PyObject *module, struct core_state *state);
extern PyMethodDef core_process_functions[], core_order_functions[];

#endif
