/* The module's state, and what every file that knows Python begins with. */
#ifndef TREADLE_STATE_H
#define TREADLE_STATE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <structmember.h>

#include "board/self.h"

/* One a module object, hence one an interpreter. */
struct core_state {
    PyTypeObject *lock_type, *rlock_type, *condition_type, *semaphore_type, *event_type, *queue_type;
    PyTypeObject *shared_type, *shared_lock_type, *shared_rlock_type, *shared_queue_type, *segment_type,
        *loan_type, *lane_type, *port_type, *store_type, *parcel_type, *call_type, *task_type, *future_type, *worker_type,
        *brain_type, *slot_type, *inbox_type, *odd_type, *singles_type, *known_type, *desk_type, *pack_type, *seat_type;
    PyObject *future_states[5]; /* the names of concurrent.futures */
    PyObject *text_popleft, *text_locked, *text_append, *text_appendleft, *text_extend;
    /* Set by hook(): what the layers above put in.  Each may be NULL. */
    PyObject *on_cycle;    /* on_cycle(members) -> exception to raise, or None to go on waiting */
    PyObject *on_orphan;   /* on_orphan(what, kind) -> the same; the owner of what ended without releasing it */
    PyObject *on_idle;     /* on_idle() -> seconds until it wants to be called again, in the main thread */
    PyObject *order_before, *order_after, *order_released; /* see order.h: called with the lock */
    PyObject *on_recovery; /* on_recovery(what, raises) -> the same; the lock was taken over from a dead process */
    PyObject *on_reduce;   /* on_reduce(shared object) -> what its __reduce__ returns */
    PyObject *on_repr;     /* on_repr(shared object) -> its repr */
    PyObject *gone;        /* the exception class for a shared object that was freed */
    PyObject *interrupted; /* the exception class Interrupted */
    PyObject *surface;     /* surface(): runs Python code until the pending async exception is raised in it */
    PyObject *empty, *full, *shutdown;
    PyObject *pack_apart;    /* pack_apart(object) -> (bytes, list of large buffers that are not in them) */
    PyObject *pack, *unpack; /* payloads: pack(object) -> bytes, unpack(bytes) -> object */
    PyObject *deliver;       /* deliver(task, kind, data): what settling does not do itself; reports what goes wrong */
    PyObject *default_options; /* TaskOptions that ask for nothing */
    PyObject *unread;        /* unread(exception, driver): a future is gone, and nobody ever looked at its failure */
    PyObject *home;            /* the folder of treadle's own files, as a str */
    PyObject *threads;         /* a dict: ident -> threading.Thread, of those that run */
    PyObject *future_class;    /* the class whose futures are settled in C */
    PyObject *dumps, *loads; /* dumps(object) -> (bytes, buffers or None); loads(bytes, buffers=None) -> object */
};

extern struct PyModuleDef core_module; /* the top's, in module.c: here only what tells our modules from others */
struct core_state *core_state_of(PyObject *self); /* of any object of one of our types, or a subclass */

/* In a table of methods, a function with other parameters than (self, argument). */
#define FAST(f) (PyCFunction)(void (*)(void))f

/* In a table of members, one that Python sees under that name. */
#define MEMBER(type, name, kind, field, flags) {name, kind, offsetof(struct type, field), flags, NULL}

/* A section in which no other thread is in one of the same object's; the GIL sees to that where there is one. */
#ifdef Py_GIL_DISABLED
#define LOCKED(object) Py_BEGIN_CRITICAL_SECTION(object)
#define UNLOCKED() Py_END_CRITICAL_SECTION()
#else
#define LOCKED(object) {
#define UNLOCKED() }
#endif

int core_state_traverse(struct core_state *state, visitproc visit, void *arg);
int core_state_clear(struct core_state *state);
extern PyMethodDef core_state_functions[];

/* Raise MemoryError or the OSError of that errno, and return NULL. */
PyObject *core_failed(int error);
/* Raise the exception for a failed tl_self(), and return NULL. */
PyObject *core_no_record(void);
static inline struct tl_self *core_self(void)
{
    struct tl_self *self = tl_self();
    if (self == NULL)
        core_no_record();
    return self;
}

/* The exception that is set, as an object, and it is set no more.  New reference. */
PyObject *core_raised(void);

#endif
