/* The module: what each folder adds to it. */
#include "diagnose/diagnose.h"
#include "pool/pool.h"
#include "queues/queues.h"
#include "sync/lock_object.h"
#include "sync/sync.h"
#include "tasks/tasks.h"
#include "transport/transport.h"
#include "values/values.h"

#include <errno.h>

static PyMethodDef *const functions[] = {
    core_board_functions, core_trace_functions, core_process_functions, core_order_functions, core_payload_functions,
    core_queue_functions, core_feed_functions,
};

/* Each adds types of its own. 0, or -1 with an exception.  A base comes before what is made of it. */
static int (*const types[])(PyObject *module, struct core_state *state) = {
    core_add_lock, core_add_rlock, core_add_condition, core_add_semaphore, core_add_event, core_add_shared,
    core_add_segment, core_add_loan, core_add_store, core_add_pack,
    core_add_queue, core_add_shared_queue,
    core_add_task, core_add_run, core_add_future, core_add_slot, core_add_inbox, core_add_singles,
    core_add_reader,
    core_add_lane, core_add_port,
    core_add_worker, core_add_dispatch, core_add_seat, core_add_known, core_add_desk,
    core_add_rendering,
};

static int core_exec(PyObject *module)
{
    struct core_state *state = PyModule_GetState(module);
    size_t i;
    int error;
#ifdef Py_GIL_DISABLED
    bool spins = true;
#else
    bool spins = false;
#endif
    error = tl_self_setup(spins);
    if (error != 0) {
        errno = error;
        PyErr_SetFromErrno(PyExc_OSError);
        return -1;
    }
    for (i = 0; i < sizeof functions / sizeof *functions; i++)
        if (PyModule_AddFunctions(module, functions[i]) < 0)
            return -1;
    for (i = 0; i < sizeof types / sizeof *types; i++)
        if (types[i](module, state) < 0)
            return -1;
    return 0;
}

static int core_traverse(PyObject *module, visitproc visit, void *arg)
{
    return core_state_traverse(PyModule_GetState(module), visit, arg);
}

static int core_clear(PyObject *module)
{
    return core_state_clear(PyModule_GetState(module));
}

static void core_free(void *module)
{
    core_clear((PyObject *)module);
}

static PyModuleDef_Slot core_slots[] = {
    {Py_mod_exec, core_exec},
#if PY_VERSION_HEX >= 0x030c0000
    {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED},
#endif
#if PY_VERSION_HEX >= 0x030d0000
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
    {0, NULL},
};

struct PyModuleDef core_module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "treadle._native._core",
    .m_doc = "The native core: see README.md beside its sources.",
    .m_size = sizeof(struct core_state),
    .m_methods = core_state_functions,
    .m_slots = core_slots,
    .m_traverse = core_traverse,
    .m_clear = core_clear,
    .m_free = core_free,
};

PyMODINIT_FUNC PyInit__core(void)
{
    return PyModuleDef_Init(&core_module);
}
