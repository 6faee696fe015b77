/* The base of the objects in shared memory: a reference to a slot of the arena. */
#ifndef TREADLE_SHARED_OBJECT_H
#define TREADLE_SHARED_OBJECT_H

#include "python/open_object.h"
#include "sync/lock_object.h"
#include "memory/arena.h"

struct shared_object {
    OPEN_OBJECT_HEAD
    struct tl_slot *slot; /* NULL until it was made or received */
    uint32_t number, generation;
    uint64_t id; /* what its waiters park on */
};

void shared_unusable(struct shared_object *self);
/* May it be used?  If not, an exception is set. */
static inline bool shared_ready(struct shared_object *self)
{
    if (__builtin_expect(self->slot != NULL && !tl_arena.lost, 1))
        return true;
    shared_unusable(self);
    return false;
}

/* Make the slot; name is a str, None or NULL.  0, or -1 with an exception. */
int shared_make(PyObject *op, enum tl_slot_kind kind, PyObject *name);
/* Make one without name and place: its kind uses their bytes. */
int shared_make_plain(PyObject *op, enum tl_slot_kind kind);
/* Raise what an errno of the arena means. */
void shared_error(int error);
PyObject *shared_new(PyTypeObject *type, PyObject *args, PyObject *kwargs);
void shared_dealloc(PyObject *op);
/* "Lock 'name' (made at file:line)" */
void shared_describe(PyObject *op, const char *kind, char *text, size_t size);
/* acquire(block=True, timeout=None) as in multiprocessing: -1 forever, 0 don't wait. */
int shared_acquire_args(PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames, int64_t *timeout);

/* What conditions need of locks, as core_lock_save and core_lock_restore. */
bool shared_lock_check(struct core_state *state, PyObject *lock);
bool shared_lock_mine(PyObject *lock, struct tl_self *me);
void shared_lock_save(PyObject *lock, struct tl_self *me, struct held *held);
int shared_lock_restore(PyObject *lock, const struct held *held);

int core_add_shared_lock(PyObject *module, struct core_state *state);
int core_add_shared_semaphore(PyObject *module, struct core_state *state);
int core_add_shared_condition(PyObject *module, struct core_state *state);
int core_add_shared_event(PyObject *module, struct core_state *state);
int core_add_shared_barrier(PyObject *module, struct core_state *state);
int core_add_shared_cells(PyObject *module, struct core_state *state);
/* Add a type that users see under another module's name. */
PyTypeObject *shared_add_type(PyObject *module, PyType_Spec *spec, PyTypeObject *base, const char *name);

#endif
