/* Parcels: objects as bytes for a ring, and back.
 *
 * bytes, bytearray and str travel as they are; small builtin data through the codec; everything else through pickle,
 * whose large buffers (protocol 5) are not copied into the pickle but written where it is written. */
#ifndef TREADLE_PARCEL_H
#define TREADLE_PARCEL_H

#include "values/codec.h"
#include "memory/cells.h"

enum { PARCEL_CODEC, PARCEL_BYTES, PARCEL_BYTEARRAY, PARCEL_ASCII, PARCEL_UCS1, PARCEL_UCS2, PARCEL_UCS4,
       PARCEL_PICKLE, PARCEL_BUFFERS };

struct parcel {
    uint8_t encoding;
    const char *data;
    size_t size;         /* of the whole message; more than data has if there are buffers */
    size_t data_size;
    PyObject *keep;      /* what data belongs to, or NULL */
    Py_buffer view;      /* of a bytearray or a pickle's bytes; view.obj is NULL if there is none */
    Py_buffer *buffers;  /* NULL if there are none */
    uint64_t *places;    /* where in the message each begins */
    Py_ssize_t count;
    char small[CODEC_ROOM];
};

/* 0, or -1 with an exception: whatever pickling raises. */
int parcel_pack(struct parcel *parcel, struct core_state *state, PyObject *item);
/* The same for (pickle, list of buffers that are not in it), whose reference it takes over. */
int parcel_pack_apart(struct parcel *parcel, PyObject *pair);
void parcel_drop(struct parcel *parcel);
/* Write it into a cell, without the interpreter if that takes long.  0 or an errno. */
int parcel_write(const struct parcel *parcel, struct ring *ring, uint32_t cell);

/* New reference, or NULL with an exception. */
PyObject *parcel_unpack(struct core_state *state, uint8_t encoding, const char *data, size_t size);
/* taken: the cell's word if it is the calling thread's and may be lent to what is unpacked; *lent says whether it was, and
 * then it is no more the caller's to release.  0: copy. */
PyObject *parcel_unpack_cell(struct core_state *state, PyObject *queue, struct ring *ring, uint32_t cell,
                             uint8_t encoding, size_t size, uint64_t taken, bool *lent);

#endif
