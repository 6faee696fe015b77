/* Waiting for the end of a child process: a wait like all others, with an edge to the child's main thread, so that a
 * deadlock that it is part of is found.  It sleeps on a descriptor, because nobody wakes whom the kernel must tell. */
#include "python/arguments.h"
#include "python/wait.h"
#include "sync/sync.h"

#include <string.h>

struct process_wait {
    struct wait wait;
    uint32_t pid;
    /* The child's main thread; 0 until it is on the board. Only a hint: its generation is compared each time. */
    uint32_t record;
    char text[TL_WHAT_SIZE];
};

static bool process_look(struct wait *wait, struct tl_self *me, bool entitled, bool inspect)
{
    (void)me;
    (void)entitled;
    (void)inspect;
    return os_readable(wait->descriptor, 0) == OS_WOKEN;
}

static bool is_main_thread(uint32_t number, uint32_t pid)
{
    return atomic_load(&tl_board.hot[number].pid) == pid && atomic_load(&tl_board.cold[number].tid) == pid &&
           atomic_load(&tl_board.cold[number].nested) == 0;
}

static tl_token process_edge(struct wait *wait, struct tl_self *me)
{
    struct process_wait *w = (struct process_wait *)wait;
    uint32_t number, high;
    (void)me;
    if (w->record == 0 || !is_main_thread(w->record, w->pid)) {
        high = atomic_load(&tl_board.head->high);
        w->record = 0;
        for (number = 1; number < high && w->record == 0; number++)
            if (is_main_thread(number, w->pid))
                w->record = number;
    }
    return w->record == 0 ? 0 : tl_record_token(w->record);
}

static void process_text(struct wait *wait, char *text, size_t size)
{
    PyOS_snprintf(text, size, "%s", ((struct process_wait *)wait)->text);
}

PyDoc_STRVAR(wait_process_doc,
"wait_process(descriptor, pid, what, timeout, /) -> bool\n\n"
"Wait until the descriptor is readable, which it is when that child has ended; for timeout seconds (None: forever).\n"
"False if it was not in time.");

static PyObject *wait_process(PyObject *module, PyObject *args)
{
    struct process_wait w;
    const char *what;
    PyObject *timeout;
    int64_t ns;
    int descriptor;
    memset(&w, 0, sizeof w);
    if (!PyArg_ParseTuple(args, "iIsO:wait_process", &descriptor, &w.pid, &what, &timeout) ||
        core_timeout(timeout, &ns) < 0)
        return NULL;
    w.wait.object = ((uint64_t)1 << 63) | w.pid; /* no address of an object, so nobody claims this wait */
    w.wait.flags = TL_PRIVATE | TL_JOIN << TL_KIND_SHIFT;
    w.wait.sleeps_on_descriptor = true;
    w.wait.descriptor = descriptor;
    w.wait.look = process_look;
    w.wait.edge = process_edge;
    w.wait.describe = process_text;
    PyOS_snprintf(w.text, sizeof w.text, "%s", what);
    switch (core_wait(PyModule_GetState(module), &w.wait, ns)) {
    case WAIT_GOT: Py_RETURN_TRUE;
    case WAIT_TIMEOUT: Py_RETURN_FALSE;
    default: return NULL;
    }
}

PyMethodDef core_process_functions[] = {
    {"wait_process", wait_process, METH_VARARGS, wait_process_doc},
    {NULL, NULL, 0, NULL},
};
