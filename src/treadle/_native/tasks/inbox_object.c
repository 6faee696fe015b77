/* Inbox of a map: where its results arrive, how far it may run ahead of its reader, and where that waits.
 *
 * Everything is under one guard, so nothing Python is made or dropped inside.  The inbox owns the slots that are unread,
 * in a list; `line` has those that the reader comes to next: with order all that are unread, else those that are done.
 *
 * The window.  One that is too small leaves workers idle, one that is too large keeps results in memory.  So it starts
 * small and doubles when the workers have run dry and the reader has found nothing to read.  (If only the workers have,
 * the reader is slow, and needs no more.)  Where results come from far it soon grows by four.  With a `buffer` it is fixed.
 *
 * Runs.  A slot may stand for several items: its values come in parts, are counted as what they are, and read one by one. */
#include "tasks/inbox.h"
#include "values/codec.h"
#include "values/payload.h"
#include "tasks/tasks.h"
#include "board/guard.h"


#define FIRST 4             /* tasks a worker, to begin with */
#define LARGEST 4096        /* tasks; beyond it nothing is gained, even by the smallest ones */
#define LARGEST_RUNS 32768  /* items in runs */
#define BYTES (32ll << 20)  /* of pickled inputs (each has its original beside it) and unread results */

struct inbox_object {
    PyObject_HEAD
    struct tl_guard guard;
    bool ordered, fixed;
    Py_ssize_t first_limit;
    Py_ssize_t dry; /* with fewer unfinished items the workers have run dry, or will before new ones reach them */
    /* Under the guard: */
    struct slot_object *first, *last; /* the unread, each of which is owned */
    struct slot_object **line;        /* a ring of room slots (a power of two, or 0); those in it are unread */
    size_t room, head, count;
    PyObject *wake; /* Invariant: not NULL only while a reader waits, or is about to */
    /* Invariant: 0 <= unfinished <= unread <= the largest limit there has been. */
    Py_ssize_t limit, unread, unfinished;
    long long bytes;   /* of the inputs of unread tasks, and of the results that have arrived for them */
    bool hungry;       /* has the reader found nothing to read, since the window last grew? */
    double result;     /* bytes of a result, smoothed */
    long long returned; /* values handed out by next_value */
    bool runs;          /* are there any, since the last look at the window? */
    double pace;        /* nanoseconds that an item of a run takes, smoothed; 0: not known */
    Py_ssize_t timeless; /* items of runs that have come since a time was told */
    bool closed; /* Invariant: once true it stays so, and nothing is added */
};

static struct inbox_object *as_inbox(PyObject *op) { return (struct inbox_object *)op; }
static void enter(struct inbox_object *self) { tl_guard_enter(&self->guard, TL_RANK_QUEUE); }
static void leave(struct inbox_object *self) { tl_guard_leave(&self->guard); }

/* -- under the guard ----------------------------------------------------------------------------------------------------- */

static bool line_reserve(struct inbox_object *self, size_t more)
{
    size_t room = self->room == 0 ? 64 : self->room, i;
    struct slot_object **line;
    while (room < self->count + more)
        room *= 2;
    if (room == self->room)
        return true;
    line = PyMem_RawMalloc(room * sizeof *line);
    if (line == NULL)
        return false;
    for (i = 0; i < self->count; i++)
        line[i] = self->line[(self->head + i) & (self->room - 1)];
    PyMem_RawFree(self->line);
    self->line = line;
    self->room = room;
    self->head = 0;
    return true;
}

/* Room for every unread slot was reserved by `add`. */
static void line_push(struct inbox_object *self, struct slot_object *slot)
{
    self->line[(self->head + self->count++) & (self->room - 1)] = slot;
}

static struct slot_object *line_head(struct inbox_object *self)
{
    return self->count == 0 ? NULL : self->line[self->head];
}

static bool ready(struct inbox_object *self)
{
    struct slot_object *slot = line_head(self);
    if (slot == NULL || slot->values == NULL)
        return slot != NULL && slot->done;
    return self->ordered ? slot->pack != NULL || slot->values[slot->next] != NULL : slot->there > 0;
}

/* It is no longer among the unread: the reference that the inbox had is the caller's now. */
static void unlink_slot(struct inbox_object *self, struct slot_object *slot)
{
    *(slot->before == NULL ? &self->first : &slot->before->after) = slot->after;
    *(slot->after == NULL ? &self->last : &slot->after->before) = slot->before;
    slot->before = slot->after = NULL;
    slot->linked = false;
    self->bytes -= slot->size;
}

static void pop_line(struct inbox_object *self)
{
    self->head = (self->head + 1) & (self->room - 1);
    self->count--;
}

/* The head of the line, a single task, is read. */
static struct slot_object *pop(struct inbox_object *self)
{
    struct slot_object *slot = line_head(self);
    pop_line(self);
    unlink_slot(self, slot);
    self->unread--;
    return slot;
}

/* An item of a run that was taken out: a value or Odd, or where that lies in a Pack. */
struct popped {
    PyObject *value, *pack; /* one of them is owned, the other one NULL */
    const char *data;
    size_t length;
    Py_ssize_t at; /* its place in the run */
    bool last;     /* the reference that the inbox had to the slot is the caller's */
};

/* Find the next item of the head, a run, that has ended; there is one. */
static void seek(struct slot_object *slot)
{
    while (slot->pack == NULL && slot->values[slot->next] == NULL) /* without order only */
        slot->next = slot->next + 1 < slot->count ? slot->next + 1 : 0;
}

/* Take it out. */
static void pop_item(struct core_state *core, struct inbox_object *self, struct popped *popped)
{
    struct slot_object *slot = line_head(self);
    seek(slot);
    popped->at = slot->next;
    popped->pack = NULL;
    popped->value = slot->values[slot->next];
    slot->values[slot->next] = NULL;
    if (popped->value != NULL && core_is_pack(core, popped->value)) {
        slot->pack = popped->value;
        slot->pack_at = ((struct pack_object *)slot->pack)->from;
        slot->pack_left = ((struct pack_object *)slot->pack)->count;
        popped->value = NULL;
    }
    if (slot->pack != NULL) {
        popped->pack = slot->pack;
        if (!pack_next(slot->pack, &slot->pack_at, &popped->data, &popped->length))
            popped->length = 0; /* never; it will be said to be damaged */
        if (--slot->pack_left > 0)
            Py_INCREF(slot->pack);
        else
            slot->pack = NULL;
    }
    slot->next = slot->next + 1 < slot->count ? slot->next + 1 : 0;
    slot->there--;
    slot->read++;
    self->unread--;
    popped->last = slot->read == slot->count;
    if (popped->last || (!self->ordered && slot->there == 0)) {
        pop_line(self);
        slot->lined = false;
    }
    if (popped->last)
        unlink_slot(self, slot);
}

/* What was taken out, as an object.  Not under the guard. */
static PyObject *made_of(struct popped *popped)
{
    PyObject *value = popped->value;
    if (value == NULL) {
        value = codec_decode(popped->data, popped->length);
        Py_DECREF(popped->pack);
    }
    return value;
}

/* -- Inbox --------------------------------------------------------------------------------------------------------------- */

static int inbox_init(PyObject *op, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"workers", "buffer", "ordered", "reach", NULL};
    struct inbox_object *self = as_inbox(op);
    PyObject *buffer;
    Py_ssize_t workers, reach = 1;
    int ordered;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "nOp|n:Inbox", names, &workers, &buffer, &ordered, &reach))
        return -1;
    self->dry = workers * reach;
    self->first_limit = FIRST * workers;
    self->ordered = ordered;
    self->fixed = buffer != Py_None;
    self->limit = self->fixed ? PyNumber_AsSsize_t(buffer, PyExc_OverflowError) : self->first_limit;
    return PyErr_Occurred() ? -1 : 0;
}

static int inbox_traverse(PyObject *op, visitproc visit, void *arg)
{
    struct inbox_object *self = as_inbox(op);
    struct slot_object *slot;
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(self->wake);
    for (slot = self->first; slot != NULL; slot = slot->after)
        Py_VISIT(slot);
    return 0;
}

static int inbox_clear(PyObject *op)
{
    struct inbox_object *self = as_inbox(op);
    struct slot_object *slot, *after;
    PyObject *wake;
    enter(self);
    slot = self->first;
    self->first = self->last = NULL;
    self->count = 0;
    self->unread = self->unfinished = 0;
    wake = self->wake;
    self->wake = NULL;
    leave(self);
    for (; slot != NULL; slot = after) {
        after = slot->after;
        slot->before = slot->after = NULL;
        slot->linked = false;
        Py_DECREF(slot);
    }
    Py_XDECREF(wake);
    return 0;
}

static void inbox_dealloc(PyObject *op)
{
    PyTypeObject *type = Py_TYPE(op);
    PyObject_GC_UnTrack(op);
    inbox_clear(op);
    PyMem_RawFree(as_inbox(op)->line);
    type->tp_free(op);
    Py_DECREF(type);
}

/* What data counts for in the window. */
static Py_ssize_t size_of(struct core_state *core, PyObject *data)
{
    if (PyBytes_Check(data))
        return PyBytes_GET_SIZE(data);
    if (PyByteArray_Check(data))
        return PyByteArray_GET_SIZE(data);
    return core->parcel_type != NULL && Py_TYPE(data) == core->parcel_type ? PyObject_Size(data) : 0;
}

/* Call what has the reader go on.  Takes it. */
static void call_wake(PyObject *wake)
{
    PyObject *done = PyObject_CallNoArgs(wake);
    if (done == NULL)
        PyErr_WriteUnraisable(wake);
    Py_XDECREF(done);
    Py_DECREF(wake);
}

/* Under the guard: whom to wake now, or NULL. */
static PyObject *whom_to_wake(struct inbox_object *self)
{
    PyObject *wake = self->wake;
    if (wake == NULL || !ready(self))
        return NULL;
    self->wake = NULL;
    return wake;
}

void inbox_deliver_part(struct core_state *core, struct slot_object *slot, PyObject *part)
{
    struct inbox_object *self = as_inbox(slot->inbox);
    PyObject *values, *wake;
    Py_ssize_t index, i, at, count, size = 0, odd = 0, came = 0;
    long long nanoseconds;
    bool packed;
    if (self == NULL)
        return;
    if (!PyArg_ParseTuple(part, "nOL:deliver", &index, &values, &nanoseconds) ||
        (count = values_count(core, values)) < 0) {
        PyErr_WriteUnraisable(part);
        return;
    }
    at = index - slot->index;
    if (slot->values == NULL || at < 0 || count < 1 || count > slot->count - at)
        return;
    packed = core_is_pack(core, values);
    for (i = 0; i < count && !packed; i++) {
        PyObject *value = PyList_GET_ITEM(values, i);
        if (run_is_odd(core, value)) {
            size += size_of(core, ((struct odd_object *)value)->data);
            odd++;
        }
    }
    Py_INCREF(self);
    Py_INCREF(slot);
    enter(self);
    if (packed && slot->values[at] == NULL) {
        slot->values[at] = Py_NewRef(values);
        came = count;
    }
    for (i = 0; i < count && !packed; i++) {
        if (slot->values[at + i] != NULL)
            continue; /* never: an item ends once */
        slot->values[at + i] = Py_NewRef(PyList_GET_ITEM(values, i));
        came++;
    }
    slot->there += came;
    slot->size += size;
    self->unfinished -= came;
    self->bytes += size;
    if (odd > 0)
        self->result += ((double)size / (double)odd - self->result) / 8;
    else
        self->result -= self->result / 8;
    self->timeless += came;
    if (nanoseconds > 0 && self->timeless > 0) {
        /* Workers tell the time of several items with the last of them. */
        double each = (double)nanoseconds / (double)self->timeless;
        self->timeless = 0;
        /* By so much at most: a worker that had to wait for a CPU in between tells nothing. */
        if (self->pace != 0)
            each = each < self->pace / 2 ? self->pace / 2 : each > self->pace * 1.5 ? self->pace * 1.5 : each;
        self->pace = each;
    }
    if (!self->ordered && slot->linked && !slot->lined && slot->there > 0) {
        slot->lined = true;
        line_push(self, slot);
    }
    wake = whom_to_wake(self);
    leave(self);
    if (wake != NULL)
        call_wake(wake);
    Py_DECREF(slot);
    Py_DECREF(self);
}

void inbox_deliver(struct slot_object *slot, int kind, PyObject *data)
{
    struct inbox_object *self = as_inbox(slot->inbox);
    PyObject *old, *wake;
    Py_ssize_t size;
    if (self == NULL)
        return;
    size = size_of(core_state_of((PyObject *)self), data);
    Py_INCREF(self);
    Py_INCREF(data);
    enter(self);
    old = slot->data;
    slot->kind = kind;
    slot->data = data;
    slot->size += size;
    slot->done = 1;
    self->unfinished--;
    self->bytes += size;
    self->result += self->result != 0 ? ((double)size - self->result) / 8 : (double)size;
    if (!self->ordered && slot->linked)
        line_push(self, slot);
    wake = whom_to_wake(self);
    leave(self);
    Py_XDECREF(old);
    if (wake != NULL)
        call_wake(wake);
    Py_DECREF(self);
}

static PyObject *inbox_add(PyObject *op, PyObject *args)
{
    struct core_state *core = core_state_of(op);
    struct inbox_object *self = as_inbox(op);
    PyObject *slots;
    Py_ssize_t i, size, items = 0;
    bool fits, closed, runs = false;
    if (!PyArg_ParseTuple(args, "O!n:add", &PyList_Type, &slots, &size))
        return NULL;
    for (i = 0; i < PyList_GET_SIZE(slots); i++) {
        PyObject *slot = PyList_GET_ITEM(slots, i);
        if (!PyObject_TypeCheck(slot, core->slot_type) || as_slot(slot)->inbox != op || as_slot(slot)->linked) {
            PyErr_SetString(PyExc_TypeError, "add takes new slots of this inbox");
            return NULL;
        }
        items += as_slot(slot)->count;
        runs |= as_slot(slot)->values != NULL;
    }
    enter(self);
    closed = self->closed;
    fits = !closed && line_reserve(self, (size_t)(PyList_GET_SIZE(slots) + self->unread) - (self->ordered ? self->count : 0));
    for (i = 0; fits && i < PyList_GET_SIZE(slots); i++) {
        struct slot_object *slot = as_slot(Py_NewRef(PyList_GET_ITEM(slots, i)));
        slot->before = self->last;
        slot->after = NULL;
        slot->linked = true;
        *(self->last == NULL ? &self->first : &self->last->after) = slot;
        self->last = slot;
        if (self->ordered)
            line_push(self, slot);
    }
    if (fits) {
        self->unread += items;
        self->unfinished += items;
        self->bytes += size;
        self->runs |= runs;
    }
    leave(self);
    if (!fits && !closed)
        return PyErr_NoMemory();
    return Py_NewRef(closed ? Py_False : Py_True);
}

/* One item of a run, as if it had been a task of its own.  Takes `value`. */
static PyObject *single(struct core_state *core, struct slot_object *run, Py_ssize_t at, PyObject *value)
{
    struct task_object *whole = (struct task_object *)run->task;
    struct call_object *call = whole == NULL ? NULL : (struct call_object *)whole->call;
    PyTypeObject *type = Py_TYPE(run);
    struct slot_object *slot = NULL;
    PyObject *args[4], *made = NULL, *items, *item = NULL;
    /* All that the run began with, also what was split off from it. */
    items = call == NULL ? NULL : call->args;
    if (items == NULL) {
        PyErr_SetString(PyExc_SystemError, "a run without its items");
        goto done;
    }
    item = values_item(core, items, at, &run->items);
    if (item == NULL)
        goto done;
    slot = (struct slot_object *)type->tp_alloc(type, 0);
    if (slot == NULL)
        goto done;
    slot->inbox = Py_NewRef(run->inbox);
    slot->index = run->index + at;
    slot->count = 1;
    slot->done = 1;
    if (run_is_odd(core, value)) {
        slot->kind = ((struct odd_object *)value)->kind;
        slot->data = Py_NewRef(((struct odd_object *)value)->data);
    } else {
        slot->kind = KIND_RETURNED;
        slot->data = Py_NewRef(value);
    }
    args[0] = call->fn;
    args[1] = whole->one ? PyTuple_Pack(1, item) : Py_NewRef(item);
    args[2] = Py_None;
    made = args[1] == NULL ? NULL : PyObject_Vectorcall((PyObject *)core->call_type, args, 3, NULL);
    Py_XDECREF(args[1]);
    if (made == NULL)
        goto failed;
    args[0] = made;
    args[1] = (PyObject *)slot;
    args[2] = PyLong_FromSsize_t(slot->index);
    args[3] = core->default_options;
    slot->task = args[2] == NULL ? NULL : PyObject_Vectorcall((PyObject *)core->task_type, args, 4, NULL);
    Py_XDECREF(args[2]);
    Py_DECREF(made);
    if (slot->task == NULL)
        goto failed;
    ((struct task_object *)slot->task)->attempts = 1;
    ((struct task_object *)slot->task)->state = TASK_DONE;
done:
    Py_XDECREF(item);
    Py_DECREF(value);
    return (PyObject *)slot;
failed:
    Py_CLEAR(slot);
    goto done;
}

/* Task and slot hold each other, until it is read. */
static void part_with_task(PyObject *task)
{
    PyObject *none = ((struct task_object *)task)->sink, *rest = ((struct task_object *)task)->rest;
    ((struct task_object *)task)->sink = Py_NewRef(Py_None);
    Py_XDECREF(none);
    if (rest != NULL)
        part_with_task(rest);
}

static PyObject *inbox_take(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    struct inbox_object *self = as_inbox(op);
    struct slot_object *slot = NULL;
    struct core_state *core = core_state_of(op);
    struct popped popped = {0};
    PyObject *value, *made;
    bool run = false;
    enter(self);
    if (!ready(self)) {
        self->hungry = true;
    } else if (line_head(self)->values == NULL) {
        slot = pop(self);
    } else {
        slot = line_head(self);
        run = true;
        pop_item(core, self, &popped);
        if (!popped.last)
            Py_INCREF(slot);
    }
    leave(self);
    if (slot == NULL)
        return Py_NewRef(Py_None);
    if (!run)
        return (PyObject *)slot;
    value = made_of(&popped);
    made = value == NULL ? NULL : single(core, slot, popped.at, value);
    if (popped.last && slot->task != NULL)
        part_with_task(slot->task);
    Py_DECREF(slot);
    return made;
}

PyObject *inbox_value(struct core_state *core, PyObject *op)
{
    struct inbox_object *self = as_inbox(op);
    struct slot_object *slot = NULL, *head;
    struct popped popped = {0};
    PyObject *value = NULL;
    enter(self);
    head = ready(self) ? line_head(self) : NULL;
    if (head != NULL && head->values != NULL) {
        seek(head);
        if (head->pack != NULL || !run_is_odd(core, head->values[head->next])) {
            pop_item(core, self, &popped);
            slot = popped.last ? head : NULL;
            self->returned++;
        }
    } else if (head != NULL &&
               (head->kind == KIND_RETURNED ||
                (head->kind == KIND_RETURNED_PACKED && PyBytes_CheckExact(head->data) &&
                 !payload_is_pickle(PyBytes_AS_STRING(head->data), PyBytes_GET_SIZE(head->data))))) {
        slot = pop(self);
        self->returned++;
    }
    leave(self);
    if (popped.value != NULL || popped.pack != NULL)
        value = made_of(&popped);
    else if (slot != NULL)
        value = slot->kind == KIND_RETURNED
                    ? Py_NewRef(slot->data)
                    : codec_decode(PyBytes_AS_STRING(slot->data), (size_t)PyBytes_GET_SIZE(slot->data));
    if (slot == NULL)
        return value;
    if (slot->task != NULL)
        part_with_task(slot->task);
    Py_DECREF(slot);
    return value;
}

static PyObject *inbox_next_value(PyObject *op, PyObject *nothing)
{
    PyObject *value = inbox_value(core_state_of(op), op);
    return value != NULL || PyErr_Occurred() ? value : Py_NewRef(nothing);
}

static PyObject *inbox_wake_reader(PyObject *op, PyObject *wake)
{
    struct inbox_object *self = as_inbox(op);
    PyObject *old = NULL;
    bool there;
    Py_INCREF(wake);
    enter(self);
    there = ready(self);
    if (!there) {
        old = self->wake;
        self->wake = wake;
    }
    leave(self);
    if (there)
        Py_DECREF(wake);
    Py_XDECREF(old);
    return PyBool_FromLong(!there);
}

static PyObject *inbox_has_next(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    struct inbox_object *self = as_inbox(op);
    bool there;
    enter(self);
    there = ready(self);
    leave(self);
    return PyBool_FromLong(there);
}

static Py_ssize_t wants(struct inbox_object *self)
{
    /* What is on its way counts as well: a hundred results of a megabyte may arrive before the next look. */
    double spare = (double)(BYTES - self->bytes) - (double)self->unfinished * self->result;
    Py_ssize_t room;
    if (spare < self->result)
        return self->unread > 0 ? 0 : 1;
    /* In runs they come in lumps: a quarter of the window is as good as nothing. */
    if (self->hungry && !self->fixed &&
        (self->unfinished < self->dry || (self->runs && self->unfinished < self->limit / 4))) {
        Py_ssize_t largest = self->runs ? LARGEST_RUNS : LARGEST;
        /* Where an answer takes its time, a second look at the window comes late: there it then grows faster. */
        Py_ssize_t factor = self->limit < self->dry && self->limit > self->first_limit ? 4 : 2;
        self->hungry = self->runs = false;
        if (self->limit < largest)
            self->limit = self->limit * factor < largest ? self->limit * factor : largest;
    }
    room = self->limit - self->unread;
    if (room < (self->limit / 8 > 1 ? self->limit / 8 : 1))
        return 0;
    return (double)room * self->result <= spare ? room : (Py_ssize_t)(spare / self->result);
}

static PyObject *inbox_wants(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    struct inbox_object *self = as_inbox(op);
    Py_ssize_t count;
    enter(self);
    count = wants(self);
    leave(self);
    return PyLong_FromSsize_t(count);
}

static PyObject *inbox_close(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    struct inbox_object *self = as_inbox(op);
    struct slot_object *slot, **held = NULL;
    PyObject *tasks;
    Py_ssize_t i, count = 0;
    enter(self);
    self->closed = true;
    if (self->unread > 0)
        held = PyMem_RawMalloc((size_t)self->unread * sizeof *held);
    for (slot = held == NULL ? NULL : self->first; slot != NULL; slot = slot->after) {
        Py_INCREF(slot);
        held[count++] = slot;
    }
    leave(self);
    tasks = PyList_New(0);
    for (i = 0; i < count; i++) {
        if (tasks != NULL && held[i]->task != NULL && PyList_Append(tasks, held[i]->task) < 0)
            Py_CLEAR(tasks);
        Py_DECREF(held[i]);
    }
    PyMem_RawFree(held);
    return tasks;
}

#define NUMBER(name, type, expression)                                       \
    static PyObject *inbox_get_##name(PyObject *op, void *Py_UNUSED(closure)) \
    {                                                                        \
        struct inbox_object *self = as_inbox(op);                            \
        long long value;                                                     \
        enter(self);                                                         \
        value = (long long)(expression);                                     \
        leave(self);                                                         \
        return type(value);                                                  \
    }
NUMBER(starving, PyBool_FromLong, self->unfinished < self->dry)
NUMBER(unread, PyLong_FromLongLong, self->unread)
NUMBER(limit, PyLong_FromLongLong, self->limit)
NUMBER(returned, PyLong_FromLongLong, self->returned)

static PyObject *inbox_get_pace(PyObject *op, void *Py_UNUSED(closure))
{
    double pace;
    enter(as_inbox(op));
    pace = as_inbox(op)->pace;
    leave(as_inbox(op));
    return PyFloat_FromDouble(pace / 1e9);
}

static PyGetSetDef inbox_getset[] = {
    {"starving", inbox_get_starving, NULL, "Are there workers that could run one more item at once?", NULL},
    {"unread", inbox_get_unread, NULL, "How many are submitted and not read.", NULL},
    {"limit", inbox_get_limit, NULL, "How many may be submitted and unread.", NULL},
    {"pace", inbox_get_pace, NULL, "How many seconds an item of a run takes, of late; 0.0: not known.", NULL},
    {"returned", inbox_get_returned, NULL, "How many values next_value has handed out.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMethodDef inbox_methods[] = {
    {"add", inbox_add, METH_VARARGS,
     "add($self, slots, size, /)\n--\n\n"
     "These are about to be submitted, with so many bytes of input.  False, and they must not be, if it was closed."},
    {"take", inbox_take, METH_NOARGS,
     "take($self, /)\n--\n\nThe next slot to read, or None.  Only the reader calls this and the next two."},
    {"next_value", inbox_next_value, METH_O,
     "next_value($self, nothing, /)\n--\n\nThe next result, if it is there and a plain value; else `nothing`."},
    {"wake_reader", inbox_wake_reader, METH_O,
     "wake_reader($self, wake, /)\n--\n\n"
     "Have `wake` called when there is something to take; False, and it won't be, if there is already."},
    {"has_next", inbox_has_next, METH_NOARGS, "has_next($self, /)\n--\n\nCan one be read without waiting?"},
    {"wants", inbox_wants, METH_NOARGS,
     "wants($self, /)\n--\n\nHow many more items to submit now; 0 also while it is not worth the trouble yet."},
    {"close", inbox_close, METH_NOARGS,
     "close($self, /)\n--\n\nNothing is added any more.  Returns the tasks that are unread: they were submitted, or are about to be."},
    {NULL, NULL, 0, NULL},
};

PyDoc_STRVAR(inbox_doc,
"Inbox(workers, buffer, ordered)\n--\n\n"
"Where a map's results arrive, where its reader waits, and how far it may run ahead.  Thread-safe.\n\n"
"The pool holds the inbox, but not the iterator: so an iterator that nobody holds any more can be collected.");

static PyType_Slot inbox_slots[] = {
    {Py_tp_doc, (void *)inbox_doc},   {Py_tp_new, PyType_GenericNew}, {Py_tp_init, inbox_init},
    {Py_tp_traverse, inbox_traverse}, {Py_tp_clear, inbox_clear},     {Py_tp_dealloc, inbox_dealloc},
    {Py_tp_methods, inbox_methods},   {Py_tp_getset, inbox_getset},   {0, NULL},
};

static PyType_Spec inbox_spec = {
    .name = "treadle._native._core.Inbox",
    .basicsize = sizeof(struct inbox_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = inbox_slots,
};

int core_add_inbox(PyObject *module, struct core_state *core)
{
    core->inbox_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &inbox_spec, NULL);
    if (core->inbox_type == NULL || PyModule_AddType(module, core->inbox_type) < 0)
        return -1;
    return PyModule_AddIntConstant(module, "INBOX_LARGEST", LARGEST);
}
