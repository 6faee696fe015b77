/* What the types record, while the session is being recorded (board/trace.h).  Each is called with the interpreter, runs no
 * Python code and raises nothing. */
#ifndef TREADLE_RECORDING_H
#define TREADLE_RECORDING_H

#include "python/wait.h"
#include "board/trace.h"

/* A task of that function begins.  index: of a map's item, -1: none. */
struct tl_span core_trace_task(struct core_state *state, uint64_t id, PyObject *fn, uint64_t seq, int64_t index,
                               uint64_t worker);
/* A wait begins, whose edge is known. */
struct tl_span core_trace_wait(struct core_state *state, uint64_t id, struct wait *wait, tl_token edge);
/* A task is given to a worker's process. */
void core_trace_sent(struct core_state *state, uint64_t id, uint64_t seq, int64_t index, uint64_t worker);
/* Something begins that takes time, of that function. */
struct tl_span core_trace_span(struct core_state *state, uint64_t id, PyObject *fn);
/* A moment in the life of the process with that token, what it is being a str. */
void core_trace_mark(struct core_state *state, uint64_t id, PyObject *what, uint64_t worker, uint64_t now);
/* How this process is called in recordings; weak: only if nothing was said yet. */
void core_trace_title(PyObject *title, bool weak);
/* A task's index as a number, -1 if it has none. */
int64_t core_trace_index(PyObject *index);
static inline void core_trace_over(struct tl_span span, bool failed)
{
    if (__builtin_expect(span.at != 0, 0) && tl_self_here != NULL)
        tl_span_end(tl_self_here, span, failed ? TL_TRACE_FAILED : 0);
}

#endif
