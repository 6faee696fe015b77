/* What the parent's end of a lane and the worker's have in common, as Python objects. */
#ifndef TREADLE_LANE_OBJECT_H
#define TREADLE_LANE_OBJECT_H

#include "codec.h"
#include "lane.h"
#include "task.h"
#include "store.h"

/* A payload that comes in parts. */
struct assembly {
    PyObject *bytes; /* owned; NULL if none is on its way */
    Py_ssize_t filled;
};

/* What lane_collect() made of a record. */
enum collected { COLLECT_ERROR = -1, COLLECT_PART, COLLECT_FRAME };

/* A record that was read: a frame, whose payload is *payload and *length, or a part of one.  The caller takes the record
 * when it is done with the payload. */
enum collected lane_collect(struct assembly *parts, const struct lane_record *record, const char **payload,
                            Py_ssize_t *length);
/* The frame as (kind, seq, a, b, payload). */
PyObject *lane_frame(struct core_state *state, PyObject *store, const struct lane_record *record, const char *payload,
                     Py_ssize_t length);
/* Write as much of a frame as there is room for; *progress is 0 at first.  True when all of it is written. */
/* The payload of a record, as a parcel. */
PyObject *lane_parcel(struct core_state *state, PyObject *store, const struct lane_record *record, const char *payload,
                      Py_ssize_t length);
bool lane_put_frame(struct lane_end *end, const struct lane_record *record, const char *payload, size_t length,
                    size_t *progress);
/* -- the parent's end, for direct.c: none of these raises anything ---------------------------------------------------- */

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

/* The payload of a call or of a value is a pickle, or what the codec made of it. */
static inline bool lane_is_pickle(const char *payload, Py_ssize_t length)
{
    return length == 0 || (unsigned char)payload[0] == 0x80;
}

#endif
