/* Feeding a map: items of its input as tasks and slots, one each, or several as a run. */
#include "values/codec.h"
#include "values/items.h"
#include "tasks/inbox.h"
#include "tasks/tasks.h"

enum { FED, EXHAUSTED, SLOW, ODD, RAISED };

/* One item as task and slot, at the end of the lists.  1: it is not for the codec; -1 with an exception. */
static int feed_one(struct core_state *core, PyObject *const *how, PyObject *item, Py_ssize_t index, PyObject *tasks,
                    PyObject *slots, Py_ssize_t *total)
{
    PyObject *inbox = how[0], *slot_class = how[1], *call_args[7], *task_args[4];
    PyObject *payload = NULL, *call = NULL, *number = NULL, *task = NULL;
    struct slot_object *slot = NULL;
    Py_ssize_t size = 0;
    int result = -1;
    if (how[6] == Py_True) { /* pack */
        char small[CODEC_ROOM];
        size = codec_encode(item, small, sizeof small);
        if (size < 0)
            return 1;
        payload = PyBytes_FromStringAndSize(small, size);
    } else {
        payload = Py_NewRef(Py_None);
    }
    number = PyLong_FromSsize_t(index);
    if (payload == NULL || number == NULL)
        goto done;
    call_args[0] = how[3]; /* fn */
    call_args[1] = item;
    call_args[2] = Py_None;
    call_args[3] = how[4]; /* function */
    call_args[4] = payload;
    call_args[5] = how[5]; /* context */
    call_args[6] = how[11]; /* variables */
    call = PyObject_Vectorcall((PyObject *)core->call_type, call_args, 7, NULL);
    slot = call == NULL ? NULL : (struct slot_object *)((PyTypeObject *)slot_class)->tp_alloc((PyTypeObject *)slot_class, 0);
    if (slot == NULL)
        goto done;
    slot->inbox = Py_NewRef(inbox);
    slot->index = index;
    slot->count = 1;
    slot->kind = KIND_CANCELLED;
    slot->size = size;
    task_args[0] = call;
    task_args[1] = (PyObject *)slot;
    task_args[2] = number;
    task_args[3] = core->default_options;
    task = PyObject_Vectorcall((PyObject *)core->task_type, task_args, 4, NULL);
    if (task == NULL)
        goto done;
    slot->task = Py_NewRef(task);
    if (PyList_Append(tasks, task) < 0 || PyList_Append(slots, (PyObject *)slot) < 0)
        goto done;
    *total += size;
    result = 0;
done:
    Py_XDECREF(payload);
    Py_XDECREF(call);
    Py_XDECREF(number);
    Py_XDECREF(slot);
    Py_XDECREF(task);
    return result;
}

/* A run in the making. */
struct gathered {
    PyObject *items;  /* a list, owned; NULL: none so far, or they are packed */
    Py_ssize_t count; /* of all */
    bool one;         /* see run_make() */
    size_t used;
    char bytes[ITEMS_ROOM];
};

/* One more item for it.  1: it is not for the codec; 2: it does not fit into this one; 0, or -1 with an exception. */
static int gather(struct gathered *run, PyObject *item)
{
    size_t used = run->used, left = ITEMS_ROOM - used;
    Py_ssize_t size = -1;
    bool packed = run->one && run->items == NULL;
    char *at = NULL;
    if (left > ITEM_HEAD) {
        at = run->bytes + used + ITEM_HEAD; /* where items_put() will say */
        size = codec_encode(item, at, left - ITEM_HEAD < CODEC_ROOM ? left - ITEM_HEAD : CODEC_ROOM);
    }
    if (size < 0)
        return run->count > 0 && left < CODEC_ROOM + ITEM_HEAD ? 2 : 1;
    if (packed && !codec_is_scalar(at, (size_t)size)) {
        if (run->count > 0)
            return 2;
        packed = false;
    }
    if (items_put(run->bytes, &run->used, (size_t)size) != at)
        return -1; /* never */
    run->count++;
    if (packed)
        return 0;
    if (run->items == NULL && (run->items = PyList_New(0)) == NULL)
        return -1;
    return PyList_Append(run->items, item);
}

/* What was gathered as task and slot, at the end of the lists.  How many items those were, or -1 with an exception. */
static Py_ssize_t end_run(struct core_state *core, PyObject *const *how, struct gathered *run, Py_ssize_t index,
                          PyObject *tasks, PyObject *slots, Py_ssize_t *total)
{
    PyObject *call_args[7], *call = NULL, *task = NULL, *slot_class = how[1];
    struct slot_object *slot = NULL;
    Py_ssize_t count = run->count, result = -1;
    if (count == 0)
        return 0;
    call_args[0] = how[3];
    call_args[2] = Py_None;
    call_args[3] = how[4];
    call_args[4] = PyBytes_FromStringAndSize(run->bytes, (Py_ssize_t)run->used);
    call_args[5] = how[5];
    call_args[6] = how[11];
    /* Packed, they are what their payloads are. */
    call_args[1] = call_args[4] == NULL ? NULL
                   : run->items != NULL ? Py_NewRef(run->items)
                                        : pack_make(core, call_args[4], 0, count);
    if (call_args[1] != NULL)
        call = PyObject_Vectorcall((PyObject *)core->call_type, call_args, 7, NULL);
    Py_XDECREF(call_args[1]);
    Py_XDECREF(call_args[4]);
    slot = call == NULL ? NULL : (struct slot_object *)((PyTypeObject *)slot_class)->tp_alloc((PyTypeObject *)slot_class, 0);
    if (slot == NULL)
        goto done;
    slot->values = PyMem_RawCalloc((size_t)count, sizeof *slot->values);
    if (slot->values == NULL) {
        PyErr_NoMemory();
        goto done;
    }
    slot->count = count;
    slot->inbox = Py_NewRef(how[0]);
    slot->index = index;
    slot->kind = KIND_CANCELLED;
    slot->size = (Py_ssize_t)run->used;
    task = run_make(core, call, (PyObject *)slot, index, count, run->one);
    if (task == NULL)
        goto done;
    slot->task = Py_NewRef(task);
    if (PyList_Append(tasks, task) < 0 || PyList_Append(slots, (PyObject *)slot) < 0)
        goto done;
    *total += slot->size;
    result = count;
done:
    Py_XDECREF(call);
    Py_XDECREF(slot);
    Py_XDECREF(task);
    Py_CLEAR(run->items);
    run->used = 0;
    run->count = 0;
    return result;
}

/* feed(inbox, slot class, source, fn, function, context, pack, index, most, until, run, variables) -> see the docstring */
static PyObject *feed(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    struct core_state *core = PyModule_GetState(module);
    PyObject *tasks, *slots, *source, *rest = Py_NewRef(Py_None);
    Py_ssize_t i, most, index, run, made, taken = 0, size = 0;
    struct gathered gathered;
    long long until;
    uint64_t tick = 0;
    int end = FED;
    gathered.items = NULL;
    gathered.used = 0;
    gathered.count = 0;
    if (nargs != 12 || Py_TYPE(args[0]) != core->inbox_type || !PyType_Check(args[1]) ||
        !PyType_IsSubtype((PyTypeObject *)args[1], core->slot_type) || !PyIter_Check(args[2]) ||
        core->default_options == NULL) {
        Py_DECREF(rest);
        PyErr_SetString(PyExc_TypeError, "feed: see its docstring");
        return NULL;
    }
    index = PyNumber_AsSsize_t(args[7], PyExc_OverflowError);
    most = PyNumber_AsSsize_t(args[8], PyExc_OverflowError);
    until = PyLong_AsLongLong(args[9]);
    run = PyNumber_AsSsize_t(args[10], PyExc_OverflowError);
    tasks = PyList_New(0);
    slots = PyList_New(0);
    if (tasks == NULL || slots == NULL || PyErr_Occurred())
        goto failed;
    source = run > 1 ? singles_items(core, args[2]) : NULL;
    gathered.one = source != NULL;
    if (source == NULL)
        source = args[2];
    for (i = 0; i < most; i++) {
        PyObject *item = PyIter_Next(source);
        int odd;
        if (item == NULL) {
            end = EXHAUSTED;
            if (PyErr_Occurred()) {
                if (!PyErr_ExceptionMatches(PyExc_Exception))
                    goto failed;
                end = RAISED;
                Py_SETREF(rest, core_raised());
            }
            break;
        }
        if (!gathered.one && !PyTuple_Check(item)) {
            Py_DECREF(item);
            PyErr_SetString(PyExc_TypeError, "the source gives tuples");
            goto failed;
        }
        if (run > 1) {
            odd = gather(&gathered, item);
            if (odd == 2) { /* into the next one */
                made = end_run(core, args, &gathered, index, tasks, slots, &size);
                index += made;
                odd = made < 0 ? -1 : gather(&gathered, item);
            }
        } else {
            odd = feed_one(core, args, item, index, tasks, slots, &size);
            index += odd == 0;
        }
        if (odd > 0) {
            end = ODD;
            if (gathered.one)
                Py_SETREF(item, PyTuple_Pack(1, item));
            if (item == NULL)
                goto failed;
            Py_SETREF(rest, item);
            break;
        }
        Py_DECREF(item);
        if (odd < 0)
            goto failed;
        taken++;
        if (run > 1 && gathered.count >= run) {
            made = end_run(core, args, &gathered, index, tasks, slots, &size);
            if (made < 0)
                goto failed;
            index += made;
        }
        /* In runs the clock would cost as much as all the rest: there only when it may have gone on. */
        if (run > 1) {
            uint64_t lately = os_lately();
            if (lately == tick)
                continue;
            tick = lately;
        }
        if ((long long)os_now() > until) {
            end = SLOW;
            break;
        }
    }
    if (end_run(core, args, &gathered, index, tasks, slots, &size) < 0)
        goto failed;
    return Py_BuildValue("(NNnniN)", tasks, slots, taken, size, end, rest);
failed:
    Py_XDECREF(tasks);
    Py_XDECREF(slots);
    Py_XDECREF(gathered.items);
    Py_DECREF(rest);
    return NULL;
}

PyDoc_STRVAR(feed_doc,
"feed(inbox, slot_class, source, fn, function, context, pack, index, most, until, run, variables, /)\n--\n\n"
"Take up to `most` tuples of arguments from `source` and make tasks without options of them, numbered from `index` on;\n"
"where `run` is above 1, runs of at most so many items.\n\n"
"Returns (tasks, slots, items, bytes, end, rest): `end` is 0 if that was all, 1 if the source has no more, 2 if the time\n"
"`until` (monotonic nanoseconds) has passed, 3 if `rest` is the next tuple and needs pickle, 4 if the source raised `rest`.");

PyMethodDef core_feed_functions[] = {
    {"feed", FAST(feed), METH_FASTCALL, feed_doc},
    {NULL, NULL, 0, NULL},
};
