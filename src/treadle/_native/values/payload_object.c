/* Arguments and results of tasks as bytes.
 *
 * Small plain values go through the codec, everything else through the hooks `pack` and `unpack`, which are pickle with
 * the rules of pool/payloads.py.  The first byte tells them apart: every pickle that we make begins with the opcode PROTO,
 * and no tag of the codec is that. */
#include "values/payload.h"
#include "values/store.h"
#include "values/values.h"


PyObject *core_payload_dumps(PyObject *module, PyObject *value)
{
    struct core_state *state = PyModule_GetState(module);
    char small[CODEC_ROOM];
    Py_ssize_t size = codec_encode(value, small, sizeof small);
    if (size >= 0)
        return PyBytes_FromStringAndSize(small, size);
    if (state->pack == NULL) {
        PyErr_SetString(PyExc_SystemError, "treadle.pool.payloads is not imported");
        return NULL;
    }
    return PyObject_CallOneArg(state->pack, value);
}

PyObject *core_payload_loads(struct core_state *state, PyObject *data)
{
    Py_buffer view;
    PyObject *value;
    if (PyBytes_CheckExact(data)) {
        const char *bytes = PyBytes_AS_STRING(data);
        if (!payload_is_pickle(bytes, PyBytes_GET_SIZE(data)))
            return codec_decode(bytes, (size_t)PyBytes_GET_SIZE(data));
    } else if (store_is_parcel(state, data)) {
        return store_load(state, data);
    } else {
        if (PyObject_GetBuffer(data, &view, PyBUF_SIMPLE) < 0)
            return NULL;
        if (!payload_is_pickle(view.buf, view.len)) {
            value = codec_decode(view.buf, (size_t)view.len);
            PyBuffer_Release(&view);
            return value;
        }
        PyBuffer_Release(&view);
    }
    if (state->unpack == NULL) {
        PyErr_SetString(PyExc_SystemError, "treadle.pool.payloads is not imported");
        return NULL;
    }
    return PyObject_CallOneArg(state->unpack, data);
}

static PyObject *payload_loads(PyObject *module, PyObject *data)
{
    return core_payload_loads(PyModule_GetState(module), data);
}

PyMethodDef core_payload_functions[] = {
    {"payload_dumps", core_payload_dumps, METH_O,
     "payload_dumps(value, /)\n--\n\nA value as bytes: by the codec if it is small and plain, else by the hook pack."},
    {"payload_loads", payload_loads, METH_O, "payload_loads(data, /)\n--\n\nThe counterpart of payload_dumps."},
    {NULL, NULL, 0, NULL},
};
