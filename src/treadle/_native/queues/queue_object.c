/* LocalQueue: references to objects, in a ring, for the threads of one process.
 *
 * The ring and the counts are under a guard; items go in and out only while attached to the interpreter, so that the
 * garbage collector sees each of them either in the ring or in a frame.
 *
 * A queue starts native.  When somebody reaches for its insides (mutex, queue, not_empty, ...) or its class overrides a
 * hook (_init, _put, _get, _qsize), it is opened: the items move to Python objects, and every operation goes to the
 * Python methods _open_put, _open_get, ... of the class.
 */
#include "queues/queue_object.h"
#include "python/arguments.h"
#include "queues/common.h"
#include "queues/queues.h"
#include "board/gauge.h"


#define KEPT_ROOM 8192u /* slots that an empty queue keeps, 64 KiB: it is likely to be filled again */

enum outcome { DONE, BLOCKED, CLOSED, OPENED, FAILED };
/* -- figures for who watches ------------------------------------------------------------------------------------------ */

/* depth: of an open queue; negative: see for yourself. */
static void show(struct queue_object *self, int64_t depth)
{
    uint64_t watch = tl_watching(os_now()), id = queue_side_id(self, GETTER);
    const uint32_t flags = TL_PRIVATE | (uint32_t)TL_QUEUE_GET << TL_KIND_SHIFT;
    struct tl_gauge *gauge = watch == 0 ? NULL : tl_gauge_find(watch, id, flags);
    char text[TL_GAUGE_NAME];
    bool new = false;
    uint64_t taken;
    if (watch == 0)
        return;
    if (gauge == NULL) {
        open_describe((PyObject *)self, "Queue", text, sizeof text);
        gauge = tl_gauge_claim(watch, id, flags, text);
        if (gauge == NULL)
            return;
        new = true;
    }
    queue_enter(self);
    if (depth < 0)
        depth = (int64_t)self->count;
    atomic_store_explicit(&gauge->puts, self->puts, memory_order_relaxed);
    taken = self->puts > (uint64_t)depth ? self->puts - (uint64_t)depth : 0;
    atomic_store_explicit(&gauge->taken, taken, memory_order_relaxed);
    if (new) {
        atomic_store_explicit(&gauge->puts_before, self->puts, memory_order_relaxed);
        atomic_store_explicit(&gauge->taken_before, taken, memory_order_relaxed);
    }
    atomic_store_explicit(&gauge->maxsize, self->maxsize, memory_order_relaxed);
    tl_guard_leave(&self->guard);
}

/* After each change, by a thread that has the interpreter and is outside of the guard. */
static inline void changed(struct queue_object *self)
{
    if (tl_watched())
        show(self, -1);
    listeners_tell(&self->listeners);
}

/* -- under the guard -------------------------------------------------------------------------------------------------- */

static void tell_everybody(struct queue_object *self, struct tl_self *me)
{
    tl_notify(queue_side_id(self, GETTER), TL_PRIVATE, -1, me);
    tl_notify(queue_side_id(self, PUTTER), TL_PRIVATE, -1, me);
    tl_notify(queue_side_id(self, JOINER), TL_PRIVATE, -1, me);
}

/* After each change of what `quick` follows from. */
static void set_quick(struct queue_object *self)
{
    int64_t most = atomic_load_explicit(&self->maxsize, memory_order_relaxed);
    self->quick = self->closed || self->open                     ? 0
                  : most > 0 && (uint64_t)most < self->room ? (size_t)most
                                                            : self->room;
}

static bool widen(struct queue_object *self)
{
    size_t room = self->room == 0 ? 8 : self->room * 2, i;
    PyObject **ring = PyMem_RawMalloc(room * sizeof *ring);
    if (ring == NULL)
        return false;
    for (i = 0; i < self->count; i++)
        ring[i] = self->ring[(self->head + i) & (self->room - 1)];
    PyMem_RawFree(self->ring);
    self->ring = ring;
    self->room = room;
    self->head = 0;
    set_quick(self);
    return true;
}

static void narrow(struct queue_object *self)
{
    if (self->count == 0 && self->room > KEPT_ROOM) {
        PyMem_RawFree(self->ring);
        self->ring = NULL;
        self->room = self->head = 0;
        set_quick(self);
    }
}

/* Takes over a reference to item if DONE. */
static enum outcome push(struct queue_object *self, PyObject *item)
{
    if (self->open)
        return OPENED;
    if (self->closed)
        return CLOSED;
    if (queue_is_full(self))
        return BLOCKED;
    if (self->count == self->room && !widen(self))
        return FAILED;
    self->ring[(self->head + self->count) & (self->room - 1)] = item;
    self->count++;
    self->puts++;
    self->unfinished++;
    return DONE;
}

static enum outcome pop(struct queue_object *self, PyObject **item)
{
    if (self->open)
        return OPENED;
    if (self->count == 0)
        return self->closed ? CLOSED : BLOCKED;
    self->count--;
    if (self->lifo) {
        *item = self->ring[(self->head + self->count) & (self->room - 1)];
    } else {
        *item = self->ring[self->head];
        self->head = (self->head + 1) & (self->room - 1);
    }
    narrow(self);
    return DONE;
}

/* -- put and get -------------------------------------------------------------------------------------------------------- */

/* The arguments ([item], block=True, timeout=None).  *timeout: 0 don't wait, -1 forever.
 * limited: waiting is possible at all, so a time-out means something. */
static int block_args(bool limited, const char *first, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames,
                      PyObject **item, int64_t *timeout)
{
    PyObject *values[3];
    int block = 1;

    if (queue_args(first, args, nargs, kwnames, values) < 0)
        return -1;
    *item = values[0];
    if (values[1] != NULL && (block = PyObject_IsTrue(values[1])) < 0)
        return -1;
    if (!block || !limited) {
        *timeout = block ? -1 : 0;
        return 0;
    }
    if (core_timeout(values[2], timeout) < 0) {
        if (!PyErr_ExceptionMatches(PyExc_OverflowError))
            return -1;
        PyErr_Clear();
        *timeout = TOO_LONG;
    }
    if (*timeout == 0 && PyFloat_AsDouble(values[2]) < 0) {
        PyErr_SetString(PyExc_ValueError, "'timeout' must be a non-negative number");
        return -1;
    }
    return 0;
}

static PyObject *open_call(PyObject *op, const char *method, PyObject *item, int64_t timeout)
{
    PyObject *block = timeout == 0 ? Py_False : Py_True;
    PyObject *limit = timeout <= 0 ? Py_NewRef(Py_None) : PyFloat_FromDouble((double)timeout / 1e9), *result;
    if (limit == NULL)
        return NULL;
    result = item != NULL ? PyObject_CallMethod(op, method, "OOO", item, block, limit)
                          : PyObject_CallMethod(op, method, "OO", block, limit);
    Py_DECREF(limit);
    return result;
}

static PyObject *put(PyObject *op, PyObject *item, int64_t timeout)
{
    struct queue_object *self = (struct queue_object *)op;
    struct tl_self *me = core_self();
    uint64_t deadline = 0;
    int64_t left = timeout;
    if (me == NULL)
        return NULL;
    for (;;) {
        enum outcome outcome;
        Py_INCREF(item);
        queue_enter(self);
        outcome = push(self, item);
        if (outcome == DONE)
            queue_tell_getter(self, me, 1);
        queue_leave(self, me);
        if (outcome == DONE) {
            changed(self);
            Py_RETURN_NONE;
        }
        Py_DECREF(item);
        if (outcome == OPENED)
            return open_call(op, "_open_put", item, left);
        if (outcome == CLOSED)
            return QUEUE_RAISE(op, shutdown);
        if (outcome == FAILED)
            return PyErr_NoMemory();
        if (timeout > 0 && timeout != TOO_LONG) {
            uint64_t now = os_now();
            if (deadline == 0)
                deadline = now + (uint64_t)timeout;
            left = now >= deadline ? 0 : (int64_t)(deadline - now);
        }
        if (left == 0)
            return QUEUE_RAISE(op, full);
        switch (queue_wait(self, me, PUTTER, left)) {
        case WAIT_ERROR: return NULL;
        case WAIT_TIMEOUT: left = 0; timeout = 0; break;
        case WAIT_GOT: break;
        }
    }
}

static PyObject *get(PyObject *op, int64_t timeout)
{
    struct queue_object *self = (struct queue_object *)op;
    struct tl_self *me = core_self();
    uint64_t deadline = 0;
    int64_t left = timeout;
    if (me == NULL)
        return NULL;
    for (;;) {
        PyObject *item = NULL;
        enum outcome outcome;
        queue_enter(self);
        outcome = pop(self, &item);
        if (outcome == DONE)
            queue_tell_putter(self, me, 1);
        queue_leave(self, me);
        if (outcome == DONE) {
            changed(self);
            return item;
        }
        if (outcome == OPENED)
            return open_call(op, "_open_get", NULL, left);
        if (outcome == CLOSED)
            return QUEUE_RAISE(op, shutdown);
        if (timeout > 0 && timeout != TOO_LONG) {
            uint64_t now = os_now();
            if (deadline == 0)
                deadline = now + (uint64_t)timeout;
            left = now >= deadline ? 0 : (int64_t)(deadline - now);
        }
        if (left == 0)
            return QUEUE_RAISE(op, empty);
        switch (queue_wait(self, me, GETTER, left)) {
        case WAIT_ERROR: return NULL;
        case WAIT_TIMEOUT: left = 0; timeout = 0; break;
        case WAIT_GOT: break;
        }
    }
}

/* There is room, and nobody needs to hear of it. */
static inline bool put_quickly(struct queue_object *self, PyObject *item)
{
    bool done = false;
    tl_guard_enter(&self->guard, TL_RANK_QUEUE);
    if (__builtin_expect(self->count < self->quick && (self->getters == 0 || self->getters_told), 1)) {
        self->ring[(self->head + self->count) & (self->room - 1)] = Py_NewRef(item);
        self->count++;
        self->puts++;
        self->unfinished++;
        done = true;
    }
    tl_guard_leave(&self->guard);
    if (done)
        changed(self);
    return done;
}

/* There is an item, and nobody waits for its room. */
static inline PyObject *get_quickly(struct queue_object *self)
{
    PyObject *item = NULL;
    tl_guard_enter(&self->guard, TL_RANK_QUEUE);
    if (__builtin_expect(self->count > 0 && (self->putters == 0 || self->putters_told) && !self->lifo &&
                         (self->room <= KEPT_ROOM || self->count > 1), 1)) {
        item = self->ring[self->head];
        self->head = (self->head + 1) & (self->room - 1);
        self->count--;
    }
    tl_guard_leave(&self->guard);
    if (item != NULL)
        changed(self);
    return item;
}

static PyObject *queue_put(PyObject *op, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *item;
    int64_t timeout = -1;
    if (nargs == 1 && kwnames == NULL) {
        if (put_quickly((struct queue_object *)op, args[0]))
            Py_RETURN_NONE;
        return put(op, args[0], -1);
    }
    if (block_args(atomic_load(&((struct queue_object *)op)->maxsize) > 0, "item", args, nargs, kwnames, &item,
                   &timeout) < 0)
        return NULL;
    return put(op, item, timeout);
}

static PyObject *queue_get(PyObject *op, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *item;
    int64_t timeout = -1;
    if (nargs == 0 && kwnames == NULL) {
        item = get_quickly((struct queue_object *)op);
        return item != NULL ? item : get(op, -1);
    }
    return block_args(true, NULL, args, nargs, kwnames, &item, &timeout) < 0 ? NULL : get(op, timeout);
}

static PyObject *queue_put_nowait(PyObject *op, PyObject *item)
{
    if (((struct queue_object *)op)->plain)
        return put(op, item, 0);
    return PyObject_CallMethod(op, "put", "OO", item, Py_False);
}

static PyObject *queue_get_nowait(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    if (((struct queue_object *)op)->plain)
        return get(op, 0);
    return PyObject_CallMethod(op, "get", "O", Py_False);
}

/* _put_batch(items: list, start) -> how many went in now, without waiting; -1 if the queue is open. */
static PyObject *queue_put_batch(PyObject *op, PyObject *args)
{
    struct queue_object *self = (struct queue_object *)op;
    struct tl_self *me = core_self();
    PyObject *items;
    Py_ssize_t start, i;
    enum outcome outcome = DONE;
    if (me == NULL || !PyArg_ParseTuple(args, "O!n:_put_batch", &PyTuple_Type, &items, &start))
        return NULL;
    for (i = start; i < PyTuple_GET_SIZE(items); i++)
        Py_INCREF(PyTuple_GET_ITEM(items, i));
    queue_enter(self);
    for (i = start; i < PyTuple_GET_SIZE(items); i++) {
        outcome = push(self, PyTuple_GET_ITEM(items, i));
        if (outcome != DONE)
            break;
    }
    if (i > start)
        queue_tell_getter(self, me, i - start);
    queue_leave(self, me);
    start = i - start;
    for (; i < PyTuple_GET_SIZE(items); i++)
        Py_DECREF(PyTuple_GET_ITEM(items, i));
    if (start > 0)
        changed(self);
    if (outcome == FAILED)
        return PyErr_NoMemory();
    return PyLong_FromSsize_t(outcome == OPENED && start == 0 ? -1 : start);
}

/* _get_batch(most) -> a list of the items that are there, at most so many. */
static PyObject *queue_get_batch(PyObject *op, PyObject *arg)
{
    enum { ONCE = 64 };
    struct queue_object *self = (struct queue_object *)op;
    struct tl_self *me = core_self();
    Py_ssize_t most = PyLong_AsSsize_t(arg), taken = 0, total = 0, i;
    PyObject *list, *items[ONCE];
    bool more = true;
    if (me == NULL || (most == -1 && PyErr_Occurred()))
        return NULL;
    list = PyList_New(0);
    while (list != NULL && more && total < most) {
        queue_enter(self);
        for (taken = 0; taken < ONCE && total + taken < most; taken++)
            if (pop(self, &items[taken]) != DONE) {
                more = false;
                break;
            }
        if (taken > 0)
            queue_tell_putter(self, me, taken);
        queue_leave(self, me);
        for (i = 0; i < taken; i++) {
            if (list != NULL && PyList_Append(list, items[i]) < 0)
                Py_CLEAR(list); /* out of memory: nobody can be given the items any more */
            Py_DECREF(items[i]);
        }
        total += taken;
    }
    if (total > 0)
        changed(self);
    return list;
}

static PyObject *queue_task_done(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    struct queue_object *self = (struct queue_object *)op;
    struct tl_self *me = core_self();
    bool open, bad;
    if (me == NULL)
        return NULL;
    queue_enter(self);
    open = self->open;
    bad = !open && self->unfinished <= 0;
    if (!open && !bad && --self->unfinished == 0 && self->joiners > 0)
        tl_notify(queue_side_id(self, JOINER), TL_PRIVATE, -1, me);
    queue_leave(self, me);
    if (open)
        return PyObject_CallMethod(op, "_open_task_done", NULL);
    if (bad) {
        PyErr_SetString(PyExc_ValueError, "task_done() called too many times");
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *queue_join(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    struct queue_object *self = (struct queue_object *)op;
    struct tl_self *me = core_self();
    if (me == NULL)
        return NULL;
    for (;;) {
        bool open, done;
        queue_enter(self);
        open = self->open;
        done = self->unfinished <= 0;
        queue_leave(self, me);
        if (open)
            return PyObject_CallMethod(op, "_open_join", NULL);
        if (done)
            Py_RETURN_NONE;
        if (queue_wait(self, me, JOINER, -1) == WAIT_ERROR)
            return NULL;
    }
}

static PyObject *queue_shutdown(PyObject *op, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"immediate", NULL};
    struct queue_object *self = (struct queue_object *)op;
    struct tl_self *me = core_self();
    PyObject **ring = NULL;
    size_t room = 0, head = 0, count = 0, i;
    int immediate = 0;
    bool open;
    if (me == NULL || !PyArg_ParseTupleAndKeywords(args, kwargs, "|p:shutdown", names, &immediate))
        return NULL;
    queue_enter(self);
    open = self->open;
    if (!open) {
        self->closed = true;
        set_quick(self);
        if (immediate) {
            ring = self->ring;
            room = self->room;
            head = self->head;
            count = self->count;
            self->ring = NULL;
            self->room = self->head = self->count = 0;
            self->unfinished -= (int64_t)count < self->unfinished ? (int64_t)count : self->unfinished;
        }
        tell_everybody(self, me);
    }
    queue_leave(self, me);
    if (open)
        return PyObject_CallMethod(op, "_open_shutdown", "O", immediate ? Py_True : Py_False);
    for (i = 0; i < count; i++)
        Py_DECREF(ring[(head + i) & (room - 1)]);
    PyMem_RawFree(ring);
    changed(self);
    Py_RETURN_NONE;
}

/* _open() -> (items, unfinished, closed) of a native queue, which is open from now on; None if it was open. */
static PyObject *queue_open(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    struct queue_object *self = (struct queue_object *)op;
    struct tl_self *me = core_self();
    PyObject **ring = NULL, *list;
    size_t room, head, count, i;
    int64_t unfinished;
    bool was, closed;
    if (me == NULL)
        return NULL;
    queue_enter(self);
    was = self->open;
    ring = self->ring;
    room = self->room;
    head = self->head;
    count = self->count;
    unfinished = self->unfinished;
    closed = self->closed;
    if (!was) {
        self->open = true;
        set_quick(self);
        self->ring = NULL;
        self->room = self->head = self->count = 0;
        tell_everybody(self, me);
    }
    queue_leave(self, me);
    if (was)
        Py_RETURN_NONE;
    list = PyList_New((Py_ssize_t)count);
    for (i = 0; i < count; i++) {
        PyObject *item = ring[(head + i) & (room - 1)];
        if (list != NULL)
            PyList_SET_ITEM(list, i, item);
        else
            Py_DECREF(item);
    }
    PyMem_RawFree(ring);
    return list == NULL ? NULL : Py_BuildValue("(NLi)", list, (long long)unfinished, (int)closed);
}

static PyObject *queue_qsize(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    struct queue_object *self = (struct queue_object *)op;
    struct tl_self *me = core_self();
    size_t count;
    if (me == NULL)
        return NULL;
    if (self->open)
        return PyObject_CallMethod(op, "_open_qsize", NULL);
    queue_enter(self);
    count = self->count;
    queue_leave(self, me);
    return PyLong_FromSize_t(count);
}

static PyObject *compare_size(PyObject *op, bool ask_full)
{
    PyObject *size = queue_qsize(op, NULL);
    int64_t most = atomic_load(&((struct queue_object *)op)->maxsize), count;
    if (size == NULL)
        return NULL;
    count = PyLong_AsLongLong(size);
    Py_DECREF(size);
    if (count == -1 && PyErr_Occurred())
        return NULL;
    return PyBool_FromLong(ask_full ? most > 0 && count >= most : count == 0);
}

static PyObject *queue_empty(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    return compare_size(op, false);
}

static PyObject *queue_full(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    return compare_size(op, true);
}

static PyObject *queue_listen(PyObject *op, PyObject *listener)
{
    return listeners_change(&((struct queue_object *)op)->listeners, listener, NULL);
}

static PyObject *queue_unlisten(PyObject *op, PyObject *listener)
{
    return listeners_change(&((struct queue_object *)op)->listeners, NULL, listener);
}

/* _tell(puts): an open queue has changed, by so many items that were put. */
static PyObject *queue_tell(PyObject *op, PyObject *arg)
{
    struct queue_object *self = (struct queue_object *)op;
    long puts = PyLong_AsLong(arg);
    if (puts < 0) {
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_ValueError, "a number of items");
        return NULL;
    }
    queue_enter(self);
    self->puts += (uint64_t)puts;
    tl_guard_leave(&self->guard);
    if (tl_watched()) {
        PyObject *size = PyObject_CallMethod(op, "_open_qsize", NULL);
        int64_t depth = size == NULL ? -1 : PyLong_AsLongLong(size);
        Py_XDECREF(size);
        if (depth < 0)
            PyErr_Clear(); /* the class has its own idea of a size */
        else
            show(self, depth);
    }
    listeners_tell(&self->listeners);
    Py_RETURN_NONE;
}

/* -- the object --------------------------------------------------------------------------------------------------------- */

static PyObject *queue_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    (void)args;
    (void)kwargs;
    return open_alloc(type);
}

/* _setup(maxsize, lifo, plain) */
static PyObject *queue_setup(PyObject *op, PyObject *args)
{
    struct queue_object *self = (struct queue_object *)op;
    long long maxsize;
    int lifo, plain;
    if (!PyArg_ParseTuple(args, "Lpp:_setup", &maxsize, &lifo, &plain))
        return NULL;
    self->maxsize = maxsize;
    self->lifo = lifo != 0;
    set_quick(self);
    self->plain = plain != 0;
    Py_RETURN_NONE;
}

static int queue_traverse(PyObject *op, visitproc visit, void *arg)
{
    struct queue_object *self = (struct queue_object *)op;
    size_t i;
    int rc = 0;
    for (i = 0; i < self->count && rc == 0; i++)
        rc = visit(self->ring[(self->head + i) & (self->room - 1)], arg);
    if (rc != 0)
        return rc;
    Py_VISIT(self->listeners.all);
    return open_traverse(op, visit, arg);
}

static int queue_clear(PyObject *op)
{
    struct queue_object *self = (struct queue_object *)op;
    PyObject **ring = self->ring;
    size_t i, count = self->count, head = self->head, room = self->room;
    self->ring = NULL;
    self->count = self->head = self->room = self->quick = 0;
    for (i = 0; i < count; i++)
        Py_DECREF(ring[(head + i) & (room - 1)]);
    PyMem_RawFree(ring);
    Py_CLEAR(self->listeners.all);
    return open_clear(op);
}

static void queue_dealloc(PyObject *op)
{
    PyObject_GC_UnTrack(op);
    if (tl_watched())
        tl_gauge_drop(queue_side_id((struct queue_object *)op, GETTER), TL_PRIVATE);
    queue_clear(op);
    open_dealloc(op);
}

static PyObject *get_maxsize(PyObject *op, void *Py_UNUSED(closure))
{
    return PyLong_FromLongLong(atomic_load(&((struct queue_object *)op)->maxsize));
}

static int set_maxsize(PyObject *op, PyObject *value, void *Py_UNUSED(closure))
{
    struct queue_object *self = (struct queue_object *)op;
    struct tl_self *me = core_self();
    long long maxsize = value == NULL ? -1 : PyLong_AsLongLong(value);
    if (me == NULL || PyErr_Occurred())
        return -1;
    queue_enter(self);
    self->maxsize = maxsize;
    set_quick(self);
    tl_notify(queue_side_id(self, PUTTER), TL_PRIVATE, -1, me); /* there may be room now */
    queue_leave(self, me);
    return 0;
}

static PyObject *get_unfinished(PyObject *op, void *Py_UNUSED(closure))
{
    struct queue_object *self = (struct queue_object *)op;
    struct tl_self *me = core_self();
    int64_t unfinished;
    if (me == NULL)
        return NULL;
    queue_enter(self);
    unfinished = self->unfinished;
    queue_leave(self, me);
    return PyLong_FromLongLong(unfinished);
}

static PyObject *get_closed(PyObject *op, void *Py_UNUSED(closure))
{
    struct queue_object *self = (struct queue_object *)op;
    struct tl_self *me = core_self();
    bool closed;
    if (me == NULL)
        return NULL;
    queue_enter(self);
    closed = self->closed;
    queue_leave(self, me);
    return PyBool_FromLong(closed);
}

static PyObject *get_open(PyObject *op, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(((struct queue_object *)op)->open);
}

static PyObject *get_waiters(PyObject *op, void *Py_UNUSED(closure))
{
    struct queue_object *self = (struct queue_object *)op;
    return Py_BuildValue("(II)", (unsigned)tl_waiters(queue_side_id(self, GETTER), TL_PRIVATE),
                         (unsigned)tl_waiters(queue_side_id(self, PUTTER), TL_PRIVATE));
}

PyDoc_STRVAR(put_doc,
"put($self, /, item, block=True, timeout=None)\n--\n\n"
"Put an item; if the queue is full, wait for room, at most `timeout` seconds (None: forever).\n\n"
"Full if there was none in time (or block is false), ShutDown if the queue was shut down.");
PyDoc_STRVAR(get_doc,
"get($self, /, block=True, timeout=None)\n--\n\n"
"Take an item; if there is none, wait for one, at most `timeout` seconds (None: forever).\n\n"
"Empty if none came in time (or block is false), ShutDown if the queue was shut down and is empty.");
PyDoc_STRVAR(task_done_doc,
"task_done($self, /)\n--\n\nSay that one item that was taken is dealt with.  ValueError if there is none left.");
PyDoc_STRVAR(join_doc, "join($self, /)\n--\n\nWait until task_done() was called for every item that was put.");
PyDoc_STRVAR(shutdown_doc,
"shutdown($self, /, immediate=False)\n--\n\n"
"Take no more items: put() raises ShutDown at once, get() does when the queue is empty.\n\n"
"With immediate, the items that are left are dropped and counted as done.  Wakes all who wait.");

static PyObject *queue_sizeof(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    struct queue_object *self = (struct queue_object *)op;
    struct tl_self *me = core_self();
    size_t room;
    if (me == NULL)
        return NULL;
    queue_enter(self);
    room = self->room;
    queue_leave(self, me);
    return PyLong_FromSize_t((size_t)Py_TYPE(op)->tp_basicsize + room * sizeof *self->ring);
}

static PyMethodDef queue_methods[] = {
    {"put", FAST(queue_put), METH_FASTCALL | METH_KEYWORDS, put_doc},
    {"get", FAST(queue_get), METH_FASTCALL | METH_KEYWORDS, get_doc},
    {"put_nowait", queue_put_nowait, METH_O, "put_nowait($self, item, /)\n--\n\nput(item, block=False)"},
    {"get_nowait", queue_get_nowait, METH_NOARGS, "get_nowait($self, /)\n--\n\nget(block=False)"},
    {"task_done", queue_task_done, METH_NOARGS, task_done_doc},
    {"join", queue_join, METH_NOARGS, join_doc},
    {"shutdown", FAST(queue_shutdown), METH_VARARGS | METH_KEYWORDS, shutdown_doc},
    {"qsize", queue_qsize, METH_NOARGS, "qsize($self, /)\n--\n\nHow many items there are now."},
    {"empty", queue_empty, METH_NOARGS, "empty($self, /)\n--\n\nWhether there is no item now."},
    {"full", queue_full, METH_NOARGS, "full($self, /)\n--\n\nWhether there is no room now."},
    {"__sizeof__", queue_sizeof, METH_NOARGS, NULL},
    {"_put_batch", queue_put_batch, METH_VARARGS, NULL},
    {"_get_batch", queue_get_batch, METH_O, NULL},
    {"_setup", queue_setup, METH_VARARGS, NULL},
    {"_open", queue_open, METH_NOARGS, NULL},
    {"_listen", queue_listen, METH_O, NULL},
    {"_unlisten", queue_unlisten, METH_O, NULL},
    {"_tell", queue_tell, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

/* queue_methods(cls): give a subclass the methods as its own.  Calls of a method whose class is exactly the object's are
 * what the interpreter specializes; inherited ones cost half as much again. */
static PyObject *queue_methods_for(PyObject *Py_UNUSED(module), PyObject *cls)
{
    PyMethodDef *method;
    if (!PyType_Check(cls)) {
        PyErr_SetString(PyExc_TypeError, "a class is needed");
        return NULL;
    }
    for (method = queue_methods; method->ml_name[0] != '_'; method++) {
        PyObject *descriptor = PyDescr_NewMethod((PyTypeObject *)cls, method);
        int rc = descriptor == NULL ? -1 : PyObject_SetAttrString(cls, method->ml_name, descriptor);
        Py_XDECREF(descriptor);
        if (rc < 0)
            return NULL;
    }
    Py_RETURN_NONE;
}

PyMethodDef core_queue_functions[] = {
    {"queue_methods", queue_methods_for, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef queue_getset[] = {
    {"__dict__", PyObject_GenericGetDict, PyObject_GenericSetDict, NULL, NULL},
    {"maxsize", get_maxsize, set_maxsize, "The most items that fit; 0 or less: no limit.", NULL},
    {"_native_unfinished", get_unfinished, NULL, NULL, NULL},
    {"_native_closed", get_closed, NULL, NULL, NULL},
    {"_is_open", get_open, NULL, NULL, NULL},
    {"_waiters", get_waiters, NULL, "How many wait to get, and to put.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot queue_slots[] = {
    {Py_tp_new, queue_new},           {Py_tp_traverse, queue_traverse}, {Py_tp_clear, queue_clear},
    {Py_tp_dealloc, queue_dealloc},   {Py_tp_methods, queue_methods},   {Py_tp_members, open_members},
    {Py_tp_getset, queue_getset},     {0, NULL},
};

static PyType_Spec queue_spec = {
    .name = "treadle._native._core.LocalQueue",
    .basicsize = sizeof(struct queue_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = queue_slots,
};

int core_add_queue(PyObject *module, struct core_state *state)
{
    state->queue_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &queue_spec, NULL);
    return state->queue_type == NULL ? -1 : PyModule_AddType(module, state->queue_type);
}
