/* Slots: items of a map between their submit and their reader; see inbox_object.c. */
#ifndef TREADLE_SLOT_H
#define TREADLE_SLOT_H

#include "values/pack.h"
#include "tasks/run.h"

struct slot_object {
    PyObject_HEAD
    PyObject *inbox; /* owned; NULL only after tp_clear */
    Py_ssize_t index;
    PyObject *task;  /* NULL: not attached yet */
    int kind;
    PyObject *data;
    char done;       /* Invariant: set once, by deliver, under the inbox's guard */
    Py_ssize_t size; /* bytes of input and result that the window counts for it */
    /* Under the inbox's guard: its neighbours among the unread.  Invariant: linked from add until it is taken. */
    struct slot_object *before, *after;
    bool linked;
    /* A run's: one place an item.  Under the inbox's guard, all of them. */
    Py_ssize_t count;   /* items; 1 for a single task */
    PyObject **values;  /* values, or Odds, or at the first of its places a Pack; NULL: not there yet, read, or in a Pack.  NULL
                         * for a single task */
    PyObject *pack;     /* the Pack that is being read, from the place `next` on; NULL: none */
    size_t pack_at;     /* where the next one is in it */
    Py_ssize_t pack_left;
    struct pack_cursor items; /* how far the reader has come in a run's items, where it asks for these */
    Py_ssize_t next;    /* where to read on */
    Py_ssize_t there, read; /* items that have ended and are not read; items that were read */
    bool lined;         /* without order: is it in the line? */
};

static inline struct slot_object *as_slot(PyObject *op) { return (struct slot_object *)op; }

#endif
