/* What the Python-facing files share: the module's state, and the waiting loop. */
#ifndef TREADLE_CORE_H
#define TREADLE_CORE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <structmember.h>

#include "cycle.h"
#include "guard.h"
#include "lock.h"

/* One a module object, hence one an interpreter. */
struct core_state {
    PyTypeObject *lock_type, *rlock_type, *condition_type, *semaphore_type, *event_type, *queue_type;
    /* Set by hook(): what the layers above put in.  Each may be NULL. */
    PyObject *on_cycle;    /* on_cycle(members) -> exception to raise, or None to go on waiting */
    PyObject *on_orphan;   /* on_orphan(what, kind) -> the same; the owner of what ended without releasing it */
    PyObject *on_recovery; /* on_recovery(what) -> None or raises; the lock was taken over from a dead process */
    PyObject *interrupted; /* the exception class Interrupted */
    PyObject *empty, *full, *shutdown;
};

extern struct PyModuleDef core_module;
struct core_state *core_state_of(PyObject *self); /* of any object of one of our types, or a subclass */

/* TREADLE_DEADLOCK */
enum { DEADLOCK_OFF, DEADLOCK_WARN, DEADLOCK_RAISE };
extern _Atomic int core_deadlock_mode;

/* Raise the exception for a failed tl_self(), and return NULL. */
PyObject *core_no_record(void);
static inline struct tl_self *core_self(void)
{
    struct tl_self *self = tl_self();
    if (self == NULL)
        core_no_record();
    return self;
}

/* -- waiting ------------------------------------------------------------------------------------------------------ */

enum wait_result { WAIT_GOT, WAIT_TIMEOUT, WAIT_ERROR };

struct wait {
    uint64_t object;
    uint32_t flags; /* TL_PRIVATE, and kind << TL_KIND_SHIFT */
    /* The claim is what was waited for (a condition, an event): no look after it. */
    bool claim_is_success;
    bool hopeless; /* set by core_wait: it failed because it could never have ended */
    /* Called once the wait is published, with the interpreter.  Negative with an exception set: give up. May be NULL. */
    int (*prepare)(struct wait *wait, struct tl_self *self);
    /* Look at the object: true if this thread now has what it waits for.  Called without the interpreter as well, so it
     * may touch C data only. entitled: it has waited for a while, or was woken; inspect: a slice is over. */
    bool (*look)(struct wait *wait, struct tl_self *self, bool entitled, bool inspect);
    /* Whom it waits for; NULL or 0: nobody in particular. */
    tl_token (*edge)(struct wait *wait, struct tl_self *self);
    /* The wait ends without success, or without having used the claim on it: undo what prepare and look did, and let
     * somebody else have the claim.  May be NULL. */
    void (*leave)(struct wait *wait, struct tl_self *self, bool claimed);
    /* A line that says what is waited for. With the interpreter; must not run Python code. */
    void (*describe)(struct wait *wait, char *text, size_t size);
};

/* Wait for at most timeout nanoseconds (forever if negative).  Called with the interpreter; others run meanwhile. */
enum wait_result core_wait(struct core_state *state, struct wait *wait, int64_t timeout);

/* A time-out argument: None or a number of seconds -> nanoseconds, -1 for none.  0 on success, -1 with an exception.
 * Negative numbers count as 0. */
int core_timeout(PyObject *value, int64_t *timeout);
/* The arguments (blocking=True, timeout=-1) of acquire().  *timeout: -1 forever, 0 don't wait. */
int core_acquire_args(PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames, int64_t *timeout);

/* -- text --------------------------------------------------------------------------------------------------------- */

/* "file.py:12" where the innermost Python frame stands, as references that cost no formatting. */
struct place {
    PyObject *code; /* owned; NULL if there was no frame */
    int line;
};
void core_place_here(struct place *place);
void core_place_text(const struct place *place, char *text, size_t size);
/* The calling thread's Python stack, innermost call last, a line each. */
void core_stack_text(char *text, size_t size);
/* Copy a str as UTF-8. */
void core_copy_str(PyObject *str, char *text, size_t size);
/* The name of the thread that owns the token: what the board knows. */
void core_owner_text(tl_token token, char *text, size_t size);

/* -- types: each file adds its own to the module. 0, or -1 with an exception. --------------------------------------- */

int core_add_lock(PyObject *module, struct core_state *state);
int core_add_rlock(PyObject *module, struct core_state *state);
int core_add_condition(PyObject *module, struct core_state *state);
int core_add_semaphore(PyObject *module, struct core_state *state);
int core_add_event(PyObject *module, struct core_state *state);
int core_add_queue(PyObject *module, struct core_state *state);
extern PyMethodDef core_board_methods[], core_queue_functions[];

/* Make `with` on objects of exactly this type cheap; the functions are called with the bound method, whose object is
 * core_light_self(). See light.c. */
PyObject *core_light_self(PyObject *bound);
int core_light_methods(PyObject *module, PyTypeObject *type, vectorcallfunc enter, vectorcallfunc leave);

/* What conditions need of locks: give up everything (how it was held goes to *held), and take it back in the same way.
 * core_lock_restore gives the lock back in the end whatever interrupts it; -1 if an exception is set (the lock is held
 * all the same, unless waiting for it was a deadlock). */
struct held {
    uint32_t count; /* of a recursive lock */
    uint64_t bare;
};
int core_lock_save(PyObject *lock, struct tl_self *self, struct held *held);
bool core_lock_is_ours(struct core_state *state, PyObject *lock);
int core_lock_restore(PyObject *lock, const struct held *held);
bool core_lock_owned(PyObject *lock, struct tl_self *self);

/* What Condition, Semaphore and Event have in common: users may subclass them, refer to them weakly and set attributes,
 * as with the classes of the standard library, which are written in Python. */
#define OPEN_OBJECT_HEAD \
    PyObject_HEAD        \
    PyObject *weak;      \
    PyObject *dict;      \
    PyObject *code;      \
    int line;
struct open_object {
    OPEN_OBJECT_HEAD
};
PyObject *open_alloc(PyTypeObject *type);
int open_traverse(PyObject *op, visitproc visit, void *arg);
int open_clear(PyObject *op);
void open_dealloc(PyObject *op);
extern PyMemberDef open_members[];
void open_describe(PyObject *op, const char *kind, char *text, size_t size);
/* "treadle.Event" for our own class, "module.Name" for a subclass: what the repr begins with. New reference. */
PyObject *open_type_name(PyObject *op);

struct lock_object {
    PyObject_HEAD
    struct tl_lock lock;
    _Atomic uint32_t count; /* recursive locks only; only the owner writes it */
    int line;               /* where it was made */
    PyObject *code;         /* ... or NULL */
    PyObject *name;         /* str or NULL */
    PyObject *weak;
};
static inline uint64_t lock_id(struct lock_object *self) { return (uint64_t)(uintptr_t)&self->lock; }
/* The slow way into the lock. *hopeless as in struct wait; may be NULL. */
enum wait_result core_lock_block(struct core_state *state, struct lock_object *self, uint64_t bare, int64_t timeout,
                                 bool *hopeless);
PyObject *core_lock_new(PyTypeObject *type, PyObject *args, PyObject *kwargs, const char *format);
void core_lock_dealloc(PyObject *op);
void core_lock_describe(struct lock_object *self, const char *kind, char *text, size_t size);
PyObject *core_lock_repr(PyObject *op, bool recursive);
PyObject *core_lock_acquired(enum wait_result result);

#endif
