/* Loans: large buffers of a message, read where they lie.
 *
 * The receiver has the cell's extent mapped, and has the buffers without a copy; the cell stays its process's until the
 * last of them is gone, so nobody else writes there.  A fork would give the child the mapping but not the cell, so before
 * a fork every loan is made the process's own memory, and its cell is given back.
 */
#ifndef TREADLE_LOAN_H
#define TREADLE_LOAN_H

#include "python/state.h"
#include "memory/cells.h"

/* A read-write buffer of the cell's first `size` bytes.  The cell is TAKEN by the calling thread; if this succeeds, the
 * loan has it, else nothing has changed and no exception is set.  queue keeps the ring alive. */
PyObject *loan_new(struct core_state *state, PyObject *queue, struct ring *ring, uint32_t cell, uint64_t taken,
                   size_t size);

#endif
