/* See codec.h.  A value is a tag and what belongs to it; numbers are in this machine's byte order. */
#include "values/codec.h"

#include <string.h>

#define DEEPEST 16
#define CONTAINERS 32 /* lists and dicts that are remembered, to notice one that occurs twice */

enum tag { NONE, YES, NO, INT8, INT32, INT64, FLOAT, ASCII8, TEXT, BYTES, TUPLE, LIST, DICT };

struct writer {
    char *at, *end;
    uint32_t depth, count;
    PyObject *seen[CONTAINERS];
};

#ifdef Py_GIL_DISABLED
/* Another thread may change a container meanwhile: it is locked, and what is looked at is kept alive. */
#define LOCKED(object) Py_BEGIN_CRITICAL_SECTION(object)
#define UNLOCKED() Py_END_CRITICAL_SECTION()
#define KEEP(object) Py_INCREF(object)
#define DROP(object) Py_DECREF(object)
#else
#define LOCKED(object) {
#define UNLOCKED() }
#define KEEP(object) ((void)0)
#define DROP(object) ((void)0)
#endif

static bool room(struct writer *w, size_t size) { return (size_t)(w->end - w->at) >= size; }

static bool tag_and(struct writer *w, enum tag tag, const void *data, size_t size)
{
    if (!room(w, size + 1))
        return false;
    *w->at++ = (char)tag;
    memcpy(w->at, data, size);
    w->at += size;
    return true;
}

static bool write_int(struct writer *w, PyObject *value)
{
    int overflow;
    long long number = PyLong_AsLongLongAndOverflow(value, &overflow);
    if (overflow != 0)
        return false;
    if (number >= INT8_MIN && number <= INT8_MAX)
        return tag_and(w, INT8, &(int8_t){(int8_t)number}, 1);
    if (number >= INT32_MIN && number <= INT32_MAX)
        return tag_and(w, INT32, &(int32_t){(int32_t)number}, 4);
    return tag_and(w, INT64, &(int64_t){number}, 8);
}

static bool write_text(struct writer *w, PyObject *value)
{
    size_t length = (size_t)PyUnicode_GET_LENGTH(value), kind = (size_t)PyUnicode_KIND(value);
    if (PyUnicode_IS_ASCII(value) && length < 256) {
        if (!room(w, length + 2))
            return false;
        *w->at++ = ASCII8;
        *w->at++ = (char)(uint8_t)length;
    } else {
        uint32_t count = (uint32_t)length;
        if (length > CODEC_ROOM || !room(w, length * kind + 6))
            return false;
        *w->at++ = TEXT;
        *w->at++ = (char)kind;
        memcpy(w->at, &count, 4);
        w->at += 4;
    }
    memcpy(w->at, PyUnicode_DATA(value), length * kind);
    w->at += length * kind;
    return true;
}

static bool begin(struct writer *w, enum tag tag, Py_ssize_t size, PyObject *container)
{
    uint32_t count = (uint32_t)size, i;
    if (size > CODEC_ROOM || w->depth == DEEPEST)
        return false;
    if (tag != TUPLE) {
        if (w->count == CONTAINERS)
            return false;
        for (i = 0; i < w->count; i++)
            if (w->seen[i] == container)
                return false;
        w->seen[w->count++] = container;
    }
    w->depth++;
    return tag_and(w, tag, &count, 4);
}

static bool write_value(struct writer *w, PyObject *value);

static bool write_kept(struct writer *w, PyObject *value)
{
    bool done;
    KEEP(value);
    done = write_value(w, value);
    DROP(value);
    return done;
}

static bool write_dict(struct writer *w, PyObject *value)
{
    PyObject *key, *item;
    Py_ssize_t at = 0, left;
    bool done;
    LOCKED(value);
    left = PyDict_GET_SIZE(value);
    done = begin(w, DICT, left, value);
    while (done && PyDict_Next(value, &at, &key, &item)) {
        KEEP(item);
        done = left-- > 0 && write_kept(w, key) && write_value(w, item);
        DROP(item);
    }
    UNLOCKED();
    w->depth--;
    return done && left == 0;
}

static bool write_list(struct writer *w, PyObject *value)
{
    Py_ssize_t i, size;
    bool done;
    LOCKED(value);
    size = PyList_GET_SIZE(value);
    done = begin(w, LIST, size, value);
    for (i = 0; done && i < size; i++)
        done = size == PyList_GET_SIZE(value) && write_kept(w, PyList_GET_ITEM(value, i));
    UNLOCKED();
    w->depth--;
    return done;
}

static bool write_tuple(struct writer *w, PyObject *value)
{
    Py_ssize_t i, size = PyTuple_GET_SIZE(value);
    bool done = begin(w, TUPLE, size, value);
    for (i = 0; done && i < size; i++)
        done = write_value(w, PyTuple_GET_ITEM(value, i));
    w->depth--;
    return done;
}

static bool write_value(struct writer *w, PyObject *value)
{
    PyTypeObject *type = Py_TYPE(value);
    if (type == &PyUnicode_Type)
        return write_text(w, value);
    if (type == &PyLong_Type)
        return write_int(w, value);
    if (type == &PyFloat_Type) {
        double number = PyFloat_AS_DOUBLE(value);
        return tag_and(w, FLOAT, &number, sizeof number);
    }
    if (type == &PyDict_Type)
        return write_dict(w, value);
    if (type == &PyTuple_Type)
        return write_tuple(w, value);
    if (type == &PyList_Type)
        return write_list(w, value);
    if (value == Py_None)
        return tag_and(w, NONE, "", 0);
    if (type == &PyBool_Type)
        return tag_and(w, value == Py_True ? YES : NO, "", 0);
    if (type == &PyBytes_Type) {
        uint32_t size = (uint32_t)PyBytes_GET_SIZE(value);
        if (PyBytes_GET_SIZE(value) > CODEC_ROOM || !room(w, size + 5) || !tag_and(w, BYTES, &size, 4))
            return false;
        memcpy(w->at, PyBytes_AS_STRING(value), size);
        w->at += size;
        return true;
    }
    return false;
}

Py_ssize_t codec_encode(PyObject *value, char *buffer, size_t size)
{
    struct writer w;
    w.at = buffer;
    w.end = buffer + size;
    w.depth = w.count = 0;
    return write_value(&w, value) ? w.at - buffer : -1;
}

/* -- reading --------------------------------------------------------------------------------------------------------- */

struct reader {
    const char *at, *end;
};

static bool take(struct reader *r, void *to, size_t size)
{
    if ((size_t)(r->end - r->at) < size) {
        PyErr_SetString(PyExc_ValueError, "a message of a queue is damaged");
        return false;
    }
    memcpy(to, r->at, size);
    r->at += size;
    return true;
}

static PyObject *read_value(struct reader *r);

static PyObject *read_text(struct reader *r, bool ascii)
{
    uint8_t small, kind = 1;
    uint32_t count;
    const char *data = r->at;
    PyObject *text;
    if (ascii) {
        if (!take(r, &small, 1))
            return NULL;
        count = small;
    } else if (!take(r, &kind, 1) || !take(r, &count, 4)) {
        return NULL;
    }
    data = r->at;
    if ((size_t)(r->end - r->at) < (size_t)count * kind) {
        PyErr_SetString(PyExc_ValueError, "a message of a queue is damaged");
        return NULL;
    }
    r->at += (size_t)count * kind;
    if (!ascii || count <= 1) /* the interpreter has these ready */
        return PyUnicode_FromKindAndData(kind, data, count);
    text = PyUnicode_New(count, 127);
    if (text != NULL)
        memcpy(PyUnicode_1BYTE_DATA(text), data, count);
    return text;
}

static PyObject *read_dict(struct reader *r, uint32_t count)
{
    PyObject *dict = PyDict_New();
    while (dict != NULL && count-- > 0) {
        PyObject *key = read_value(r), *value = key == NULL ? NULL : read_value(r);
        if (value == NULL || PyDict_SetItem(dict, key, value) < 0)
            Py_CLEAR(dict);
        Py_XDECREF(key);
        Py_XDECREF(value);
    }
    return dict;
}

static PyObject *read_sequence(struct reader *r, bool list, uint32_t count)
{
    PyObject *sequence, *value;
    uint32_t i;
    if ((size_t)(r->end - r->at) < count) { /* each value takes a byte or more */
        PyErr_SetString(PyExc_ValueError, "a message of a queue is damaged");
        return NULL;
    }
    sequence = list ? PyList_New(count) : PyTuple_New(count);
    for (i = 0; sequence != NULL && i < count; i++) {
        value = read_value(r);
        if (value == NULL)
            Py_CLEAR(sequence);
        else if (list)
            PyList_SET_ITEM(sequence, i, value);
        else
            PyTuple_SET_ITEM(sequence, i, value);
    }
    return sequence;
}

static PyObject *read_value(struct reader *r)
{
    uint8_t tag;
    uint32_t count;
    union { int8_t i8; int32_t i32; int64_t i64; double number; } u;
    PyObject *bytes;
    if (!take(r, &tag, 1))
        return NULL;
    switch ((enum tag)tag) {
    case NONE: return Py_NewRef(Py_None);
    case YES: return Py_NewRef(Py_True);
    case NO: return Py_NewRef(Py_False);
    case INT8: return take(r, &u.i8, 1) ? PyLong_FromLong(u.i8) : NULL;
    case INT32: return take(r, &u.i32, 4) ? PyLong_FromLong(u.i32) : NULL;
    case INT64: return take(r, &u.i64, 8) ? PyLong_FromLongLong(u.i64) : NULL;
    case FLOAT: return take(r, &u.number, 8) ? PyFloat_FromDouble(u.number) : NULL;
    case ASCII8: return read_text(r, true);
    case TEXT: return read_text(r, false);
    case BYTES:
        if (!take(r, &count, 4))
            return NULL;
        bytes = PyBytes_FromStringAndSize(NULL, count);
        if (bytes != NULL && !take(r, PyBytes_AS_STRING(bytes), count))
            Py_CLEAR(bytes);
        return bytes;
    case TUPLE:
    case LIST: return take(r, &count, 4) ? read_sequence(r, tag == LIST, count) : NULL;
    case DICT: return take(r, &count, 4) ? read_dict(r, count) : NULL;
    }
    PyErr_SetString(PyExc_ValueError, "a message of a queue is damaged");
    return NULL;
}

PyObject *codec_decode(const char *data, size_t size)
{
    struct reader r = {data, data + size};
    return read_value(&r);
}

Py_ssize_t codec_decode_tuple(const char *data, size_t size, PyObject **values, uint32_t most)
{
    struct reader r = {data + 1, data + size};
    uint32_t count, i;
    if (size < 5 || (uint8_t)data[0] != TUPLE)
        return CODEC_OTHER;
    (void)take(&r, &count, 4);
    if (count > most)
        return CODEC_OTHER;
    for (i = 0; i < count; i++)
        if ((values[i] = read_value(&r)) == NULL) {
            while (i > 0)
                Py_DECREF(values[--i]);
            return -1;
        }
    return (Py_ssize_t)count;
}

bool codec_is_scalar(const char *data, size_t size)
{
    uint32_t length;
    if (size == 0)
        return false;
    switch ((enum tag)(uint8_t)data[0]) {
    case NONE:
    case YES:
    case NO: return size == 1;
    case INT8: return size == 2;
    case INT32: return size == 5;
    case INT64:
    case FLOAT: return size == 9;
    case ASCII8: return size >= 2 && size == 2u + (uint8_t)data[1];
    case BYTES:
        if (size < 5)
            return false;
        memcpy(&length, data + 1, 4);
        return size == (size_t)length + 5;
    default: return false;
    }
}
