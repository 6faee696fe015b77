/* What the types record; see recording.h. */
#include "python/recording.h"
#include "python/text.h"

#include <stdio.h>
#include <string.h>

#define TITLE 96u

/* How this process is called in a recording: the last that was said, before it runs other threads.
 * Text, so that what is read while it is written is torn and nothing worse. */
static _Atomic char title[TITLE];

/* -- texts --------------------------------------------------------------------------------------------------------- */

static void thread_name(struct core_state *state, char *text, size_t size)
{
    tl_text_load(tl_board.cold[tl_self_here->records[0]].name, TL_NAME_SIZE, text);
    if (text[0] == 0)
        core_threading_name(state, text, size);
}

static void introduce(struct core_state *state, struct tl_self *self, uint64_t id)
{
    char name[TL_NAME_SIZE], process[TITLE];
    if (!tl_trace_is_new(self, id))
        return;
    thread_name(state, name, sizeof name);
    tl_text_load(title, TITLE, process);
    tl_trace_introduce(self, id, name, process);
}

static uint32_t number_of(struct tl_self *self, uint64_t id, const char *text)
{
    return text[0] == 0 ? 0 : tl_trace_text(self, id, text, strlen(text));
}

/* What a function is called: its __qualname__, or what ends up in its place.  A str is its own name. */
static void function_name(PyObject *fn, char *text, size_t size)
{
    PyObject *name = NULL;
    text[0] = 0;
    if (PyUnicode_Check(fn)) {
        name = Py_NewRef(fn);
    } else if (PyFunction_Check(fn)) {
        name = Py_NewRef(((PyFunctionObject *)fn)->func_qualname);
    } else if (PyMethod_Check(fn)) {
        function_name(PyMethod_GET_FUNCTION(fn), text, size);
        return;
    } else if (PyCFunction_Check(fn)) {
        snprintf(text, size, "%s", ((PyCFunctionObject *)fn)->m_ml->ml_name);
        return;
    } else {
        PyObject *field = PyUnicode_FromString("__qualname__");
        name = field == NULL ? NULL : PyObject_GenericGetAttr(fn, field);
        Py_XDECREF(field);
        if (name == NULL) {
            PyErr_Clear();
            field = PyUnicode_FromString("func"); /* a functools.partial */
            name = field == NULL ? NULL : PyObject_GenericGetAttr(fn, field);
            Py_XDECREF(field);
            if (name != NULL && !PyUnicode_Check(name) && name != fn && (PyFunction_Check(name) || PyMethod_Check(name))) {
                function_name(name, text, size);
                Py_DECREF(name);
                return;
            }
            Py_CLEAR(name);
            PyErr_Clear();
        }
    }
    core_text_of(name, text, size);
    Py_XDECREF(name);
    if (text[0] == 0)
        snprintf(text, size, "%s", Py_TYPE(fn)->tp_name);
}

int64_t core_trace_index(PyObject *index)
{
    int overflow;
    long long number = index == NULL || !PyLong_Check(index) ? -1 : PyLong_AsLongLongAndOverflow(index, &overflow);
    return number < 0 || number >= UINT32_MAX ? -1 : number;
}

/* -- records ------------------------------------------------------------------------------------------------------- */

struct tl_span core_trace_task(struct core_state *state, uint64_t id, PyObject *fn, uint64_t seq, int64_t index,
                               uint64_t worker)
{
    struct tl_trace_slot slot = {.kind = TL_TRACE_TASK, .a = seq, .b = worker};
    struct tl_span none = {0, 0};
    struct tl_self *self = tl_self();
    char text[TL_TRACE_TEXT];
    if (self == NULL)
        return none;
    introduce(state, self, id);
    function_name(fn, text, sizeof text);
    slot.name = number_of(self, id, text);
    if (index >= 0) {
        slot.where = (uint32_t)index;
        atomic_store_explicit(&slot.flags, TL_TRACE_INDEXED, memory_order_relaxed);
    }
    atomic_store_explicit(&slot.begin, os_now(), memory_order_relaxed);
    return tl_span_begin(self, id, &slot);
}

struct tl_span core_trace_wait(struct core_state *state, uint64_t id, struct wait *wait, tl_token edge)
{
    struct tl_trace_slot slot = {.kind = TL_TRACE_WAIT, .a = wait->object, .b = edge};
    struct tl_self *self = tl_self_here;
    char text[TL_TRACE_TEXT];
    uint64_t begin = os_now();
    introduce(state, self, id);
    slot.sub = (uint16_t)(wait->flags >> TL_KIND_SHIFT);
    text[0] = 0;
    if (wait->describe != NULL)
        wait->describe(wait, text, sizeof text);
    slot.name = number_of(self, id, text);
    core_users_place(state, text, sizeof text);
    slot.where = number_of(self, id, text);
    if (wait->flags & TL_TIMED)
        atomic_store_explicit(&slot.flags, TL_TRACE_TIMED, memory_order_relaxed);
    atomic_store_explicit(&slot.begin, begin, memory_order_relaxed);
    return tl_span_begin(self, id, &slot);
}

void core_trace_sent(struct core_state *state, uint64_t id, uint64_t seq, int64_t index, uint64_t worker)
{
    struct tl_trace_slot slot = {.kind = TL_TRACE_SENT, .a = seq, .b = worker};
    struct tl_self *self = tl_self();
    uint64_t now = os_now();
    if (self == NULL)
        return;
    introduce(state, self, id);
    slot.name = (uint32_t)(index + 1);
    atomic_store_explicit(&slot.begin, now, memory_order_relaxed);
    atomic_store_explicit(&slot.end, now, memory_order_relaxed);
    tl_span_begin(self, id, &slot);
}

struct tl_span core_trace_span(struct core_state *state, uint64_t id, PyObject *fn)
{
    struct tl_trace_slot slot = {.kind = TL_TRACE_SPAN};
    struct tl_self *self = tl_self_here;
    char text[TL_TRACE_TEXT];
    introduce(state, self, id);
    function_name(fn, text, sizeof text);
    slot.name = number_of(self, id, text);
    atomic_store_explicit(&slot.begin, os_now(), memory_order_relaxed);
    return tl_span_begin(self, id, &slot);
}

void core_trace_mark(struct core_state *state, uint64_t id, PyObject *what, uint64_t worker, uint64_t now)
{
    struct tl_trace_slot slot = {.kind = TL_TRACE_MARK, .b = worker};
    struct tl_self *self = tl_self_here;
    char text[TL_TRACE_TEXT];
    introduce(state, self, id);
    core_text_of(what, text, sizeof text);
    slot.name = number_of(self, id, text);
    atomic_store_explicit(&slot.begin, now, memory_order_relaxed);
    atomic_store_explicit(&slot.end, now, memory_order_relaxed);
    tl_span_begin(self, id, &slot);
}

void core_trace_title(PyObject *value, bool weak)
{
    char text[TITLE];
    tl_text_load(title, TITLE, text);
    if (weak && text[0] != 0)
        return;
    core_copy_str(value, text, sizeof text);
    tl_text_store(title, TITLE, text);
}
