/* See dispatch.h. */
#include "pool/dispatch.h"
#include "python/text.h"
#include "sync/lock_object.h"
#include "values/pack.h"
#include "tasks/run.h"
#include "pool/direct.h"
#include "pool/pool.h"

#include <string.h>

/* -- State --------------------------------------------------------------------------------------------------------------- */

static int state_traverse(PyObject *op, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(((struct state_object *)op)->queue);
    Py_VISIT(((struct state_object *)op)->waiting);
    Py_VISIT(((struct state_object *)op)->workers);
    Py_VISIT(((struct state_object *)op)->open);
    return 0;
}

static int state_clear(PyObject *op)
{
    Py_CLEAR(((struct state_object *)op)->queue);
    Py_CLEAR(((struct state_object *)op)->waiting);
    Py_CLEAR(((struct state_object *)op)->workers);
    Py_CLEAR(((struct state_object *)op)->open);
    return 0;
}

/* -- the plate: what diagnosis reads from outside; see board.h ------------------------------------------------------------ */

static void publish(struct state_object *self)
{
    struct tl_plate *plate;
    if (!TL_FOR_DIAGNOSIS || self->plate == 0 || self->plate_pid != tl_process.pid) /* in a fork, it is the parent's */
        return;
    plate = &tl_board.cold[self->plate].plate;
    atomic_store_explicit(&plate->queued, (uint64_t)self->queued, memory_order_relaxed);
    atomic_store_explicit(&plate->done, (uint64_t)self->done, memory_order_relaxed);
    atomic_store_explicit(&plate->failed, (uint64_t)self->failed, memory_order_relaxed);
    atomic_store_explicit(&plate->cancelled, (uint64_t)self->cancelled, memory_order_relaxed);
    atomic_store_explicit(&plate->restarts, (uint64_t)self->restarts, memory_order_relaxed);
    if (self->waiting != NULL && PySet_Check(self->waiting))
        atomic_store_explicit(&plate->retrying, (uint64_t)PySet_GET_SIZE(self->waiting), memory_order_relaxed);
    atomic_store_explicit(&plate->workers, (uint64_t)self->alive, memory_order_relaxed);
}

static void hide(struct state_object *self)
{
    if (self->plate != 0 && self->plate_pid == tl_process.pid)
        tl_record_release(self->plate);
    self->plate = 0;
}

/* _show(name, what, limit) -> the token of its plate; 0: there is no room for one, and it goes without */
static PyObject *state_show(PyObject *op, PyObject *args)
{
    struct state_object *self = (struct state_object *)op;
    PyObject *name, *what;
    unsigned long long limit;
    char text[TL_WHAT_SIZE];
    struct tl_cold *cold;
    int error = 0;
    if (!PyArg_ParseTuple(args, "UUK:_show", &name, &what, &limit))
        return NULL;
    if (self->plate != 0 && self->plate_pid != tl_process.pid)
        self->plate = 0;
    if (self->plate == 0) {
        self->plate = tl_record_claim(&error);
        self->plate_pid = tl_process.pid;
        if (self->plate == 0)
            return PyLong_FromLong(0);
        memset((void *)&tl_board.cold[self->plate].plate, 0, sizeof tl_board.cold->plate);
    }
    cold = &tl_board.cold[self->plate];
    core_copy_str(name, text, TL_NAME_SIZE);
    tl_text_store(cold->name, TL_NAME_SIZE, text);
    core_copy_str(what, text, sizeof text);
    tl_text_store(cold->what, TL_WHAT_SIZE, text);
    atomic_store(&cold->plate.limit, limit);
    publish(self);
    atomic_store(&cold->role, TL_ROLE_POOL);
    return PyLong_FromUnsignedLongLong(tl_record_token(self->plate));
}

/* _watching(more): so many looks at running tasks are to come, or (negative) have been. */
static PyObject *state_watching(PyObject *op, PyObject *arg)
{
    struct state_object *self = (struct state_object *)op;
    long more = PyLong_AsLong(arg);
    if (more == -1 && PyErr_Occurred())
        return NULL;
    if (self->plate != 0 && self->plate_pid == tl_process.pid)
        atomic_fetch_add(&tl_board.cold[self->plate].plate.watches, (uint64_t)more);
    Py_RETURN_NONE;
}

static PyObject *state_hide(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    hide((struct state_object *)op);
    Py_RETURN_NONE;
}

static void state_dealloc(PyObject *op)
{
    PyTypeObject *type = Py_TYPE(op);
    PyObject_GC_UnTrack(op);
    hide((struct state_object *)op);
    state_clear(op);
    type->tp_free(op);
    Py_DECREF(type);
}

/* The next task of the queue that is QUEUED; NULL without an exception if there is none.  New reference. */
static struct task_object *next_queued(struct core_state *core, struct state_object *self)
{
    for (;;) {
        PyObject *task;
        Py_ssize_t size = self->queue == NULL ? 0 : PyObject_Size(self->queue);
        if (size <= 0)
            return NULL;
        task = PyObject_CallMethodNoArgs(self->queue, core->text_popleft);
        if (task == NULL)
            return NULL;
        if (!core_is_task(core, task)) {
            Py_DECREF(task);
            PyErr_SetString(PyExc_TypeError, "the queue holds tasks");
            return NULL;
        }
        if (((struct task_object *)task)->state == TASK_QUEUED)
            return (struct task_object *)task;
        Py_DECREF(task);
    }
}

/* Make it the worker's, under the next sequence number, which is returned as a new reference. */
static PyObject *assign(struct state_object *self, struct worker_object *worker, struct task_object *task)
{
    PyObject *seq = PyLong_FromLongLong(self->next_seq);
    if (seq == NULL || PyDict_SetItem(worker->assigned, seq, (PyObject *)task) < 0) {
        Py_XDECREF(seq);
        return NULL;
    }
    task->first = self->next_seq;
    self->next_seq += task->count;
    worker->last = self->next_seq - 1;
    task->state = TASK_ASSIGNED;
    task_set_worker(task, worker->id);
    task->attempts++;
    self->queued--;
    return seq;
}

/* Put a task back that could not be assigned: no memory. */
static void put_back(struct core_state *core, struct state_object *self, struct task_object *task)
{
    PyObject *type, *value, *traceback, *done;
    PyErr_Fetch(&type, &value, &traceback);
    done = PyObject_CallMethodOneArg(self->queue, core->text_appendleft, (PyObject *)task);
    if (done == NULL)
        PyErr_WriteUnraisable((PyObject *)task);
    else
        Py_DECREF(done);
    PyErr_Restore(type, value, traceback);
}

/* _take(worker, room) -> ([(seq, task), ...], has any of them options?) */
static PyObject *state_take(PyObject *op, PyObject *const *args, Py_ssize_t nargs)
{
    struct state_object *self = (struct state_object *)op;
    struct core_state *core = core_state_of(op);
    struct worker_object *worker;
    PyObject *batch, *result;
    Py_ssize_t room;
    bool odd = false;
    if (nargs != 2) {
        PyErr_SetString(PyExc_TypeError, "_take(worker, room)");
        return NULL;
    }
    worker = as_worker(core, args[0]);
    room = PyNumber_AsSsize_t(args[1], PyExc_OverflowError);
    if (worker == NULL || (room == -1 && PyErr_Occurred()))
        return NULL;
    batch = PyList_New(0);
    while (batch != NULL && room-- > 0) {
        struct task_object *task = next_queued(core, self);
        PyObject *seq, *pair;
        if (task == NULL) {
            if (PyErr_Occurred())
                Py_CLEAR(batch);
            break;
        }
        odd |= task->options != core->default_options;
        seq = assign(self, worker, task);
        if (seq == NULL) {
            put_back(core, self, task);
            Py_DECREF(task);
            Py_CLEAR(batch);
            break;
        }
        pair = PyTuple_New(2);
        if (pair != NULL) {
            PyTuple_SET_ITEM(pair, 0, seq);
            PyTuple_SET_ITEM(pair, 1, (PyObject *)task);
        } else {
            Py_DECREF(seq);
            Py_DECREF(task);
        }
        if (pair == NULL || PyList_Append(batch, pair) < 0)
            Py_CLEAR(batch);
        Py_XDECREF(pair);
    }
    if (batch == NULL)
        return NULL;
    publish(self);
    result = PyTuple_Pack(2, batch, odd ? Py_True : Py_False);
    Py_DECREF(batch);
    return result;
}

/* Take a task away from its worker.  New reference; NULL without an exception if that has no such task. */
static struct task_object *release(struct core_state *core, struct worker_object *worker, PyObject *seq)
{
    PyObject *task = PyDict_GetItemWithError(worker->assigned, seq);
    if (task == NULL)
        return NULL;
    if (!core_is_task(core, task)) {
        PyErr_SetString(PyExc_TypeError, "a worker is assigned tasks");
        return NULL;
    }
    Py_INCREF(task);
    if (PyDict_DelItem(worker->assigned, seq) < 0)
        Py_CLEAR(task);
    else
        task_set_worker((struct task_object *)task, NULL);
    return (struct task_object *)task;
}

/* The worker's run that has this number; borrowed, NULL if there is none. */
static struct task_object *run_with(struct core_state *core, struct worker_object *worker, long long seq)
{
    PyObject *key, *value;
    Py_ssize_t at = 0;
    while (PyDict_Next(worker->assigned, &at, &key, &value)) {
        struct task_object *task = (struct task_object *)value;
        if (core_is_task(core, value) && task->run && task->first <= seq && seq < task->first + task->count)
            return task;
    }
    return NULL;
}

/* Some items of a run have ended.  What its sink is to be told, as a new reference in *end, or NULL if that is nothing; 0, or
 * -1 with an exception. */
static int finish_run(struct core_state *core, struct state_object *self, struct worker_object *worker,
                      struct task_object *run, PyObject *result, PyObject **end, bool *failed, double *weight)
{
    long long seq = PyLong_AsLongLong(PyTuple_GET_ITEM(result, 0)), wall;
    long kind = PyLong_AsLong(PyTuple_GET_ITEM(result, 1));
    Py_ssize_t index = PyLong_AsSsize_t(run->index), count;
    PyObject *values = PyTuple_GET_ITEM(result, 2), *part, *odd, *key;
    *end = NULL;
    wall = PyLong_AsLongLong(PyTuple_GET_ITEM(result, 3));
    if (PyErr_Occurred())
        return -1;
    if (run->state != TASK_ASSIGNED || seq - run->first != run->done)
        return 0; /* its end was already decided */
    if (kind == KIND_PART) {
        count = values_count(core, values);
        if (count < 0)
            return -1;
        values = count <= run->count - run->done ? Py_NewRef(values)
                                                 : values_slice(core, values, 0, run->count - run->done);
    } else {
        odd = run_odd(core, (int)kind, values);
        values = odd == NULL ? NULL : PyList_New(1);
        if (values == NULL)
            Py_XDECREF(odd);
        else
            PyList_SET_ITEM(values, 0, odd);
        *failed = kind != KIND_RETURNED && kind != KIND_RETURNED_PACKED;
    }
    if (values == NULL)
        return -1;
    count = values_count(core, values);
    part = run_part(index + run->done, values, wall);
    Py_DECREF(values);
    if (part == NULL)
        return -1;
    *end = Py_BuildValue("(OiN)", run, KIND_PART, part);
    key = *end == NULL ? NULL : PyLong_FromLongLong(run->first);
    if (key == NULL) {
        Py_CLEAR(*end);
        return -1;
    }
    run->done += count;
    if (!*failed)
        self->done += count;
    *weight += (double)count / (double)run->count;
    if (run->done == run->count) {
        run->state = TASK_DONE;
        task_set_worker(run, NULL);
        if (PyDict_DelItem(worker->assigned, key) < 0)
            PyErr_Clear();
    }
    Py_DECREF(key);
    return 0;
}

/* _finish(worker, results, ends) -> (nanoseconds of all, [(task, kind, data), ...] that did not return, how many tasks that
 * were, where some items of a run are a part of one).  Those that returned are done, and appended to ends. */
static PyObject *state_finish(PyObject *op, PyObject *const *args, Py_ssize_t nargs)
{
    struct state_object *self = (struct state_object *)op;
    struct core_state *core = core_state_of(op);
    struct worker_object *worker;
    PyObject *results, *odd = NULL;
    long long nanoseconds = 0;
    double weight = 0.0;
    Py_ssize_t i;
    if (nargs != 3 || !PyList_Check(args[2])) {
        PyErr_SetString(PyExc_TypeError, "_finish(worker, results, ends)");
        return NULL;
    }
    worker = as_worker(core, args[0]);
    results = worker == NULL ? NULL : PySequence_Fast(args[1], "results is a sequence");
    if (results == NULL)
        return NULL;
    for (i = 0; i < PySequence_Fast_GET_SIZE(results); i++) {
        PyObject *each = PySequence_Fast_GET_ITEM(results, i), *end;
        struct task_object *task;
        PyObject *found;
        bool failed = false;
        long kind;
        if (!PyTuple_Check(each) || PyTuple_GET_SIZE(each) < 4) {
            PyErr_SetString(PyExc_TypeError, "a result is (seq, kind, data, wall, cpu)");
            goto failed;
        }
        nanoseconds += PyLong_AsLongLong(PyTuple_GET_ITEM(each, 3));
        kind = PyLong_AsLong(PyTuple_GET_ITEM(each, 1));
        if (PyErr_Occurred())
            goto failed;
        found = PyDict_GetItemWithError(worker->assigned, PyTuple_GET_ITEM(each, 0));
        if (found == NULL && !PyErr_Occurred())
            found = (PyObject *)run_with(core, worker, PyLong_AsLongLong(PyTuple_GET_ITEM(each, 0)));
        if (PyErr_Occurred())
            goto failed;
        if (found != NULL && core_is_task(core, found) && ((struct task_object *)found)->run) {
            Py_INCREF(found);
            if (finish_run(core, self, worker, (struct task_object *)found, each, &end, &failed, &weight) < 0) {
                Py_DECREF(found);
                goto failed;
            }
            Py_DECREF(found);
            if (end != NULL && failed && odd == NULL && (odd = PyList_New(0)) == NULL)
                Py_CLEAR(end);
            else if (end == NULL)
                continue;
            if (end == NULL || PyList_Append(failed ? odd : args[2], end) < 0) {
                Py_XDECREF(end);
                goto failed;
            }
            Py_DECREF(end);
            continue;
        }
        task = release(core, worker, PyTuple_GET_ITEM(each, 0));
        if (task == NULL) { /* its end was already decided, for instance by a time-out */
            if (PyErr_Occurred())
                goto failed;
            continue;
        }
        weight += 1.0;
        end = PyTuple_Pack(3, task, PyTuple_GET_ITEM(each, 1), PyTuple_GET_ITEM(each, 2));
        if (end != NULL && kind != KIND_RETURNED && kind != KIND_RETURNED_PACKED) {
            if (odd == NULL)
                odd = PyList_New(0);
            if (odd == NULL || PyList_Append(odd, end) < 0)
                Py_CLEAR(end);
        } else if (end != NULL) {
            task->state = TASK_DONE;
            self->done++;
            if (PyList_Append(args[2], end) < 0)
                Py_CLEAR(end);
        }
        Py_DECREF(task);
        if (end == NULL)
            goto failed;
        Py_DECREF(end);
    }
    Py_DECREF(results);
    publish(self);
    return odd == NULL ? Py_BuildValue("(LOd)", nanoseconds, Py_None, weight)
                       : Py_BuildValue("(LNd)", nanoseconds, odd, weight);
failed:
    Py_DECREF(results);
    Py_XDECREF(odd);
    return NULL;
}

/* A list of those that are NEW; NULL with an exception. */
static PyObject *only_new(PyObject *tasks)
{
    PyObject *some = PyList_New(0);
    Py_ssize_t i;
    for (i = 0; some != NULL && i < PyList_GET_SIZE(tasks); i++) {
        PyObject *task = PyList_GET_ITEM(tasks, i);
        if (((struct task_object *)task)->state == TASK_NEW && PyList_Append(some, task) < 0)
            Py_CLEAR(some);
    }
    return some;
}

/* _enqueue(tasks) -> has any of them options?  They are QUEUED now, but for those that were cancelled before they came. */
static PyObject *state_enqueue(PyObject *op, PyObject *tasks)
{
    struct state_object *self = (struct state_object *)op;
    struct core_state *core = core_state_of(op);
    PyObject *done;
    Py_ssize_t i, count;
    bool odd = false, all = true;
    if (!PyList_Check(tasks) || self->queue == NULL) {
        PyErr_SetString(PyExc_TypeError, "_enqueue takes a list of tasks");
        return NULL;
    }
    for (i = 0; i < PyList_GET_SIZE(tasks); i++) {
        struct task_object *task = (struct task_object *)PyList_GET_ITEM(tasks, i);
        if (!core_is_task(core, (PyObject *)task)) {
            PyErr_SetString(PyExc_TypeError, "_enqueue takes a list of tasks");
            return NULL;
        }
        all &= task->state == TASK_NEW;
    }
    tasks = all ? Py_NewRef(tasks) : only_new(tasks);
    if (tasks == NULL)
        return NULL;
    count = PyList_GET_SIZE(tasks);
    for (i = 0; i < count; i++) {
        struct task_object *task = (struct task_object *)PyList_GET_ITEM(tasks, i);
        task->state = TASK_QUEUED;
        odd |= task->options != core->default_options;
    }
    done = PyObject_CallMethodOneArg(self->queue, core->text_extend, tasks);
    Py_DECREF(tasks);
    if (done == NULL)
        return NULL;
    Py_DECREF(done);
    self->queued += count;
    publish(self);
    return Py_NewRef(odd ? Py_True : Py_False);
}

int dispatch_exchange(struct core_state *core, struct state_object *self, struct worker_object *worker, long long seq,
                      long long *next_seq, PyObject **next)
{
    PyObject *key, *head, *running, *first = NULL;
    struct task_object *task;
    int result = -1;

    *next = NULL;
    *next_seq = 0;
    if (!self->express || atomic_load(&self->posted) || self->queued == 0 || worker->retired || worker->waiting != 0 || worker->state == NULL ||
        worker->draining == NULL || PyUnicode_CompareWithASCIIString(worker->state, "ready") != 0 ||
        PyDict_GET_SIZE(worker->assigned) != 1 || PySet_GET_SIZE(worker->draining) != 0 || self->queue == NULL ||
        PyObject_Size(self->queue) <= 0)
        return PyErr_Occurred() ? -1 : 0;
    head = PySequence_GetItem(self->queue, 0); /* a look first: what has options is for the rules in Python */
    if (head == NULL)
        return -1;
    task = (struct task_object *)head;
    if (!core_is_task(core, head) || task->state != TASK_QUEUED || task->options != core->default_options) {
        Py_DECREF(head);
        return 0;
    }
    key = PyLong_FromLongLong(seq);
    if (key == NULL)
        goto done;
    running = PyDict_GetItemWithError(worker->assigned, key);
    if (running == NULL || !core_is_task(core, running) || ((struct task_object *)running)->state != TASK_ASSIGNED) {
        result = PyErr_Occurred() ? -1 : 0; /* its end was already decided */
        goto done;
    }
    first = PyObject_CallMethodNoArgs(self->queue, core->text_popleft);
    if (first == NULL)
        goto done;
    Py_DECREF(first);
    {
        PyObject *number = assign(self, worker, task);
        struct task_object *old;
        if (number == NULL) {
            put_back(core, self, task);
            goto done;
        }
        Py_DECREF(number);
        old = release(core, worker, key);
        if (old != NULL) {
            old->state = TASK_DONE;
            self->done++;
            Py_DECREF(old);
        }
    }
    *next = Py_NewRef(head);
    *next_seq = worker->last;
    result = 1;
    publish(self);
done:
    Py_XDECREF(key);
    Py_DECREF(head);
    return result;
}

/* -- an idle worker: a task goes in, its value comes out --------------------------------------------------------------- */

static bool is_ready(struct worker_object *worker)
{
    return worker->state != NULL && PyUnicode_CompareWithASCIIString(worker->state, "ready") == 0 && !worker->retired &&
           worker->waiting == 0 && worker->draining != NULL && PySet_GET_SIZE(worker->draining) == 0;
}

/* Is the way open: nothing is queued, and no worker holds a task that would have to be looked after? */
static bool is_calm(struct core_state *core, struct state_object *self)
{
    PyObject *key, *value;
    Py_ssize_t at = 0, inside;
    if (!self->direct || atomic_load(&self->posted) || self->queued != 0 || self->workers == NULL || self->open == NULL ||
        !PyDict_CheckExact(self->workers) || !PyDict_CheckExact(self->open))
        return false;
    while (PyDict_Next(self->workers, &at, &key, &value)) {
        struct worker_object *worker = as_worker(core, value);
        if (worker == NULL || PyDict_GET_SIZE(worker->assigned) > 1) {
            PyErr_Clear();
            return false;
        }
        inside = 0;
        if (PyDict_Next(worker->assigned, &inside, &key, &value) && core_is_task(core, value) &&
            ((struct task_object *)value)->run)
            return false;
    }
    return true;
}

struct worker_object *dispatch_idle(struct core_state *core, struct state_object *self, struct task_object *task)
{
    struct worker_object *worker, *last = NULL;
    PyObject *key, *value;
    Py_ssize_t at = 0;
    if (task->state != TASK_NEW || task->options != core->default_options || !is_calm(core, self))
        return NULL;
    /* The one that became idle last: it may still look for more before it sleeps, and what it needs is in its caches. */
    while (PyDict_Next(self->open, &at, &key, &value)) {
        worker = (struct worker_object *)value;
        if (PyObject_TypeCheck(value, core->worker_type) && PyDict_GET_SIZE(worker->assigned) == 0)
            last = worker;
    }
    return last;
}

int dispatch_place(struct state_object *self, struct worker_object *worker, struct task_object *task)
{
    PyObject *seq;
    if (self->low <= 1 && PyDict_DelItem(self->open, worker->id) < 0)
        return -1;
    self->queued++; /* and no more, at once */
    seq = assign(self, worker, task);
    if (seq == NULL) {
        PyObject *type, *value, *traceback;
        self->queued--;
        PyErr_Fetch(&type, &value, &traceback);
        if (self->low <= 1 && PyDict_SetItem(self->open, worker->id, (PyObject *)worker) < 0)
            PyErr_Clear(); /* it gets its tasks after the next event for it */
        PyErr_Restore(type, value, traceback);
        return -1;
    }
    Py_DECREF(seq);
    publish(self);
    return 0;
}

void dispatch_take_back(struct core_state *core, struct state_object *self, struct worker_object *worker,
                        struct task_object *task)
{
    PyObject *type, *error, *traceback, *seq, *value;
    Py_ssize_t at = 0;
    PyErr_Fetch(&type, &error, &traceback);
    if (PyDict_Next(worker->assigned, &at, &seq, &value) && value == (PyObject *)task) {
        Py_INCREF(seq);
        Py_XDECREF(release(core, worker, seq));
        Py_DECREF(seq);
        task->state = TASK_NEW;
        task->attempts--;
        if (dispatch_open(self, worker, true) < 0)
            PyErr_Clear(); /* it gets its tasks after the next event for it */
        publish(self);
    }
    PyErr_Restore(type, error, traceback);
}

struct worker_object *dispatch_runner(struct core_state *core, struct state_object *self, struct task_object *task,
                                      PyObject **seq)
{
    struct worker_object *worker;
    PyObject *found, *value;
    Py_ssize_t at = 0;
    *seq = NULL;
    if (task->state != TASK_ASSIGNED || task->worker == NULL || task->options != core->default_options ||
        !is_calm(core, self))
        return NULL;
    found = PyDict_GetItemWithError(self->workers, task->worker);
    worker = found == NULL ? NULL : as_worker(core, found);
    if (worker == NULL || !is_ready(worker) || PyDict_GET_SIZE(worker->assigned) != 1 ||
        !PyDict_Next(worker->assigned, &at, seq, &value) || value != (PyObject *)task) {
        *seq = NULL;
        return NULL;
    }
    Py_INCREF(*seq);
    return worker;
}

int dispatch_open(struct state_object *self, struct worker_object *worker, bool open)
{
    if (open) {
        if (PyDict_SetItem(self->open, worker->id, (PyObject *)worker) < 0)
            return -1;
        self->saturated = 0; /* until the rules have looked */
        return 0;
    }
    if (self->low <= 1 && PyDict_DelItem(self->open, worker->id) < 0)
        PyErr_Clear();
    return 0;
}

void dispatch_returned(struct core_state *core, struct state_object *self, struct worker_object *worker, PyObject *seq,
                       long long nanoseconds)
{
    struct task_object *task = release(core, worker, seq);
    if (task == NULL) {
        PyErr_Clear();
        return;
    }
    task->state = TASK_DONE;
    Py_DECREF(task);
    self->done++;
    self->unlearned_time += nanoseconds;
    self->unlearned_count++;
    publish(self);
}

bool dispatch_end(struct core_state *core, struct state_object *self, struct task_object *task, long long nanoseconds)
{
    PyObject *seq;
    struct worker_object *worker = dispatch_runner(core, self, task, &seq);
    bool done = worker != NULL && dispatch_open(self, worker, true) == 0;
    if (done)
        dispatch_returned(core, self, worker, seq, nanoseconds);
    Py_XDECREF(seq);
    return done;
}

/* For tests: _place(task) -> (worker's id, seq), or None. */
static PyObject *state_place(PyObject *op, PyObject *task)
{
    struct state_object *self = (struct state_object *)op;
    struct core_state *core = core_state_of(op);
    struct worker_object *worker;
    if (!core_is_task(core, task)) {
        PyErr_SetString(PyExc_TypeError, "_place(task)");
        return NULL;
    }
    worker = dispatch_idle(core, self, (struct task_object *)task);
    if (worker == NULL)
        Py_RETURN_NONE;
    if (dispatch_place(self, worker, (struct task_object *)task) < 0)
        return NULL;
    return Py_BuildValue("(OL)", worker->id, worker->last);
}

/* For tests: _return(task, nanoseconds) -> was all that the rules would do to end it? */
static PyObject *state_return(PyObject *op, PyObject *const *args, Py_ssize_t nargs)
{
    struct core_state *core = core_state_of(op);
    long long nanoseconds;
    bool done;
    if (nargs != 2 || !core_is_task(core, args[0])) {
        PyErr_SetString(PyExc_TypeError, "_return(task, nanoseconds)");
        return NULL;
    }
    nanoseconds = PyLong_AsLongLong(args[1]);
    if (PyErr_Occurred())
        return NULL;
    done = dispatch_end(core, (struct state_object *)op, (struct task_object *)args[0], nanoseconds);
    return PyErr_Occurred() ? NULL : PyBool_FromLong(done);
}

/* _exchange(worker, seq) -> (next seq, next task) or None */
static PyObject *state_exchange(PyObject *op, PyObject *const *args, Py_ssize_t nargs)
{
    struct core_state *core = core_state_of(op);
    struct worker_object *worker = nargs == 2 ? as_worker(core, args[0]) : NULL;
    PyObject *next;
    long long seq, next_seq;
    int done;
    if (worker == NULL) {
        PyErr_SetString(PyExc_TypeError, "_exchange(worker, seq)");
        return NULL;
    }
    seq = PyLong_AsLongLong(args[1]);
    if (PyErr_Occurred())
        return NULL;
    done = dispatch_exchange(core, (struct state_object *)op, worker, seq, &next_seq, &next);
    if (done < 0)
        return NULL;
    if (done == 0)
        Py_RETURN_NONE;
    return Py_BuildValue("(LN)", next_seq, next);
}

static PyObject *state_post(PyObject *op, PyObject *value)
{
    atomic_store(&((struct state_object *)op)->posted, value == Py_True);
    Py_RETURN_NONE;
}

bool dispatch_try(PyObject *lock, struct core_state *core)
{
    struct tl_self *me = Py_TYPE(lock) == core->lock_type ? tl_self() : NULL;
    return me != NULL && tl_lock_try(&((struct lock_object *)lock)->lock, me->token);
}

bool dispatch_offer(struct core_state *core, struct state_object *self, struct task_object *task)
{
    PyObject *done;
    if (direct_send(core, self, task))
        return true;
    if (!self->saturated || atomic_load(&self->posted) || self->queue == NULL ||
        task->options != core->default_options || task->state != TASK_NEW)
        return false;
    done = PyObject_CallMethodOneArg(self->queue, core->text_append, (PyObject *)task);
    if (done == NULL)
        return false;
    Py_DECREF(done);
    task->state = TASK_QUEUED;
    self->queued++;
    publish(self);
    return true;
}

/* offer(lock, task) -> did it join the queue?  If not, nothing has happened. */
static PyObject *state_offer(PyObject *op, PyObject *const *args, Py_ssize_t nargs)
{
    struct core_state *core = core_state_of(op);
    struct lock_object *lock;
    bool taken;
    if (nargs != 2 || !core_is_task(core, args[1])) {
        PyErr_SetString(PyExc_TypeError, "offer(lock, task)");
        return NULL;
    }
    if (((struct task_object *)args[1])->run || !dispatch_try(args[0], core))
        Py_RETURN_FALSE;
    lock = (struct lock_object *)args[0];
    taken = dispatch_offer(core, (struct state_object *)op, (struct task_object *)args[1]);
    tl_lock_release(&lock->lock, lock_id(lock), tl_self());
    if (PyErr_Occurred())
        return NULL;
    return Py_NewRef(taken ? Py_True : Py_False);
}

static PyMemberDef state_members[] = {
    MEMBER(state_object, "queue", T_OBJECT_EX, queue, 0),
    MEMBER(state_object, "waiting", T_OBJECT_EX, waiting, 0),
    MEMBER(state_object, "queued", T_PYSSIZET, queued, 0),
    MEMBER(state_object, "_next_seq", T_LONGLONG, next_seq, 0),
    MEMBER(state_object, "done", T_LONGLONG, done, 0),
    MEMBER(state_object, "_express", T_BOOL, express, 0),
    MEMBER(state_object, "failed", T_LONGLONG, failed, 0),
    MEMBER(state_object, "cancelled", T_LONGLONG, cancelled, 0),
    MEMBER(state_object, "restarts", T_LONGLONG, restarts, 0),
    MEMBER(state_object, "_alive", T_PYSSIZET, alive, 0),
    MEMBER(state_object, "workers", T_OBJECT_EX, workers, 0),
    MEMBER(state_object, "_open", T_OBJECT_EX, open, 0),
    MEMBER(state_object, "_low", T_PYSSIZET, low, 0),
    MEMBER(state_object, "_direct", T_BOOL, direct, 0),
    MEMBER(state_object, "_unlearned_time", T_LONGLONG, unlearned_time, 0),
    MEMBER(state_object, "_unlearned_count", T_PYSSIZET, unlearned_count, 0),
    {NULL, 0, 0, 0, NULL},
};

static PyObject *get_saturated(PyObject *op, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(((struct state_object *)op)->saturated);
}

/* It is the last thing that State.handle sets, so the plate shows what each event has come to. */
static int set_saturated(PyObject *op, PyObject *value, void *Py_UNUSED(closure))
{
    struct state_object *self = (struct state_object *)op;
    int saturated = value == NULL ? 0 : PyObject_IsTrue(value);
    if (saturated < 0)
        return -1;
    self->saturated = (char)saturated;
    publish(self);
    return 0;
}

static PyObject *get_closing(PyObject *op, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(atomic_load(&((struct state_object *)op)->closing));
}

static int set_closing(PyObject *op, PyObject *value, void *Py_UNUSED(closure))
{
    atomic_store(&((struct state_object *)op)->closing, value == Py_True);
    return 0;
}

static PyGetSetDef state_getset[] = {
    {"closing", get_closing, set_closing, "Are no new tasks to be taken in?", NULL},
    {"_saturated", get_saturated, set_saturated, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMethodDef state_methods[] = {
    {"_take", FAST(state_take), METH_FASTCALL,
     "_take($self, worker, room, /)\n--\n\nGive the worker so many queued tasks; ([(seq, task)...], any options?)."},
    {"_finish", FAST(state_finish), METH_FASTCALL,
     "_finish($self, worker, results, ends, /)\n--\n\nEnd those that returned; (nanoseconds, the others or None, how many)."},
    {"_enqueue", state_enqueue, METH_O,
     "_enqueue($self, tasks, /)\n--\n\nNew tasks join the queue; whether any of them has options.  Others are ignored."},
    {"_exchange", FAST(state_exchange), METH_FASTCALL,
     "_exchange($self, worker, seq, /)\n--\n\n"
     "This task has returned: it is done, and the worker gets the queue's next one, (seq, task).\n\n"
     "None, and nothing has happened, if the rules would do anything else than that; then tell them that it has finished."},
    {"_place", state_place, METH_O,
     "_place($self, task, /)\n--\n\n"
     "Give a new task to an idle worker, if that is all that the rules would do: the worker's number and the task's, or None."},
    {"_return", FAST(state_return), METH_FASTCALL,
     "_return($self, task, nanoseconds, /)\n--\n\n"
     "A task that was placed has returned; False, and nothing has happened, if the rules would do more than end it."},
    {"fetch", FAST(direct_fetch), METH_FASTCALL,
     "fetch($self, lock, future, seconds, /)\n--\n\n"
     "Wait for a future's value where its worker puts it, for a short while at most; whether it is finished by this.\n\n"
     "Only if its lock is free and all that the rules would do about that value is to end the task."},
    {"_post", state_post, METH_O,
     "_post($self, posted, /)\n--\n\nFor tests: does anything wait at the desk?"},
    {"_show", state_show, METH_VARARGS,
     "_show($self, name, engine, limit, /)\n--\n\n"
     "From now on say on the board how it stands; the token of the record there, 0 if there is none."},
    {"_watching", state_watching, METH_O, "_watching($self, more, /)\n--\n\nSo many looks at running tasks are to come."},
    {"_hide", state_hide, METH_NOARGS, "_hide($self, /)\n--\n\nTake that away."},
    {"offer", FAST(state_offer), METH_FASTCALL,
     "offer($self, lock, task, /)\n--\n\n"
     "Take a new task in, if its lock is free and all that the rules would do is to queue it, or to give it to an idle worker\n"
     "(it is sent then); whether that was so."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot state_slots[] = {
    {Py_tp_doc, (void *)"The hot fields and loops of the brain; see pool/state.py."},
    {Py_tp_traverse, state_traverse}, {Py_tp_clear, state_clear}, {Py_tp_dealloc, state_dealloc},
    {Py_tp_members, state_members},   {Py_tp_methods, state_methods}, {Py_tp_getset, state_getset},
    {Py_tp_new, PyType_GenericNew}, {0, NULL},
};

static PyType_Spec state_spec = {
    .name = "treadle._native._core.StateCore",
    .basicsize = sizeof(struct state_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = state_slots,
};

int core_add_dispatch(PyObject *module, struct core_state *core)
{
    core->text_popleft = PyUnicode_InternFromString("popleft");
    core->text_append = PyUnicode_InternFromString("append");
    core->text_appendleft = PyUnicode_InternFromString("appendleft");
    core->text_extend = PyUnicode_InternFromString("extend");
    core->text_locked = PyUnicode_InternFromString("locked");
    if (core->text_locked == NULL || core->text_popleft == NULL || core->text_append == NULL ||
        core->text_appendleft == NULL || core->text_extend == NULL)
        return -1;
    core->brain_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &state_spec, NULL);
    return core->brain_type == NULL ? -1 : PyModule_AddType(module, core->brain_type);
}
