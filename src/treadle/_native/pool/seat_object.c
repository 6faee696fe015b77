/* Seat: what a worker's thread of the pool is sent and runs at the moment, and the loop in which it runs one task after the other.
 *
 * The loop does three things without leaving C: it calls the function, it exchanges the task that has returned for the
 * queue's next one (dispatch_exchange, under the driver's lock) or says that it has ended if nothing is queued
 * (dispatch_end), and it settles the one that has returned.  For everything else it returns to Python. */
#include "python/recording.h"
#include "python/title.h"
#include "sync/lock_object.h"
#include "tasks/future.h"
#include "pool/dispatch.h"
#include "pool/pool.h"
#include "board/guard.h"


#define SLICE 5000000u /* nanoseconds after which other threads get the interpreter; Python's own switch interval */

struct seat_object {
    PyObject_HEAD
    struct tl_guard guard;
    /* Under the guard: */
    uint64_t running; /* sequence number; 0: nothing */
    uint64_t last;    /* the one that it started last */
    uint64_t limit;   /* it starts nothing above this */
    uint64_t since;   /* when it started what it runs */
    bool abandoned;   /* Invariant: once true it stays so, and the thread reports nothing more */
    /* The thread's own: what the loop works on. */
    long long seq;
    PyObject *task;
    PyObject *clean; /* an empty context, or NULL */
    struct titled titled;
    /* What it was sent and has not taken, a list, owned; in its own critical section. */
    PyObject *inbox;
    _Atomic uint32_t sent;   /* how many things ever were: what the thread sleeps on */
    _Atomic uint32_t parked; /* does it sleep? */
    _Atomic uint32_t waker;  /* the board's record of the thread that has sent the last one */
};

static struct seat_object *as_seat(PyObject *op) { return (struct seat_object *)op; }

static PyObject *seat_new(PyTypeObject *type, PyObject *Py_UNUSED(args), PyObject *Py_UNUSED(kwargs))
{
    struct seat_object *self = (struct seat_object *)type->tp_alloc(type, 0);
    if (self == NULL)
        return NULL;
    self->limit = UINT64_MAX;
    self->inbox = PyList_New(0);
    if (self->inbox == NULL)
        Py_CLEAR(self);
    return (PyObject *)self;
}

static int seat_traverse(PyObject *op, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(as_seat(op)->task);
    Py_VISIT(as_seat(op)->clean);
    Py_VISIT(as_seat(op)->inbox);
    return 0;
}

static int seat_clear(PyObject *op)
{
    Py_CLEAR(as_seat(op)->task);
    Py_CLEAR(as_seat(op)->clean);
    Py_CLEAR(as_seat(op)->inbox);
    Py_CLEAR(as_seat(op)->titled.name);
    return 0;
}

static void seat_dealloc(PyObject *op)
{
    PyTypeObject *type = Py_TYPE(op);
    PyObject_GC_UnTrack(op);
    seat_clear(op);
    type->tp_free(op);
    Py_DECREF(type);
}

static struct tl_cold *cold_of(struct tl_self *me) { return &tl_board.cold[me->records[0]]; }

static bool begin(struct seat_object *self, uint64_t seq)
{
    struct tl_self *me = tl_self();
    uint64_t now = os_now();
    bool may;
    tl_guard_enter(&self->guard, TL_RANK_QUEUE);
    may = !self->abandoned && seq <= self->limit;
    if (may) {
        self->since = now;
        self->running = self->last = seq;
    }
    tl_guard_leave(&self->guard);
    if (may && me != NULL)
        tl_task_now(cold_of(me), seq, now);
    return may;
}

static bool end(struct seat_object *self)
{
    struct tl_self *me = tl_self();
    bool may;
    if (me != NULL)
        tl_task_over(cold_of(me));
    tl_guard_enter(&self->guard, TL_RANK_QUEUE);
    self->running = 0;
    may = !self->abandoned;
    tl_guard_leave(&self->guard);
    return may;
}

static PyObject *seat_begin(PyObject *op, PyObject *value)
{
    unsigned long long seq = PyLong_AsUnsignedLongLong(value);
    return PyErr_Occurred() ? NULL : PyBool_FromLong(begin(as_seat(op), seq));
}

static PyObject *seat_end(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(end(as_seat(op)));
}

static PyObject *seat_abandon(PyObject *op, PyObject *value)
{
    struct seat_object *self = as_seat(op);
    unsigned long long seq = value == Py_None ? 0 : PyLong_AsUnsignedLongLong(value);
    bool done;
    if (PyErr_Occurred())
        return NULL;
    tl_guard_enter(&self->guard, TL_RANK_QUEUE);
    done = value == Py_None || self->running == seq;
    self->abandoned |= done;
    tl_guard_leave(&self->guard);
    return PyBool_FromLong(done);
}

static PyObject *seat_revoke(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    struct seat_object *self = as_seat(op);
    uint64_t last;
    tl_guard_enter(&self->guard, TL_RANK_QUEUE);
    last = self->limit = self->last;
    tl_guard_leave(&self->guard);
    return PyLong_FromUnsignedLongLong(last);
}

static PyObject *seat_restore(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    struct seat_object *self = as_seat(op);
    tl_guard_enter(&self->guard, TL_RANK_QUEUE);
    self->limit = UINT64_MAX;
    tl_guard_leave(&self->guard);
    Py_RETURN_NONE;
}

static PyObject *seat_look(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    struct seat_object *self = as_seat(op);
    uint64_t running, since, now = os_now();
    tl_guard_enter(&self->guard, TL_RANK_QUEUE);
    running = self->running;
    since = self->since;
    tl_guard_leave(&self->guard);
    if (running == 0)
        return Py_BuildValue("(Od)", Py_None, 0.0);
    return Py_BuildValue("(Kd)", (unsigned long long)running, now > since ? (double)(now - since) / 1e9 : 0.0);
}

/* -- the inbox ------------------------------------------------------------------------------------------------------------ */

int seat_send(PyObject *op, PyObject *item)
{
    struct seat_object *self = as_seat(op);
    struct tl_self *me = tl_self();
    int rc;
    LOCKED(op);
    rc = self->inbox == NULL ? 0 : PyList_Append(self->inbox, item); /* NULL only after tp_clear */
    UNLOCKED();
    if (rc < 0)
        return -1;
    atomic_store_explicit(&self->waker, me == NULL ? 0 : me->records[0], memory_order_relaxed);
    /* SYNC POINT: seat. First it is there and counted, then a look whether the thread sleeps; that says first that it does, then
     * the kernel looks at the count: so it does not sleep over something that it was sent. */
    atomic_fetch_add(&self->sent, 1);
    if (atomic_load(&self->parked))
        os_wake_private(&self->sent, 1);
    return 0;
}

static PyObject *seat_put(PyObject *op, PyObject *item)
{
    if (seat_send(op, item) < 0)
        return NULL;
    Py_RETURN_NONE;
}

struct unsent {
    struct seat_object *seat;
    uint32_t count;
};

static bool has_more(void *what)
{
    struct unsent *unsent = what;
    return atomic_load_explicit(&unsent->seat->sent, memory_order_relaxed) != unsent->count;
}

/* Wait for more than so many.  Nobody is waited for here, so it is not published as a wait is: a thread without a task is idle. */
static int await_more(struct seat_object *self, uint32_t count)
{
    struct tl_self *me = core_self();
    struct unsent unsent = {self, count};
    if (me == NULL)
        return -1;
    Py_BEGIN_ALLOW_THREADS
    core_asleep(me, true);
    if (!tl_spin(me, has_more, &unsent)) {
        /* SYNC POINT: seat */
        atomic_store(&self->parked, 1);
        while (!has_more(&unsent))
            os_sleep_private(&self->sent, count, -1);
        atomic_store_explicit(&self->parked, 0, memory_order_relaxed);
    }
    core_await_turn(atomic_exchange_explicit(&self->waker, 0, memory_order_relaxed));
    core_asleep(me, false);
    Py_END_ALLOW_THREADS
    return 0;
}

static PyObject *seat_get(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    struct seat_object *self = as_seat(op);
    for (;;) {
        uint32_t count = atomic_load(&self->sent);
        PyObject *item = NULL;
        int rc = 0;
        LOCKED(op);
        if (self->inbox != NULL && PyList_GET_SIZE(self->inbox) > 0) {
            item = Py_NewRef(PyList_GET_ITEM(self->inbox, 0));
            rc = PyList_SetSlice(self->inbox, 0, 1, NULL);
        }
        UNLOCKED();
        if (rc < 0)
            Py_CLEAR(item);
        if (item != NULL || rc < 0)
            return item;
        if (await_more(self, count) < 0)
            return NULL;
    }
}

/* -- the loop ------------------------------------------------------------------------------------------------------------- */

/* Take the driver's lock.  An interrupt of the wait can only be reported here, for the task has ended. */
static struct lock_object *take_lock(struct core_state *core, PyObject *op)
{
    struct lock_object *lock = (struct lock_object *)op;
    struct tl_self *me = tl_self();
    int tries;
    if (me != NULL && tl_lock_try(&lock->lock, me->token))
        return lock;
    for (tries = 0; me != NULL && tries < 100; tries++) {
        if (core_lock_block(core, lock, 0, -1, NULL) == WAIT_GOT)
            return lock;
        PyErr_WriteUnraisable(op);
    }
    return NULL;
}

static void set_task(struct seat_object *self, long long seq, PyObject *task)
{
    PyObject *old = self->task;
    self->seq = seq;
    self->task = task;
    Py_XDECREF(old);
}

/* Call it in a context: see pool/contexts.py.  What a task without a context of its own sets is dropped after it. */
static PyObject *call_in(struct seat_object *self, struct call_object *call, PyObject *runner)
{
    PyObject *value, *type, *error, *traceback, *left, *kwargs = PyDict_Check(call->kwargs) ? call->kwargs : NULL;
    PyObject *inside = call->context == Py_None && self->clean != NULL
                           ? Py_NewRef(self->clean)
                           : PyObject_CallMethod(runner, "enter", "O", call->context);
    if (inside == NULL)
        return NULL;
    if (PyContext_Enter(inside) < 0) {
        Py_DECREF(inside);
        return NULL;
    }
    value = PyObject_Call(call->fn, call->args, kwargs);
    if (PyContext_Exit(inside) < 0)
        Py_CLEAR(value);
    if (inside == self->clean) {
        if (PyObject_Size(inside) > 0)
            Py_CLEAR(self->clean);
    } else {
        PyErr_Fetch(&type, &error, &traceback);
        left = PyObject_CallMethod(runner, "leave", "O", inside);
        if (left == NULL)
            PyErr_WriteUnraisable(runner);
        Py_XDECREF(left);
        PyErr_Restore(type, error, traceback);
    }
    Py_DECREF(inside);
    return value;
}

static PyObject *call_task(struct core_state *core, struct seat_object *self, bool plain, PyObject *runner)
{
    struct tl_self *me;
    PyObject *op = ((struct task_object *)self->task)->call, *value;
    struct call_object *call = (struct call_object *)op;
    if (op == NULL || !core_is_call(core, op) || !PyTuple_Check(call->args)) {
        PyErr_SetString(PyExc_TypeError, "a task has a Call with a tuple of arguments");
        return NULL;
    }
    if (call->fn != NULL && (me = tl_self()) != NULL)
        core_task_title(cold_of(me), &self->titled, call->fn);
    if (!plain)
        Py_CLEAR(self->clean);
    else if (self->clean == NULL && (self->clean = PyContext_New()) == NULL)
        return NULL;
    Py_INCREF(op);
    value = call_in(self, call, runner);
    Py_DECREF(op);
    return value;
}

static struct tl_span record_task(struct core_state *core, struct seat_object *self, uint64_t recording)
{
    struct task_object *task = (struct task_object *)self->task;
    struct tl_span none = {0, 0};
    struct tl_self *me = tl_self();
    if (me == NULL || task->call == NULL || !core_is_call(core, task->call))
        return none;
    return core_trace_task(core, recording, ((struct call_object *)task->call)->fn, (uint64_t)self->seq,
                           core_trace_index(task->index), me->token);
}

/* run(lock, state, worker, runner, seq, task): see the docstring. */
static PyObject *seat_run(PyObject *op, PyObject *const *args, Py_ssize_t nargs)
{
    struct seat_object *self = as_seat(op);
    struct core_state *core = core_state_of(op);
    struct state_object *state;
    struct worker_object *worker;
    uint64_t slice = os_now();
    PyObject *plain;

    if (nargs != 6 || Py_TYPE(args[0]) != core->lock_type || !PyObject_TypeCheck(args[1], core->brain_type) ||
        !PyObject_TypeCheck(args[2], core->worker_type) || !core_is_task(core, args[5])) {
        PyErr_SetString(PyExc_TypeError, "run(lock, state, worker, runner, seq, task)");
        return NULL;
    }
    state = (struct state_object *)args[1];
    worker = (struct worker_object *)args[2];
    set_task(self, PyLong_AsLongLong(args[4]), Py_NewRef(args[5]));
    plain = PyErr_Occurred() ? NULL : PyObject_GetAttrString(args[3], "plain");
    if (plain == NULL)
        return NULL;
    Py_DECREF(plain); /* a bool */
    for (;;) {
        PyObject *value, *next, *task;
        struct lock_object *lock;
        struct tl_span span = {0, 0};
        uint64_t recording;
        long long next_seq;
        uint64_t now;
        int exchanged;
        bool ended;

        if (!begin(self, (uint64_t)self->seq))
            return Py_BuildValue("(OL)", Py_None, -1LL);
        recording = tl_trace_on();
        if (__builtin_expect(recording != 0, 0))
            span = record_task(core, self, recording);
        value = call_task(core, self, plain == Py_True, args[3]);
        core_trace_over(span, value == NULL);
        if (value == NULL)
            return NULL;
        now = os_now();
        if (!end(self)) {
            Py_DECREF(value);
            Py_RETURN_NONE;
        }
        lock = take_lock(core, args[0]);
        if (lock == NULL)
            return Py_BuildValue("(NL)", value, (long long)(now - self->since));
        exchanged = dispatch_exchange(core, state, worker, self->seq, &next_seq, &next);
        ended = exchanged == 0 && dispatch_end(core, state, (struct task_object *)self->task, (long long)(now - self->since));
        tl_lock_release(&lock->lock, lock_id(lock), tl_self());
        if (PyErr_Occurred())
            PyErr_WriteUnraisable(op); /* no memory: the rules in Python have their try */
        if (ended) {
            task = Py_NewRef(self->task);
            set_task(self, 0, NULL);
            core_settle_one(core, task, KIND_RETURNED, value);
            Py_DECREF(task);
            Py_DECREF(value);
            return PyTuple_New(0);
        }
        if (exchanged <= 0)
            return Py_BuildValue("(NL)", value, (long long)(now - self->since));
        task = Py_NewRef(self->task);
        set_task(self, next_seq, next);
        core_settle_one(core, task, KIND_RETURNED, value);
        Py_DECREF(task);
        Py_DECREF(value);
        if (now - slice > SLICE) {
            /* A function in C never looks whether others want the interpreter; one in Python does.  To let it go here
             * for a moment would starve them: who wakes up too late to get it starts his interval again, and asks
             * for it only at the end of one. */
            PyObject *nothing = PyObject_CallMethod(args[3], "give_way", NULL);
            if (nothing == NULL)
                PyErr_WriteUnraisable(op);
            Py_XDECREF(nothing);
            slice = os_now();
        }
    }
}

static PyObject *seat_drop(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    set_task(as_seat(op), 0, NULL);
    Py_RETURN_NONE;
}

static PyMemberDef seat_members[] = {
    {"seq", T_LONGLONG, offsetof(struct seat_object, seq), READONLY, "Of the task that `run` works on, or did last."},
    {"task", T_OBJECT, offsetof(struct seat_object, task), READONLY, "The task that `run` works on, or did last."},
    {NULL, 0, 0, 0, NULL},
};

static PyObject *get_abandoned(PyObject *op, void *Py_UNUSED(closure))
{
    struct seat_object *self = as_seat(op);
    bool abandoned;
    tl_guard_enter(&self->guard, TL_RANK_QUEUE);
    abandoned = self->abandoned;
    tl_guard_leave(&self->guard);
    return PyBool_FromLong(abandoned);
}

static PyGetSetDef seat_getset[] = {
    {"abandoned", get_abandoned, NULL, "Does it report nothing more?", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

PyDoc_STRVAR(run_doc,
"run($self, lock, state, worker, runner, seq, task, /)\n--\n\n"
"Run this task, then the queue's next ones, as long as each returns a value and the brain would give this thread the\n"
"next one at once.  Returns None if the thread was abandoned, () if it has reported all and there is no next one; else\n"
"(value, nanoseconds) of the task that `task` now is and whose end is still to be reported, with -1 if it may not begin;\n"
"or raises what that task raised.");

static PyMethodDef seat_methods[] = {
    {"begin", seat_begin, METH_O, "begin($self, seq, /)\n--\n\nIt starts this task now; False if it must not."},
    {"end", seat_end, METH_NOARGS, "end($self, /)\n--\n\nIt runs nothing now; False if it was abandoned."},
    {"abandon", seat_abandon, METH_O,
     "abandon($self, seq, /)\n--\n\nLet it report nothing more, if it (still) runs `seq` (None: anyway); True if so."},
    {"revoke", seat_revoke, METH_NOARGS,
     "revoke($self, /)\n--\n\nLet it start nothing more; returns the sequence number that it started last."},
    {"restore", seat_restore, METH_NOARGS, "restore($self, /)\n--\n\nIt may start again what it is sent."},
    {"look", seat_look, METH_NOARGS, "look($self, /)\n--\n\n(what it runs or None, for how many seconds)."},
    {"put", seat_put, METH_O, "put($self, item, /)\n--\n\nSend the thread something.  Never waits."},
    {"get", seat_get, METH_NOARGS, "get($self, /)\n--\n\nWhat it was sent, in order; waits for it.  For its thread."},
    {"drop", seat_drop, METH_NOARGS, "drop($self, /)\n--\n\nHold no task any more."},
    {"run", FAST(seat_run), METH_FASTCALL, run_doc},
    {NULL, NULL, 0, NULL},
};

PyDoc_STRVAR(seat_doc,
"Seat()\n--\n\n"
"What a worker's thread was sent, and runs at the moment.\n\n"
"Thread-safe, but for `get`, `run`, `task`, `seq` and `drop`: its thread's own.");

static PyType_Slot seat_slots[] = {
    {Py_tp_doc, (void *)seat_doc},     {Py_tp_new, seat_new},         {Py_tp_traverse, seat_traverse},
    {Py_tp_clear, seat_clear},         {Py_tp_dealloc, seat_dealloc}, {Py_tp_members, seat_members},
    {Py_tp_getset, seat_getset},    {Py_tp_methods, seat_methods},     {0, NULL},
};

static PyType_Spec seat_spec = {
    .name = "treadle._native._core.Seat",
    .basicsize = sizeof(struct seat_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = seat_slots,
};

int core_add_seat(PyObject *module, struct core_state *core)
{
    core->seat_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &seat_spec, NULL);
    return core->seat_type == NULL ? -1 : PyModule_AddType(module, core->seat_type);
}
