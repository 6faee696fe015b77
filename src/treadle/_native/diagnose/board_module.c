/* What Python sees of the board. */
#include "python/text.h"
#include "python/wait.h"
#include "diagnose/diagnose.h"
#include "board/gauge.h"
#include "memory/arena.h"
#include "memory/ring.h"

#include <errno.h>
#include <string.h>

static const char *const kind_names[TL_KINDS] = {
    "", "lock", "rlock", "condition", "semaphore", "event", "join", "get", "put", "queue-join",
    "barrier",
};

static PyObject *os_error(int error)
{
    errno = error;
    return PyErr_SetFromErrno(PyExc_OSError);
}

static PyObject *board_open(PyObject *module, PyObject *arg)
{
    PyObject *path = NULL;
    int error;
    (void)module;
    if (arg != Py_None && !PyUnicode_FSConverter(arg, &path))
        return NULL;
    error = tl_board_open(path == NULL ? NULL : PyBytes_AS_STRING(path));
    Py_XDECREF(path);
    if (error != 0)
        return os_error(error);
    Py_RETURN_NONE;
}

static PyObject *board_fd(PyObject *module, PyObject *Py_UNUSED(ignored))
{
    (void)module;
    return PyLong_FromLong(tl_board.head == NULL ? -1 : tl_board.fd);
}

/* A number that tells boards apart: objects of one board mean nothing on another. */
static PyObject *board_identity(PyObject *module, PyObject *Py_UNUSED(ignored))
{
    (void)module;
    return PyLong_FromUnsignedLong(tl_board.head == NULL ? 0 : atomic_load(&tl_board.head->identity));
}

static PyObject *text_of(const _Atomic char *from, size_t size)
{
    char text[TL_STACK_SIZE];
    tl_text_load(from, size, text);
    return PyUnicode_DecodeUTF8(text, (Py_ssize_t)strlen(text), "replace");
}

static const char *const role_names[TL_ROLES] = {"", "worker", "service", "process", "pool"};

/* Add value to dict, and let go of it. 0, or -1 with an exception. */
static int put(PyObject *dict, const char *key, PyObject *value)
{
    int rc = value == NULL ? -1 : PyDict_SetItemString(dict, key, value);
    Py_XDECREF(value);
    return rc;
}

static PyObject *title_of(const struct tl_cold *cold)
{
    char text[TL_TASK_SIZE];
    int tries;
    for (tries = 0; tries < 8; tries++) {
        uint16_t turn = atomic_load_explicit(&cold->task_turn, memory_order_acquire);
        tl_text_load(cold->title, TL_TASK_SIZE, text);
        atomic_thread_fence(memory_order_acquire); /* SYNC POINT: title (load) */
        if ((turn & 1) == 0 && atomic_load_explicit(&cold->task_turn, memory_order_relaxed) == turn)
            return PyUnicode_DecodeUTF8(text, (Py_ssize_t)strlen(text), "replace");
    }
    return PyUnicode_FromString("");
}

static int put_plate(PyObject *dict, const struct tl_cold *cold)
{
    const struct tl_plate *plate = &cold->plate;
    return put(dict, "what", text_of(cold->what, TL_WHAT_SIZE)) < 0 ||
           put(dict, "queued", PyLong_FromUnsignedLongLong(atomic_load(&plate->queued))) < 0 ||
           put(dict, "done", PyLong_FromUnsignedLongLong(atomic_load(&plate->done))) < 0 ||
           put(dict, "failed", PyLong_FromUnsignedLongLong(atomic_load(&plate->failed))) < 0 ||
           put(dict, "cancelled", PyLong_FromUnsignedLongLong(atomic_load(&plate->cancelled))) < 0 ||
           put(dict, "restarts", PyLong_FromUnsignedLongLong(atomic_load(&plate->restarts))) < 0 ||
           put(dict, "retrying", PyLong_FromUnsignedLongLong(atomic_load(&plate->retrying))) < 0 ||
           put(dict, "workers", PyLong_FromUnsignedLongLong(atomic_load(&plate->workers))) < 0 ||
           put(dict, "limit", PyLong_FromUnsignedLongLong(atomic_load(&plate->limit))) < 0 ? -1 : 0;
}

static int put_task(PyObject *dict, const struct tl_cold *cold, uint64_t now)
{
    uint64_t task, since;
    PyObject *title;
    int tries = 0;
    do { /* the title and the time are those of that task */
        task = atomic_load(&cold->task);
        since = atomic_load(&cold->task_since);
        title = title_of(cold);
        if (title == NULL)
            return -1;
        if (atomic_load(&cold->task) == task || tries == 7)
            break;
        Py_DECREF(title);
    } while (++tries < 8);
    return put(dict, "title", title) < 0 || put(dict, "task", PyLong_FromUnsignedLongLong(task)) < 0 ||
           put(dict, "pool", PyLong_FromUnsignedLongLong(atomic_load(&cold->pool))) < 0 ||
           put(dict, "task_seconds", PyFloat_FromDouble(task && now > since ? (double)(now - since) / 1e9 : 0.0)) < 0
               ? -1 : 0;
}

/* A wait as it is at one moment: what is read while its thread goes on to another is read again. */
struct seen {
    uint32_t state, flags;
    uint64_t edge, since, object;
    bool waits, told;
    char what[TL_WHAT_SIZE], stack[TL_STACK_SIZE];
};

static void see(const struct tl_hot *hot, const struct tl_cold *cold, struct seen *seen)
{
    int tries;
    for (tries = 0; tries < 8; tries++) {
        seen->state = atomic_load(&hot->state);
        seen->flags = atomic_load(&hot->flags);
        seen->edge = atomic_load(&hot->edge);
        seen->since = atomic_load(&hot->since);
        seen->object = atomic_load(&hot->object);
        seen->waits = TL_PHASE_OF(seen->state) == TL_WAITING || TL_PHASE_OF(seen->state) == TL_INTERRUPTED;
        seen->told = seen->waits && atomic_load(&cold->text_state) == seen->state;
        seen->what[0] = seen->stack[0] = 0;
        if (seen->told) {
            tl_text_load(cold->what, TL_WHAT_SIZE, seen->what);
            tl_text_load(cold->stack, TL_STACK_SIZE, seen->stack);
        }
        /* SYNC POINT: publish (load). Its thread writes these before the state that says so, and after the one before. */
        atomic_thread_fence(memory_order_seq_cst);
        if (atomic_load(&hot->state) == seen->state)
            return;
    }
    seen->waits = seen->told = false; /* it waits for nothing long */
    seen->what[0] = seen->stack[0] = 0;
}

static PyObject *decoded(const char *text) { return PyUnicode_DecodeUTF8(text, (Py_ssize_t)strlen(text), "replace"); }

/* One record as a dict, or NULL without an exception if it is free. */
static PyObject *record_dict(const struct tl_board *board, uint32_t number)
{
    const struct tl_hot *hot = &board->hot[number];
    const struct tl_cold *cold = &board->cold[number];
    uint32_t pid = atomic_load(&hot->pid), generation = atomic_load(&hot->generation), role, kind;
    uint64_t now = os_now(), balance, sliced;
    struct seen seen;
    PyObject *dict;
    int rc;

    if (pid == 0)
        return NULL;
    see(hot, cold, &seen);
    sliced = atomic_load(&cold->sliced);
    if (sliced != 0 && sliced < seen.since)
        seen.since = sliced;
    role = atomic_load(&cold->role);
    balance = atomic_load(&cold->balance);
    kind = seen.waits ? seen.flags >> TL_KIND_SHIFT : 0;
    dict = Py_BuildValue(
        "{sIsKsIsIsKsNsssssNsNsdsOsKsOsIsKsOsO}",
        "record", number, "token", TL_TOKEN(generation, number),
        "pid", pid, "tid", atomic_load(&cold->tid), "start", atomic_load(&cold->start),
        "name", text_of(cold->name, TL_NAME_SIZE), "kind", kind_names[kind < TL_KINDS ? kind : 0],
        "role", role_names[role < TL_ROLES ? role : 0], "what", decoded(seen.what), "stack", decoded(seen.stack),
        "seconds", seen.waits && now > seen.since ? (double)(now - seen.since) / 1e9 : 0.0,
        "timed", seen.waits && (seen.flags & TL_TIMED) && !sliced ? Py_True : Py_False,
        "owner", seen.waits ? seen.edge & TL_OWNER_MASK : 0,
        "bare", seen.waits && (seen.edge & TL_BARE) ? Py_True : Py_False,
        "nested", atomic_load(&cold->nested), "object", seen.waits ? seen.object : 0,
        "private", seen.waits && (seen.flags & TL_PRIVATE) ? Py_True : Py_False,
        "ended", balance >> 32 == generation && (balance & TL_ENDED) ? Py_True : Py_False);
    if (dict == NULL)
        return NULL;
    rc = role == TL_ROLE_POOL ? put_plate(dict, cold) : role == TL_ROLE_WORKER ? put_task(dict, cold, now) : 0;
    if (rc < 0)
        Py_CLEAR(dict);
    return dict;
}

/* board_events(path=None) -> [(number, seconds ago, kind, text, dead token, dead pid, pid, tid), ...], oldest first. */
static PyObject *events_of(const struct tl_board *board)
{
    static const char *const kinds[] = {"", "recovered"};
    uint64_t next = atomic_load(&board->head->events), number = next > TL_EVENTS ? next - TL_EVENTS : 0, now = os_now();
    PyObject *list = PyList_New(0);
    for (; list != NULL && number < next; number++) {
        const struct tl_event *event = &tl_events(board)[number % TL_EVENTS];
        uint64_t turn = 2 * number + 2, when, dead;
        uint32_t dead_pid, pid, tid, kind;
        char text[TL_EVENT_TEXT];
        PyObject *item;
        if (atomic_load(&event->turn) != turn)
            continue;
        when = atomic_load(&event->when);
        dead = atomic_load(&event->dead);
        dead_pid = atomic_load(&event->dead_pid);
        pid = atomic_load(&event->pid);
        tid = atomic_load(&event->tid);
        kind = atomic_load(&event->kind);
        tl_text_load(event->text, TL_EVENT_TEXT, text);
        atomic_thread_fence(memory_order_seq_cst);
        if (atomic_load(&event->turn) != turn)
            continue;
        item = Py_BuildValue("(KdssKIII)", (unsigned long long)number, now > when ? (double)(now - when) / 1e9 : 0.0,
                             kinds[kind == TL_EVENT_RECOVERED], text, (unsigned long long)dead, dead_pid, pid, tid);
        if (item == NULL || PyList_Append(list, item) < 0)
            Py_CLEAR(list);
        Py_XDECREF(item);
    }
    return list;
}

/* The board at a path, opened into *view, or (None) this session's; close_board() gives it back.  NULL with an exception. */
static struct tl_board *open_board(PyObject *arg, struct tl_board *view)
{
    PyObject *path;
    int error;
    if (arg == Py_None)
        return &tl_board;
    if (!PyUnicode_FSConverter(arg, &path))
        return NULL;
    error = tl_board_view(PyBytes_AS_STRING(path), view);
    Py_DECREF(path);
    if (error == 0)
        return view;
    os_error(error);
    return NULL;
}

static void close_board(struct tl_board *board, struct tl_board *view)
{
    if (board == view)
        tl_board_close(view);
}

static PyObject *board_events(PyObject *module, PyObject *arg)
{
    struct tl_board view, *board = open_board(arg, &view);
    PyObject *list;
    (void)module;
    if (board == NULL)
        return NULL;
    list = events_of(board);
    close_board(board, &view);
    return list;
}

/* queue_look(path) -> (put, taken, maxsize, held, where it was made) of the queue between processes whose memory that
 * is; None: it is something else.  It only reads. */
static PyObject *queue_look(PyObject *module, PyObject *arg)
{
    PyObject *path, *result;
    const struct ring_head *head;
    size_t size = 0;
    void *memory;
    int fd;
    (void)module;
    if (!PyUnicode_FSConverter(arg, &path))
        return NULL;
    fd = os_memory_open(PyBytes_AS_STRING(path), &size);
    Py_DECREF(path);
    if (fd < 0)
        return PyErr_SetFromErrno(PyExc_OSError);
    memory = size < TL_SEGMENT_DATA + sizeof *head ? NULL : os_memory_map_at(fd, 0, TL_SEGMENT_DATA + sizeof *head);
    os_memory_close(fd);
    if (memory == NULL)
        Py_RETURN_NONE;
    head = (const struct ring_head *)((char *)memory + TL_SEGMENT_DATA);
    if (atomic_load(&head->magic) != RING_MAGIC || head->head_size != sizeof *head) {
        result = Py_NewRef(Py_None);
    } else {
        /* What was taken is read first: so it never seems to be more than what was put. */
        uint64_t taken = ring_count(&head->get), put = ring_count(&head->put);
        char place[RING_PLACE];
        tl_text_load(head->place, RING_PLACE, place);
        result = Py_BuildValue("(KKLIN)", (unsigned long long)put, (unsigned long long)taken,
                               (long long)atomic_load(&head->maxsize), (unsigned)atomic_load(&head->held),
                               decoded(place));
    }
    os_memory_unmap(memory, TL_SEGMENT_DATA + sizeof *head);
    return result;
}

/* board_watch(path, seconds): keep figures of locks and queues for so long from now, for who watches that board. */
static PyObject *board_watch(PyObject *module, PyObject *args)
{
    struct tl_board view, *board;
    PyObject *path;
    double seconds;
    int error;
    (void)module;
    if (!PyArg_ParseTuple(args, "Od:board_watch", &path, &seconds))
        return NULL;
    if (!(seconds > 0 && seconds <= 86400)) {
        PyErr_SetString(PyExc_ValueError, "seconds must be above 0, and a day at most");
        return NULL;
    }
    board = open_board(path, &view);
    if (board == NULL)
        return NULL;
    error = tl_watch_board(board, (uint64_t)(seconds * 1e9));
    close_board(board, &view);
    return error != 0 ? os_error(error) : Py_NewRef(Py_None);
}

/* board_gauges(path) -> (pid, object, kind, name, puts, taken, the two when it was made, maxsize, waits, waited, holds, held) of each; times in s. */
static PyObject *board_gauges(PyObject *module, PyObject *arg)
{
    struct tl_board view, *board = open_board(arg, &view);
    PyObject *list;
    uint64_t watch;
    uint32_t i;
    (void)module;
    if (board == NULL)
        return NULL;
    watch = atomic_load(&board->head->watch_number);
    list = PyList_New(0);
    for (i = 0; list != NULL && watch != 0 && i < TL_GAUGES; i++) {
        struct tl_gauge *gauge = &tl_gauges(board)[i];
        char name[TL_GAUGE_NAME];
        PyObject *text, *item = NULL;
        uint32_t kind = atomic_load(&gauge->kind);
        if (atomic_load(&gauge->turn) != watch << 1)
            continue;
        tl_text_load(gauge->name, TL_GAUGE_NAME, name);
        text = PyUnicode_DecodeUTF8(name, (Py_ssize_t)strlen(name), "replace");
        if (text != NULL)
            item = Py_BuildValue(
                "(IKsNKKKKLKdKd)", (unsigned)atomic_load(&gauge->pid), (unsigned long long)atomic_load(&gauge->object),
                kind_names[kind < TL_KINDS ? kind : 0], text, (unsigned long long)atomic_load(&gauge->puts),
                (unsigned long long)atomic_load(&gauge->taken), (unsigned long long)atomic_load(&gauge->puts_before),
                (unsigned long long)atomic_load(&gauge->taken_before), (long long)atomic_load(&gauge->maxsize),
                (unsigned long long)atomic_load(&gauge->waits), (double)atomic_load(&gauge->waited) / 1e9,
                (unsigned long long)atomic_load(&gauge->holds), (double)atomic_load(&gauge->held) / 1e9);
        if (item == NULL || PyList_Append(list, item) < 0)
            Py_CLEAR(list);
        Py_XDECREF(item);
    }
    close_board(board, &view);
    return list;
}

/* sliced_wait(seconds): the calling thread waits in slices, without a time-out in all, and began to so long ago; negative:
 * it is over. */
static PyObject *sliced_wait(PyObject *module, PyObject *arg)
{
    struct tl_self *me = core_self();
    double ago = PyFloat_AsDouble(arg);
    (void)module;
    if (me == NULL || PyErr_Occurred())
        return NULL;
    atomic_store(&tl_board.cold[me->records[0]].sliced, ago < 0 ? 0 : os_now() - (uint64_t)(ago * 1e9));
    Py_RETURN_NONE;
}

/* thread_role(role, pool=0): what the calling thread is, for whoever looks at it. */
static PyObject *thread_role(PyObject *module, PyObject *args)
{
    struct tl_self *me = core_self();
    const char *role;
    unsigned long long pool = 0;
    uint16_t i;
    (void)module;
    if (me == NULL || !PyArg_ParseTuple(args, "s|K:thread_role", &role, &pool))
        return NULL;
    for (i = TL_ROLE_THREAD; i <= TL_ROLE_SERVICE; i++)
        if (strcmp(role, role_names[i]) == 0) {
            atomic_store(&tl_board.cold[me->records[0]].pool, pool);
            atomic_store(&tl_board.cold[me->records[0]].role, i);
            Py_RETURN_NONE;
        }
    PyErr_SetString(PyExc_ValueError, "a thread is '', 'worker' or 'service'");
    return NULL;
}

/* board_ask(path=None): make the threads that wait write down where they stand, if they have not.  Whether all have. */
static PyObject *board_ask(PyObject *module, PyObject *arg)
{
    struct tl_board view, *board = open_board(arg, &view);
    uint32_t number, high;
    bool all = true;
    (void)module;
    if (board == NULL)
        return NULL;
    high = atomic_load(&board->head->high);
    for (number = 1; number < high && number < TL_BOARD_RECORDS; number++) {
        struct tl_hot *hot = &board->hot[number];
        uint32_t state = atomic_load(&hot->state);
        if (TL_PHASE_OF(state) != TL_WAITING || atomic_load(&hot->pid) == 0 ||
            atomic_load(&board->cold[number].text_state) == state)
            continue;
        all = false;
        atomic_store(&hot->asked, 1);
        os_wake(&hot->state, 1);
    }
    close_board(board, &view);
    return PyBool_FromLong(all);
}

/* board_read(path=None) -> the records in use, of this session's board or of the one at path. */
static PyObject *board_read(PyObject *module, PyObject *arg)
{
    struct tl_board view, *board = open_board(arg, &view);
    PyObject *list;
    uint32_t number, high;
    (void)module;
    if (board == NULL)
        return NULL;
    list = PyList_New(0);
    high = atomic_load(&board->head->high);
    for (number = 1; list != NULL && number < high && number < TL_BOARD_RECORDS; number++) {
        PyObject *record = record_dict(board, number);
        if (record == NULL ? PyErr_Occurred() != NULL : PyList_Append(list, record) < 0)
            Py_CLEAR(list);
        Py_XDECREF(record);
    }
    close_board(board, &view);
    return list;
}

static PyObject *board_record(PyObject *module, PyObject *arg)
{
    unsigned long number = PyLong_AsUnsignedLong(arg);
    PyObject *record;
    (void)module;
    if (PyErr_Occurred())
        return NULL;
    if (number == 0 || number >= atomic_load(&tl_board.head->high)) {
        PyErr_SetString(PyExc_IndexError, "no such record");
        return NULL;
    }
    record = record_dict(&tl_board, (uint32_t)number);
    if (record == NULL && !PyErr_Occurred())
        Py_RETURN_NONE;
    return record;
}

/* Does this record say that somebody goes on by himself?  *sum: what tells this moment from others, as far as that shows
 * there. */
static bool awake(uint32_t number, uint64_t *sum)
{
    struct tl_hot *hot = &tl_board.hot[number];
    struct tl_cold *cold = &tl_board.cold[number];
    struct tl_plate *plate = &cold->plate;
    uint32_t state = atomic_load(&hot->state), role = atomic_load(&cold->role);
    bool waits = TL_PHASE_OF(state) == TL_WAITING, busy;
    uint64_t sliced = atomic_load(&cold->sliced);

    *sum = sliced != 0 ? sliced : state; /* each slice is a wait of its own */
    switch (role) {
    case TL_ROLE_PROCESS:
    case TL_ROLE_SERVICE: /* acts for others: what it does can't be seen here */
        *sum = 0;
        return false;
    case TL_ROLE_POOL:
        *sum = atomic_load(&plate->done) + 31 * atomic_load(&plate->queued) + 61 * atomic_load(&plate->failed);
        busy = atomic_load(&plate->retrying) > 0 || atomic_load(&plate->watches) > 0 ||
               (atomic_load(&plate->queued) > 0 && atomic_load(&plate->workers) < atomic_load(&plate->limit));
        break;
    case TL_ROLE_WORKER:
        if (atomic_load(&cold->task) == 0)
            return false;
        *sum ^= atomic_load(&cold->task) << 32;
        busy = true;
        break;
    default:
        busy = waits || atomic_load(&cold->nested) == 0; /* kept for waits in signal handlers, and not in use */
    }
    if (role != TL_ROLE_POOL && (sliced != 0 || (waits && !(atomic_load(&hot->flags) & TL_TIMED))))
        return false;
    return busy && tl_token_alive(tl_record_token(number));
}

/* 0 if some thread of the session does not wait, or waits with a time-out; else a number that tells this moment's waits
 * from others: the same number twice means that nobody has moved in between. */
static PyObject *board_asleep(PyObject *module, PyObject *Py_UNUSED(ignored))
{
    uint64_t sum = 14695981039346656037u; /* FNV-1a */
    uint32_t number, high = atomic_load(&tl_board.head->high);
    (void)module;
    for (number = 1; number < high; number++) {
        uint64_t part;
        if (atomic_load(&tl_board.hot[number].pid) == 0)
            continue;
        if (awake(number, &part))
            return PyLong_FromLong(0);
        sum = (sum ^ number) * 1099511628211u;
        sum = (sum ^ part) * 1099511628211u;
    }
    return PyLong_FromUnsignedLongLong(sum | 1);
}

/* Ask the layers above whether anybody is awake, as the main thread does when it waits; for waits in slices.  In how many
 * seconds to ask again. */
static PyObject *idle(PyObject *module, PyObject *Py_UNUSED(ignored))
{
    int64_t next;
    if (core_idle(PyModule_GetState(module), &next) < 0)
        return NULL;
    return PyFloat_FromDouble((double)next / 1e9);
}

static PyObject *arena_sweep(PyObject *module, PyObject *arg)
{
    int pressure = PyObject_IsTrue(arg);
    (void)module;
    return pressure < 0 ? NULL : PyLong_FromUnsignedLong(tl_arena_sweep(pressure));
}

/* How many slots and processes of the arena are in use: for those who look for leaks. */
static PyObject *arena_used(PyObject *module, PyObject *Py_UNUSED(ignored))
{
    uint32_t slots, entries;
    (void)module;
    tl_arena_used(&slots, &entries);
    return Py_BuildValue("(II)", slots, entries);
}

static PyObject *process_start(PyObject *module, PyObject *arg)
{
    unsigned long pid = PyLong_AsUnsignedLong(arg);
    (void)module;
    return PyErr_Occurred() ? NULL : PyLong_FromUnsignedLongLong(os_process_start((uint32_t)pid));
}

static PyObject *thread_token(PyObject *module, PyObject *Py_UNUSED(ignored))
{
    struct tl_self *me = core_self();
    (void)module;
    return me == NULL ? NULL : PyLong_FromUnsignedLongLong(me->token);
}

static PyObject *thread_name(PyObject *module, PyObject *arg)
{
    struct tl_self *me = core_self();
    char text[TL_NAME_SIZE];
    (void)module;
    if (me == NULL)
        return NULL;
    if (!PyUnicode_Check(arg)) {
        PyErr_SetString(PyExc_TypeError, "a name is a str");
        return NULL;
    }
    core_copy_str(arg, text, sizeof text);
    tl_text_store(tl_board.cold[me->records[0]].name, TL_NAME_SIZE, text);
    me->name_was_asked = false;
    atomic_store(&tl_board.cold[me->records[0]].ident, (uint64_t)PyThread_get_thread_ident());
    Py_RETURN_NONE;
}

/* interrupt(ident, tid, exception class) -> whether there is such a thread. */
static PyObject *interrupt(PyObject *module, PyObject *args)
{
    unsigned long ident;
    unsigned int tid;
    PyObject *type;
    uint32_t number, high, best = 0, state = 0;
    uint64_t ticket = 0;
    (void)module;
    if (!PyArg_ParseTuple(args, "kIO:interrupt", &ident, &tid, &type))
        return NULL;
    /* SYNC POINT: interrupt */
    if (PyThreadState_SetAsyncExc(ident, type) == 0)
        Py_RETURN_FALSE;
    high = atomic_load(&tl_board.head->high);
    for (number = 1; number < high; number++) { /* its innermost wait, if it waits */
        struct tl_hot *hot = &tl_board.hot[number];
        uint32_t now = atomic_load(&hot->state);
        if (atomic_load(&hot->pid) != tl_process.pid || TL_PHASE_OF(now) != TL_WAITING ||
            atomic_load(&tl_board.cold[number].tid) != tid || atomic_load(&hot->ticket) < ticket)
            continue;
        best = number;
        state = now;
        ticket = atomic_load(&hot->ticket);
    }
    if (best != 0 && atomic_compare_exchange_strong(&tl_board.hot[best].state, &state, (state & ~7u) | TL_INTERRUPTED))
        tl_poke(best);
    Py_RETURN_TRUE;
}

/* Has another thread left an exception for this one that has not been raised yet? */
static PyObject *interrupt_pending(PyObject *module, PyObject *Py_UNUSED(ignored))
{
    (void)module;
    return PyBool_FromLong(core_interrupt_pending());
}

static PyObject *die_with_parent(PyObject *module, PyObject *Py_UNUSED(ignored))
{
    int error = os_die_with_parent();
    (void)module;
    if (error != 0) {
        errno = error;
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    Py_RETURN_NONE;
}

static PyObject *deadlock_mode(PyObject *module, PyObject *arg)
{
    long mode = PyLong_AsLong(arg);
    (void)module;
    if (PyErr_Occurred())
        return NULL;
    if (mode < DEADLOCK_OFF || mode > DEADLOCK_RAISE) {
        PyErr_SetString(PyExc_ValueError, "0, 1 or 2");
        return NULL;
    }
    atomic_store(&core_deadlock_mode, (int)mode);
    Py_RETURN_NONE;
}

PyMethodDef core_board_functions[] = {
    {"board_open", board_open, METH_O, NULL},
    {"board_fd", board_fd, METH_NOARGS, NULL},
    {"board_identity", board_identity, METH_NOARGS, NULL},
    {"board_ask", board_ask, METH_O, NULL},
    {"board_read", board_read, METH_O, NULL},
    {"board_events", board_events, METH_O, NULL},
    {"board_watch", board_watch, METH_VARARGS, NULL},
    {"board_gauges", board_gauges, METH_O, NULL},
    {"queue_look", queue_look, METH_O, NULL},
    {"sliced_wait", sliced_wait, METH_O, NULL},
    {"thread_role", thread_role, METH_VARARGS, NULL},
    {"board_record", board_record, METH_O, NULL},
    {"board_asleep", board_asleep, METH_NOARGS, NULL},
    {"idle", idle, METH_NOARGS, NULL},
    {"arena_sweep", arena_sweep, METH_O, NULL},
    {"arena_used", arena_used, METH_NOARGS, NULL},
    {"process_start", process_start, METH_O, NULL},
    {"thread_token", thread_token, METH_NOARGS, NULL},
    {"thread_name", thread_name, METH_O, NULL},
    {"interrupt", interrupt, METH_VARARGS, NULL},
    {"interrupt_pending", interrupt_pending, METH_NOARGS, NULL},
    {"die_with_parent", die_with_parent, METH_NOARGS, NULL},
    {"deadlock_mode", deadlock_mode, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};
