/* Frames: records of a lane, or several that make up one; what the parent's end and the worker's have in common. */
#ifndef TREADLE_FRAMES_H
#define TREADLE_FRAMES_H

#include "values/store.h"
#include "memory/lane.h"

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
/* The payload of a record, as a parcel. */
PyObject *lane_parcel(struct core_state *state, PyObject *store, const struct lane_record *record, const char *payload,
                      Py_ssize_t length);
/* Write as much of a frame as there is room for; *progress is 0 at first.  True when all of it is written. */
bool lane_put_frame(struct lane_end *end, const struct lane_record *record, const char *payload, size_t length,
                    size_t *progress);

#endif
