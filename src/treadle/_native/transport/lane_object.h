/* The parent's end of a worker's lane, for direct.c: none of these raises anything. */
#ifndef TREADLE_LANE_OBJECT_H
#define TREADLE_LANE_OBJECT_H

#include "tasks/task.h"
#include "memory/lane.h"

/* A task into an idle worker's lane, and what that waits for is woken; false: it has to go the ordinary way.  After it comes
 * lane_write_end(), which makes it seen, or takes it back. */
bool lane_write_task(PyObject *lane, struct core_state *core, struct task_object *task, uint64_t seq);
void lane_write_end(PyObject *lane, struct core_state *core, struct task_object *task, uint64_t seq, bool sent);

/* A thread waits itself for the next result of the lane's worker. */
struct lane_claim {
    uint32_t number; /* what it sleeps under; the claim holds while the lane has this number */
    uint64_t seen;   /* the reader's head then */
};

/* Be the one who is told of what comes; false: somebody else is. */
bool lane_claim(PyObject *lane, struct lane_claim *claim);
/* Wait for at most ns.  Has something come, which nobody else has taken in?  Without the GIL, unless ns is 0. */
bool lane_watch(PyObject *lane, struct lane_claim *claim, int64_t ns);
/* If what has come is the plain value of that task, and nothing else has to be seen before it: a new reference, and the time
 * that it took.  After it comes lane_read_end(), which takes the record, or leaves it. */
bool lane_read_value(PyObject *lane, struct lane_claim *claim, uint64_t seq, PyObject **value, uint64_t *nanoseconds);
void lane_read_end(PyObject *lane, struct lane_claim *claim, bool taken);
/* From now on the reactor is told again; at once, if something is there. */
void lane_hand_back(PyObject *lane, struct lane_claim *claim);

#endif
