/* Rendering: what a recording's slots are in the trace-event format; the format is described in recording/events.py.
 *
 * In C because a file is written while its program waits: in Python an event takes microseconds, and there are several
 * for each task.  What is rare (threads, ends in later chunks, what was never ended) is asked of the layers above.
 *
 * Whoever reads a recording may read it while it is written, or damaged: nothing in a slot is trusted to be a size.
 */
#include "diagnose/diagnose.h"
#include "board/trace.h"

#include <stdio.h>
#include <string.h>

#define SLOT sizeof(struct tl_trace_slot)
#define MERGED 5000000u /* ns: waits for the same thing that are not farther apart are one that was slept in slices */

/* A task that was given to a worker.  Invariant: when == 0 <=> the place is free. */
struct sent {
    uint64_t worker, task, when, index; /* index: plus one; 0: it has none */
};

/* Used by one thread at a time: its maker's. */
struct rendering_object {
    PyObject_HEAD
    Py_buffer data;
    bool held; /* data is */
    uint64_t begin, end;
    /* A hash table with open addressing, at most half full; room is a power of two or 0. */
    struct sent *sent;
    size_t room, count;
    uint64_t tasks;
};

/* -- slots --------------------------------------------------------------------------------------------------------- */

/* One after the other, without the texts between them. */
struct reader {
    const char *base;
    uint64_t at, end; /* places in the file */
};

/* The arguments (place, count) as what can be read of that. */
static struct reader reader_of(struct rendering_object *self, unsigned long long place, unsigned long long count)
{
    uint64_t total = (uint64_t)self->data.len;
    struct reader reader = {self->data.buf, place, place};
    if (place <= total && place % 8 == 0)
        reader.end = place + (count < (total - place) / SLOT ? count : (total - place) / SLOT) * SLOT;
    return reader;
}

/* The next slot, and where it is.  A text's: where it stands in the file, too. */
static bool next_slot(struct reader *reader, struct tl_trace_slot *slot, uint64_t *place, const char **text,
                      size_t *length)
{
    uint64_t left;
    if (reader->at >= reader->end)
        return false;
    *place = reader->at;
    memcpy((void *)slot, reader->base + reader->at, SLOT);
    reader->at += SLOT;
    if (slot->kind == TL_TRACE_TEXT_IS) {
        left = reader->end - reader->at;
        *text = reader->base + reader->at;
        *length = (size_t)(slot->a < left ? slot->a : left);
        reader->at += (*length + SLOT - 1) / SLOT * SLOT;
    }
    return true;
}

static uint64_t begin_of(struct tl_trace_slot *slot)
{
    return atomic_load_explicit(&slot->begin, memory_order_relaxed);
}

static uint64_t end_of(struct tl_trace_slot *slot)
{
    return atomic_load_explicit(&slot->end, memory_order_relaxed);
}

/* -- what was sent -------------------------------------------------------------------------------------------------- */

static struct sent *sent_place(struct sent *sent, size_t room, uint64_t worker, uint64_t task)
{
    uint64_t hash = (worker ^ task * 0x9e3779b97f4a7c15u) * 0xff51afd7ed558ccdu;
    size_t at = (size_t)(hash >> 20) & (room - 1);
    while (sent[at].when != 0 && (sent[at].worker != worker || sent[at].task != task))
        at = (at + 1) & (room - 1);
    return &sent[at];
}

static const struct sent *find_sent(struct rendering_object *self, uint64_t worker, uint64_t task)
{
    struct sent *found = self->room == 0 ? NULL : sent_place(self->sent, self->room, worker, task);
    return found == NULL || found->when == 0 ? NULL : found;
}

static int note_sent(struct rendering_object *self, const struct sent *new)
{
    struct sent *place;
    if (new->when == 0)
        return 0;
    if (self->count >= self->room / 2) {
        size_t room = self->room == 0 ? 1024 : self->room * 2, i;
        struct sent *wider = PyMem_Calloc(room, sizeof *wider);
        if (wider == NULL) {
            PyErr_NoMemory();
            return -1;
        }
        for (i = 0; i < self->room; i++)
            if (self->sent[i].when != 0)
                *sent_place(wider, room, self->sent[i].worker, self->sent[i].task) = self->sent[i];
        PyMem_Free(self->sent);
        self->sent = wider;
        self->room = room;
    }
    place = sent_place(self->sent, self->room, new->worker, new->task);
    self->count += place->when == 0;
    *place = *new;
    return 0;
}

/* scan(place, count) -> (texts, others, last): see _core.pyi. */
static PyObject *rendering_scan(PyObject *op, PyObject *args)
{
    struct rendering_object *self = (struct rendering_object *)op;
    unsigned long long place, count;
    struct tl_trace_slot slot;
    struct reader reader;
    PyObject *texts, *others;
    uint64_t at, last = 0;
    const char *text = NULL;
    size_t length = 0;
    if (!PyArg_ParseTuple(args, "KK:scan", &place, &count))
        return NULL;
    reader = reader_of(self, place, count);
    texts = PyDict_New();
    others = PyList_New(0);
    if (texts == NULL || others == NULL)
        goto failed;
    while (next_slot(&reader, &slot, &at, &text, &length)) {
        uint64_t began = begin_of(&slot), ended = end_of(&slot);
        PyObject *key, *value;
        int rc = 0;
        if (slot.kind == TL_TRACE_TEXT_IS) {
            key = PyLong_FromUnsignedLong(slot.name);
            value = PyUnicode_DecodeUTF8(text, (Py_ssize_t)length, "replace");
            rc = key == NULL || value == NULL ? -1 : PyDict_SetItem(texts, key, value);
            Py_XDECREF(key);
            Py_XDECREF(value);
        } else {
            if (began > last)
                last = began;
            if (ended > last)
                last = ended;
            if (slot.kind == TL_TRACE_TASK) {
                self->tasks++;
            } else if (slot.kind == TL_TRACE_SENT) {
                struct sent new = {slot.b, slot.a, began, slot.name};
                if (began >= self->begin && began <= self->end)
                    rc = note_sent(self, &new);
            } else if (slot.kind == TL_TRACE_END || slot.kind == TL_TRACE_MARK || slot.kind == TL_TRACE_THREAD) {
                value = Py_BuildValue("(iKIIIKK)", (int)slot.kind, (unsigned long long)began, slot.name, slot.where,
                                      (unsigned)atomic_load_explicit(&slot.flags, memory_order_relaxed),
                                      (unsigned long long)slot.a, (unsigned long long)slot.b);
                rc = value == NULL ? -1 : PyList_Append(others, value);
                Py_XDECREF(value);
            }
        }
        if (rc < 0)
            goto failed;
    }
    return Py_BuildValue("(NNK)", texts, others, (unsigned long long)last);
failed:
    Py_XDECREF(texts);
    Py_XDECREF(others);
    return NULL;
}

/* -- text ---------------------------------------------------------------------------------------------------------- */

struct output {
    char *bytes;
    size_t used, room;
    bool failed; /* there is no memory: what is put goes nowhere */
};

static bool make_room(struct output *out, size_t more)
{
    char *wider;
    size_t room = out->room;
    if (out->failed)
        return false;
    if (out->room - out->used >= more)
        return true;
    while (room - out->used < more)
        room = room == 0 ? 65536 : room * 2;
    wider = PyMem_Realloc(out->bytes, room);
    if (wider == NULL) {
        out->failed = true;
        return false;
    }
    out->bytes = wider;
    out->room = room;
    return true;
}

static void put_bytes(struct output *out, const char *bytes, size_t length)
{
    if (!make_room(out, length))
        return;
    memcpy(out->bytes + out->used, bytes, length);
    out->used += length;
}
#define PUT(out, literal) put_bytes(out, literal, sizeof literal - 1)

static void put_number(struct output *out, uint64_t number)
{
    char digits[20];
    size_t at = sizeof digits;
    do
        digits[--at] = (char)('0' + number % 10);
    while ((number /= 10) != 0);
    put_bytes(out, digits + at, sizeof digits - at);
}

static void put_hex(struct output *out, uint64_t number)
{
    char digits[16];
    size_t at = sizeof digits;
    do
        digits[--at] = "0123456789abcdef"[number & 15];
    while ((number >>= 4) != 0);
    put_bytes(out, digits + at, sizeof digits - at);
}

/* Nanoseconds as microseconds. */
static void put_us(struct output *out, uint64_t ns)
{
    char rest[4] = {'.', (char)('0' + ns / 100 % 10), (char)('0' + ns / 10 % 10), (char)('0' + ns % 10)};
    put_number(out, ns / 1000);
    put_bytes(out, rest, sizeof rest);
}

/* -- events -------------------------------------------------------------------------------------------------------- */

/* What one call of lines() works with. */
struct writer {
    struct rendering_object *self;
    struct output out;
    const char *where; /* "pid":1,"tid":2 */
    Py_ssize_t where_length;
    PyObject *texts, *broken, *who;
    bool arrows;
    /* The text that was asked for last. */
    uint32_t known;
    PyObject *text;
};

struct wait_event {
    uint64_t began, ended, object, edge;
    uint32_t name, where, flags;
    uint16_t sub;
    bool unfinished;
};

/* Begins a line.  Lines have ",\n" between them. */
static void put_line(struct writer *w)
{
    if (w->out.used > 0)
        PUT(&w->out, ",\n");
}

static void put_where(struct writer *w)
{
    put_bytes(&w->out, w->where, (size_t)w->where_length);
}

static int put_str(struct writer *w, PyObject *str)
{
    Py_ssize_t length;
    const char *text = PyUnicode_Check(str) ? PyUnicode_AsUTF8AndSize(str, &length) : NULL;
    if (text == NULL) {
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_TypeError, "a text is a str");
        return -1;
    }
    put_bytes(&w->out, text, (size_t)length);
    return 0;
}

/* A text of this thread's, as JSON. */
static int put_text(struct writer *w, uint32_t number)
{
    if (w->text == NULL || w->known != number) {
        PyObject *key = PyLong_FromUnsignedLong(number), *text;
        if (key == NULL)
            return -1;
        text = PyObject_GetItem(w->texts, key);
        Py_DECREF(key);
        if (text == NULL) {
            if (!PyErr_ExceptionMatches(PyExc_KeyError))
                return -1;
            PyErr_Clear();
            PUT(&w->out, "\"?\""); /* the slot is damaged */
            return 0;
        }
        Py_XSETREF(w->text, text);
        w->known = number;
    }
    return put_str(w, w->text);
}

static void put_sent(struct writer *w, struct tl_trace_slot *slot)
{
    uint64_t at = begin_of(slot) - w->self->begin;
    put_line(w);
    PUT(&w->out, "{\"ph\":\"X\",\"cat\":\"pool\",\"name\":\"send\",\"ts\":");
    put_us(&w->out, at);
    PUT(&w->out, ",\"dur\":1,");
    put_where(w);
    PUT(&w->out, ",\"args\":{\"task\":");
    put_number(&w->out, slot->a);
    PUT(&w->out, "}},\n{\"ph\":\"s\",\"cat\":\"task\",\"name\":\"task\",\"id\":\"");
    put_hex(&w->out, slot->b);
    PUT(&w->out, ".");
    put_number(&w->out, slot->a);
    PUT(&w->out, "\",\"ts\":");
    put_us(&w->out, at);
    PUT(&w->out, ",");
    put_where(w);
    PUT(&w->out, "}");
}

static void put_times(struct writer *w, uint64_t began, uint64_t ended)
{
    PUT(&w->out, ",\"ts\":");
    put_us(&w->out, began - w->self->begin);
    PUT(&w->out, ",\"dur\":");
    put_us(&w->out, ended > began ? ended - began : 0);
    PUT(&w->out, ",");
    put_where(w);
    PUT(&w->out, ",\"args\":{");
}

static int put_task(struct writer *w, struct tl_trace_slot *slot, uint64_t began, uint64_t ended, uint32_t flags,
                    bool unfinished)
{
    const struct sent *sent = find_sent(w->self, slot->b, slot->a);
    int64_t index = flags & TL_TRACE_INDEXED ? (int64_t)slot->where : sent == NULL ? -1 : (int64_t)sent->index - 1;
    put_line(w);
    PUT(&w->out, "{\"ph\":\"X\",\"cat\":\"task\",\"name\":");
    if (put_text(w, slot->name) < 0)
        return -1;
    put_times(w, began, ended);
    PUT(&w->out, "\"task\":");
    put_number(&w->out, slot->a);
    if (index >= 0) {
        PUT(&w->out, ",\"index\":");
        put_number(&w->out, (uint64_t)index);
    }
    if (unfinished)
        PUT(&w->out, ",\"unfinished\":true");
    if (flags & TL_TRACE_FAILED)
        PUT(&w->out, ",\"failed\":true");
    PUT(&w->out, "}}");
    if (sent == NULL || !w->arrows)
        return 0;
    PUT(&w->out, ",\n{\"ph\":\"f\",\"bp\":\"e\",\"cat\":\"task\",\"name\":\"task\",\"id\":\"");
    put_hex(&w->out, slot->b);
    PUT(&w->out, ".");
    put_number(&w->out, slot->a);
    PUT(&w->out, "\",\"ts\":");
    put_us(&w->out, began - w->self->begin);
    PUT(&w->out, ",");
    put_where(w);
    PUT(&w->out, "}");
    return 0;
}

static int put_span(struct writer *w, struct tl_trace_slot *slot, uint64_t began, uint64_t ended, uint32_t flags,
                    bool unfinished)
{
    put_line(w);
    PUT(&w->out, "{\"ph\":\"X\",\"cat\":\"span\",\"name\":");
    if (put_text(w, slot->name) < 0)
        return -1;
    put_times(w, began, ended);
    if (unfinished)
        PUT(&w->out, "\"unfinished\":true");
    if (flags & TL_TRACE_FAILED)
        put_bytes(&w->out, &",\"failed\":true"[unfinished ? 0 : 1], unfinished ? 14 : 13);
    PUT(&w->out, "}}");
    return 0;
}

static int put_mark(struct writer *w, struct tl_trace_slot *slot, uint64_t began)
{
    put_line(w);
    PUT(&w->out, "{\"ph\":\"i\",\"s\":\"p\",\"cat\":\"end\",\"name\":");
    if (put_text(w, slot->name) < 0)
        return -1;
    PUT(&w->out, ",\"ts\":");
    put_us(&w->out, began - w->self->begin);
    PUT(&w->out, ",");
    put_where(w);
    PUT(&w->out, "}");
    return 0;
}

static int put_wait(struct writer *w, const struct wait_event *wait)
{
    /* As `enum tl_kind`. */
    static const char *const kinds[TL_KINDS] = {
        "", "lock", "rlock", "condition", "semaphore", "event", "join", "queue get", "queue put", "queue join", "barrier",
    };
    const char *kind = wait->sub < TL_KINDS ? kinds[wait->sub] : "something";
    put_line(w);
    PUT(&w->out, "{\"ph\":\"X\",\"cat\":\"wait\",\"name\":\"wait: ");
    put_bytes(&w->out, kind, strlen(kind));
    PUT(&w->out, "\"");
    put_times(w, wait->began, wait->ended);
    PUT(&w->out, "\"kind\":\"");
    put_bytes(&w->out, kind, strlen(kind));
    PUT(&w->out, "\",\"what\":");
    if (wait->name != 0) {
        if (put_text(w, wait->name) < 0)
            return -1;
    } else {
        PUT(&w->out, "\"");
        put_bytes(&w->out, kind, strlen(kind));
        PUT(&w->out, "\"");
    }
    PUT(&w->out, ",\"object\":\"0x");
    put_hex(&w->out, wait->object);
    PUT(&w->out, "\"");
    if (wait->unfinished)
        PUT(&w->out, ",\"unfinished\":true");
    if (wait->where != 0) {
        PUT(&w->out, ",\"where\":");
        if (put_text(w, wait->where) < 0)
            return -1;
    }
    if (wait->edge & TL_OWNER_MASK) {
        PyObject *owner = PyObject_CallFunction(w->who, "K", (unsigned long long)(wait->edge & TL_OWNER_MASK));
        int rc;
        PUT(&w->out, ",\"owner\":");
        rc = owner == NULL ? -1 : put_str(w, owner);
        Py_XDECREF(owner);
        if (rc < 0)
            return -1;
    }
    if (wait->flags & TL_TRACE_TIMED_OUT)
        PUT(&w->out, ",\"timed_out\":true");
    else if (wait->flags & TL_TRACE_FAILED)
        PUT(&w->out, ",\"interrupted\":true");
    else if (wait->flags & TL_TRACE_TIMED)
        PUT(&w->out, ",\"timed\":true");
    PUT(&w->out, "}}");
    return 0;
}

/* The wait that is to be written next, or goes on in the next slot.  0, or -1 with an exception. */
static int add_wait(struct writer *w, struct wait_event *pending, bool *some, const struct wait_event *wait)
{
    uint64_t began = wait->began;
    if (*some) {
        bool same = pending->sub == wait->sub && pending->object == wait->object && pending->name == wait->name &&
                    pending->where == wait->where && wait->began < pending->ended + MERGED;
        if (same)
            began = pending->began;
        else if (put_wait(w, pending) < 0)
            return -1;
    }
    *pending = *wait;
    pending->began = began;
    *some = (wait->flags & TL_TRACE_TIMED_OUT) != 0; /* it may be slept on in the next slice */
    return *some ? 0 : put_wait(w, pending);
}

/* When something ended of which the slot has no end, as the layers above know it.  0, or -1 with an exception. */
static int ask_end(struct writer *w, uint64_t place, struct tl_trace_slot *slot, uint64_t began, uint64_t *ended,
                   uint32_t *flags, bool *unfinished)
{
    PyObject *answer = PyObject_CallFunction(w->broken, "KKK", (unsigned long long)place,
                                             (unsigned long long)(slot->kind == TL_TRACE_TASK ? slot->b : 0),
                                             (unsigned long long)began);
    unsigned long long when;
    unsigned more;
    int open, ok = answer != NULL && PyArg_ParseTuple(answer, "KIp:broken", &when, &more, &open);
    Py_XDECREF(answer);
    if (!ok)
        return -1;
    *ended = when;
    *flags |= more;
    *unfinished = open != 0;
    return 0;
}

static int write_lines(struct writer *w, struct reader *reader)
{
    const uint64_t first = w->self->begin, last = w->self->end;
    struct wait_event pending;
    struct tl_trace_slot slot;
    bool some = false;
    const char *text = NULL;
    size_t length = 0;
    uint64_t place;
    while (next_slot(reader, &slot, &place, &text, &length)) {
        uint64_t began = begin_of(&slot), ended = end_of(&slot);
        uint32_t flags = atomic_load_explicit(&slot.flags, memory_order_relaxed);
        bool unfinished = false;
        int rc = 0;
        if (slot.kind == TL_TRACE_SENT) {
            if (w->arrows && began >= first && began <= last)
                put_sent(w, &slot);
            continue;
        }
        if ((slot.kind != TL_TRACE_TASK && slot.kind != TL_TRACE_WAIT && slot.kind != TL_TRACE_SPAN &&
             slot.kind != TL_TRACE_MARK) || began > last)
            continue;
        if (ended == 0 && ask_end(w, place, &slot, began, &ended, &flags, &unfinished) < 0)
            return -1;
        if (ended < first)
            continue;
        if (began < first)
            began = first;
        if (ended > last)
            ended = last;
        if (slot.kind == TL_TRACE_WAIT) {
            struct wait_event wait = {began, ended, slot.a, slot.b, slot.name, slot.where, flags, slot.sub, unfinished};
            rc = add_wait(w, &pending, &some, &wait);
        } else if (slot.kind == TL_TRACE_TASK) {
            rc = put_task(w, &slot, began, ended, flags, unfinished);
        } else if (slot.kind == TL_TRACE_SPAN) {
            rc = put_span(w, &slot, began, ended, flags, unfinished);
        } else {
            rc = put_mark(w, &slot, began);
        }
        if (rc < 0)
            return -1;
    }
    return some ? put_wait(w, &pending) : 0;
}

/* lines(place, count, where, texts, broken, who, arrows) -> bytes: see _core.pyi. */
static PyObject *rendering_lines(PyObject *op, PyObject *args)
{
    struct writer w = {.self = (struct rendering_object *)op};
    unsigned long long place, count;
    struct reader reader;
    PyObject *result = NULL;
    int arrows;
    if (!PyArg_ParseTuple(args, "KKs#OOOp:lines", &place, &count, &w.where, &w.where_length, &w.texts, &w.broken, &w.who,
                          &arrows))
        return NULL;
    w.arrows = arrows != 0;
    reader = reader_of(w.self, place, count);
    if (write_lines(&w, &reader) == 0)
        result = w.out.failed ? PyErr_NoMemory() : PyBytes_FromStringAndSize(w.out.bytes, (Py_ssize_t)w.out.used);
    Py_XDECREF(w.text);
    PyMem_Free(w.out.bytes);
    return result;
}

/* -- the object ---------------------------------------------------------------------------------------------------- */

static PyObject *rendering_new(PyTypeObject *type, PyObject *args, PyObject *Py_UNUSED(kwargs))
{
    unsigned long long begin, end;
    struct rendering_object *self;
    PyObject *data;
    if (!PyArg_ParseTuple(args, "OKK:Rendering", &data, &begin, &end))
        return NULL;
    self = (struct rendering_object *)type->tp_alloc(type, 0);
    if (self == NULL)
        return NULL;
    if (PyObject_GetBuffer(data, &self->data, PyBUF_SIMPLE) < 0) {
        Py_DECREF(self);
        return NULL;
    }
    self->held = true;
    self->begin = begin;
    self->end = end;
    return (PyObject *)self;
}

/* The memory of the recording is no longer read: it can be closed. */
static PyObject *rendering_close(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    struct rendering_object *self = (struct rendering_object *)op;
    if (self->held) {
        PyBuffer_Release(&self->data);
        self->data.buf = NULL;
        self->data.len = 0;
        self->held = false;
    }
    Py_RETURN_NONE;
}

static void rendering_dealloc(PyObject *op)
{
    PyTypeObject *type = Py_TYPE(op);
    Py_XDECREF(rendering_close(op, NULL));
    PyMem_Free(((struct rendering_object *)op)->sent);
    type->tp_free(op);
    Py_DECREF(type);
}

static PyObject *get_tasks(PyObject *op, void *Py_UNUSED(closure))
{
    return PyLong_FromUnsignedLongLong(((struct rendering_object *)op)->tasks);
}

static PyMethodDef rendering_methods[] = {
    {"scan", rendering_scan, METH_VARARGS, NULL},
    {"lines", rendering_lines, METH_VARARGS, NULL},
    {"close", rendering_close, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef rendering_getset[] = {
    {"tasks", get_tasks, NULL, "How many tasks the chunks had that were scanned.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot rendering_slots[] = {
    {Py_tp_new, rendering_new},
    {Py_tp_dealloc, rendering_dealloc},
    {Py_tp_methods, rendering_methods},
    {Py_tp_getset, rendering_getset},
    {0, NULL},
};

static PyType_Spec rendering_spec = {
    .name = "treadle._native._core.Rendering",
    .basicsize = sizeof(struct rendering_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = rendering_slots,
};

int core_add_rendering(PyObject *module, struct core_state *Py_UNUSED(state))
{
    PyTypeObject *type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &rendering_spec, NULL);
    int rc = type == NULL ? -1 : PyModule_AddType(module, type);
    Py_XDECREF(type);
    return rc;
}
