/* Where the results of a map arrive; see inbox_object.c. */
#ifndef TREADLE_INBOX_H
#define TREADLE_INBOX_H

#include "tasks/slot.h"

/* One task of a map has ended. */
void inbox_deliver(struct slot_object *slot, int kind, PyObject *data);

/* The next result, if it is a value that can be had without Python code: a new reference; NULL if not, perhaps with an
 * exception. */
PyObject *inbox_value(struct core_state *core, PyObject *inbox);

/* The iterator that a Singles gives the items of; borrowed, NULL if it is none. */
PyObject *singles_items(struct core_state *core, PyObject *op);

/* Items of a run have ended: `part` is what run_part() makes. */
void inbox_deliver_part(struct core_state *core, struct slot_object *slot, PyObject *part);

#endif
