/* See parcel.h. */
#include "values/parcel.h"
#include "values/loan.h"
#include "memory/extents.h"

#include <errno.h>

#define LONG_COPY 65536 /* bytes from which on others get the interpreter meanwhile */
#define ALIGN 64u       /* of buffers: what numpy and vector instructions like */

static void clear(struct parcel *parcel, uint8_t encoding, const void *data, size_t size)
{
    parcel->encoding = encoding;
    parcel->data = data;
    parcel->size = parcel->data_size = size;
    parcel->keep = NULL;
    parcel->view.obj = NULL;
    parcel->buffers = NULL;
    parcel->places = NULL;
    parcel->count = 0;
}

void parcel_drop(struct parcel *parcel)
{
    if (__builtin_expect(parcel->view.obj != NULL, 0))
        PyBuffer_Release(&parcel->view);
    while (parcel->count > 0)
        PyBuffer_Release(&parcel->buffers[--parcel->count]);
    PyMem_Free(parcel->buffers);
    PyMem_Free(parcel->places);
    Py_XDECREF(parcel->keep);
}

/* The buffers of a pickle: [count][length of the pickle][lengths...] pickle, then each buffer at a multiple of ALIGN. */
static int pack_buffers(struct parcel *parcel, PyObject *buffers)
{
    Py_ssize_t i, count = PyList_GET_SIZE(buffers);
    size_t at = (2 + (size_t)count) * sizeof(uint64_t) + parcel->data_size;
    parcel->buffers = PyMem_Calloc((size_t)count, sizeof *parcel->buffers);
    parcel->places = PyMem_Calloc((size_t)count, sizeof *parcel->places);
    if (parcel->buffers == NULL || parcel->places == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (i = 0; i < count; i++) {
        if (PyObject_GetBuffer(PyList_GET_ITEM(buffers, i), &parcel->buffers[i], PyBUF_ANY_CONTIGUOUS) < 0)
            return -1;
        parcel->count = i + 1;
        at = (at + ALIGN - 1) / ALIGN * ALIGN;
        parcel->places[i] = at;
        at += (size_t)parcel->buffers[i].len;
    }
    parcel->encoding = PARCEL_BUFFERS;
    parcel->size = at <= RING_INLINE ? RING_INLINE + 1 : at; /* such messages always lie in cells */
    return 0;
}

static int pack_pickle(struct parcel *parcel, struct core_state *state, PyObject *item)
{
    PyObject *pair, *buffers;
    if (state->dumps == NULL) {
        PyErr_SetString(PyExc_SystemError, "treadle.queues.shared is not imported");
        return -1;
    }
    pair = PyObject_CallOneArg(state->dumps, item); /* (bytes, list of buffers or None) */
    if (pair == NULL)
        return -1;
    if (!PyTuple_Check(pair) || PyTuple_GET_SIZE(pair) != 2) {
        PyErr_SetString(PyExc_TypeError, "the hook dumps returns a pair");
        Py_DECREF(pair);
        return -1;
    }
    clear(parcel, PARCEL_PICKLE, NULL, 0);
    parcel->keep = pair;
    buffers = PyTuple_GET_ITEM(pair, 1);
    if (PyObject_GetBuffer(PyTuple_GET_ITEM(pair, 0), &parcel->view, PyBUF_SIMPLE) < 0) {
        parcel->view.obj = NULL;
        parcel_drop(parcel);
        return -1;
    }
    parcel->data = parcel->view.buf;
    parcel->size = parcel->data_size = (size_t)parcel->view.len;
    if (PyList_Check(buffers) && PyList_GET_SIZE(buffers) > 0 && pack_buffers(parcel, buffers) < 0) {
        parcel_drop(parcel);
        return -1;
    }
    return 0;
}

int parcel_pack_apart(struct parcel *parcel, PyObject *pair)
{
    clear(parcel, PARCEL_PICKLE, NULL, 0);
    parcel->keep = pair;
    parcel->data = PyBytes_AS_STRING(PyTuple_GET_ITEM(pair, 0));
    parcel->size = parcel->data_size = (size_t)PyBytes_GET_SIZE(PyTuple_GET_ITEM(pair, 0));
    if (pack_buffers(parcel, PyTuple_GET_ITEM(pair, 1)) == 0)
        return 0;
    parcel_drop(parcel);
    return -1;
}

static void pack_text(struct parcel *parcel, PyObject *item)
{
    int kind = PyUnicode_KIND(item);
    uint8_t encoding = PyUnicode_IS_ASCII(item) ? PARCEL_ASCII : kind == 1 ? PARCEL_UCS1 : kind == 2 ? PARCEL_UCS2
                                                                                                     : PARCEL_UCS4;
    clear(parcel, encoding, PyUnicode_DATA(item), (size_t)PyUnicode_GET_LENGTH(item) * (size_t)kind);
    parcel->keep = Py_NewRef(item);
}

int parcel_pack(struct parcel *parcel, struct core_state *state, PyObject *item)
{
    Py_ssize_t size;
    if (PyUnicode_CheckExact(item)) {
        pack_text(parcel, item);
        return 0;
    }
    if (PyBytes_CheckExact(item)) {
        clear(parcel, PARCEL_BYTES, PyBytes_AS_STRING(item), (size_t)PyBytes_GET_SIZE(item));
        parcel->keep = Py_NewRef(item);
        return 0;
    }
    size = codec_encode(item, parcel->small, sizeof parcel->small);
    if (size >= 0) {
        clear(parcel, PARCEL_CODEC, parcel->small, (size_t)size);
        return 0;
    }
    if (PyByteArray_CheckExact(item)) {
        clear(parcel, PARCEL_BYTEARRAY, NULL, 0);
        if (PyObject_GetBuffer(item, &parcel->view, PyBUF_SIMPLE) < 0)
            return -1;
        parcel->data = parcel->view.buf;
        parcel->size = parcel->data_size = (size_t)parcel->view.len;
        return 0;
    }
    return pack_pickle(parcel, state, item);
}

int parcel_write(const struct parcel *parcel, struct ring *ring, uint32_t cell)
{
    PyThreadState *detached = parcel->size >= LONG_COPY ? PyEval_SaveThread() : NULL;
    int error = 0;
    if (parcel->encoding != PARCEL_BUFFERS) {
        error = cell_write(ring, cell, 0, parcel->data, parcel->data_size);
    } else {
        uint64_t header[2] = {(uint64_t)parcel->count, parcel->data_size}, length;
        Py_ssize_t i;
        error = cell_write(ring, cell, 0, header, sizeof header);
        for (i = 0; error == 0 && i < parcel->count; i++) {
            length = (uint64_t)parcel->buffers[i].len;
            error = cell_write(ring, cell, (2 + (uint64_t)i) * sizeof length, &length, sizeof length);
        }
        if (error == 0)
            error = cell_write(ring, cell, (2 + (uint64_t)parcel->count) * sizeof length, parcel->data,
                               parcel->data_size);
        for (i = 0; error == 0 && i < parcel->count; i++)
            error = cell_write(ring, cell, parcel->places[i], parcel->buffers[i].buf, (uint64_t)parcel->buffers[i].len);
    }
    if (detached != NULL)
        PyEval_RestoreThread(detached);
    return error;
}

/* -- unpacking ---------------------------------------------------------------------------------------------------------- */

static PyObject *load(struct core_state *state, PyObject *data, PyObject *buffers)
{
    if (state->loads == NULL) {
        PyErr_SetString(PyExc_SystemError, "treadle.queues.shared is not imported");
        return NULL;
    }
    return PyObject_CallFunctionObjArgs(state->loads, data, buffers, NULL);
}

PyObject *parcel_unpack(struct core_state *state, uint8_t encoding, const char *data, size_t size)
{
    PyObject *bytes, *value;
    switch (encoding) {
    case PARCEL_CODEC: return codec_decode(data, size);
    case PARCEL_BYTES: return PyBytes_FromStringAndSize(data, (Py_ssize_t)size);
    case PARCEL_BYTEARRAY: return PyByteArray_FromStringAndSize(data, (Py_ssize_t)size);
    case PARCEL_ASCII:
    case PARCEL_UCS1: return PyUnicode_FromKindAndData(PyUnicode_1BYTE_KIND, data, (Py_ssize_t)size);
    case PARCEL_UCS2: return PyUnicode_FromKindAndData(PyUnicode_2BYTE_KIND, data, (Py_ssize_t)size / 2);
    case PARCEL_UCS4: return PyUnicode_FromKindAndData(PyUnicode_4BYTE_KIND, data, (Py_ssize_t)size / 4);
    case PARCEL_PICKLE:
        bytes = PyBytes_FromStringAndSize(data, (Py_ssize_t)size);
        value = bytes == NULL ? NULL : load(state, bytes, NULL);
        Py_XDECREF(bytes);
        return value;
    default: PyErr_SetString(PyExc_ValueError, "a message of a queue is damaged"); return NULL;
    }
}

/* Read, and let others run meanwhile if it takes long.  0, or -1 with an exception. */
static int read_cell(struct ring *ring, uint32_t cell, uint64_t at, void *to, size_t size)
{
    PyThreadState *detached = size >= LONG_COPY ? PyEval_SaveThread() : NULL;
    int error = cell_read(ring, cell, at, to, size);
    if (detached != NULL)
        PyEval_RestoreThread(detached);
    if (error == 0)
        return 0;
    errno = error;
    PyErr_SetFromErrno(PyExc_OSError);
    return -1;
}

static PyObject *read_bytes(struct ring *ring, uint32_t cell, uint64_t at, uint64_t size)
{
    PyObject *bytes = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)size);
    if (bytes != NULL && read_cell(ring, cell, at, PyBytes_AS_STRING(bytes), (size_t)size) < 0)
        Py_CLEAR(bytes);
    return bytes;
}

static PyObject *read_bytearray(struct ring *ring, uint32_t cell, uint64_t at, uint64_t size)
{
    PyObject *bytes = PyByteArray_FromStringAndSize(NULL, (Py_ssize_t)size);
    if (bytes != NULL && read_cell(ring, cell, at, PyByteArray_AS_STRING(bytes), (size_t)size) < 0)
        Py_CLEAR(bytes);
    return bytes;
}

/* A part of the message, without a copy if the message is lent. */
static PyObject *read_part(struct ring *ring, uint32_t cell, PyObject *whole, uint64_t at, uint64_t size)
{
    PyObject *first, *part;
    if (whole == NULL)
        return read_bytearray(ring, cell, at, size);
    first = PyLong_FromUnsignedLongLong(at);
    part = PyLong_FromUnsignedLongLong(at + size);
    if (first != NULL && part != NULL) {
        PyObject *slice = PySlice_New(first, part, NULL);
        Py_SETREF(part, slice == NULL ? NULL : PyObject_GetItem(whole, slice));
        Py_XDECREF(slice);
    } else {
        Py_CLEAR(part);
    }
    Py_XDECREF(first);
    return part;
}

/* The list of the buffers, which begin behind the pickle. */
static PyObject *read_buffers(struct ring *ring, uint32_t cell, PyObject *whole, const uint64_t header[2])
{
    uint64_t at = (2 + header[0]) * sizeof at + header[1], length, i;
    PyObject *buffers = PyList_New((Py_ssize_t)header[0]), *buffer;
    for (i = 0; buffers != NULL && i < header[0]; i++) {
        buffer = NULL;
        at = (at + ALIGN - 1) / ALIGN * ALIGN;
        if (read_cell(ring, cell, (2 + i) * sizeof length, &length, sizeof length) == 0)
            buffer = read_part(ring, cell, whole, at, length);
        if (buffer == NULL) {
            Py_CLEAR(buffers);
            break;
        }
        PyList_SET_ITEM(buffers, (Py_ssize_t)i, buffer);
        at += length;
    }
    return buffers;
}

static PyObject *unpack_buffers(struct core_state *state, PyObject *queue, struct ring *ring, uint32_t cell, size_t size,
                                uint64_t taken, bool *lent)
{
    PyObject *loan = NULL, *whole = NULL, *buffers, *pickle = NULL, *value = NULL;
    uint64_t header[2];
    if (read_cell(ring, cell, 0, header, sizeof header) < 0)
        return NULL;
    if (taken != 0 && size >= EXTENT_LEAST)
        loan = loan_new(state, queue, ring, cell, taken, size);
    *lent = loan != NULL;
    whole = loan == NULL ? NULL : PyMemoryView_FromObject(loan);
    if (header[1] < EXTENT_LEAST || whole == NULL)
        pickle = read_bytes(ring, cell, (2 + header[0]) * sizeof header[0], header[1]);
    else /* what is read from it is copied by who reads it */
        pickle = read_part(ring, cell, whole, (2 + header[0]) * sizeof header[0], header[1]);
    if (pickle == NULL) {
        Py_XDECREF(whole);
        Py_XDECREF(loan);
        return NULL;
    }
    buffers = loan != NULL && whole == NULL ? NULL : read_buffers(ring, cell, whole, header);
    if (buffers != NULL)
        value = load(state, pickle, buffers);
    Py_DECREF(pickle);
    Py_XDECREF(buffers);
    Py_XDECREF(whole);
    Py_XDECREF(loan);
    return value;
}

PyObject *parcel_unpack_cell(struct core_state *state, PyObject *queue, struct ring *ring, uint32_t cell,
                             uint8_t encoding, size_t size, uint64_t taken, bool *lent)
{
    PyObject *text, *value = NULL;
    char *data;
    *lent = false;
    switch (encoding) {
    case PARCEL_BYTES: return read_bytes(ring, cell, 0, size);
    case PARCEL_BYTEARRAY: return read_bytearray(ring, cell, 0, size);
    case PARCEL_BUFFERS: return unpack_buffers(state, queue, ring, cell, size, taken, lent);
    case PARCEL_ASCII:
        if (size < 2)
            break;
        text = PyUnicode_New((Py_ssize_t)size, 127);
        if (text != NULL && read_cell(ring, cell, 0, PyUnicode_DATA(text), size) < 0)
            Py_CLEAR(text);
        return text;
    case PARCEL_PICKLE:
        text = read_bytes(ring, cell, 0, size);
        value = text == NULL ? NULL : load(state, text, NULL);
        Py_XDECREF(text);
        return value;
    default: break;
    }
    data = PyMem_Malloc(size == 0 ? 1 : size);
    if (data == NULL)
        return PyErr_NoMemory();
    if (read_cell(ring, cell, 0, data, size) == 0)
        value = parcel_unpack(state, encoding, data, size);
    PyMem_Free(data);
    return value;
}
