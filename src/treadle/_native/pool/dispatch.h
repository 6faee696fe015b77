/* The brain's hot fields and loops: see pool/state.py and pool/crew.py, whose classes State and Worker extend these.
 *
 * Like the rest of the brain they are pure (no thread, no I/O, no clock) and not thread-safe: who calls anything here
 * holds the driver's lock. */
#ifndef TREADLE_DISPATCH_H
#define TREADLE_DISPATCH_H

#include "tasks/task.h"
#include "pool/worker.h"

/* Objects that are NULL were not set yet. */
struct state_object {
    PyObject_HEAD
    PyObject *queue, *waiting, *workers, *open; /* the open ones want more tasks; see pool/state.py */
    Py_ssize_t queued;
    long long next_seq, done;
    /* Recomputed by State.handle after each event.  While it is set, a worker that has returned its only task may have the
     * queue's next one at once: whatever the rules in Python would do then is just that. */
    char express;
    /* The same for a new task: nobody could be given it now, so it only joins the queue. */
    char saturated;
    /* And once more: an idle worker may be given a new task at once, and be idle again when that has returned. */
    char direct;
    _Atomic bool closing; /* no new tasks are to be taken in.  Read without the lock, too */
    Py_ssize_t low;              /* a worker with fewer tasks is open */
    unsigned ahead;              /* tasks sent directly since somebody has waited for one; see direct.c */
    long long unlearned_time;    /* ns that tasks took, which returned without the rules */
    Py_ssize_t unlearned_count;  /* and how many they were */
    /* Something was submitted that the brain does not know of yet: it goes before whatever is done with the queue.  The
     * only field that is written without the lock. */
    _Atomic bool posted;
    long long failed, cancelled, restarts;
    Py_ssize_t alive;
    /* The record on the board where it says how it stands, 0: nowhere; and the process whose that is. */
    uint32_t plate, plate_pid;
};

/* The worker's only task has returned; give it the next one.  New references, seq 0 and NULL if that is not for us to
 * do; then nothing has changed.  -1 with an exception. */
int dispatch_exchange(struct core_state *core, struct state_object *state, struct worker_object *worker, long long seq,
                      long long *next_seq, PyObject **next);

/* The idle worker that the rules would give this new task to at once; borrowed.  NULL if they would do anything else, or
 * there is none that can be reached directly. */
struct worker_object *dispatch_idle(struct core_state *core, struct state_object *state, struct task_object *task);
/* It gets it, under state->next_seq.  0, or -1 with an exception: then nothing has changed. */
int dispatch_place(struct state_object *state, struct worker_object *worker, struct task_object *task);
/* It could not be sent after all: as if nothing had happened.  Keeps the exception. */
void dispatch_take_back(struct core_state *core, struct state_object *state, struct worker_object *worker,
                        struct task_object *task);

/* The worker that the task runs in, if that has nothing else, and all that the rules would do about its return is to end it;
 * borrowed, and its number as a new reference.  NULL, perhaps with an exception, if not. */
struct worker_object *dispatch_runner(struct core_state *core, struct state_object *state, struct task_object *task,
                                      PyObject **seq);
/* It has returned: first say that the worker will be open, which may fail (-1, and nothing has changed), or take that back. */
int dispatch_open(struct state_object *state, struct worker_object *worker, bool open);
/* Then, what can't fail. */
void dispatch_returned(struct core_state *core, struct state_object *state, struct worker_object *worker, PyObject *seq,
                       long long nanoseconds);

/* All of that at once: a worker's only task has returned; was that all that the rules would do about it? */
bool dispatch_end(struct core_state *core, struct state_object *state, struct task_object *task, long long nanoseconds);

/* A new task goes to an idle worker, or joins the queue, if the rules would do just that.  False, perhaps with an exception, if
 * not; then nothing has happened. */
bool dispatch_offer(struct core_state *core, struct state_object *state, struct task_object *task);

/* Put something into the inbox of a worker's thread, without waiting (seat_object.c).  0, or -1 with an exception. */
int seat_send(PyObject *seat, PyObject *item);

/* Take the driver's lock without waiting.  False also if that can't be. */
bool dispatch_try(PyObject *lock, struct core_state *core);

#endif
