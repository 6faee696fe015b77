/* Small values of builtin types as bytes, faster than pickle: None, bool, int, float, str, bytes, and tuples, lists and
 * dicts of these, of exactly these classes.  Anything else (a subclass, a list that occurs twice, something deep or
 * large) is refused, and then pickle does it: so what arrives is always what pickle would have made of it. */
#ifndef TREADLE_CODEC_H
#define TREADLE_CODEC_H

#include "python/state.h"

#define CODEC_ROOM 4096

/* How many bytes it took, or -1 without an exception: not for this codec. */
Py_ssize_t codec_encode(PyObject *value, char *buffer, size_t room);
/* New reference, or NULL with an exception. */
PyObject *codec_decode(const char *data, size_t size);
/* The values of a tuple that has at most so many, as new references, and how many those are; -1 with an exception;
 * CODEC_OTHER: it is something else, and nothing has happened. */
#define CODEC_OTHER (-2)
Py_ssize_t codec_decode_tuple(const char *data, size_t size, PyObject **values, uint32_t most);
/* Is it one value that is complete, can't change, and has no parts?  (A long text, or one that is not ASCII, counts as none.) */
bool codec_is_scalar(const char *data, size_t size);

#endif
