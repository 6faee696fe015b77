/* Arguments and results of tasks as bytes; see payload_object.c. */
#ifndef TREADLE_PAYLOAD_H
#define TREADLE_PAYLOAD_H

#include "python/state.h"

/* Is it a pickle?  Else it is what the codec made of it. */
static inline bool payload_is_pickle(const char *payload, Py_ssize_t length)
{
    return length == 0 || (unsigned char)payload[0] == 0x80;
}

/* A payload: small plain values by the codec, the rest pickled.  New references. */
PyObject *core_payload_dumps(PyObject *module, PyObject *value);
PyObject *core_payload_loads(struct core_state *state, PyObject *data);

#endif
