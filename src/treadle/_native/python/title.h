/* What a task calls, as a line for people: written down each time that a worker turns to another function. */
#ifndef TREADLE_TITLE_H
#define TREADLE_TITLE_H

#include "python/state.h"

/* What a task calls: "name (file.py:12)".  Runs no Python code, and changes no exception. */
void core_title(PyObject *fn, char *text, size_t size);
/* Whose title stands on the board: cheap to compare with.  Owned. */
struct titled {
    PyObject *name; /* __qualname__ of a function; NULL: of something else */
    int line;
    const void *builtin; /* the definition of a function in C; NULL: of something else.  Only compared with */
};
/* The calling thread is a worker with that record, and its next tasks call fn. */
void core_task_title(struct tl_cold *cold, struct titled *titled, PyObject *fn);

#endif
