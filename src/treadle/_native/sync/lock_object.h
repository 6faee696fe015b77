/* Lock and RLock: the object, waiting for it, and what conditions and the pool need of it. */
#ifndef TREADLE_LOCK_OBJECT_H
#define TREADLE_LOCK_OBJECT_H

#include "python/wait.h"
#include "board/lock.h"

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
extern PyMemberDef core_lock_members[];
void core_lock_describe(struct lock_object *self, const char *kind, char *text, size_t size);
PyObject *core_lock_repr(PyObject *op, bool recursive);
PyObject *core_lock_acquired(enum wait_result result);

#endif
