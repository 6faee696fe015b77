/* What the Python-facing files share: the module's state, and the waiting loop. */
#ifndef TREADLE_CORE_H
#define TREADLE_CORE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <structmember.h>

#include "board/cycle.h"
#include "board/guard.h"
#include "board/lock.h"
#include "memory/arena.h"
#include "board/trace.h"

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

/* A thread that waits without core_wait, detached from the interpreter, says so: those whom it has woken see by it that it is
 * out of their way (core_await_turn). */
void core_asleep(struct tl_self *self, bool asleep);
/* Still detached, after a wake-up: wait for a moment until the thread of that record, which woke this one and still has the
 * GIL, goes to sleep itself.  0: nobody. */
void core_await_turn(uint32_t waker);

/* -- waiting ------------------------------------------------------------------------------------------------------ */

enum wait_result { WAIT_GOT, WAIT_TIMEOUT, WAIT_ERROR };

struct wait {
    uint64_t object;
    uint32_t flags; /* TL_PRIVATE, and kind << TL_KIND_SHIFT */
    /* The claim is what was waited for (a condition, an event): no look after it. */
    bool claim_is_success;
    bool spun;     /* who waits has looked for a moment already: no use in spinning */
    /* It sleeps until this descriptor is readable, or a slice is over; else until it is woken. */
    bool sleeps_on_descriptor;
    int descriptor;
    uint32_t record; /* set by core_wait: that of the wait; 0 if it did not come to that */
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

/* Call a hook; what it returns is an exception to raise, or None.  -1 if there now is an exception.  Takes arguments. */
int core_ask(PyObject *hook, PyObject *arguments);

/* Wait for at most timeout nanoseconds (forever if negative).  Called with the interpreter; others run meanwhile. */
enum wait_result core_wait(struct core_state *state, struct wait *wait, int64_t timeout);

/* The main thread has waited for a while, for something without a time-out: let the layers above look whether anybody
 * is awake at all. *next: in how many nanoseconds it should do so again.  With the interpreter.  0, or -1 with an
 * exception. */
int core_idle(struct core_state *state, int64_t *next);

/* Is there an exception that another thread has left for this one (Thread.interrupt)? */
bool core_interrupt_pending(void);

/* A time-out argument: None or a number of seconds -> nanoseconds, -1 for none.  0 on success, -1 with an exception.
 * Negative numbers count as 0. */
int core_timeout(PyObject *value, int64_t *timeout);
/* The arguments (blocking=True, timeout=-1) of acquire().  *timeout: -1 forever, 0 don't wait. */
int core_acquire_args(PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames, int64_t *timeout);
/* Two optional arguments of acquire(), `first` and "timeout"; NULL where one is not given. */
int core_two_args(PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames, const char *first, PyObject *values[2]);

/* -- recording (trace.h); each with the interpreter, running no Python code, raising nothing --------------------------- */

/* A task of that function begins.  index: of a map's item, -1: none. */
struct tl_span core_trace_task(struct core_state *state, uint64_t id, PyObject *fn, uint64_t seq, int64_t index,
                               uint64_t worker);
/* A wait begins, whose edge is known. */
struct tl_span core_trace_wait(struct core_state *state, uint64_t id, struct wait *wait, tl_token edge);
/* A task is given to a worker's process. */
void core_trace_sent(struct core_state *state, uint64_t id, uint64_t seq, int64_t index, uint64_t worker);
/* A task's index as a number, -1 if it has none. */
int64_t core_trace_index(PyObject *index);
static inline void core_trace_over(struct tl_span span, bool failed)
{
    if (__builtin_expect(span.at != 0, 0) && tl_self_here != NULL)
        tl_span_end(tl_self_here, span, failed ? TL_TRACE_FAILED : 0);
}

/* -- text --------------------------------------------------------------------------------------------------------- */

/* "file.py:12" where the innermost Python frame stands, as references that cost no formatting. */
struct place {
    PyObject *code; /* owned; NULL if there was no frame */
    int line;
};
void core_place_here(struct place *place);
void core_place_text(const struct place *place, char *text, size_t size);
/* What threading calls the calling thread; "" if it does not know it.  Runs no Python code. */
void core_threading_name(struct core_state *state, char *text, size_t size);
/* The calling thread's Python stack, innermost call last, a line each. */
void core_stack_text(char *text, size_t size);
/* Copy a str as UTF-8. */
void core_copy_str(PyObject *str, char *text, size_t size);
/* The name of the thread that owns the token: what the board knows. */
void core_owner_text(tl_token token, char *text, size_t size);

/* What a task calls: "name (file.py:12)".  Runs no Python code, and changes no exception. */
void core_title(PyObject *fn, char *text, size_t size);
/* Whose title stands on the board: cheap to compare with.  Owned. */
struct titled {
    PyObject *name; /* __qualname__ of a function; NULL: of something else */
    int line;
    const void *builtin; /* the definition of a function in C; NULL: of something else.  Only compared with */
};
/* The calling thread is a worker with that record, and its next tasks call fn. */
void core_task_title(struct tl_cold *cold, struct titled *titled, PyObject *fn);

/* -- types: each file adds its own to the module. 0, or -1 with an exception. --------------------------------------- */

int core_add_lock(PyObject *module, struct core_state *state);
int core_add_rlock(PyObject *module, struct core_state *state);
int core_add_condition(PyObject *module, struct core_state *state);
int core_add_semaphore(PyObject *module, struct core_state *state);
int core_add_event(PyObject *module, struct core_state *state);
int core_add_queue(PyObject *module, struct core_state *state);
int core_add_shared(PyObject *module, struct core_state *state);
int core_add_shared_queue(PyObject *module, struct core_state *state);
int core_add_segment(PyObject *module, struct core_state *state);
int core_add_loan(PyObject *module, struct core_state *state);
int core_add_lane(PyObject *module, struct core_state *state);
int core_add_store(PyObject *module, struct core_state *state);
int core_add_port(PyObject *module, struct core_state *state);
int core_add_task(PyObject *module, struct core_state *state);
int core_add_future(PyObject *module, struct core_state *state);
int core_add_dispatch(PyObject *module, struct core_state *state);
int core_add_seat(PyObject *module, struct core_state *state);
int core_add_inbox(PyObject *module, struct core_state *state);
int core_add_run(PyObject *module, struct core_state *state);
int core_add_singles(PyObject *module, struct core_state *state);
int core_add_pack(PyObject *module, struct core_state *state);
int core_add_known(PyObject *module, struct core_state *state);
int core_add_desk(PyObject *module, struct core_state *state);
int core_add_reader(PyObject *module, struct core_state *state);
int core_add_rendering(PyObject *module);
extern PyMethodDef core_board_methods[], core_queue_functions[], core_process_functions[], core_payload_functions[], core_trace_functions[],
    core_order_functions[];

/* Make `with` on objects of exactly this type cheap; see light.c.  Its __enter__ is METH_NOARGS, its __exit__ METH_FASTCALL. */
int core_light_methods(PyObject *module, PyTypeObject *type);

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
/* The loop of it, for any kind of lock: `block` waits for it once.  RETAKE_FAILED: the lock is not held. */
enum retaken { RETAKE_FAILED, RETAKEN, RETAKEN_RAISING };
typedef enum wait_result core_block(PyObject *lock, uint64_t bare, bool *recovered, bool *hopeless);
enum retaken core_lock_retake(PyObject *lock, struct tl_lock *word, const struct held *held, core_block *block,
                              bool *recovered);
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
/* A wait for a lock in either home.  The caller gives the object's id, flags and how to describe it, the lock, and how it
 * will be held. */
struct lock_wait {
    struct wait wait;
    PyObject *op;
    struct tl_lock *lock;
    uint64_t bare;
    bool recovered;
};
enum wait_result core_lock_wait(struct core_state *state, struct lock_wait *w, int64_t timeout);
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
