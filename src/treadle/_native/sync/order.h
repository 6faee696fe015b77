/* Methods of locks that tell somebody about each acquisition and release: for lock orders (diagnose/lock_order.py).
 *
 * They cost nothing while nobody asks: they are not called.  core_order_watch puts them into the method tables in the
 * place of the ordinary ones, once and for good, which every method object reads when it is called.
 */
#ifndef TREADLE_ORDER_H
#define TREADLE_ORDER_H

#include "python/state.h"

/* Before a lock is waited for: 0, or -1 with an exception. */
int core_order_before(PyObject *lock);
/* After an attempt: tell, if it succeeded.  If that fails, the lock is released again, and the exception stays. */
PyObject *core_order_after(PyObject *lock, PyObject *result, PyCFunction release);
PyObject *core_order_released(PyObject *lock, PyObject *result);
/* Would these arguments of acquire() wait?  -1: they are wrong, with an exception. */
int core_order_waits(PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames);

#define CORE_ORDER_METHODS(kind)                                                                                      \
    static PyObject *kind##_enter_told(PyObject *op, PyObject *unused)                                                \
    {                                                                                                                 \
        return core_order_before(op) < 0 ? NULL : core_order_after(op, kind##_enter(op, unused), kind##_release);     \
    }                                                                                                                 \
    static PyObject *kind##_acquire_told(PyObject *op, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)    \
    {                                                                                                                 \
        int waits = core_order_waits(args, nargs, kwnames);                                                           \
        if (waits < 0 || (waits > 0 && core_order_before(op) < 0))                                                    \
            return NULL;                                                                                              \
        return core_order_after(op, kind##_acquire(op, args, nargs, kwnames), kind##_release);                        \
    }                                                                                                                 \
    static PyObject *kind##_release_told(PyObject *op, PyObject *unused)                                              \
    {                                                                                                                 \
        return core_order_released(op, kind##_release(op, unused));                                                   \
    }                                                                                                                 \
    static PyObject *kind##_exit_told(PyObject *op, PyObject *const *args, Py_ssize_t nargs)                          \
    {                                                                                                                 \
        return core_order_released(op, kind##_exit(op, args, nargs));                                                 \
    }

#define CORE_ORDER_WATCH(kind)                                                                                        \
    void core_order_watch_##kind(void)                                                                                \
    {                                                                                                                 \
        static const struct { PyCFunction plain, told; } pairs[] = {                                                  \
            {kind##_enter, kind##_enter_told},                                                                        \
            {kind##_release, kind##_release_told},                                                                    \
            {FAST(kind##_acquire), FAST(kind##_acquire_told)},                                                        \
            {FAST(kind##_exit), FAST(kind##_exit_told)},                                                              \
        };                                                                                                            \
        PyMethodDef *method;                                                                                          \
        size_t i;                                                                                                     \
        for (method = kind##_methods; method->ml_name != NULL; method++)                                              \
            for (i = 0; i < sizeof pairs / sizeof *pairs; i++)                                                        \
                if (method->ml_meth == pairs[i].plain) {                                                              \
                    method->ml_meth = pairs[i].told;                                                                  \
                    break;                                                                                            \
                }                                                                                                     \
    }

void core_order_watch_lock(void);
void core_order_watch_rlock(void);

#endif
