/* The short way for a call that somebody waits for, while its pool has nothing else to do: the thread that submits it puts
 * it into an idle worker's lane, and the thread that waits for its value takes it out of there.  No other thread is woken.
 * A worker that is a thread has an inbox in place of the lane, and settles itself what it returns (seat_object.c).
 *
 * Both open only while the brain's rules would do just that; see dispatch.h, and README.md for the hand-over of a lane's
 * results from the reactor to a waiting thread and back. */
#ifndef TREADLE_DIRECT_H
#define TREADLE_DIRECT_H

#include "pool/dispatch.h"

/* The caller holds the brain's lock.  Did an idle worker get the task?  If not, nothing has happened; raises nothing. */
bool direct_send(struct core_state *core, struct state_object *state, struct task_object *task);

/* State.fetch */
PyObject *direct_fetch(PyObject *op, PyObject *const *args, Py_ssize_t nargs);

#endif
