/* The store: where a pool's large payloads lie, in cells that its processes share.
 *
 * It is a ring (ring.h) of which only the cells are used.  A payload is written once, by who pickles it.  It then is in one
 * of these hands, and the cell's word says which:
 *
 *   FILLING, the writer's process   its parcel, a Python object, has it, and gives it back when it goes
 *   TAKEN, the reader's process     it is being read, or lent to what was made of it (loan.h)
 *
 * A call's arguments may be taken by the worker that starts it if nobody will need them again; otherwise they are copied.
 * A result is taken by the parent when it takes the record that names it.  `attempt` counts the cell's payloads, so that a
 * parcel knows whether what lies there is still its own.  What a dead worker has is freed when all that it sent has been
 * received: then nothing names it any more.
 */
#ifndef TREADLE_STORE_H
#define TREADLE_STORE_H

#include "values/parcel.h"

#define STORE_LEAST ((size_t)128 << 10) /* bytes: smaller payloads travel in the lane */

/* What a record says of a payload in the store. */
struct store_place {
    uint64_t word, size;
    uint32_t cell, stamp;
};

/* The payload that is at that place.  may_take: what loads it may keep it. */
PyObject *store_parcel(struct core_state *state, PyObject *store, const struct store_place *place, bool may_take);
/* Where it is, for a record. */
struct store_place store_place_of(PyObject *parcel);
/* It was sent: whoever receives it has it now. */
void store_sent(PyObject *parcel);
/* What was received is ours.  False: it is not what was sent. */
bool store_receive(PyObject *parcel);
/* New reference, or NULL with an exception. */
PyObject *store_load(struct core_state *state, PyObject *parcel);

static inline bool store_is_parcel(struct core_state *state, PyObject *op) { return Py_TYPE(op) == state->parcel_type; }

#endif
