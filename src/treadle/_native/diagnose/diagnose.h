/* What the module has from this folder. */
#ifndef TREADLE_DIAGNOSE_H
#define TREADLE_DIAGNOSE_H

#include "python/state.h"

int core_add_rendering(PyObject *module, struct core_state *state);
extern PyMethodDef core_board_functions[], core_trace_functions[];

#endif
