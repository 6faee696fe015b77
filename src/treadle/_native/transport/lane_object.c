/* Lane: the parent's end of a worker's lane. */
#include "transport/lane_object.h"
#include "python/recording.h"
#include "values/pack.h"
#include "values/payload.h"
#include "tasks/run.h"
#include "transport/frames.h"
#include "transport/latch.h"
#include "transport/transport.h"

#include <limits.h>
#include <string.h>

struct lane_object {
    PyObject_HEAD
    struct lane lane;
    PyObject *store;                /* owned */
    int fd;                         /* until the worker has it; -1 after that */
    _Atomic bool closed;
    latch sending;                  /* guards: lane.write and those up to `progress`.  A leaf */
    PyObject *function;             /* owned: the one that was introduced last, or NULL */
    PyObject *variables;            /* owned: the same for context variables, and for plain options */
    PyObject *options;
    uint64_t function_id, variables_flag;
    PyObject *pending;              /* a list of frames for which there was no room */
    Py_ssize_t first;               /* of them: those before it are written */
    size_t progress;                /* how far that one is written */
    latch receiving;                /* guards: lane.read and the next four.  A leaf */
    struct assembly parts;
    char *packing;                  /* results on their way from the lane into a Pack */
    size_t packing_room;
    bool damaged;
    int event;                      /* where the worker tells the parent; not ours to close, -1 once that was done.
                                     * Guarded by receiving */
    int reports;                    /* the pipe of the workers' reports, or -1; and who handles them has this lock */
    PyObject *hearing;              /* owned, or NULL */
    _Atomic bool plain;             /* may tasks be sent that nothing is added to? */
    _Atomic uint32_t claimant;      /* the number of the thread that waits for results itself; 0: none.  Changed under
                                     * receiving */
    uint32_t claims;                /* numbers given out so far; guarded by receiving */
    _Atomic uint32_t spin, waits;   /* how long it pays to look before sleeping; of the claimant */
    struct lane_record came;        /* between lane_read_value and lane_read_end */
    _Atomic uint64_t last; /* the number of the task, or item of a run, whose end was received last */
};

/* -- making and closing ------------------------------------------------------------------------------------------------ */

static void lane_dealloc(PyObject *op)
{
    struct lane_object *self = (struct lane_object *)op;
    PyTypeObject *type = Py_TYPE(op);
    lane_close(&self->lane);
    os_memory_close(self->fd);
    Py_XDECREF(self->store);
    Py_XDECREF(self->function);
    Py_XDECREF(self->variables);
    Py_XDECREF(self->options);
    Py_XDECREF(self->pending);
    Py_XDECREF(self->parts.bytes);
    Py_XDECREF(self->hearing);
    PyMem_RawFree(self->packing);
    PyObject_Free(op);
    Py_DECREF(type);
}

static PyObject *lane_make(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    struct core_state *state = PyType_GetModuleState(type);
    struct lane_object *self;
    PyObject *store;
    int event, error;
    if (!PyArg_ParseTuple(args, "O!i:Lane", state->store_type, &store, &event))
        return NULL;
    if (kwargs != NULL && PyDict_GET_SIZE(kwargs) > 0) {
        PyErr_SetString(PyExc_TypeError, "Lane() takes no keywords");
        return NULL;
    }
    self = PyObject_New(struct lane_object, type);
    if (self == NULL)
        return NULL;
    memset((char *)self + sizeof(PyObject), 0, sizeof *self - sizeof(PyObject));
    self->store = Py_NewRef(store);
    self->fd = -1;
    self->event = event;
    self->reports = -1;
    atomic_store(&self->spin, SPIN_NS);
    self->pending = PyList_New(0);
    if (self->pending == NULL) {
        Py_DECREF(self);
        return NULL;
    }
    error = lane_new(&self->lane, &self->fd);
    if (error != 0) {
        Py_DECREF(self);
        return core_failed(error);
    }
    return (PyObject *)self;
}

/* Who waits for results itself is to go the ordinary way.  With the lock `receiving`. */
static void evict(struct lane_object *self)
{
    uint32_t number = atomic_exchange(&self->claimant, 0);
    if (number != 0) {
        /* SYNC POINT: claim. No claim first; then, if it sleeps under its number, it is woken, and if it is about to, that
         * is not there any more. */
        atomic_compare_exchange_strong(&self->lane.read.ring->asleep, &number, LANE_AWAKE);
        os_wake(&self->lane.read.ring->asleep, INT_MAX);
    }
}

static PyObject *lane_sent(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    struct lane_object *self = (struct lane_object *)op;
    int fd = self->fd;
    self->fd = -1;
    os_memory_close(fd);
    Py_RETURN_NONE;
}

static PyObject *lane_end(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    struct lane_object *self = (struct lane_object *)op;
    latch_enter(&self->receiving);
    atomic_store(&self->closed, true);
    self->event = -1;
    evict(self);
    latch_leave(&self->receiving);
    return lane_sent(op, NULL);
}

static PyObject *lane_hear(PyObject *op, PyObject *args)
{
    struct lane_object *self = (struct lane_object *)op;
    PyObject *hearing, *old;
    int reports;
    if (!PyArg_ParseTuple(args, "iO:hear", &reports, &hearing))
        return NULL;
    latch_enter(&self->receiving);
    old = self->hearing;
    self->reports = reports;
    self->hearing = Py_NewRef(hearing);
    latch_leave(&self->receiving);
    Py_XDECREF(old);
    Py_RETURN_NONE;
}

/* -- sending ----------------------------------------------------------------------------------------------------------- */

/* Everything here with the lock `sending`. */

static void publish(struct lane_object *self)
{
    atomic_store_explicit(&self->lane.page->parent_cpu, os_cpu(), memory_order_relaxed);
    if (lane_publish(&self->lane.write))
        os_wake(&self->lane.write.ring->asleep, 1);
}

/* Write what waits for room.  0, or -1 with an exception. */
static int write_pending(struct lane_object *self, struct core_state *state)
{
    Py_ssize_t count = PyList_GET_SIZE(self->pending);
    while (self->first < count) {
        struct lane_record record = {0};
        unsigned char kind;
        unsigned long long seq, a, b;
        struct store_place place;
        const char *payload;
        Py_ssize_t length;
        PyObject *item;
        int may_take = 0;
        if (!PyArg_ParseTuple(PyList_GET_ITEM(self->pending, self->first), "bKKKO|p", &kind, &seq, &a, &b, &item,
                              &may_take))
            return -1;
        if (Py_TYPE(item) == state->parcel_type) {
            record.flags = may_take ? LANE_IN_STORE | LANE_MAY_TAKE : LANE_IN_STORE;
            place = store_place_of(item);
            payload = (const char *)&place;
            length = sizeof place;
        } else if (PyBytes_Check(item)) {
            payload = PyBytes_AS_STRING(item);
            length = PyBytes_GET_SIZE(item);
        } else {
            PyErr_SetString(PyExc_TypeError, "a payload is bytes, or lies in the store");
            return -1;
        }
        record.kind = kind;
        record.seq = seq;
        record.a = a;
        record.b = b;
        if (!lane_put_frame(&self->lane.write, &record, payload, (size_t)length, &self->progress)) {
            publish(self);
            if (lane_starve(&self->lane.write, length < LANE_PART ? (uint32_t)length : LANE_PART))
                return 0;
            continue;
        }
        self->progress = 0;
        /* It may be large, and what waits behind it may wait long. */
        if (PyList_SetItem(self->pending, self->first++, Py_NewRef(Py_None)) < 0)
            return -1;
    }
    if (count > 0) {
        self->first = 0;
        return PyList_SetSlice(self->pending, 0, count, NULL);
    }
    return 0;
}

static PyObject *lane_send(PyObject *op, PyObject *frames)
{
    struct lane_object *self = (struct lane_object *)op;
    PyObject *fast = PySequence_Fast(frames, "frames are a sequence");
    Py_ssize_t i;
    int rc = 0;
    if (fast == NULL)
        return NULL;
    latch_enter(&self->sending);
    for (i = 0; rc == 0 && !atomic_load(&self->closed) && i < PySequence_Fast_GET_SIZE(fast); i++)
        rc = PyList_Append(self->pending, PySequence_Fast_GET_ITEM(fast, i));
    if (rc == 0)
        rc = write_pending(self, core_state_of((PyObject *)self));
    publish(self);
    latch_leave(&self->sending);
    Py_DECREF(fast);
    if (rc < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *lane_flush(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    struct lane_object *self = (struct lane_object *)op;
    int rc = 0;
    latch_enter(&self->sending);
    if (PyList_GET_SIZE(self->pending) > 0 && !atomic_load(&self->closed)) {
        rc = write_pending(self, core_state_of((PyObject *)self));
        publish(self);
    }
    latch_leave(&self->sending);
    if (rc < 0)
        return NULL;
    Py_RETURN_NONE;
}

/* One task: 1 if it is on its way, 0 if its function must be introduced first, -1 with an exception. */
static int send_task(struct lane_object *self, struct core_state *state, PyObject *pair, uint64_t flag)
{
    struct lane_record record = {.kind = LANE_TASK, .a = self->function_id};
    struct task_object *task;
    struct call_object *call;
    PyObject *frame;
    size_t progress = 0;
    int rc;
    if (!PyTuple_Check(pair) || PyTuple_GET_SIZE(pair) != 2 || !core_is_task(state, PyTuple_GET_ITEM(pair, 1))) {
        PyErr_SetString(PyExc_TypeError, "a batch has pairs of a number and a task");
        return -1;
    }
    task = (struct task_object *)PyTuple_GET_ITEM(pair, 1);
    call = (struct call_object *)task->call;
    if (call->function != self->function ||
        (task->options != state->default_options && task->options != self->options) ||
        (call->variables != NULL && call->variables != Py_None && call->variables != self->variables))
        return 0;
    if (task->run) { /* always plain; `b` is how many it has */
        record.kind = LANE_RUN;
        record.b = (uint64_t)task->count | (task->one ? LANE_RUN_ONE : 0);
        if (call->variables != NULL && call->variables != Py_None)
            record.b |= (self->variables_flag >> LANE_VARIABLES) << LANE_RUN_VARIABLES;
    } else {
        record.b = flag | (call->variables != NULL && call->variables != Py_None ? self->variables_flag : 0);
    }
    record.seq = PyLong_AsUnsignedLongLong(PyTuple_GET_ITEM(pair, 0));
    if (record.seq == (uint64_t)-1 && PyErr_Occurred())
        return -1;
    if (PyBytes_Check(call->payload) && PyList_GET_SIZE(self->pending) == 0 && PyBytes_GET_SIZE(call->payload) <= LANE_PART &&
        lane_put_frame(&self->lane.write, &record, PyBytes_AS_STRING(call->payload),
                       (size_t)PyBytes_GET_SIZE(call->payload), &progress))
        return 1;
    /* With other options it may be tried again, and then needs its arguments as they are. */
    frame = Py_BuildValue("(iKKKOi)", (int)record.kind, (unsigned long long)record.seq, (unsigned long long)record.a,
                          (unsigned long long)record.b, call->payload, task->options == state->default_options);
    rc = frame == NULL || PyList_Append(self->pending, frame) < 0 || write_pending(self, core_state_of((PyObject *)self)) < 0 ? -1 : 1;
    Py_XDECREF(frame);
    return rc;
}

static void record_sent(struct lane_object *self, struct core_state *state, PyObject *pair, uint64_t recording)
{
    struct task_object *task = (struct task_object *)PyTuple_GET_ITEM(pair, 1);
    core_trace_sent(state, recording, PyLong_AsUnsignedLongLong(PyTuple_GET_ITEM(pair, 0)), core_trace_index(task->index),
                    atomic_load(&self->lane.page->token));
}

static PyObject *lane_send_tasks(PyObject *op, PyObject *args)
{
    struct lane_object *self = (struct lane_object *)op;
    struct core_state *state = core_state_of(op);
    PyObject *batch;
    Py_ssize_t at;
    unsigned long long flag;
    uint64_t recording = tl_trace_on();
    int rc = 1;
    if (!PyArg_ParseTuple(args, "O!nK:send_tasks", &PyList_Type, &batch, &at, &flag))
        return NULL;
    latch_enter(&self->sending);
    while (at < PyList_GET_SIZE(batch) && !atomic_load(&self->closed) &&
           (rc = send_task(self, state, PyList_GET_ITEM(batch, at), flag)) > 0) {
        if (__builtin_expect(recording != 0, 0))
            record_sent(self, state, PyList_GET_ITEM(batch, at), recording);
        at++;
    }
    publish(self);
    latch_leave(&self->sending);
    if (atomic_load(&self->closed))
        at = PyList_GET_SIZE(batch);
    return rc < 0 ? NULL : PyLong_FromSsize_t(at);
}

static PyObject *lane_introduce(PyObject *op, PyObject *args)
{
    struct lane_object *self = (struct lane_object *)op;
    PyObject *function, *variables, *options, *old[3];
    unsigned long long id, flag;
    size_t i;
    if (!PyArg_ParseTuple(args, "OKOKO:introduce", &function, &id, &variables, &flag, &options))
        return NULL;
    latch_enter(&self->sending);
    old[0] = self->function;
    old[1] = self->variables;
    old[2] = self->options;
    self->function = Py_NewRef(function);
    self->function_id = id;
    self->variables = Py_NewRef(variables);
    self->variables_flag = flag;
    self->options = Py_NewRef(options);
    latch_leave(&self->sending);
    for (i = 0; i < 3; i++)
        Py_XDECREF(old[i]);
    Py_RETURN_NONE;
}

/* -- receiving --------------------------------------------------------------------------------------------------------- */

static PyObject *payload_bytes(struct lane_object *self, const struct lane_record *record, const char *payload,
                               Py_ssize_t length)
{
    PyObject *bytes;
    if (!(record->flags & LANE_IN_PARTS))
        return PyBytes_FromStringAndSize(payload, length);
    bytes = self->parts.bytes;
    self->parts.bytes = NULL;
    return bytes;
}

/* (seq, kind, data, wall, cpu) */
static PyObject *result_of(struct lane_object *self, const struct lane_record *record, const char *payload,
                           Py_ssize_t length)
{
    bool returned = record->kind == LANE_RETURNED;
    PyObject *data, *result = PyTuple_New(5);
    if (result == NULL)
        return NULL;
    if (record->flags & LANE_IN_STORE) {
        data = lane_parcel(core_state_of((PyObject *)self), self->store, record, payload, length);
        if (data != NULL && !store_receive(data)) {
            Py_CLEAR(data);
            PyErr_SetString(PyExc_ValueError, "a lane is damaged");
        }
        PyTuple_SET_ITEM(result, 1, PyLong_FromLong(returned ? KIND_RETURNED_PACKED : KIND_RAISED_PACKED));
    } else if (returned && !payload_is_pickle(payload, length)) {
        data = codec_decode(payload, (size_t)length);
        PyTuple_SET_ITEM(result, 1, PyLong_FromLong(KIND_RETURNED));
    } else {
        data = payload_bytes(self, record, payload, length);
        PyTuple_SET_ITEM(result, 1, PyLong_FromLong(returned ? KIND_RETURNED_PACKED : KIND_RAISED_PACKED));
    }
    PyTuple_SET_ITEM(result, 0, PyLong_FromUnsignedLongLong(record->seq));
    PyTuple_SET_ITEM(result, 2, data);
    PyTuple_SET_ITEM(result, 3, PyLong_FromUnsignedLongLong(record->a));
    PyTuple_SET_ITEM(result, 4, PyLong_FromUnsignedLongLong(record->b));
    if (PyErr_Occurred())
        Py_CLEAR(result);
    return result;
}

static void give_room(struct lane_object *self)
{
    if (lane_give_room(&self->lane.read))
        os_wake(&self->lane.read.ring->starved, 1);
}

/* Plain results of one run that have come one after the other. */
struct part {
    PyObject *values; /* a list, owned; NULL: none so far, or they are packed */
    Py_ssize_t packed; /* how many of them lie in the lane's buffer `packing` */
    size_t used;       /* bytes there */
    uint64_t first, next, wall;
};

/* They are complete.  0, or -1 with an exception. */
static int end_part(struct lane_object *self, struct part *part, PyObject *results)
{
    PyObject *result, *bytes;
    int rc = -1;
    if (part->packed > 0) {
        bytes = PyBytes_FromStringAndSize(self->packing, (Py_ssize_t)part->used);
        part->values = bytes == NULL ? NULL : pack_make(core_state_of((PyObject *)self), bytes, 0, part->packed);
        Py_XDECREF(bytes);
        part->packed = 0;
        part->used = 0;
        if (part->values == NULL)
            return -1;
    }
    if (part->values == NULL)
        return 0;
    result = Py_BuildValue("(KiNKi)", (unsigned long long)part->first, KIND_PART, part->values,
                           (unsigned long long)part->wall, 0);
    part->values = NULL;
    if (result != NULL)
        rc = PyList_Append(results, result);
    Py_XDECREF(result);
    return rc;
}

/* One more that stays bytes.  False with an exception. */
static bool pack(struct lane_object *self, struct part *part, const char *payload, uint32_t length)
{
    uint16_t size = (uint16_t)length;
    size_t need = part->used + sizeof size + length, room = self->packing_room == 0 ? LANE_PART : self->packing_room;
    while (room < need)
        room *= 2;
    if (room != self->packing_room) {
        char *more = PyMem_RawRealloc(self->packing, room);
        if (more == NULL) {
            PyErr_NoMemory();
            return false;
        }
        self->packing = more;
        self->packing_room = room;
    }
    memcpy(self->packing + part->used, &size, sizeof size);
    memcpy(self->packing + part->used + sizeof size, payload, length);
    part->used = need;
    part->packed++;
    return true;
}

/* One more of them, if it is one.  1: it is not; 0, or -1 with an exception. */
static int receive_item(struct lane_object *self, const struct lane_record *record, const char *payload, struct part *part,
                        PyObject *results)
{
    PyObject *value;
    char within[LANE_INLINE_MOST];
    bool scalar, going = part->values != NULL || part->packed > 0;
    uint32_t length = record->length;
    int rc;
    if (record->kind != LANE_RETURNED || (record->flags & ~(LANE_RUN_BEGINS | LANE_INLINE)) != LANE_OF_RUN)
        return 1;
    if (record->flags & LANE_INLINE) {
        length = lane_inline(record, within);
        payload = within;
    }
    if (payload_is_pickle(payload, (Py_ssize_t)length))
        return 1;
    scalar = codec_is_scalar(payload, length);
    if (going && ((record->flags & LANE_RUN_BEGINS) || record->seq != part->next || (part->packed > 0 && !scalar))) {
        if (end_part(self, part, results) < 0)
            return -1;
        going = false;
    }
    if (!going) {
        part->first = part->next = record->seq;
        part->wall = 0;
    }
    if (part->values == NULL && scalar) {
        if (!pack(self, part, payload, length))
            return -1;
    } else {
        if (part->values == NULL && (part->values = PyList_New(0)) == NULL)
            return -1;
        value = codec_decode(payload, length);
        rc = value == NULL ? -1 : PyList_Append(part->values, value);
        Py_XDECREF(value);
        if (rc < 0)
            return -1;
    }
    part->next++;
    part->wall += record->a;
    atomic_store_explicit(&self->last, record->seq, memory_order_release);
    return 0;
}

/* One record: 0, or -1 with an exception. */
static int receive_one(struct lane_object *self, const struct lane_record *record, const char *payload,
                       struct part *part, PyObject *results, PyObject *frames)
{
    PyObject *item, *list;
    Py_ssize_t length = 0;
    int rc = receive_item(self, record, payload, part, results);
    if (rc <= 0)
        return rc;
    if (end_part(self, part, results) < 0)
        return -1;
    switch (lane_collect(&self->parts, record, &payload, &length)) {
    case COLLECT_ERROR: return -1;
    case COLLECT_PART: return 0;
    default: break;
    }
    if (record->kind == LANE_RETURNED || record->kind == LANE_RAISED) {
        list = results;
        item = result_of(self, record, payload, length);
    } else {
        list = frames;
        item = lane_frame(core_state_of((PyObject *)self), self->store, record, payload, length);
    }
    if (item == NULL)
        return -1;
    rc = PyList_Append(list, item);
    Py_DECREF(item);
    if (rc == 0 && list == results)
        atomic_store(&self->last, record->seq);
    return rc;
}

/* Everything that has come.  0, or -1 with an exception; what came before it is in the lists. */
static int receive_records(struct lane_object *self, struct part *part, PyObject *results, PyObject *frames)
{
    struct lane_record record;
    const char *payload;
    for (;;) {
        switch (lane_next(&self->lane.read, &record, &payload)) {
        case LANE_DAMAGED:
            PyErr_SetString(PyExc_ValueError, "a lane is damaged");
            return -1;
        case LANE_EMPTY:
            give_room(self);
            if (lane_rest(&self->lane.read))
                return 0;
            continue;
        case LANE_FOUND: break;
        }
        if (receive_one(self, &record, payload, part, results, frames) < 0)
            return -1;
        lane_take(&self->lane.read, &record);
        if (record.kind == LANE_SOME)
            give_room(self);
    }
}

static int receive_all(struct lane_object *self, PyObject *results, PyObject *frames)
{
    struct part part = {0};
    int rc = receive_records(self, &part, results, frames);
    PyObject *kind, *value, *traceback;
    PyErr_Fetch(&kind, &value, &traceback);
    if (end_part(self, &part, results) < 0) {
        PyErr_Clear();
        rc = -1;
    }
    PyErr_Restore(kind, value, traceback);
    return rc;
}

static PyObject *lane_receive(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    struct lane_object *self = (struct lane_object *)op;
    PyObject *results = PyList_New(0), *frames = PyList_New(0), *pair = NULL;
    if (results != NULL && frames != NULL)
        pair = PyTuple_Pack(2, results, frames);
    Py_XDECREF(results);
    Py_XDECREF(frames);
    if (pair == NULL)
        return NULL;
    latch_enter(&self->receiving);
    if (self->damaged) {
        latch_leave(&self->receiving);
        Py_DECREF(pair);
        PyErr_SetString(PyExc_MemoryError, "what a worker has sent can't be read");
        return NULL;
    }
    evict(self);
    if (!atomic_load(&self->closed) && receive_all(self, results, frames) < 0) {
        /* What was read before counts; the next call says that there is no more. */
        self->damaged = true;
        PyErr_Clear();
    }
    latch_leave(&self->receiving);
    return pair;
}

/* -- a thread that waits for its result --------------------------------------------------------------------------------- */

bool lane_write_task(PyObject *op, struct core_state *core, struct task_object *task, uint64_t seq)
{
    struct lane_object *self = (struct lane_object *)op;
    struct lane_record record = {.kind = LANE_TASK, .flags = LANE_DIRECT, .seq = seq};
    struct call_object *call;
    bool varied;
    if (task->call == NULL || !core_is_call(core, task->call))
        return false;
    call = (struct call_object *)task->call;
    if (!atomic_load(&self->plain) || call->payload == NULL || !PyBytes_Check(call->payload) ||
        PyBytes_GET_SIZE(call->payload) > LANE_PART || !latch_try(&self->sending))
        return false;
    record.a = self->function_id;
    varied = call->variables != NULL && call->variables != Py_None;
    if (varied)
        record.b = self->variables_flag;
    if (!atomic_load(&self->closed) && call->function != NULL && call->function == self->function &&
        (!varied || call->variables == self->variables) && PyList_GET_SIZE(self->pending) == 0 &&
        self->progress == 0 && !lane_behind(&self->lane.write) &&
        lane_put(&self->lane.write, record.kind, record.flags, record.seq, record.a, record.b,
                 PyBytes_AS_STRING(call->payload), (uint32_t)PyBytes_GET_SIZE(call->payload)))
        return true;
    latch_leave(&self->sending);
    return false;
}

void lane_write_end(PyObject *op, struct core_state *core, struct task_object *task, uint64_t seq, bool sent)
{
    struct lane_object *self = (struct lane_object *)op;
    uint64_t recording = tl_trace_on();
    if (sent) {
        if (__builtin_expect(recording != 0, 0)) /* first: nothing runs before it was sent */
            core_trace_sent(core, recording, seq, core_trace_index(task->index), atomic_load(&self->lane.page->token));
        publish(self);
    } else {
        lane_take_back(&self->lane.write);
    }
    latch_leave(&self->sending);
}

bool lane_claim(PyObject *op, struct lane_claim *claim)
{
    struct lane_object *self = (struct lane_object *)op;
    uint32_t asleep = LANE_ASLEEP;
    bool claimed = false;
    if (!latch_try(&self->receiving))
        return false;
    /* If it is not asleep, the reactor is about to look, and then takes the claim away. */
    if (!atomic_load(&self->closed) && !self->damaged && self->parts.bytes == NULL && self->event >= 0 &&
        atomic_load(&self->claimant) == 0 &&
        (atomic_compare_exchange_strong(&self->lane.read.ring->asleep, &asleep, LANE_AWAKE) || asleep == LANE_AWAKE)) {
        if (++self->claims <= LANE_ASLEEP)
            self->claims = LANE_ASLEEP + 1;
        claim->number = self->claims;
        claim->seen = self->lane.read.mine;
        atomic_store(&self->claimant, claim->number);
        claimed = true;
    }
    latch_leave(&self->receiving);
    return claimed;
}

static bool has_come(struct lane_object *self, const struct lane_claim *claim)
{
    /* SYNC POINT: record (load) */
    return atomic_load(&self->lane.read.ring->tail) != claim->seen;
}

bool lane_watch(PyObject *op, struct lane_claim *claim, int64_t ns)
{
    struct lane_object *self = (struct lane_object *)op;
    struct lane_ring *ring = self->lane.read.ring;
    uint32_t awake = LANE_AWAKE, budget = atomic_load(&self->spin);
    int i;
    if (has_come(self, claim))
        return true;
    if (tl_process.several && ns > 0 && lane_apart(&self->lane.page->worker_cpu)) {
        uint64_t until;
        bool now = false;
        if ((atomic_fetch_add(&self->waits, 1) & 31) == 31)
            budget = SPIN_NS;
        until = os_now() + budget;
        do {
            for (i = 0; i < 16 && !now; i++) {
                os_relax();
                now = has_come(self, claim) || atomic_load(&self->claimant) != claim->number;
            }
        } while (!now && os_now() < until);
        atomic_store(&self->spin, lane_spin_next(budget, now));
        if (now)
            return atomic_load(&self->claimant) == claim->number;
    }
    /* SYNC POINT: record. Say under which number it sleeps, then look at the tail; the worker stores the tail, then looks
     * here.  SYNC POINT: claim. And then whether it still has the claim; who takes it away does so first. */
    if (ns <= 0 || !atomic_compare_exchange_strong(&ring->asleep, &awake, claim->number))
        return has_come(self, claim) && atomic_load(&self->claimant) == claim->number;
    if (!has_come(self, claim) && atomic_load(&self->claimant) == claim->number)
        (void)os_sleep(&ring->asleep, claim->number, ns);
    return has_come(self, claim) && atomic_load(&self->claimant) == claim->number;
}

/* Has all been heard that was reported before this result? */
static bool is_quiet(struct lane_object *self)
{
    PyObject *held;
    bool quiet;
    /* First the pipe: who has read from it holds the lock until all of that is handled. */
    if (self->hearing == NULL || os_readable(self->reports, 0) != OS_TIMEOUT)
        return false;
    held = PyObject_CallMethodNoArgs(self->hearing, core_state_of((PyObject *)self)->text_locked);
    quiet = held == Py_False;
    Py_XDECREF(held);
    PyErr_Clear();
    return quiet;
}

bool lane_read_value(PyObject *op, struct lane_claim *claim, uint64_t seq, PyObject **value, uint64_t *nanoseconds)
{
    struct lane_object *self = (struct lane_object *)op;
    const char *payload;
    *value = NULL;
    if (!latch_try(&self->receiving))
        return false;
    if (atomic_load(&self->claimant) == claim->number && !atomic_load(&self->closed) &&
        lane_next(&self->lane.read, &self->came, &payload) == LANE_FOUND && self->came.kind == LANE_RETURNED &&
        self->came.flags == 0 && self->came.seq == seq && !payload_is_pickle(payload, self->came.length) && is_quiet(self)) {
        *value = codec_decode(payload, self->came.length);
        if (*value != NULL) {
            *nanoseconds = self->came.a;
            return true;
        }
    }
    PyErr_Clear();
    latch_leave(&self->receiving);
    return false;
}

void lane_read_end(PyObject *op, struct lane_claim *Py_UNUSED(claim), bool taken)
{
    struct lane_object *self = (struct lane_object *)op;
    if (taken) {
        lane_take(&self->lane.read, &self->came);
        atomic_store(&self->last, self->came.seq);
        give_room(self);
    }
    latch_leave(&self->receiving);
}

void lane_hand_back(PyObject *op, struct lane_claim *claim)
{
    struct lane_object *self = (struct lane_object *)op;
    latch_enter(&self->receiving);
    if (atomic_load(&self->claimant) == claim->number) {
        atomic_store(&self->claimant, 0);
        /* SYNC POINT: record.  What has come is the reactor's now. */
        if (!lane_rest(&self->lane.read) && self->event >= 0)
            (void)os_event_signal(self->event);
    }
    latch_leave(&self->receiving);
}

/* -- what it runs ------------------------------------------------------------------------------------------------------ */

static PyObject *lane_look(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    struct lane_page *page = ((struct lane_object *)op)->lane.page;
    uint64_t current = atomic_load(&page->current);
    return Py_BuildValue("(KKK)", (unsigned long long)current, (unsigned long long)atomic_load(&page->since),
                         (unsigned long long)atomic_load(&page->base));
}

static PyObject *get_token(PyObject *op, void *Py_UNUSED(closure))
{
    return PyLong_FromUnsignedLongLong(atomic_load(&((struct lane_object *)op)->lane.page->token));
}

static PyObject *lane_calling(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    struct lane_page *page = ((struct lane_object *)op)->lane.page;
    uint64_t called = atomic_load(&page->called);
    return Py_BuildValue("(KKK)", (unsigned long long)called, (unsigned long long)atomic_load(&page->cpu),
                         (unsigned long long)atomic_load(&page->queued));
}

static PyObject *lane_revoke_all(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    return PyLong_FromUnsignedLongLong(lane_revoke(&((struct lane_object *)op)->lane));
}

static PyObject *lane_restore(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    atomic_store(&((struct lane_object *)op)->lane.page->limit, UINT64_MAX);
    Py_RETURN_NONE;
}

static PyObject *get_fd(PyObject *op, void *Py_UNUSED(closure))
{
    return PyLong_FromLong(((struct lane_object *)op)->fd);
}

static PyObject *get_last(PyObject *op, void *Py_UNUSED(closure))
{
    return PyLong_FromUnsignedLongLong(atomic_load(&((struct lane_object *)op)->last));
}

static PyObject *get_damaged(PyObject *op, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(((struct lane_object *)op)->damaged);
}

PyDoc_STRVAR(lane_doc,
"Lane(store, event)\n--\n\n"
"The parent's end of what connects it with one worker; the worker opens a `Port` on its descriptor.\n\n"
"Frames are tuples (kind, seq, a, b, payload).  Any thread may send and receive; nothing here blocks.  OSError or\n"
"MemoryError if there is no memory for it.");
PyDoc_STRVAR(send_doc,
"send($self, frames, /)\n--\n\n"
"Send frames.  What there is no room for is kept, and sent by `flush` when the worker has made some.");
PyDoc_STRVAR(flush_doc,
"flush($self, /)\n--\n\n"
"Send what was kept.  To be called when the worker has signalled.");
PyDoc_STRVAR(send_tasks_doc,
"send_tasks($self, batch, at, flag, /)\n--\n\n"
"Send the pairs (seq, task) of the list from index `at` on, with the number `flag`, up to one whose function,\n"
"context variables or options (other than the default) are not those that were introduced last.  Returns its index, or the length of the batch.");
PyDoc_STRVAR(introduce_doc,
"introduce($self, function, id, variables, flag, options, /)\n--\n\n"
"The worker has that function, and those context variables (None: none), or will have them before what is sent next.\n"
"Tasks with these variables are sent with `flag` added to the number.  These options ask nothing of the worker.");
PyDoc_STRVAR(receive_doc,
"receive($self, /)\n--\n\n"
"What has come: a list of results (seq, kind, data, wall, cpu), and a list of other frames.  From now on the worker\n"
"signals when more comes.  MemoryError when what has come can't be read.");
PyDoc_STRVAR(look_doc, "look($self, /)\n--\n\nThe task that it runs, or ran last (0: none), when that began, in ns, and what `Port.based` said.");
PyDoc_STRVAR(calling_doc,
"calling($self, /)\n--\n\n"
"When the measured call began (0: it has not), its process's CPU time then, and time in the run queue; in ns.");
PyDoc_STRVAR(revoke_doc,
"revoke($self, /)\n--\n\n"
"Let it start nothing further.  Returns the highest number that it may have started.");
PyDoc_STRVAR(restore_doc, "restore($self, /)\n--\n\nWhat is sent from now on may start.");
PyDoc_STRVAR(sent_doc, "sent($self, /)\n--\n\nThe worker has the descriptor: close ours.");
PyDoc_STRVAR(close_doc, "close($self, /)\n--\n\nNothing is sent or received any more.  Idempotent.");

static PyMethodDef lane_methods[] = {
    {"send", lane_send, METH_O, send_doc},
    {"hear", lane_hear, METH_VARARGS,
     "hear($self, pipe, lock, /)\n--\n\n"
     "What the worker reports comes by this pipe, and who handles that has this lock: both before a result is seen."},
    {"flush", lane_flush, METH_NOARGS, flush_doc},
    {"send_tasks", lane_send_tasks, METH_VARARGS, send_tasks_doc},
    {"introduce", lane_introduce, METH_VARARGS, introduce_doc},
    {"receive", lane_receive, METH_NOARGS, receive_doc},
    {"look", lane_look, METH_NOARGS, look_doc},
    {"calling", lane_calling, METH_NOARGS, calling_doc},
    {"revoke", lane_revoke_all, METH_NOARGS, revoke_doc},
    {"restore", lane_restore, METH_NOARGS, restore_doc},
    {"sent", lane_sent, METH_NOARGS, sent_doc},
    {"close", lane_end, METH_NOARGS, close_doc},
    {NULL, NULL, 0, NULL},
};

static PyObject *get_plain(PyObject *op, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(atomic_load(&((struct lane_object *)op)->plain));
}

static PyObject *get_claimed(PyObject *op, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(atomic_load(&((struct lane_object *)op)->claimant) != 0);
}

static int set_plain(PyObject *op, PyObject *value, void *Py_UNUSED(closure))
{
    atomic_store(&((struct lane_object *)op)->plain, value == Py_True);
    return 0;
}

static PyGetSetDef lane_getset[] = {
    {"claimed", get_claimed, NULL, "Does a thread wait for results itself?  It tells the event of what it leaves.", NULL},
    {"plain", get_plain, set_plain, "May tasks be sent without asking the engine, `flag` being 0?", NULL},
    {"descriptor", get_fd, NULL, "What the worker opens it by; -1 after `sent`.", NULL},
    {"last", get_last, NULL, "The number of the task, or item of a run, whose end was received last.", NULL},
    {"token", get_token, NULL, "The worker's process on the board; 0 if it has not come so far.", NULL},
    {"damaged", get_damaged, NULL, "Has the worker sent what can't be read?", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot lane_slots[] = {
    {Py_tp_doc, (void *)lane_doc},    {Py_tp_new, lane_make},        {Py_tp_dealloc, lane_dealloc},
    {Py_tp_methods, lane_methods},    {Py_tp_getset, lane_getset},   {0, NULL},
};

static PyType_Spec lane_spec = {
    .name = "treadle._native._core.Lane",
    .basicsize = sizeof(struct lane_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = lane_slots,
};

int core_add_lane(PyObject *module, struct core_state *state)
{
    state->lane_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &lane_spec, NULL);
    if (state->lane_type == NULL)
        return -1;
    return PyModule_AddType(module, state->lane_type);
}
