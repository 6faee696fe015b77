/* See frames.h. */
#include "transport/frames.h"

enum collected lane_collect(struct assembly *parts, const struct lane_record *record, const char **payload,
                            Py_ssize_t *length)
{
    Py_ssize_t size = (Py_ssize_t)record->length;
    switch (record->kind) {
    case LANE_TOTAL:
        if (record->seq > (uint64_t)PY_SSIZE_T_MAX / 2)
            break;
        Py_XSETREF(parts->bytes, PyBytes_FromStringAndSize(NULL, (Py_ssize_t)record->seq));
        parts->filled = 0;
        return parts->bytes == NULL ? COLLECT_ERROR : COLLECT_PART;
    case LANE_SOME:
        if (parts->bytes == NULL || PyBytes_GET_SIZE(parts->bytes) - parts->filled < size)
            break;
        memcpy(PyBytes_AS_STRING(parts->bytes) + parts->filled, *payload, (size_t)size);
        parts->filled += size;
        return COLLECT_PART;
    default:
        *length = size;
        if (!(record->flags & LANE_IN_PARTS))
            return COLLECT_FRAME;
        if (parts->bytes == NULL || parts->filled != PyBytes_GET_SIZE(parts->bytes))
            break;
        *payload = PyBytes_AS_STRING(parts->bytes);
        *length = parts->filled;
        return COLLECT_FRAME;
    }
    PyErr_SetString(PyExc_ValueError, "a lane is damaged");
    return COLLECT_ERROR;
}

PyObject *lane_parcel(struct core_state *state, PyObject *store, const struct lane_record *record, const char *payload,
                      Py_ssize_t length)
{
    struct store_place place;
    if (length != sizeof place) {
        PyErr_SetString(PyExc_ValueError, "a lane is damaged");
        return NULL;
    }
    memcpy(&place, payload, sizeof place);
    return store_parcel(state, store, &place, (record->flags & LANE_MAY_TAKE) != 0);
}

PyObject *lane_frame(struct core_state *state, PyObject *store, const struct lane_record *record, const char *payload,
                     Py_ssize_t length)
{
    if (record->flags & LANE_IN_STORE) {
        PyObject *parcel = lane_parcel(state, store, record, payload, length);
        return parcel == NULL ? NULL
                              : Py_BuildValue("(iKKKN)", (int)record->kind, (unsigned long long)record->seq,
                                              (unsigned long long)record->a, (unsigned long long)record->b, parcel);
    }
    return Py_BuildValue("(iKKKy#)", (int)record->kind, (unsigned long long)record->seq, (unsigned long long)record->a,
                         (unsigned long long)record->b, payload, length);
}

bool lane_put_frame(struct lane_end *end, const struct lane_record *record, const char *payload, size_t length,
                    size_t *progress)
{
    if (length <= LANE_PART)
        return lane_put(end, record->kind, record->flags, record->seq, record->a, record->b, payload, (uint32_t)length);
    if (*progress == 0) {
        if (!lane_put(end, LANE_TOTAL, 0, length, 0, 0, NULL, 0))
            return false;
        *progress = 1;
    }
    while (*progress - 1 < length) {
        size_t left = length - (*progress - 1), some = left < LANE_PART ? left : LANE_PART;
        if (!lane_put(end, LANE_SOME, 0, 0, 0, 0, payload + *progress - 1, (uint32_t)some))
            return false;
        *progress += some;
    }
    return lane_put(end, record->kind, LANE_IN_PARTS, record->seq, record->a, record->b, NULL, 0);
}
