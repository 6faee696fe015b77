/* Port: the worker's end of its lane, and the loop for tasks that are plain.
 *
 * pool/worker.py is the readable description of that loop, and does all that is not plain: functions that arrive,
 * measuring, what can't be loaded or pickled.
 */
#include "python/recording.h"
#include "python/title.h"
#include "values/items.h"
#include "values/payload.h"
#include "tasks/run.h"
#include "transport/frames.h"
#include "transport/latch.h"
#include "transport/transport.h"
#include "system/points.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

#define LINGER_NS 10000u                  /* how long a result waits for the thread that has sent the task */
#define LINGER_LEAST 2500u
#define FEW 8             /* arguments that need no tuple */
#define CLOCK_ITEMS 16    /* items of a run between two looks at the clock, at most */
#define SLICE_NS ((int64_t)500 * 1000000) /* how often a sleeper looks for its parent, and for signals that came too early */

struct port_object {
    PyObject_HEAD
    struct lane lane;
    PyObject *store; /* owned */
    struct tl_cold *cold; /* the main thread's record: what it runs */
    struct titled titled;
    int event; /* where the parent is told; not ours to close */
    uint32_t parent, pid; /* who has made this process, and which it is */
    uint32_t spin, waits;
    bool untold;        /* a result is in the lane, and the parent may have to be told.  Of the main thread alone, as... */
    uint32_t patience;  /* ... how many ns to put that off */
    uint32_t untolds;
    latch sending; /* guards lane.write: threads of a task's may send too.  A leaf */
    struct assembly parts;
    _Atomic bool reminded; /* is `ended` to be called after the task that runs? */
};

/* What the loop asks of Python. */
struct helpers {
    struct core_state *state;
    PyObject *functions;                              /* a dict: id -> the function, or its pickle */
    PyObject *pack, *failed, *unloadable, *enter, *leave, *ended, *load;
    int keep_exits;                                   /* is SystemExit an exception like any other? */
    PyObject *context;                                /* owned: where plain tasks run; NULL: to be asked for */
    bool inside;                                      /* is the thread in that one?  Between the items of a run alone */
    PyObject *fn;                                     /* borrowed from the dict: that of the last task */
    uint64_t id;
    PyObject *variables;                              /* owned: the context of the run's items; NULL: that above */
    bool constant;                                    /* may they all have that one? */
};

static void port_dealloc(PyObject *op)
{
    struct port_object *self = (struct port_object *)op;
    PyTypeObject *type = Py_TYPE(op);
    lane_close(&self->lane);
    Py_XDECREF(self->store);
    Py_XDECREF(self->titled.name);
    Py_XDECREF(self->parts.bytes);
    PyObject_Free(op);
    Py_DECREF(type);
}

static PyObject *port_make(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    struct core_state *state = PyType_GetModuleState(type);
    struct port_object *self;
    struct tl_self *me = core_self();
    PyObject *store;
    int fd, event, error;
    if (me == NULL)
        return NULL;
    if (!PyArg_ParseTuple(args, "iiO!:Port", &fd, &event, state->store_type, &store))
        return NULL;
    if (kwargs != NULL && PyDict_GET_SIZE(kwargs) > 0) {
        PyErr_SetString(PyExc_TypeError, "Port() takes no keywords");
        return NULL;
    }
    self = PyObject_New(struct port_object, type);
    if (self == NULL)
        return NULL;
    memset((char *)self + sizeof(PyObject), 0, sizeof *self - sizeof(PyObject));
    self->event = event;
    self->cold = &tl_board.cold[me->records[0]];
    self->store = Py_NewRef(store);
    self->parent = os_parent_id();
    self->pid = os_process_id();
    self->spin = SPIN_NS;
    self->patience = LINGER_NS;
    error = lane_open(&self->lane, fd);
    if (error == 0) {
        atomic_store(&self->lane.page->token, tl_process_token());
        return (PyObject *)self;
    }
    Py_DECREF(self);
    errno = error;
    return PyErr_SetFromErrno(PyExc_OSError);
}

/* -- waiting ----------------------------------------------------------------------------------------------------------- */

static bool orphaned(struct port_object *self) { return os_parent_id() != self->parent; }

/* Look for a moment before going to sleep, as long as that pays. */
static bool spin(struct port_object *self)
{
    uint32_t budget = self->spin;
    uint64_t until;
    bool now = false;
    int i;
    if (!tl_process.several || !lane_apart(&self->lane.page->parent_cpu))
        return false;
    if ((++self->waits & 31) == 0)
        budget = SPIN_NS;
    until = os_now() + budget;
    do {
        for (i = 0; i < 16 && !now; i++) {
            os_relax();
            now = lane_has(&self->lane.read);
        }
    } while (!now && os_now() < until);
    self->spin = lane_spin_next(budget, now);
    return now;
}

/* Wake who sleeps, as lane_publish() says.  0 or errno. */
static int wake(struct port_object *self, uint32_t asleep)
{
    if (asleep > LANE_ASLEEP)
        os_wake(&self->lane.write.ring->asleep, INT_MAX);
    return asleep == LANE_ASLEEP ? os_event_signal(self->event) : 0;
}

/* The same; 0, or -1 with an exception. */
static int tell(struct port_object *self, uint32_t asleep)
{
    int error = wake(self, asleep);
    if (error == 0)
        return 0;
    errno = error; /* a task has closed it */
    PyErr_SetFromErrno(PyExc_OSError);
    return -1;
}

/* Has somebody come to look for what was published, or taken it? */
static bool looked_for(struct port_object *self)
{
    struct lane_ring *ring = self->lane.write.ring;
    return atomic_load(&ring->asleep) != LANE_ASLEEP ||
           atomic_load(&ring->head) == atomic_load_explicit(&ring->tail, memory_order_relaxed);
}

/* A result that was published has not been told of.  The thread that has sent the task may be about to look for it: then
 * nobody has to be woken.  It gets a moment, as long as that pays.  0, or -1 with an exception. */
static int tell_late(struct port_object *self)
{
    struct lane_ring *ring = self->lane.write.ring;
    uint32_t budget = self->patience;
    bool looked;
    if (!self->untold)
        return 0;
    self->untold = false;
    looked = looked_for(self);
    if ((++self->untolds & 31) == 0)
        budget = LINGER_NS;
    if (!looked && !lane_apart(&self->lane.page->parent_cpu)) {
        Py_BEGIN_ALLOW_THREADS
        os_yield(); /* it can't come while this runs */
        looked = looked_for(self);
        Py_END_ALLOW_THREADS
    } else if (!looked) {
        uint64_t until = os_now() + budget;
        int i;
        Py_BEGIN_ALLOW_THREADS
        do {
            for (i = 0; i < 16 && !looked; i++) {
                os_relax();
                looked = looked_for(self);
            }
        } while (!looked && !lane_has(&self->lane.read) && os_now() < until);
        Py_END_ALLOW_THREADS
    }
    self->patience = looked ? LINGER_NS : budget / 2 < LINGER_LEAST ? LINGER_LEAST : budget / 2;
    /* SYNC POINT: record, the second half: the tail was stored before.  What is taken nobody has to be told of. */
    return atomic_load(&ring->head) == atomic_load(&ring->tail) ? 0 : tell(self, lane_rouse(&self->lane.write));
}

static int give_room(struct port_object *self) { return lane_give_room(&self->lane.read) ? tell(self, LANE_ASLEEP) : 0; }

/* Sleep until something has come: 1; 0 if the parent is gone; -1 with an exception, from a signal's handler. */
static int wait_for_tasks(struct port_object *self)
{
    struct lane_end *end = &self->lane.read;
    bool first = true;
    for (;;) {
        enum os_wake why = OS_WOKEN;
        if (tell_late(self) < 0)
            return -1;
        if (PyErr_CheckSignals() < 0)
            return -1;
        if (give_room(self) < 0)
            return -1;
        if (lane_has(end))
            return 1;
        Py_BEGIN_ALLOW_THREADS
        if (!(first && spin(self)) && lane_rest(end)) {
            TL_POINT("port.resting");
            why = os_sleep(&end->ring->asleep, 1, SLICE_NS);
            atomic_store(&end->ring->asleep, 0);
        }
        Py_END_ALLOW_THREADS
        first = false;
        if (why != OS_WOKEN && orphaned(self))
            return 0;
    }
}

/* The same for room. */
static int wait_for_room(struct port_object *self, uint32_t length)
{
    struct lane_end *end = &self->lane.write;
    if (tell(self, lane_publish(end)) < 0)
        return -1;
    while (lane_starve(end, length)) {
        enum os_wake why;
        Py_BEGIN_ALLOW_THREADS
        why = os_sleep(&end->ring->starved, 1, SLICE_NS);
        Py_END_ALLOW_THREADS
        /* No signal handler runs here: it might want to send something itself.  The parent makes room, or is gone. */
        if (why != OS_WOKEN && orphaned(self)) {
            PyErr_SetString(PyExc_BrokenPipeError, "the program is gone");
            return -1;
        }
    }
    return 0;
}

/* -- sending ----------------------------------------------------------------------------------------------------------- */

static int write_frame(struct port_object *self, const struct lane_record *record, const char *payload, size_t length,
                       bool soon)
{
    size_t progress = 0;
    bool within = (record->flags & LANE_OF_RUN) && record->kind == LANE_RETURNED && length <= LANE_INLINE_MOST &&
                  !payload_is_pickle(payload, (Py_ssize_t)length);
    while (within ? !lane_put_inline(&self->lane.write, record->kind, record->flags, record->seq, record->a, payload,
                                     (uint32_t)length)
                  : !lane_put_frame(&self->lane.write, record, payload, length, &progress))
        if (wait_for_room(self, length < LANE_PART ? (uint32_t)length : LANE_PART) < 0)
            return -1;
    TL_POINT("port.result.written");
    if (soon && tl_process.several)
        self->untold |= lane_show(&self->lane.write);
    else if (tell(self, lane_publish(&self->lane.write)) < 0)
        return -1;
    TL_POINT("port.result.published");
    return 0;
}

/* 0, or -1 with an exception: BrokenPipeError when the parent is gone, OSError when it can't be told.  With `soon`, which is
 * for the main thread, the parent is told by tell_late(). */
static int send_frame_soon(struct port_object *self, const struct lane_record *record, const char *payload, size_t length,
                           bool soon)
{
    int rc;
    if (tl_process.pid != self->pid) { /* a task has forked, and both come back from it: only one is the worker */
        PyErr_SetString(PyExc_BrokenPipeError, "this process is a fork of a worker");
        return -1;
    }
    if ((record->kind == LANE_RETURNED || record->kind == LANE_RAISED) && record->seq == self->lane.page->current)
        tl_task_over(self->cold);
    latch_enter(&self->sending);
    rc = write_frame(self, record, payload, length, soon);
    latch_leave(&self->sending);
    return rc;
}

static int send_frame(struct port_object *self, const struct lane_record *record, const char *payload, size_t length)
{
    return send_frame_soon(self, record, payload, length, false);
}

/* The same for a payload as an object: bytes, or a parcel, which then is the receiver's. */
static int send_object(struct port_object *self, struct core_state *state, struct lane_record *record, PyObject *payload)
{
    struct store_place place;
    int rc;
    if (PyBytes_Check(payload))
        return send_frame(self, record, PyBytes_AS_STRING(payload), (size_t)PyBytes_GET_SIZE(payload));
    if (!store_is_parcel(state, payload)) {
        PyErr_SetString(PyExc_TypeError, "a payload is bytes, or lies in the store");
        return -1;
    }
    record->flags = LANE_IN_STORE;
    place = store_place_of(payload);
    rc = send_frame(self, record, (const char *)&place, sizeof place);
    if (rc == 0)
        store_sent(payload);
    return rc;
}

static PyObject *port_send(PyObject *op, PyObject *args)
{
    struct lane_record record = {0};
    unsigned char kind;
    unsigned long long seq, a, b;
    PyObject *payload;
    int rc;
    if (!PyArg_ParseTuple(args, "bKKKO:send", &kind, &seq, &a, &b, &payload))
        return NULL;
    record.kind = kind;
    record.seq = seq;
    record.a = a;
    record.b = b;
    rc = send_object((struct port_object *)op, core_state_of(op), &record, payload);
    if (rc < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *port_remind(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    atomic_store_explicit(&((struct port_object *)op)->reminded, true, memory_order_relaxed);
    Py_RETURN_NONE;
}

/* For whoever asks what this process is doing. */
static void running(struct port_object *self, uint64_t seq)
{
    tl_task_now(self->cold, seq, atomic_load_explicit(&self->lane.page->since, memory_order_relaxed));
}

static PyObject *port_start(PyObject *op, PyObject *arg)
{
    struct port_object *self = (struct port_object *)op;
    unsigned long long seq = PyLong_AsUnsignedLongLong(arg);
    if (PyErr_Occurred())
        return NULL;
    lane_here(&self->lane);
    if (!lane_start(&self->lane, seq, os_now()))
        Py_RETURN_FALSE;
    running(self, seq);
    Py_RETURN_TRUE;
}

static PyObject *port_title(PyObject *op, PyObject *fn)
{
    struct port_object *self = (struct port_object *)op;
    core_task_title(self->cold, &self->titled, fn);
    Py_RETURN_NONE;
}

static PyObject *port_called(PyObject *op, PyObject *args)
{
    struct lane_page *page = ((struct port_object *)op)->lane.page;
    unsigned long long now, cpu, queued;
    if (!PyArg_ParseTuple(args, "KKK:called", &now, &cpu, &queued))
        return NULL;
    atomic_store(&page->cpu, cpu);
    atomic_store(&page->queued, queued);
    atomic_store(&page->called, now);
    Py_RETURN_NONE;
}

static PyObject *port_based(PyObject *op, PyObject *arg)
{
    unsigned long long bytes = PyLong_AsUnsignedLongLong(arg);
    if (PyErr_Occurred())
        return NULL;
    atomic_store(&((struct port_object *)op)->lane.page->base, bytes);
    Py_RETURN_NONE;
}

/* -- running ----------------------------------------------------------------------------------------------------------- */

/* The exception that is set, with its traceback, and no longer set. */
static PyObject *caught(void)
{
#if PY_VERSION_HEX >= 0x030c0000
    return PyErr_GetRaisedException();
#else
    PyObject *kind, *error, *traceback;
    PyErr_Fetch(&kind, &error, &traceback);
    PyErr_NormalizeException(&kind, &error, &traceback);
    if (traceback != NULL)
        PyException_SetTraceback(error, traceback);
    Py_XDECREF(kind);
    Py_XDECREF(traceback);
    return error;
#endif
}

/* Call a helper with what was raised: bytes that tell the parent. */
static PyObject *told(PyObject *helper, PyObject *error)
{
    PyObject *data = error == NULL ? NULL : PyObject_CallOneArg(helper, error);
    Py_XDECREF(error);
    return data;
}

/* The function of a task, if it is here and loaded; borrowed. NULL: it is Python's affair. */
static PyObject *function_of(struct helpers *helpers, uint64_t id)
{
    PyObject *key, *fn;
    if (helpers->fn != NULL && helpers->id == id)
        return helpers->fn;
    key = PyLong_FromUnsignedLongLong(id);
    fn = key == NULL ? NULL : PyDict_GetItemWithError(helpers->functions, key);
    Py_XDECREF(key);
    if (fn == NULL || PyBytes_Check(fn) || !PyCallable_Check(fn))
        return NULL;
    helpers->fn = fn;
    helpers->id = id;
    return fn;
}

/* What is small, or was large and came in parts. */
static PyObject *arguments_in(struct core_state *state, const char *payload, Py_ssize_t length)
{
    PyObject *bytes, *value;
    if (!payload_is_pickle(payload, length))
        return codec_decode(payload, (size_t)length);
    bytes = PyBytes_FromStringAndSize(payload, length);
    value = bytes == NULL ? NULL : core_payload_loads(state, bytes);
    Py_XDECREF(bytes);
    return value;
}

static PyObject *arguments_of(struct port_object *self, struct core_state *state, const struct lane_record *task,
                              const char *payload, Py_ssize_t length)
{
    PyObject *parcel, *value;
    if (!(task->flags & LANE_IN_STORE))
        return arguments_in(state, payload, length);
    parcel = lane_parcel(state, self->store, task, payload, length);
    value = parcel == NULL ? NULL : store_load(state, parcel);
    Py_XDECREF(parcel);
    return value;
}

/* What a function is called with. */
struct arguments {
    PyObject *whole;           /* owned: a tuple, or a list of a tuple and a dict; NULL: the ones below */
    PyObject *few[FEW + 1];    /* owned from 1 on; the first place is the callee's to use */
    Py_ssize_t count;          /* of few; -1: there are none, and an exception is set */
};

static void set_whole(struct arguments *arguments, PyObject *whole)
{
    arguments->whole = whole;
    arguments->count = whole == NULL ? -1 : 0;
}

static void drop_arguments(struct arguments *arguments)
{
    Py_CLEAR(arguments->whole);
    while (arguments->count > 0)
        Py_DECREF(arguments->few[arguments->count--]);
    arguments->count = -1;
}

/* Positional ones need no tuple. */
static void load_arguments(struct port_object *self, struct core_state *state, const struct lane_record *task,
                           const char *payload, Py_ssize_t length, struct arguments *arguments)
{
    arguments->whole = NULL;
    arguments->count = CODEC_OTHER;
    if (!(task->flags & LANE_IN_STORE))
        arguments->count = codec_decode_tuple(payload, (size_t)length, arguments->few + 1, FEW);
    if (arguments->count == CODEC_OTHER)
        set_whole(arguments, arguments_of(self, state, task, payload, length));
}

/* The same of one item of a run. */
static void load_item(struct core_state *state, bool one, const char *payload, Py_ssize_t length, struct arguments *arguments)
{
    arguments->whole = NULL;
    if (one) {
        arguments->few[1] = arguments_in(state, payload, length);
        arguments->count = arguments->few[1] == NULL ? -1 : 1;
        return;
    }
    arguments->count = codec_decode_tuple(payload, (size_t)length, arguments->few + 1, FEW);
    if (arguments->count == CODEC_OTHER)
        set_whole(arguments, arguments_in(state, payload, length));
}

/* A bare tuple is a call without keywords, a list of two is one with. */
static PyObject *call(PyObject *fn, struct arguments *arguments)
{
    PyObject *whole = arguments->whole;
    if (whole == NULL)
        return PyObject_Vectorcall(fn, arguments->few + 1, (size_t)arguments->count | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
    if (PyTuple_CheckExact(whole))
        return PyObject_Call(fn, whole, NULL);
    if (PyList_CheckExact(whole) && PyList_GET_SIZE(whole) == 2 && PyTuple_CheckExact(PyList_GET_ITEM(whole, 0)) &&
        PyDict_CheckExact(PyList_GET_ITEM(whole, 1)))
        return PyObject_Call(fn, PyList_GET_ITEM(whole, 0), PyList_GET_ITEM(whole, 1));
    PyErr_SetString(PyExc_TypeError, "the arguments are damaged");
    return NULL;
}

/* The same in a context without the traces of other tasks; see pool/contexts.py. */
static PyObject *call_with_variables(struct helpers *helpers, PyObject *fn, struct arguments *arguments)
{
    PyObject *value, *context = PyContext_Copy(helpers->variables);
    if (context == NULL || PyContext_Enter(context) < 0) {
        Py_XDECREF(context);
        return NULL;
    }
    value = call(fn, arguments);
    if (PyContext_Exit(context) < 0)
        Py_CLEAR(value);
    Py_DECREF(context);
    return value;
}

/* Leave the context of plain tasks, where a run has stayed in it.  Keeps an exception that is set.  0, or -1 with another
 * one. */
static int step_out(struct helpers *helpers)
{
    PyObject *kind, *error, *traceback;
    int rc;
    if (!helpers->inside)
        return 0;
    helpers->inside = false;
    PyErr_Fetch(&kind, &error, &traceback);
    rc = PyContext_Exit(helpers->context);
    if (rc == 0) {
        PyErr_Restore(kind, error, traceback);
    } else {
        Py_XDECREF(kind);
        Py_XDECREF(error);
        Py_XDECREF(traceback);
    }
    return rc;
}

/* With `stay`, the next item of a run finds itself in the context, if this one has left nothing there. */
static PyObject *call_inside(struct helpers *helpers, PyObject *fn, struct arguments *arguments, bool stay)
{
    PyObject *value, *context = helpers->context;
    bool touched;
    if (helpers->variables != NULL)
        return step_out(helpers) < 0 ? NULL : call_with_variables(helpers, fn, arguments);
    if (context == NULL)
        context = helpers->context = PyObject_CallOneArg(helpers->enter, Py_None);
    if (context == NULL || (!helpers->inside && PyContext_Enter(context) < 0))
        return NULL;
    helpers->inside = true;
    value = call(fn, arguments);
    touched = PyObject_Size(context) != 0;
    if (stay && !touched && value != NULL)
        return value;
    if (step_out(helpers) < 0)
        Py_CLEAR(value);
    if (touched) {
        PyObject *kind, *error, *traceback, *left;
        PyErr_Fetch(&kind, &error, &traceback);
        left = PyObject_CallOneArg(helpers->leave, context);
        Py_CLEAR(helpers->context);
        if (left == NULL)
            Py_CLEAR(value);
        else
            PyErr_Restore(kind, error, traceback);
        Py_XDECREF(left);
    }
    return value;
}

/* Somebody has asked to be called between the task's end and its result. */
static void tell_ended(struct port_object *self, struct helpers *helpers)
{
    PyObject *kind, *error, *traceback, *done;
    atomic_store_explicit(&self->reminded, false, memory_order_relaxed);
    PyErr_Fetch(&kind, &error, &traceback);
    done = PyObject_CallNoArgs(helpers->ended);
    if (done == NULL)
        PyErr_WriteUnraisable(helpers->ended);
    Py_XDECREF(done);
    PyErr_Restore(kind, error, traceback);
}

/* When what runs has begun. */
struct timing {
    uint64_t start; /* of an item of a run: the last look at the clock before it */
    /* Of items of a run.  A look at the clock costs as much as a short call: it is looked at when that may matter, and what has
     * passed since then is told with that item. */
    bool later, last; /* last: of this run */
    uint32_t unseen;  /* items since then */
    uint64_t tick;    /* the coarse clock, then */
};

static void look_at_clock(struct timing *timing, struct lane_record *ending)
{
    uint64_t tick = os_lately(), now;
    if (tick == timing->tick && ++timing->unseen < CLOCK_ITEMS && !timing->last)
        return;
    now = os_now();
    ending->a = now - timing->start;
    timing->start = now;
    timing->tick = tick;
    timing->unseen = 0;
}

/* Call it, and send how that has ended.  Takes the arguments; without any, and with an exception: they can't be loaded, which
 * `helper` tells, or the function can't, if that is NULL.  0, or -1 with an exception that ends the worker. */
static int call_and_send(struct port_object *self, struct helpers *helpers, PyObject *fn, struct arguments *arguments,
                         PyObject *helper, struct lane_record *ending, struct timing *timing, bool direct)
{
    PyObject *value = NULL, *data = NULL;
    char small[CODEC_ROOM];
    Py_ssize_t size = -1;
    struct tl_span span = {0, 0};
    uint64_t recording;
    int rc;
    if (arguments->count >= 0) {
        helper = helpers->failed;
        recording = tl_trace_on();
        if (__builtin_expect(recording != 0, 0))
            span = core_trace_task(helpers->state, recording, fn, ending->seq, -1, atomic_load(&self->lane.page->token));
        value = call_inside(helpers, fn, arguments, timing->later);
        if (timing->later)
            look_at_clock(timing, ending);
        else
            ending->a = os_now() - timing->start;
        core_trace_over(span, value == NULL);
        drop_arguments(arguments);
    }
    if (value != NULL) {
        size = codec_encode(value, small, sizeof small);
        if (size < 0)
            data = step_out(helpers) < 0 ? NULL : PyObject_CallFunctionObjArgs(helpers->pack, fn, value, NULL);
        Py_DECREF(value);
    }
    if (atomic_load_explicit(&self->reminded, memory_order_relaxed)) {
        if (step_out(helpers) < 0)
            return -1;
        tell_ended(self, helpers);
    }
    if (size < 0 && data == NULL) {
        if (step_out(helpers) < 0)
            return -1;
        /* It asks for the end of this process, and gets it. */
        if (PyErr_ExceptionMatches(PyExc_SystemExit) && (helper != helpers->failed || !helpers->keep_exits))
            return -1;
        ending->kind = LANE_RAISED;
        data = told(helper == NULL ? helpers->failed : helper, caught());
        if (data == NULL)
            return -1;
    }
    if (data == NULL)
        return send_frame_soon(self, ending, small, (size_t)size, direct);
    rc = send_object(self, helpers->state, ending, data);
    Py_DECREF(data);
    return rc;
}

/* Run what is plain. 0, or -1 with an exception that ends the worker. */
static int run(struct port_object *self, struct helpers *helpers, PyObject *fn, const struct lane_record *task,
               const char *payload, Py_ssize_t length)
{
    struct lane_record ending = {.kind = LANE_RETURNED, .seq = task->seq};
    struct arguments arguments;
    struct timing timing = {.start = os_now()};
    int rc;

    lane_here(&self->lane);
    if (!lane_start(&self->lane, task->seq, timing.start)) {
        ending.kind = LANE_SKIPPED;
        lane_take(&self->lane.read, task);
        return send_frame(self, &ending, NULL, 0);
    }
    core_task_title(self->cold, &self->titled, fn);
    running(self, task->seq);
    load_arguments(self, helpers->state, task, payload, length, &arguments);
    lane_take(&self->lane.read, task);
    if (arguments.count >= 0 && give_room(self) < 0) {
        drop_arguments(&arguments);
        return -1;
    }
    Py_INCREF(fn);
    rc = call_and_send(self, helpers, fn, &arguments, helpers->unloadable, &ending, &timing,
                       (task->flags & LANE_DIRECT) != 0);
    Py_DECREF(fn);
    return rc;
}

/* The function of a run, if need be loaded now; a new reference, or NULL with an exception. */
static PyObject *loaded(struct helpers *helpers, uint64_t id)
{
    PyObject *fn = function_of(helpers, id), *number;
    if (fn != NULL)
        return Py_NewRef(fn);
    if (PyErr_Occurred())
        return NULL;
    number = PyLong_FromUnsignedLongLong(id);
    fn = number == NULL ? NULL : PyObject_CallOneArg(helpers->load, number);
    Py_XDECREF(number);
    return fn;
}

/* Have the items of a run see these context variables (0: none).  0, or -1 with an exception. */
static int surroundings(struct helpers *helpers, uint64_t id)
{
    PyObject *number, *make, *submitted, *constant = NULL;
    if (id == 0 || helpers->variables != NULL)
        return 0;
    number = PyLong_FromUnsignedLongLong(id);
    make = number == NULL ? NULL : PyObject_CallOneArg(helpers->load, number);
    submitted = make == NULL ? NULL : PyObject_CallNoArgs(make);
    if (submitted != NULL)
        helpers->variables = PyObject_CallOneArg(helpers->enter, submitted);
    if (helpers->variables != NULL && (constant = PyObject_GetAttrString(make, "constant")) == NULL)
        Py_CLEAR(helpers->variables);
    helpers->constant = constant == Py_True;
    Py_XDECREF(constant);
    Py_XDECREF(number);
    Py_XDECREF(make);
    Py_XDECREF(submitted);
    return helpers->variables == NULL ? -1 : 0;
}

/* The items of a run, one after the other, each of them as a task; up to one that is revoked.  0, or -1 with an exception
 * that ends the worker. */
static int run_items(struct port_object *self, struct helpers *helpers, const struct lane_record *task, const char *at,
                     const char *end)
{
    struct lane_record ending = {0};
    struct arguments arguments = {.whole = NULL, .count = -1};
    struct timing timing = {.start = os_now(), .later = true, .tick = os_lately()};
    const char *item;
    PyObject *fn, *titled = NULL; /* titled: only compared */
    bool one = (task->b & LANE_RUN_ONE) != 0;
    uint64_t i, count = task->b & (LANE_RUN_ONE - 1);
    size_t length;
    int rc;
    lane_here(&self->lane);
    for (i = 0; i < count; i++) {
        ending = (struct lane_record){.kind = LANE_RETURNED, .seq = task->seq + i,
                                      .flags = i == 0 ? LANE_OF_RUN | LANE_RUN_BEGINS : LANE_OF_RUN};
        timing.last = i + 1 == count;
        if (!items_next(&at, end, &item, &length)) {
            PyErr_SetString(PyExc_ValueError, "a lane is damaged");
            return -1;
        }
        if (!lane_start(&self->lane, ending.seq, timing.start)) {
            ending.kind = LANE_SKIPPED;
            ending.flags = 0;
            return send_frame(self, &ending, NULL, 0);
        }
        running(self, ending.seq);
        fn = surroundings(helpers, task->b >> LANE_RUN_VARIABLES) < 0 ? NULL : loaded(helpers, task->a);
        if (fn != NULL) {
            if (fn != titled)
                core_task_title(self->cold, &self->titled, fn);
            titled = fn;
            load_item(helpers->state, one, item, (Py_ssize_t)length, &arguments);
        }
        rc = call_and_send(self, helpers, fn, &arguments, fn == NULL ? NULL : helpers->unloadable, &ending, &timing, false);
        Py_XDECREF(fn);
        if (!helpers->constant)
            Py_CLEAR(helpers->variables); /* each item has values of its own */
        /* What is a function of Python's sees them itself. */
        if (rc < 0 || (timing.unseen == 0 && PyErr_CheckSignals() < 0))
            return -1;
    }
    return 0;
}

/* The same, with what it is made of out of the ring first: it may take long. */
static int run_run(struct port_object *self, struct helpers *helpers, const struct lane_record *task, const char *payload,
                   Py_ssize_t length)
{
    char *copy = PyMem_Malloc((size_t)length + 1);
    int rc;
    if (copy == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    memcpy(copy, payload, (size_t)length);
    lane_take(&self->lane.read, task);
    rc = give_room(self) < 0 ? -1 : run_items(self, helpers, task, copy, copy + length);
    if (step_out(helpers) < 0)
        rc = -1;
    Py_CLEAR(helpers->variables);
    PyMem_Free(copy);
    return rc;
}

/* -- the loop ---------------------------------------------------------------------------------------------------------- */

/* Until there is a frame for Python: it is returned. None: the parent is gone. */
static PyObject *serve(struct port_object *self, struct helpers *helpers)
{
    for (;;) {
        struct lane_record record;
        const char *payload;
        Py_ssize_t length = 0;
        PyObject *fn, *frame;
        int rc;
        switch (lane_next(&self->lane.read, &record, &payload)) {
        case LANE_EMPTY:
            rc = wait_for_tasks(self);
            if (rc < 0)
                return NULL;
            if (rc == 0)
                Py_RETURN_NONE;
            continue;
        case LANE_DAMAGED: PyErr_SetString(PyExc_ValueError, "a lane is damaged"); return NULL;
        case LANE_FOUND: break;
        }
        if (tell_late(self) < 0)
            return NULL;
        switch (lane_collect(&self->parts, &record, &payload, &length)) {
        case COLLECT_ERROR: return NULL;
        case COLLECT_PART:
            lane_take(&self->lane.read, &record);
            if (give_room(self) < 0)
                return NULL;
            continue;
        case COLLECT_FRAME: break;
        }
        if (record.kind == LANE_RUN) {
            rc = run_run(self, helpers, &record, payload, length);
            if (record.flags & LANE_IN_PARTS)
                Py_CLEAR(self->parts.bytes);
            if (rc < 0)
                return NULL;
            continue;
        }
        if (record.kind == LANE_TASK && record.b == 0 && (fn = function_of(helpers, record.a)) != NULL) {
            rc = run(self, helpers, fn, &record, payload, length);
            if (record.flags & LANE_IN_PARTS)
                Py_CLEAR(self->parts.bytes);
            if (rc < 0)
                return NULL;
            if (self->untold && !lane_has(&self->lane.read))
                continue; /* told, and signals seen, in wait_for_tasks() */
            if (PyErr_CheckSignals() < 0)
                return NULL;
            continue;
        }
        if (PyErr_Occurred())
            return NULL;
        frame = lane_frame(helpers->state, self->store, &record, payload, length);
        if (frame == NULL)
            return NULL;
        if (record.flags & LANE_IN_PARTS)
            Py_CLEAR(self->parts.bytes);
        lane_take(&self->lane.read, &record);
        if (give_room(self) < 0)
            Py_CLEAR(frame);
        return frame;
    }
}

static PyObject *port_serve(PyObject *op, PyObject *args)
{
    struct helpers helpers = {0};
    PyObject *frame;
    if (!PyArg_ParseTuple(args, "O!OOOOOOpO:serve", &PyDict_Type, &helpers.functions, &helpers.pack, &helpers.failed,
                          &helpers.unloadable, &helpers.enter, &helpers.leave, &helpers.ended, &helpers.keep_exits,
                          &helpers.load))
        return NULL;
    helpers.state = core_state_of(op);
    frame = serve((struct port_object *)op, &helpers);
    if (((struct port_object *)op)->untold) { /* it leaves by an exception; the parent hears of the result all the same */
        ((struct port_object *)op)->untold = false;
        (void)wake((struct port_object *)op, lane_rouse(&((struct port_object *)op)->lane.write));
    }
    Py_XDECREF(helpers.context);
    return frame;
}

PyDoc_STRVAR(port_doc,
"Port(descriptor, event, store)\n--\n\n"
"The worker's end of a lane; `event` is the eventfd by which the parent is told.  Any thread may send; the rest is for\n"
"its main thread.  OSError if the descriptor is no lane.");
PyDoc_STRVAR(serve_doc,
"serve($self, functions, pack, failed, unloadable, enter, leave, ended, keep_exits, load, /)\n--\n\n"
"Run plain tasks until there is a frame of another kind, and return that; None when the parent is gone.\n\n"
"A task is plain if its function (by id in `functions`) is loaded, and its last number is 0.  `pack(fn, value)` gives a\n"
"value as bytes, `failed(error)` and `unloadable(error)` an exception.  `enter(None)` gives the context to run it in;\n"
"`leave(context)` is called when it is not empty after that, and `ended()` if `remind` was called meanwhile.  SystemExit,\n"
"unless `keep_exits`, and what signal handlers raise between tasks, passes.  Runs are plain; `load(id)` gives the function\n"
"of one that is not loaded yet.");
PyDoc_STRVAR(remind_doc,
"remind($self, /)\n--\n\nHave `ended()` called after the task that runs, before its result is sent.  From any thread.");
PyDoc_STRVAR(port_send_doc,
"send($self, kind, seq, a, b, payload, /)\n--\n\n"
"Send a frame; waits for room.  BrokenPipeError when the parent is gone.");
PyDoc_STRVAR(start_doc, "start($self, seq, /)\n--\n\nPublish that this task starts; False if it was revoked.");
PyDoc_STRVAR(title_doc, "title($self, fn, /)\n--\n\nPublish what the task that started calls.");
PyDoc_STRVAR(called_doc,
"called($self, now, cpu, queued, /)\n--\n\n"
"What started is loaded, and now its function is called; see `Lane.calling`.");

PyDoc_STRVAR(based_doc,
"based($self, size, /)\n--\n\nWhat started had so many bytes of memory to begin with; see `Lane.look`.");

static PyMethodDef port_methods[] = {
    {"serve", port_serve, METH_VARARGS, serve_doc},
    {"send", port_send, METH_VARARGS, port_send_doc},
    {"start", port_start, METH_O, start_doc},
    {"remind", port_remind, METH_NOARGS, remind_doc},
    {"based", port_based, METH_O, based_doc},
    {"title", port_title, METH_O, title_doc},
    {"called", port_called, METH_VARARGS, called_doc},
    {NULL, NULL, 0, NULL},
};

static PyObject *port_token(PyObject *op, void *Py_UNUSED(closure))
{
    return PyLong_FromUnsignedLongLong(atomic_load(&((struct port_object *)op)->lane.page->token));
}

static PyGetSetDef port_getset[] = {
    {"token", port_token, NULL, "This process on the board.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot port_slots[] = {
    {Py_tp_doc, (void *)port_doc},
    {Py_tp_new, port_make},
    {Py_tp_dealloc, port_dealloc},
    {Py_tp_methods, port_methods},
    {Py_tp_getset, port_getset},
    {0, NULL},
};

static PyType_Spec port_spec = {
    .name = "treadle._native._core.Port",
    .basicsize = sizeof(struct port_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = port_slots,
};

int core_add_port(PyObject *module, struct core_state *state)
{
    state->port_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &port_spec, NULL);
    if (state->port_type == NULL)
        return -1;
    return PyModule_AddType(module, state->port_type);
}
