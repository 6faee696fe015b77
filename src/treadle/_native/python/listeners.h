/* Callables that an object calls when it has changed, for those who wait for several things at once or in an event
 * loop.  A listener may be called when nothing it cares for has changed, but is never left out: who adds one looks at
 * the object afterwards; who changes the object looks for listeners afterwards. */
#ifndef TREADLE_LISTENERS_H
#define TREADLE_LISTENERS_H

#include "python/state.h"
#include "board/guard.h"

struct listeners {
    struct tl_guard guard;
    PyObject *all; /* NULL or a tuple, which is replaced and never changed */
};

void listeners_call(struct listeners *listeners);

/* Call them all.  Runs Python code; what they raise is reported as unraisable. */
static inline void listeners_tell(struct listeners *listeners)
{
    if (__atomic_load_n(&listeners->all, __ATOMIC_SEQ_CST) != NULL)
        listeners_call(listeners);
}

/* Add one, or take one away (compared by identity). None, or NULL with an exception. */
PyObject *listeners_change(struct listeners *listeners, PyObject *extra, PyObject *gone);

#endif
