/* What the module has from this folder. */
#ifndef TREADLE_QUEUES_H
#define TREADLE_QUEUES_H

#include "python/state.h"

int core_add_queue(PyObject *module, struct core_state *state);
int core_add_shared_queue(PyObject *module, struct core_state *state);
extern PyMethodDef core_queue_functions[];

#endif
