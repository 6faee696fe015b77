/* Packs: plain values that stay bytes until they are wanted.
 *
 * The items of a run and its results are many, and most of them small.  As objects they would lie in memory for as long as
 * the window is, and each would be fetched from there when its turn comes; as bytes, one behind the other as items_put() writes
 * them, they are made where they are used, and gone after that.  Only values of which nobody can tell one from its copy are
 * packed: numbers, texts, bytes, None. */
#ifndef TREADLE_PACK_H
#define TREADLE_PACK_H

#include "python/state.h"

struct pack_object {
    PyObject_HEAD
    PyObject *bytes; /* owned */
    size_t from;     /* where the first one is in there */
    Py_ssize_t count;
};

static inline bool core_is_pack(struct core_state *core, PyObject *op) { return Py_TYPE(op) == core->pack_type; }

/* So many values, which begin there in these bytes.  New reference. */
PyObject *pack_make(struct core_state *core, PyObject *bytes, size_t from, Py_ssize_t count);
/* The next one: its bytes, and where the one after it begins.  False: there is none. */
bool pack_next(PyObject *op, size_t *at, const char **data, size_t *length);

/* Where somebody has come to who reads one value after the other.  Zeros: at the start. */
struct pack_cursor {
    Py_ssize_t index;
    size_t at;
};

/* Of values as a list or a Pack: how many; one of them; those from `from` to `to`.  New references, NULL with an exception. */
Py_ssize_t values_count(struct core_state *core, PyObject *values);
PyObject *values_item(struct core_state *core, PyObject *values, Py_ssize_t index, struct pack_cursor *cursor);
PyObject *values_slice(struct core_state *core, PyObject *values, Py_ssize_t from, Py_ssize_t to);

#endif
