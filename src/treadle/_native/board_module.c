/* What Python sees of the board. */
#include "core.h"

#include <errno.h>
#include <string.h>

static const char *const kind_names[TL_KINDS] = {
    "", "lock", "rlock", "condition", "semaphore", "event", "join", "get", "put", "queue-join",
};

static PyObject *os_error(int error)
{
    errno = error;
    return PyErr_SetFromErrno(PyExc_OSError);
}

static PyObject *board_open(PyObject *module, PyObject *arg)
{
    PyObject *path = NULL;
    int error;
    (void)module;
    if (arg != Py_None && !PyUnicode_FSConverter(arg, &path))
        return NULL;
    error = tl_board_open(path == NULL ? NULL : PyBytes_AS_STRING(path));
    Py_XDECREF(path);
    if (error != 0)
        return os_error(error);
    Py_RETURN_NONE;
}

static PyObject *board_fd(PyObject *module, PyObject *Py_UNUSED(ignored))
{
    (void)module;
    return PyLong_FromLong(tl_board.head == NULL ? -1 : tl_board.fd);
}

static PyObject *text_of(const _Atomic char *from, size_t size)
{
    char text[TL_STACK_SIZE];
    tl_text_load(from, size, text);
    return PyUnicode_DecodeUTF8(text, (Py_ssize_t)strlen(text), "replace");
}

/* One record as a dict, or NULL without an exception if it is free. */
static PyObject *record_dict(const struct tl_board *board, uint32_t number)
{
    const struct tl_hot *hot = &board->hot[number];
    const struct tl_cold *cold = &board->cold[number];
    uint32_t pid = atomic_load(&hot->pid), state, flags, kind;
    uint64_t edge, since, now = os_now();
    bool waits, told;

    if (pid == 0)
        return NULL;
    state = atomic_load(&hot->state);
    flags = atomic_load(&hot->flags);
    edge = atomic_load(&hot->edge);
    since = atomic_load(&hot->since);
    waits = TL_PHASE_OF(state) == TL_WAITING;
    told = waits && atomic_load(&cold->text_state) == state;
    kind = waits ? flags >> TL_KIND_SHIFT : 0;
    return Py_BuildValue(
        "{sIsKsIsIsKsNsssNsNsdsOsKsOsI}",
        "record", number, "token", TL_TOKEN(atomic_load(&hot->generation), number),
        "pid", pid, "tid", atomic_load(&cold->tid), "start", atomic_load(&cold->start),
        "name", text_of(cold->name, TL_NAME_SIZE), "kind", kind_names[kind < TL_KINDS ? kind : 0],
        "what", told ? text_of(cold->what, TL_WHAT_SIZE) : PyUnicode_FromString(""),
        "stack", told ? text_of(cold->stack, TL_STACK_SIZE) : PyUnicode_FromString(""),
        "seconds", waits && now > since ? (double)(now - since) / 1e9 : 0.0,
        "timed", waits && (flags & TL_TIMED) ? Py_True : Py_False,
        "owner", waits ? edge & TL_OWNER_MASK : 0, "bare", waits && (edge & TL_BARE) ? Py_True : Py_False,
        "nested", atomic_load(&cold->nested));
}

/* board_read(path=None) -> the records in use, of this session's board or of the one at path. */
static PyObject *board_read(PyObject *module, PyObject *arg)
{
    struct tl_board view, *board = &tl_board;
    PyObject *path = NULL, *list;
    uint32_t number, high;
    int error;
    (void)module;
    if (arg != Py_None) {
        if (!PyUnicode_FSConverter(arg, &path))
            return NULL;
        error = tl_board_view(PyBytes_AS_STRING(path), &view);
        Py_DECREF(path);
        if (error != 0)
            return os_error(error);
        board = &view;
    }
    list = PyList_New(0);
    high = atomic_load(&board->head->high);
    for (number = 1; list != NULL && number < high && number < TL_BOARD_RECORDS; number++) {
        PyObject *record = record_dict(board, number);
        if (record == NULL ? PyErr_Occurred() != NULL : PyList_Append(list, record) < 0)
            Py_CLEAR(list);
        Py_XDECREF(record);
    }
    if (arg != Py_None)
        tl_board_close(&view);
    return list;
}

static PyObject *board_record(PyObject *module, PyObject *arg)
{
    unsigned long number = PyLong_AsUnsignedLong(arg);
    PyObject *record;
    (void)module;
    if (PyErr_Occurred())
        return NULL;
    if (number == 0 || number >= atomic_load(&tl_board.head->high)) {
        PyErr_SetString(PyExc_IndexError, "no such record");
        return NULL;
    }
    record = record_dict(&tl_board, (uint32_t)number);
    if (record == NULL && !PyErr_Occurred())
        Py_RETURN_NONE;
    return record;
}

static PyObject *board_sweep(PyObject *module, PyObject *Py_UNUSED(ignored))
{
    (void)module;
    return PyLong_FromUnsignedLong(tl_board_sweep());
}

static PyObject *process_start(PyObject *module, PyObject *arg)
{
    unsigned long pid = PyLong_AsUnsignedLong(arg);
    (void)module;
    return PyErr_Occurred() ? NULL : PyLong_FromUnsignedLongLong(os_process_start((uint32_t)pid));
}

static PyObject *thread_token(PyObject *module, PyObject *Py_UNUSED(ignored))
{
    struct tl_self *me = core_self();
    (void)module;
    return me == NULL ? NULL : PyLong_FromUnsignedLongLong(me->token);
}

static PyObject *token_alive(PyObject *module, PyObject *arg)
{
    unsigned long long token = PyLong_AsUnsignedLongLong(arg);
    (void)module;
    return PyErr_Occurred() ? NULL : PyBool_FromLong(tl_token_alive(token));
}

static PyObject *thread_name(PyObject *module, PyObject *arg)
{
    struct tl_self *me = core_self();
    char text[TL_NAME_SIZE];
    (void)module;
    if (me == NULL)
        return NULL;
    if (!PyUnicode_Check(arg)) {
        PyErr_SetString(PyExc_TypeError, "a name is a str");
        return NULL;
    }
    core_copy_str(arg, text, sizeof text);
    tl_text_store(tl_board.cold[me->records[0]].name, TL_NAME_SIZE, text);
    atomic_store(&tl_board.cold[me->records[0]].ident, (uint64_t)PyThread_get_thread_ident());
    Py_RETURN_NONE;
}

/* interrupt(ident, tid, exception class) -> whether there is such a thread. */
static PyObject *interrupt(PyObject *module, PyObject *args)
{
    unsigned long ident;
    unsigned int tid;
    PyObject *type;
    uint32_t number, high, best = 0, state = 0;
    uint64_t ticket = 0;
    (void)module;
    if (!PyArg_ParseTuple(args, "kIO:interrupt", &ident, &tid, &type))
        return NULL;
    /* SYNC POINT: interrupt */
    if (PyThreadState_SetAsyncExc(ident, type) == 0)
        Py_RETURN_FALSE;
    high = atomic_load(&tl_board.head->high);
    for (number = 1; number < high; number++) { /* its innermost wait, if it waits */
        struct tl_hot *hot = &tl_board.hot[number];
        uint32_t now = atomic_load(&hot->state);
        if (atomic_load(&hot->pid) != tl_process.pid || TL_PHASE_OF(now) != TL_WAITING ||
            atomic_load(&tl_board.cold[number].tid) != tid || atomic_load(&hot->ticket) < ticket)
            continue;
        best = number;
        state = now;
        ticket = atomic_load(&hot->ticket);
    }
    if (best != 0 && atomic_compare_exchange_strong(&tl_board.hot[best].state, &state, (state & ~7u) | TL_INTERRUPTED))
        tl_poke(best);
    Py_RETURN_TRUE;
}

static PyObject *deadlock_mode(PyObject *module, PyObject *arg)
{
    long mode = PyLong_AsLong(arg);
    (void)module;
    if (PyErr_Occurred())
        return NULL;
    if (mode < DEADLOCK_OFF || mode > DEADLOCK_RAISE) {
        PyErr_SetString(PyExc_ValueError, "0, 1 or 2");
        return NULL;
    }
    atomic_store(&core_deadlock_mode, (int)mode);
    Py_RETURN_NONE;
}

PyMethodDef core_board_methods[] = {
    {"board_open", board_open, METH_O, NULL},
    {"board_fd", board_fd, METH_NOARGS, NULL},
    {"board_read", board_read, METH_O, NULL},
    {"board_record", board_record, METH_O, NULL},
    {"board_sweep", board_sweep, METH_NOARGS, NULL},
    {"process_start", process_start, METH_O, NULL},
    {"thread_token", thread_token, METH_NOARGS, NULL},
    {"token_alive", token_alive, METH_O, NULL},
    {"thread_name", thread_name, METH_O, NULL},
    {"interrupt", interrupt, METH_VARARGS, NULL},
    {"deadlock_mode", deadlock_mode, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};
