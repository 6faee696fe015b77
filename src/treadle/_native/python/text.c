/* See text.h. */
#include "python/text.h"

#include <stdio.h>
#include <string.h>

void core_copy_str(PyObject *str, char *text, size_t size)
{
    Py_ssize_t length;
    const char *utf8 = PyUnicode_AsUTF8AndSize(str, &length);
    if (utf8 == NULL) {
        PyErr_Clear();
        utf8 = "?";
        length = 1;
    }
    if ((size_t)length >= size)
        length = (Py_ssize_t)size - 1;
    memcpy(text, utf8, (size_t)length); /* for each wait that is recorded: snprintf takes five times as long */
    text[length] = 0;
}

void core_text_of(PyObject *op, char *text, size_t size)
{
    text[0] = 0;
    if (op != NULL && PyUnicode_Check(op))
        core_copy_str(op, text, size);
}

void core_place_here(struct place *place)
{
    PyThreadState *tstate = PyThreadState_Get();
    PyFrameObject *frame = PyThreadState_GetFrame(tstate);
    place->code = NULL;
    place->line = 0;
    if (frame != NULL) {
        place->code = (PyObject *)PyFrame_GetCode(frame);
        place->line = PyFrame_GetLineNumber(frame);
        Py_DECREF(frame);
    }
}

void core_place_text(const struct place *place, char *text, size_t size)
{
    char digits[12] = {0}; /* ends with a NUL */
    size_t at = sizeof digits - 1, used;
    unsigned line = place->line > 0 ? (unsigned)place->line : 0;
    if (place->code == NULL) {
        snprintf(text, size, "?");
        return;
    }
    core_copy_str(((PyCodeObject *)place->code)->co_filename, text, size);
    used = strlen(text);
    do
        digits[--at] = (char)('0' + line % 10);
    while ((line /= 10) != 0);
    digits[--at] = ':';
    if (used + sizeof digits - at < size)
        memcpy(text + used, digits + at, sizeof digits - at);
}

/* Is the frame's file one of treadle's own? */
static bool is_ours(struct core_state *state, PyCodeObject *code)
{
    Py_ssize_t length;
    return state->home != NULL && PyUnicode_Check(state->home) && (length = PyUnicode_GET_LENGTH(state->home)) > 0 &&
           PyUnicode_Tailmatch(code->co_filename, state->home, 0, length, -1) == 1;
}

void core_users_place(struct core_state *state, char *text, size_t size)
{
    enum { DEEPEST = 12 }; /* frames of ours above the user's */
    PyFrameObject *frame = PyEval_GetFrame(), *back;
    struct place place;
    int depth;
    Py_XINCREF(frame);
    core_place_here(&place);
    for (depth = 0; frame != NULL && depth < DEEPEST; depth++) {
        PyCodeObject *code = PyFrame_GetCode(frame);
        bool ours = is_ours(state, code);
        if (!ours) {
            Py_XSETREF(place.code, (PyObject *)code);
            place.line = PyFrame_GetLineNumber(frame);
            break;
        }
        Py_DECREF(code);
        back = PyFrame_GetBack(frame);
        Py_DECREF(frame);
        frame = back;
    }
    Py_XDECREF(frame);
    core_place_text(&place, text, size);
    Py_XDECREF(place.code);
}

void core_store_users_place(struct core_state *state, _Atomic char *to, size_t size)
{
    char text[512];
    size_t length, skip;
    core_users_place(state, text, sizeof text);
    length = strlen(text);
    skip = length >= size ? length - (size - 1) : 0;
    while ((text[skip] & 0xc0) == 0x80) /* no half of a character */
        skip++;
    tl_text_store(to, size, text + skip);
}

void core_stack_text(char *text, size_t size)
{
    enum { DEEP = 12 };
    struct { PyCodeObject *code; int line; } frames[DEEP];
    PyFrameObject *frame = PyThreadState_GetFrame(PyThreadState_Get());
    int count = 0;
    size_t used = 0;
    while (frame != NULL && count < DEEP) {
        PyFrameObject *back = PyFrame_GetBack(frame);
        frames[count].code = PyFrame_GetCode(frame);
        frames[count].line = PyFrame_GetLineNumber(frame);
        count++;
        Py_DECREF(frame);
        frame = back;
    }
    Py_XDECREF(frame);
    text[0] = 0;
    while (count-- > 0) {
        char name[120], file[200];
        core_copy_str(frames[count].code->co_qualname, name, sizeof name);
        core_copy_str(frames[count].code->co_filename, file, sizeof file);
        if (used + 1 < size)
            used += (size_t)snprintf(text + used, size - used, "%s:%d in %s\n", file, frames[count].line, name);
        Py_DECREF(frames[count].code);
    }
}

void core_owner_text(tl_token token, char *text, size_t size)
{
    uint32_t number = TL_RECORD_OF(token);
    char name[TL_NAME_SIZE];
    if (number == 0 || number >= TL_BOARD_RECORDS) {
        snprintf(text, size, "nobody");
        return;
    }
    if (atomic_load(&tl_board.hot[number].generation) != TL_GENERATION_OF(token)) {
        snprintf(text, size, "a thread that has ended");
        return;
    }
    tl_text_load(tl_board.cold[number].name, TL_NAME_SIZE, name);
    if (name[0] != 0)
        snprintf(text, size, "%s", name);
    else
        snprintf(text, size, "thread %u", atomic_load(&tl_board.cold[number].tid));
}

/* It looks into a dict and a __dict__. */
void core_threading_name(struct core_state *state, char *text, size_t size)
{
    PyObject *key, *thread = NULL, *name, *field;
    text[0] = 0;
    if (state->threads == NULL || !PyDict_Check(state->threads))
        return;
    key = PyLong_FromUnsignedLong(PyThread_get_thread_ident());
    field = PyUnicode_FromString("_name");
    if (key != NULL && field != NULL) {
#if PY_VERSION_HEX >= 0x030d0000
        if (PyDict_GetItemRef(state->threads, key, &thread) < 0)
            thread = NULL;
#else
        thread = Py_XNewRef(PyDict_GetItemWithError(state->threads, key));
#endif
    }
    name = thread == NULL ? NULL : PyObject_GenericGetAttr(thread, field);
    PyErr_Clear();
    core_text_of(name, text, size);
    Py_XDECREF(name);
    Py_XDECREF(thread);
    Py_XDECREF(field);
    Py_XDECREF(key);
}
