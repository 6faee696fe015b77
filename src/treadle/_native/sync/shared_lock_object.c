/* Lock and RLock in shared memory: the drop-ins for those of multiprocessing. */
#include "python/light.h"
#include "sync/shared_object.h"

#include <string.h>

static struct tl_lock *lock_of(struct shared_object *self)
{
    return &self->slot->u.lock.lock;
}

static uint64_t word_of(struct shared_object *self)
{
    return atomic_load_explicit(&lock_of(self)->word, memory_order_relaxed);
}

static bool recursive(PyObject *op)
{
    return atomic_load_explicit(&((struct shared_object *)op)->slot->kind, memory_order_relaxed) == TL_SLOT_RLOCK;
}

static inline bool is_mine(uint64_t word, const struct tl_self *me)
{
    return (word & TL_OWNER_MASK) == me->token; /* no aliases: what the parent of a fork holds stays the parent's */
}

static void lock_text(struct wait *wait, char *text, size_t size)
{
    shared_describe(((struct lock_wait *)wait)->op, wait->flags >> TL_KIND_SHIFT == TL_RLOCK ? "RLock" : "Lock", text,
                    size);
}

/* The slow way into the lock. */
static enum wait_result block(PyObject *op, uint64_t bare, int64_t timeout, bool *recovered, bool *hopeless)
{
    struct shared_object *self = (struct shared_object *)op;
    struct lock_wait w;
    enum wait_result result;
    memset(&w, 0, sizeof w);
    w.wait.object = self->id;
    w.wait.flags = (uint32_t)(recursive(op) ? TL_RLOCK : TL_LOCK) << TL_KIND_SHIFT;
    w.wait.describe = lock_text;
    w.op = op;
    w.lock = lock_of(self);
    w.bare = bare;
    result = core_lock_wait(core_state_of(op), &w, timeout);
    *recovered = w.recovered;
    *hopeless = w.wait.hopeless;
    return result;
}

/* The calling thread has the lock. */
static inline void taken(struct shared_object *self, struct tl_self *me, uint32_t count)
{
    me->held++;
    atomic_store_explicit(&self->slot->u.lock.count, count, memory_order_relaxed);
}

/* Give it up. False if nobody had it. */
static inline bool give(struct shared_object *self, struct tl_self *me)
{
    uint64_t was = tl_lock_give(lock_of(self), self->id, me) & TL_OWNER_MASK;
    if (__builtin_expect(was == me->token, 1))
        me->held--;
    else if (was != 0)
        tl_record_let_go(was);
    return was != 0;
}

/* The lock came from a dead process: -1 if there now is an exception. */
enum { DEATH_WARNS, DEATH_RAISES, DEATH_IS_IGNORED }; /* the word `raises` of a lock in shared memory */

static int tell_of_recovery(PyObject *op)
{
    struct shared_object *self = (struct shared_object *)op;
    struct core_state *state = core_state_of(op);
    struct tl_self *me = tl_self_here;
    char text[TL_WHAT_SIZE];
    shared_describe(op, recursive(op) ? "RLock" : "Lock", text, sizeof text);
    if (me != NULL)
        tl_note_recovery(me->robbed, me->robbed_pid, text);
    if (state->on_recovery == NULL || atomic_load(&self->slot->u.lock.raises) == DEATH_IS_IGNORED)
        return 0;
    return core_ask(state->on_recovery,
                    Py_BuildValue("(sO)", text, atomic_load(&self->slot->u.lock.raises) == DEATH_RAISES ? Py_True : Py_False));
}

static PyObject *take_slowly(PyObject *op, struct tl_self *me, uint64_t bare, int64_t timeout)
{
    struct shared_object *self = (struct shared_object *)op;
    bool recovered = false, hopeless;
    if (timeout == 0) {
        if (!tl_lock_barge(lock_of(self), me->token | bare)) {
            recovered = tl_lock_take_over(lock_of(self), me->token | bare);
            if (!recovered)
                Py_RETURN_FALSE;
        }
    } else {
        enum wait_result result = block(op, bare, timeout, &recovered, &hopeless);
        if (result != WAIT_GOT)
            return core_lock_acquired(result);
    }
    taken(self, me, 1);
    if (recovered && tell_of_recovery(op) < 0) {
        give(self, me); /* as if it had not been taken: the next one finds it free, and is not told again */
        return NULL;
    }
    Py_RETURN_TRUE;
}

static inline PyObject *take(PyObject *op, uint64_t bare, int64_t timeout)
{
    struct shared_object *self = (struct shared_object *)op;
    struct tl_self *me = core_self();
    if (me == NULL || !shared_ready(self))
        return NULL;
    if (!tl_lock_try(lock_of(self), me->token | bare))
        return take_slowly(op, me, bare, timeout);
    taken(self, me, 1);
    Py_RETURN_TRUE;
}

static PyObject *rtake(PyObject *op, int64_t timeout)
{
    struct shared_object *self = (struct shared_object *)op;
    struct tl_self *me = core_self();
    uint32_t count;
    if (me == NULL || !shared_ready(self))
        return NULL;
    if (!is_mine(word_of(self), me))
        return take(op, 0, timeout);
    count = atomic_load_explicit(&self->slot->u.lock.count, memory_order_relaxed);
    if (count == UINT32_MAX) {
        PyErr_SetString(PyExc_OverflowError, "the lock was taken too often");
        return NULL;
    }
    atomic_store_explicit(&self->slot->u.lock.count, count + 1, memory_order_relaxed);
    Py_RETURN_TRUE;
}

static PyObject *lock_enter(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    return take(op, 0, -1);
}

static PyObject *rlock_enter(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    return rtake(op, -1);
}

static PyObject *lock_acquire(PyObject *op, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    int64_t timeout = -1;
    if ((nargs != 0 || kwnames != NULL) && shared_acquire_args(args, nargs, kwnames, &timeout) < 0)
        return NULL;
    return take(op, TL_BARE, timeout);
}

static PyObject *rlock_acquire(PyObject *op, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    int64_t timeout = -1;
    if ((nargs != 0 || kwnames != NULL) && shared_acquire_args(args, nargs, kwnames, &timeout) < 0)
        return NULL;
    return rtake(op, timeout);
}

static PyObject *lock_release(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    struct shared_object *self = (struct shared_object *)op;
    struct tl_self *me = core_self();
    if (me == NULL || !shared_ready(self))
        return NULL;
    if (!give(self, me)) {
        PyErr_SetString(PyExc_ValueError, "semaphore or lock released too many times");
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *rlock_release(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    struct shared_object *self = (struct shared_object *)op;
    struct tl_self *me = core_self();
    uint32_t count;
    if (me == NULL || !shared_ready(self))
        return NULL;
    if (!is_mine(word_of(self), me)) {
        PyErr_SetString(PyExc_AssertionError, "attempt to release recursive lock not owned by thread");
        return NULL;
    }
    count = atomic_load_explicit(&self->slot->u.lock.count, memory_order_relaxed);
    if (count > 1)
        atomic_store_explicit(&self->slot->u.lock.count, count - 1, memory_order_relaxed);
    else
        give(self, me);
    Py_RETURN_NONE;
}

static PyObject *lock_exit(PyObject *op, PyObject *const *Py_UNUSED(args), Py_ssize_t Py_UNUSED(nargs))
{
    return lock_release(op, NULL);
}

static PyObject *rlock_exit(PyObject *op, PyObject *const *Py_UNUSED(args), Py_ssize_t Py_UNUSED(nargs))
{
    return rlock_release(op, NULL);
}

static PyObject *lock_locked(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    struct shared_object *self = (struct shared_object *)op;
    return shared_ready(self) ? PyBool_FromLong((atomic_load(&lock_of(self)->word) & TL_OWNER_MASK) != 0) : NULL;
}

static PyObject *lock_is_mine(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    struct shared_object *self = (struct shared_object *)op;
    struct tl_self *me = core_self();
    return me == NULL || !shared_ready(self) ? NULL : PyBool_FromLong(is_mine(word_of(self), me));
}

/* How often this process holds it. */
static PyObject *lock_count(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    struct shared_object *self = (struct shared_object *)op;
    uint64_t word;
    uint32_t number, count;
    if (!shared_ready(self))
        return NULL;
    word = atomic_load(&lock_of(self)->word);
    count = atomic_load(&self->slot->u.lock.count);
    number = TL_RECORD_OF(word);
    if (number == 0 || number >= TL_BOARD_RECORDS || atomic_load(&tl_board.hot[number].pid) != tl_process.pid ||
        atomic_load(&tl_board.hot[number].generation) != TL_GENERATION_OF(word))
        count = 0;
    return PyLong_FromUnsignedLong(count);
}

static PyObject *lock_waiters(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    struct shared_object *self = (struct shared_object *)op;
    return shared_ready(self) ? PyLong_FromUnsignedLong(tl_waiters(self->id, 0)) : NULL;
}

static PyObject *lock_value(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    struct shared_object *self = (struct shared_object *)op;
    return shared_ready(self) ? PyLong_FromLong((atomic_load(&lock_of(self)->word) & TL_OWNER_MASK) == 0) : NULL;
}

static int init(PyObject *op, PyObject *args, PyObject *kwargs, enum tl_slot_kind kind)
{
    static char *names[] = {"ctx", "name", "on_owner_death", NULL};
    struct shared_object *self = (struct shared_object *)op;
    PyObject *ctx = NULL, *name = NULL;
    const char *death = "warn";
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, kind == TL_SLOT_LOCK ? "|$OOs:Lock" : "|$OOs:RLock", names, &ctx,
                                     &name, &death))
        return -1;
    uint32_t on_death = strcmp(death, "warn") == 0 ? DEATH_WARNS
        : strcmp(death, "raise") == 0              ? DEATH_RAISES
                                                   : DEATH_IS_IGNORED;
    if (on_death == DEATH_IS_IGNORED && strcmp(death, "ignore") != 0) {
        PyErr_Format(PyExc_ValueError, "on_owner_death='%s': 'warn', 'raise' or 'ignore' is needed", death);
        return -1;
    }
    if (shared_make(op, kind, name) < 0)
        return -1;
    atomic_store(&self->slot->u.lock.raises, on_death);
    return 0;
}

static int lock_init(PyObject *op, PyObject *args, PyObject *kwargs)
{
    return init(op, args, kwargs, TL_SLOT_LOCK);
}

static int rlock_init(PyObject *op, PyObject *args, PyObject *kwargs)
{
    return init(op, args, kwargs, TL_SLOT_RLOCK);
}

/* -- what conditions need --------------------------------------------------------------------------------------------- */

bool shared_lock_check(struct core_state *state, PyObject *lock)
{
    return (PyObject_TypeCheck(lock, state->shared_lock_type) || PyObject_TypeCheck(lock, state->shared_rlock_type)) &&
           ((struct shared_object *)lock)->slot != NULL;
}

bool shared_lock_mine(PyObject *lock, struct tl_self *me)
{
    return is_mine(word_of((struct shared_object *)lock), me);
}

void shared_lock_save(PyObject *lock, struct tl_self *me, struct held *held)
{
    struct shared_object *self = (struct shared_object *)lock;
    held->bare = word_of(self) & TL_BARE;
    held->count = atomic_load(&self->slot->u.lock.count);
    give(self, me);
}

static enum wait_result block_again(PyObject *lock, uint64_t bare, bool *recovered, bool *hopeless)
{
    return block(lock, bare, -1, recovered, hopeless);
}

int shared_lock_restore(PyObject *lock, const struct held *held)
{
    struct shared_object *self = (struct shared_object *)lock;
    bool recovered = false;
    enum retaken how = core_lock_retake(lock, lock_of(self), held, block_again, &recovered);
    if (how == RETAKE_FAILED)
        return -1;
    taken(self, core_self(), held->count);
    if (how == RETAKEN_RAISING)
        return -1;
    /* OwnerDied is raised while the lock is held: whoever waits on a condition does so inside of its `with`. */
    return recovered ? tell_of_recovery(lock) : 0;
}

PyDoc_STRVAR(lock_doc,
"Lock(*, ctx=None, name=None, on_owner_death='warn')\n--\n\n"
"A mutual exclusion lock for the threads of several processes.\n\n"
"Like multiprocessing.Lock; it can be pickled at any time, and sent to any process of the session.  Anybody may release\n"
"it.  If its owner's process dies, the next one gets it within 0.2 s, with a LockRecoveredWarning; or acquire() raises\n"
"OwnerDied once and the lock is free (on_owner_death='raise'); 'ignore': what it guards can't be left half changed, so\n"
"nothing is said.  A cycle of threads that wait for such locks raises DeadlockError.  `name` shows in reports; `ctx` is\n"
"ignored.  MemoryError or OSError if there is no room for it.");
PyDoc_STRVAR(rlock_doc,
"RLock(*, ctx=None, name=None, on_owner_death='warn')\n--\n\n"
"A lock for the threads of several processes that its owner may take again; it must be released as often.\n\n"
"Like multiprocessing.RLock; for the rest, like Lock.");
PyDoc_STRVAR(acquire_doc,
"acquire($self, /, block=True, timeout=None)\n--\n\n"
"Take the lock; wait at most `timeout` seconds (None: forever; negative: 0).  Return whether it was taken.\n\n"
"Raises DeadlockError if the wait can never end, OwnerDied if its owner died and the lock was made to say so,\n"
"KeyboardInterrupt on Ctrl-C, Interrupted on Thread.interrupt().");
PyDoc_STRVAR(release_doc,
"release($self, /)\n--\n\nRelease the lock, whoever holds it.  ValueError if nobody does.");
PyDoc_STRVAR(rrelease_doc,
"release($self, /)\n--\n\nUndo one acquire().  AssertionError if the calling thread doesn't hold the lock.");
PyDoc_STRVAR(locked_doc, "locked($self, /)\n--\n\nWhether somebody holds the lock.");

#define METHODS(kind, release_doc)                                                                     \
    {                                                                                                  \
        {"acquire", FAST(kind##_acquire), METH_FASTCALL | METH_KEYWORDS, acquire_doc},                 \
        {"release", kind##_release, METH_NOARGS, release_doc},                                         \
        {"locked", lock_locked, METH_NOARGS, locked_doc},                                              \
        {"__enter__", kind##_enter, METH_NOARGS, NULL},                                                \
        {"__exit__", FAST(kind##_exit), METH_FASTCALL, NULL},                                          \
        {"_is_mine", lock_is_mine, METH_NOARGS, NULL},                                                 \
        {"_count", lock_count, METH_NOARGS, NULL},                                                     \
        {"_get_value", lock_value, METH_NOARGS, NULL},                                                 \
        {"_is_zero", lock_locked, METH_NOARGS, NULL},                                                  \
        {"_waiters", lock_waiters, METH_NOARGS, NULL},                                                 \
        {NULL, NULL, 0, NULL},                                                                         \
    }
static PyMethodDef lock_methods[] = METHODS(lock, release_doc);
static PyMethodDef rlock_methods[] = METHODS(rlock, rrelease_doc);

/* What the standard library's own classes look at, those that are built of such locks. */
static PyObject *lock_itself(PyObject *op, void *Py_UNUSED(closure))
{
    return Py_NewRef(op);
}

static PyGetSetDef lock_getset[] = {
    {"_semlock", lock_itself, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

#define SLOTS(doc, init, methods)                                                                      \
    {                                                                                                  \
        {Py_tp_doc, (void *)doc}, {Py_tp_init, init}, {Py_tp_methods, methods},                        \
        {Py_tp_traverse, open_traverse}, {Py_tp_clear, open_clear}, {Py_tp_dealloc, shared_dealloc},   \
        {Py_tp_members, open_members}, {Py_tp_getset, lock_getset}, {0, NULL},                         \
    }
static PyType_Slot lock_slots[] = SLOTS(lock_doc, lock_init, lock_methods);
static PyType_Slot rlock_slots[] = SLOTS(rlock_doc, rlock_init, rlock_methods);

#define SPEC(type_name, type_slots)                                                                            \
    {                                                                                                          \
        .name = type_name, .basicsize = sizeof(struct shared_object),                                          \
        .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,     \
        .slots = type_slots,                                                                                   \
    }
static PyType_Spec lock_spec = SPEC("treadle.sync.shared.Lock", lock_slots);
static PyType_Spec rlock_spec = SPEC("treadle.sync.shared.RLock", rlock_slots);

int core_add_shared_lock(PyObject *module, struct core_state *state)
{
    state->shared_lock_type = shared_add_type(module, &lock_spec, state->shared_type, "SharedLock");
    if (state->shared_lock_type == NULL ||
        core_light_methods(module, state->shared_lock_type) < 0)
        return -1;
    state->shared_rlock_type = shared_add_type(module, &rlock_spec, state->shared_type, "SharedRLock");
    if (state->shared_rlock_type == NULL)
        return -1;
    return core_light_methods(module, state->shared_rlock_type);
}
