/* What the module has from this folder. */
#ifndef TREADLE_TASKS_H
#define TREADLE_TASKS_H

#include "python/state.h"

int core_add_task(PyObject *module, struct core_state *state);
int core_add_run(PyObject *module, struct core_state *state);
int core_add_future(PyObject *module, struct core_state *state);
int core_add_slot(PyObject *module, struct core_state *state);
int core_add_inbox(PyObject *module, struct core_state *state);
int core_add_singles(PyObject *module, struct core_state *state);
int core_add_reader(PyObject *module, struct core_state *state);
extern PyMethodDef core_feed_functions[];

#endif
