/* See direct.h. */
#include "pool/direct.h"
#include "sync/lock_object.h"
#include "tasks/future.h"
#include "transport/lane_object.h"

#define SLICE_NS ((int64_t)50 * 1000000) /* longer waits are for the ordinary way, which signals and reports know */
#define AHEAD_MOST 4 /* who sends more without waiting for any wants many done, not one at once: batches cost less */
#define WORTH_NS 100000                  /* shorter waits than that are not worth a look at a thread */
#define TRIES 64                         /* looks at the brain's lock, while somebody else has it for a moment */

/* A worker that is a thread has a seat, with an inbox. */
static bool send_to_seat(struct core_state *core, struct state_object *state, struct worker_object *worker,
                           struct task_object *task)
{
    PyObject *batch = Py_BuildValue("((LO))", state->next_seq, (PyObject *)task);
    bool sent = batch != NULL && dispatch_place(state, worker, task) == 0;
    if (sent && seat_send(worker->lane, batch) < 0) {
        dispatch_take_back(core, state, worker, task);
        sent = false;
    }
    Py_XDECREF(batch);
    return sent;
}

bool direct_send(struct core_state *core, struct state_object *state, struct task_object *task)
{
    struct worker_object *worker = dispatch_idle(core, state, task);
    uint64_t seq = (uint64_t)state->next_seq;
    bool sent = false;
    if (worker == NULL || state->ahead >= AHEAD_MOST || worker->lane == NULL) {
        /* nowhere */
    } else if (Py_TYPE(worker->lane) == core->seat_type) {
        sent = send_to_seat(core, state, worker, task);
    } else if (Py_TYPE(worker->lane) == core->lane_type && lane_write_task(worker->lane, core, task, seq)) {
        sent = dispatch_place(state, worker, task) == 0;
        lane_write_end(worker->lane, core, task, seq, sent);
    }
    state->ahead += sent;
    PyErr_Clear();
    return sent;
}

static bool take_lock(PyObject *lock, struct core_state *core)
{
    int i, tries = tl_process.several ? TRIES : 1;
    for (i = 0; i < tries; i++) {
        if (dispatch_try(lock, core))
            return true;
        os_relax();
    }
    return false;
}

static void give_lock(PyObject *op)
{
    struct lock_object *lock = (struct lock_object *)op;
    tl_lock_release(&lock->lock, lock_id(lock), tl_self());
}

/* With the brain's lock: the lane or seat of the worker that runs it, as a new reference, and its number there; or NULL. */
static PyObject *lane_of(struct core_state *core, struct state_object *state, struct task_object *task, PyObject **seq)
{
    struct worker_object *worker = dispatch_runner(core, state, task, seq);
    if (worker != NULL && worker->lane != NULL &&
        (Py_TYPE(worker->lane) == core->lane_type || Py_TYPE(worker->lane) == core->seat_type))
        return Py_NewRef(worker->lane);
    Py_CLEAR(*seq);
    PyErr_Clear();
    return NULL;
}

/* Something is in the lane: take it, if it is the value, and finish the future.  All of it or nothing. */
static bool finish(struct core_state *core, struct state_object *state, PyObject *lock, PyObject *future,
                   struct task_object *task, PyObject *lane, struct lane_claim *claim, PyObject *number)
{
    struct worker_object *worker = NULL;
    PyObject *seq = NULL, *value = NULL;
    uint64_t nanoseconds = 0;
    bool done = false;
    if (!take_lock(lock, core))
        return false;
    worker = dispatch_runner(core, state, task, &seq);
    if (worker != NULL && worker->lane == lane && PyObject_RichCompareBool(seq, number, Py_EQ) == 1 &&
        lane_read_value(lane, claim, PyLong_AsUnsignedLongLong(number), &value, &nanoseconds)) {
        if (dispatch_open(state, worker, true) == 0) {
            done = future_finish(future, value);
            if (done)
                dispatch_returned(core, state, worker, seq, (long long)nanoseconds);
            else
                dispatch_open(state, worker, false);
        }
        lane_read_end(lane, claim, done);
    }
    PyErr_Clear();
    give_lock(lock);
    Py_XDECREF(value);
    Py_XDECREF(seq);
    return done;
}

PyObject *direct_fetch(PyObject *op, PyObject *const *args, Py_ssize_t nargs)
{
    struct core_state *core = core_state_of(op);
    struct state_object *state = (struct state_object *)op;
    struct lane_claim claim;
    PyObject *future, *lock, *task, *lane = NULL, *seq = NULL;
    double seconds;
    int64_t ns = SLICE_NS;
    bool done = false;
    if (nargs != 3 || !PyObject_TypeCheck(args[1], core->future_type)) {
        PyErr_SetString(PyExc_TypeError, "fetch(lock, future, seconds)");
        return NULL;
    }
    lock = args[0];
    future = args[1];
    if (args[2] != Py_None) {
        seconds = PyFloat_AsDouble(args[2]);
        if (seconds == -1.0 && PyErr_Occurred())
            return NULL;
        if (seconds < (double)SLICE_NS / 1e9)
            ns = seconds > 0.0 ? (int64_t)(seconds * 1e9) : 0;
    }
    task = future_task(future);
    /* With another class of future, or another sink, more is to be done. */
    if (task == NULL || !core_is_task(core, task) || (PyObject *)Py_TYPE(future) != core->future_class ||
        ((struct task_object *)task)->sink != future || !take_lock(lock, core)) {
        Py_XDECREF(task);
        Py_RETURN_FALSE;
    }
    state->ahead = 0;
    lane = lane_of(core, state, (struct task_object *)task, &seq);
    give_lock(lock);
    if (lane != NULL && Py_TYPE(lane) == core->seat_type) {
        done = ns >= WORTH_NS && future_watch(future); /* its thread finishes the future itself */
    } else if (lane != NULL && lane_claim(lane, &claim)) {
        bool found = lane_watch(lane, &claim, 0);
        if (!found && ns > 0) {
            Py_BEGIN_ALLOW_THREADS
            found = lane_watch(lane, &claim, ns);
            Py_END_ALLOW_THREADS
        }
        if (found)
            done = finish(core, state, lock, future, (struct task_object *)task, lane, &claim, seq);
        lane_hand_back(lane, &claim);
    }
    Py_XDECREF(lane);
    Py_XDECREF(seq);
    Py_DECREF(task);
    return Py_NewRef(done ? Py_True : Py_False);
}
