/* The waiting loop: every wait of every primitive goes through core_wait.
 *
 * It publishes the wait, looks, sleeps in slices, and between slices does what keeps a wait from hanging in silence:
 * signals, interrupts, cycles, owners that have gone.
 */
#include "python/wait.h"
#include "python/recording.h"
#include "python/text.h"
#include "board/cycle.h"
#include "board/gauge.h"
#include "board/lock.h"
#include "memory/segment.h"

#define MS ((int64_t)1000000)
#define SLICE_EDGE (50 * MS)     /* waits for somebody: the edge is looked at this often */
#define SLICE_EDGE_LONG (90 * MS)
#define SLICE_PLAIN (1000 * MS)
#define NAP (1 * MS)             /* while a cycle is being confirmed */
#define NAPS 30
#define TURNS 200                /* how often to look whether the waker has gone to sleep, before asking for the GIL */
#define IDLE (1000 * MS)         /* the main thread waits for so long before it looks whether all others do, too */

_Atomic int core_deadlock_mode = DEADLOCK_RAISE;

struct waiting {
    struct core_state *state;
    struct wait *wait;
    struct tl_self *self;
    PyThreadState *detached; /* NULL while attached to the interpreter */
    uint32_t record, episode;
    uint64_t ticket, started;
    uint64_t begun; /* when the wait began, if somebody watches, else 0 */
    uint64_t idle_next; /* when the main thread is to ask whether everybody sleeps; 0: never */
    bool main_thread, told, warned;
    struct tl_span span; /* its record, if the session is being recorded */
};

void core_asleep(struct tl_self *self, bool asleep)
{
    atomic_store_explicit(&tl_board.hot[self->records[0]].asleep, os_cpu() << 1 | asleep, memory_order_relaxed);
}

static void detach(struct waiting *w)
{
    if (w->detached != NULL)
        return;
    w->detached = PyEval_SaveThread();
    core_asleep(w->self, true);
}

/* The thread that woke this one still has the GIL, and often goes to sleep itself at once: the two take turns.  To run
 * into its GIL then costs four system calls; to wait for a few microseconds costs none. */
void core_await_turn(uint32_t waker)
{
#ifndef Py_GIL_DISABLED
    uint32_t turns, cpu = os_cpu();
    if (waker == 0 || waker >= TL_BOARD_RECORDS)
        return;
    tl_self_here->partner = waker;
    for (turns = 0; turns < TURNS; turns++) {
        uint32_t asleep = atomic_load_explicit(&tl_board.hot[waker].asleep, memory_order_relaxed);
        if (asleep & 1)
            return;
        if (asleep >> 1 == cpu)
            break;
        os_relax();
    }
    os_yield(); /* it has no processor to go on: this one has it, or somebody else */
#else
    (void)waker;
#endif
}

static void attach(struct waiting *w)
{
    if (w->detached == NULL)
        return;
    core_await_turn(atomic_exchange_explicit(&tl_board.hot[w->record].waker, 0, memory_order_relaxed));
    core_asleep(w->self, false);
    PyEval_RestoreThread(w->detached);
    w->detached = NULL;
}

static struct tl_hot *hot_of(struct waiting *w)
{
    return &tl_board.hot[w->record];
}

/* A new episode; the text of the last one, if any, still holds. */
static void publish(struct waiting *w)
{
    w->episode = tl_publish(w->record, w->wait->object, w->wait->flags, w->ticket);
    if (w->told)
        atomic_store(&tl_board.cold[w->record].text_state, w->episode);
}

/* Look once more, and let others see whom this thread waits for. */
static bool look(struct waiting *w, bool entitled, bool inspect)
{
    struct tl_hot *hot = hot_of(w);
    if (w->wait->look != NULL && w->wait->look(w->wait, w->self, entitled, inspect))
        return true;
    if (TL_FOR_DIAGNOSIS && w->wait->edge != NULL) {
        atomic_store(&hot->edge, w->wait->edge(w->wait, w->self));
        atomic_fetch_add(&hot->beat, 1);
    }
    return false;
}

/* A thread of the standard library's does not tell its name by itself. */
static void name_thread(struct waiting *w)
{
    _Atomic char *name = tl_board.cold[w->self->records[0]].name;
    char text[TL_NAME_SIZE];
    if (atomic_load_explicit(&name[0], memory_order_relaxed) != 0 && !w->self->name_was_asked)
        return;
    core_threading_name(w->state, text, sizeof text);
    tl_text_store(name, TL_NAME_SIZE, text);
    w->self->name_was_asked = true;
}

/* Write down what is waited for and where this thread stands, for whoever diagnoses. */
static void tell(struct waiting *w)
{
    struct tl_cold *cold = &tl_board.cold[w->record];
    char text[TL_STACK_SIZE];
    attach(w);
    name_thread(w);
    if (!TL_FOR_DIAGNOSIS) {
        w->told = true;
        return;
    }
    text[0] = 0;
    if (w->wait->describe != NULL)
        w->wait->describe(w->wait, text, TL_WHAT_SIZE);
    tl_text_store(cold->what, TL_WHAT_SIZE, text);
    core_stack_text(text, sizeof text);
    tl_text_store(cold->stack, TL_STACK_SIZE, text);
    atomic_store(&cold->ident, (uint64_t)PyThread_get_thread_ident());
    atomic_store(&cold->text_state, w->episode);
    w->told = true;
}

/* Async exceptions (Thread.interrupt) don't wait for the end of the wait.
 * SYNC POINT: interrupt. The interrupter stores the exception, then looks for a published wait; here the wait was
 * published, then the exception is looked for: one of the two sees the other. */
bool core_interrupt_pending(void)
{
    PyThreadState *tstate = PyThreadState_Get();
#if PY_VERSION_HEX >= 0x030d0000
    return __atomic_load_n(&tstate->async_exc, __ATOMIC_SEQ_CST) != NULL;
#else
    return tstate->async_exc != NULL;
#endif
}

/* The interpreter itself raises what is pending, in the hook, which is Python code that waits for just that.  To take it
 * back from the thread state and raise it here would leave a flag set on 3.11 and 3.12, which makes the whole interpreter
 * slower from then on, and traced code hang. */
static enum wait_result raise_interrupted(struct waiting *w)
{
    PyObject *hook = w->state->surface, *nothing = hook == NULL ? Py_NewRef(Py_None) : PyObject_CallNoArgs(hook);
    if (nothing != NULL) {
        Py_DECREF(nothing);
        PyErr_SetNone(w->state->interrupted != NULL ? w->state->interrupted : PyExc_KeyboardInterrupt);
    }
    return WAIT_ERROR;
}

/* Somebody watched when this wait began, which has got what it was for.  Queues have their own figures, and a join
 * has none. */
static void measure(struct waiting *w)
{
    uint32_t kind = w->wait->flags >> TL_KIND_SHIFT, flags = w->wait->flags;
    uint64_t now = os_now(), watch = tl_watching(now), object = w->wait->object;
    struct tl_gauge *gauge;
    char text[TL_GAUGE_NAME];
    if (watch == 0 || kind == TL_QUEUE_GET || kind == TL_QUEUE_PUT || kind == TL_QUEUE_JOIN || kind == TL_JOIN ||
        atomic_load(&tl_board.cold[w->self->records[0]].role) == TL_ROLE_SERVICE)
        return;
    gauge = tl_gauge_find(watch, object, flags);
    if (gauge == NULL) {
        text[0] = 0;
        if (w->wait->describe != NULL)
            w->wait->describe(w->wait, text, sizeof text);
        gauge = tl_gauge_claim(watch, object, flags, text);
    }
    if (gauge != NULL)
        tl_gauge_waited(gauge, w->begun, now, kind == TL_LOCK || kind == TL_RLOCK);
}

static void over(struct waiting *w, enum wait_result result)
{
    if (__builtin_expect(w->begun != 0, 0) && result == WAIT_GOT)
        measure(w);
    if (__builtin_expect(w->span.at != 0, 0))
        tl_span_end_wait(w->self, w->span,
                         result == WAIT_GOT ? 0 : result == WAIT_TIMEOUT ? TL_TRACE_TIMED_OUT : TL_TRACE_FAILED);
}

/* The wait ends here.  claimed and not used: hand the claim on. */
static enum wait_result finish(struct waiting *w, enum wait_result result, bool used)
{
    enum tl_phase phase = tl_withdraw(w->record, w->episode);
    if (!used && w->wait->leave != NULL)
        w->wait->leave(w->wait, w->self, phase == TL_NOTIFIED);
    attach(w);
    over(w, result);
    tl_self_leave(w->self);
    return result;
}

int core_ask(PyObject *hook, PyObject *arguments)
{
    PyObject *answer;
    int rc = -1;
    if (arguments == NULL)
        return -1;
    answer = hook == NULL ? Py_NewRef(Py_None) : PyObject_CallObject(hook, arguments);
    Py_DECREF(arguments);
    if (answer == NULL)
        return -1;
    if (answer == Py_None)
        rc = 0;
    else if (PyExceptionInstance_Check(answer))
        PyErr_SetObject((PyObject *)Py_TYPE(answer), answer);
    else
        PyErr_SetString(PyExc_TypeError, "a hook of treadle returned neither None nor an exception");
    Py_DECREF(answer);
    return rc;
}

int core_idle(struct core_state *state, int64_t *next)
{
    PyObject *answer, *hook = state->on_idle;
    double wish;
    *next = INT64_MAX / 4;
    if (hook == NULL || hook == Py_None)
        return 0;
    Py_INCREF(hook);
    answer = PyObject_CallNoArgs(hook);
    Py_DECREF(hook);
    if (answer == NULL)
        return -1;
    wish = PyFloat_AsDouble(answer);
    Py_DECREF(answer);
    if (wish == -1.0 && PyErr_Occurred())
        return -1;
    *next = wish < 1e8 ? (int64_t)(wish * 1e9) : INT64_MAX / 4;
    return 0;
}

static PyObject *members_of(const struct tl_cycle *cycle)
{
    uint32_t i;
    PyObject *list = PyList_New(cycle->length);
    if (list == NULL)
        return NULL;
    for (i = 0; i < cycle->length; i++) {
        PyObject *member = Py_BuildValue("(IKi)", cycle->members[i].record,
                                         (unsigned long long)(cycle->members[i].edge & TL_OWNER_MASK),
                                         (cycle->members[i].edge & TL_BARE) != 0);
        if (member == NULL) {
            Py_DECREF(list);
            return NULL;
        }
        PyList_SET_ITEM(list, i, member);
    }
    return list;
}

/* An edge that leads to a thread of this process that has ended (or was left behind by a fork); for an object in shared
 * memory, to one that has ended while its process lives. */
static bool orphaned(struct waiting *w)
{
    tl_token edge = atomic_load(&hot_of(w)->edge) & TL_OWNER_MASK;
    uint32_t number = TL_RECORD_OF(edge);
    if (edge == 0 || number >= TL_BOARD_RECORDS)
        return false;
    if (!(w->wait->flags & TL_PRIVATE))
        return tl_token_ended(edge) && tl_token_alive(edge);
    return atomic_load(&tl_board.hot[number].generation) != TL_GENERATION_OF(edge) ||
           atomic_load(&tl_board.hot[number].pid) != tl_process.pid;
}

/* Look for deadlocks.  0: go on, 1: go on, but look again after a nap; -1: an exception is set. */
static int inspect(struct waiting *w, struct tl_cycle *cycle, bool patient)
{
    bool timed = (w->wait->flags & TL_TIMED) != 0;
    uint32_t kind = w->wait->flags >> TL_KIND_SHIFT;
    int rc;
    if (timed || w->warned || atomic_load(&core_deadlock_mode) == DEADLOCK_OFF)
        return 0;
    if (orphaned(w) && kind != TL_JOIN && w->state->on_orphan != NULL) {
        char text[TL_WHAT_SIZE];
        bool bare = (atomic_load(&hot_of(w)->edge) & TL_BARE) != 0;
        attach(w);
        text[0] = 0;
        if (w->wait->describe != NULL)
            w->wait->describe(w->wait, text, sizeof text);
        w->warned = true;
        return core_ask(w->state->on_orphan, Py_BuildValue("(sii)", text, (int)kind, (int)bare));
    }
    switch (tl_cycle_check(w->self, w->record, cycle, patient)) {
    case TL_CYCLE_MAYBE: return 1;
    case TL_CYCLE_REAL:
        attach(w);
        if (!w->told)
            tell(w);
        rc = core_ask(w->state->on_cycle, Py_BuildValue("(N)", members_of(cycle)));
        w->warned = true; /* once a wait, if it only was a warning */
        cycle->length = 0;
        return rc;
    default: return 0;
    }
}

enum wait_result core_wait(struct core_state *state, struct wait *wait, int64_t timeout)
{
    struct waiting w = {.state = state, .wait = wait, .self = core_self()};
    struct tl_cycle cycle;
    uint64_t deadline = 0;
    uint32_t slices = 0, naps = 0;
    bool entitled = false, late = false;
    uint64_t recording;

    if (w.self == NULL)
        return WAIT_ERROR;
    cycle.length = 0;
    w.record = tl_self_enter(w.self);
    if (w.record == 0) {
        core_no_record();
        return WAIT_ERROR;
    }
    wait->record = w.record;
    w.ticket = tl_ticket();
    w.main_thread = atomic_load_explicit(&tl_board.cold[w.record].tid, memory_order_relaxed) == tl_process.pid;
    if (tl_watched())
        w.begun = os_now();
    if (timeout >= 0) {
        wait->flags |= TL_TIMED;
        w.started = os_now();
        deadline = timeout > (int64_t)1 << 62 ? UINT64_MAX : w.started + (uint64_t)timeout;
    }
    if (w.main_thread && timeout < 0 && state->on_idle != NULL)
        w.idle_next = os_now() + IDLE;
    publish(&w);
    if (wait->prepare != NULL && wait->prepare(wait, w.self) < 0)
        return finish(&w, WAIT_ERROR, false);
    if (look(&w, false, false))
        return finish(&w, WAIT_GOT, true);
#if PY_VERSION_HEX >= 0x030e0000
    /* At exit the daemon threads are frozen, so whoever holds this will never let go of it. */
    if (wait->edge != NULL && timeout < 0 && Py_IsFinalizing()) {
        enum wait_result result = finish(&w, WAIT_ERROR, false);
        PyErr_SetString(PyExc_PythonFinalizationError, "cannot acquire lock at interpreter finalization");
        return result;
    }
#endif
    if (w.self->owed_count > 0) /* whom this thread owes a wake-up may be whom it waits for */
        tl_pay(w.self);
    if (core_interrupt_pending()) {
        enum wait_result result = finish(&w, WAIT_ERROR, false);
        raise_interrupted(&w);
        return result;
    }

    if ((recording = tl_trace_on()) != 0)
        w.span = core_trace_wait(state, recording, wait,
                                 wait->edge == NULL ? 0 : atomic_load_explicit(&hot_of(&w)->edge, memory_order_relaxed));

    for (;;) {
        int64_t slice = wait->edge != NULL || !(wait->flags & TL_PRIVATE) ? (slices < 20 ? SLICE_EDGE : SLICE_EDGE_LONG) : SLICE_PLAIN;
        bool forever = wait->edge == NULL && (wait->flags & TL_PRIVATE) && !w.main_thread && timeout < 0;
        enum os_wake why;
        uint32_t state_now;

        if (wait->edge != NULL && atomic_load_explicit(&hot_of(&w)->edge, memory_order_relaxed) != 0) {
            int rc = inspect(&w, &cycle, naps < NAPS - 5);
            if (rc < 0) {
                wait->hopeless = true;
                return finish(&w, WAIT_ERROR, false);
            }
            if (rc > 0 && naps < NAPS) {
                slice = NAP;
                naps++;
            } else if (rc == 0) {
                naps = 0;
            }
        }
        if (timeout >= 0) {
            uint64_t now = os_now();
            int64_t left = now >= deadline ? 0 : (deadline - now > (uint64_t)SLICE_PLAIN * 10
                                                      ? SLICE_PLAIN * 10 : (int64_t)(deadline - now));
            late = left == 0;
            if (left < slice)
                slice = left;
        }
        if (w.idle_next != 0) {
            uint64_t now = os_now();
            if (now >= w.idle_next) {
                int64_t next;
                attach(&w);
                if (!w.told)
                    tell(&w);
                if (core_idle(state, &next) < 0)
                    return finish(&w, WAIT_ERROR, false);
                now = os_now();
                w.idle_next = now + (uint64_t)next;
                if (look(&w, entitled, false))
                    return finish(&w, WAIT_GOT, false);
            }
            if ((int64_t)(w.idle_next - now) < slice)
                slice = (int64_t)(w.idle_next - now);
        }
        why = OS_TIMEOUT;
        if (!late) {
            detach(&w);
            /* With nobody to look at and no signals to handle it needs no slices, and a timer costs a microsecond. */
            if (wait->sleeps_on_descriptor)
                why = os_readable(wait->descriptor, slice);
            else
                why = tl_park(w.self, w.record, w.episode, forever ? -1 : slice, slices == 0 && !wait->spun);
        }
        state_now = atomic_load(&hot_of(&w)->state);

        if (state_now == ((w.episode & ~7u) | TL_NOTIFIED)) {
            if (wait->claim_is_success)
                return finish(&w, WAIT_GOT, true);
            if (look(&w, true, false))
                return finish(&w, WAIT_GOT, true);
            publish(&w);
            if (look(&w, true, false))
                return finish(&w, WAIT_GOT, false);
            continue;
        }
        if (state_now == ((w.episode & ~7u) | TL_INTERRUPTED)) {
            attach(&w);
            if (core_interrupt_pending()) {
                finish(&w, WAIT_ERROR, false);
                return raise_interrupted(&w);
            }
            /* The exception was raised between this wait and the one before: the interrupter came late. */
            atomic_compare_exchange_strong(&hot_of(&w)->state, &state_now, w.episode);
            continue;
        }
        if (state_now != w.episode) { /* a sweeper that was stopped long ago cleared the record: wait anew */
            publish(&w);
            entitled = true;
        }
        if ((late || why == OS_TIMEOUT) && (wait->flags & TL_HEIRS) && tl_inherit(w.record, wait->object, w.ticket))
            return finish(&w, WAIT_GOT, false);
        if (late) {
            enum tl_phase phase;
            if (look(&w, entitled, true))
                return finish(&w, WAIT_GOT, false);
            phase = tl_withdraw(w.record, w.episode);
            if (phase == TL_NOTIFIED && (wait->claim_is_success || look(&w, true, false))) {
                attach(&w);
                over(&w, WAIT_GOT);
                tl_self_leave(w.self);
                return WAIT_GOT;
            }
            if (wait->leave != NULL)
                wait->leave(wait, w.self, phase == TL_NOTIFIED);
            attach(&w);
            over(&w, WAIT_TIMEOUT);
            tl_self_leave(w.self);
            return WAIT_TIMEOUT;
        }
        if (why == OS_SIGNAL || (why == OS_TIMEOUT && w.main_thread && slice > NAP)) {
            attach(&w);
            /* Handlers run inside this wait: it stays published, so no notification is lost, but isn't stuck. */
            atomic_store(&hot_of(&w)->edge, 0);
            if (PyErr_CheckSignals() < 0)
                return finish(&w, WAIT_ERROR, false);
        }
        if (why == OS_TIMEOUT && slice >= SLICE_EDGE) {
            tl_segments_tidy(TL_SEGMENT_LOST);
            slices++;
            entitled = true;
            if (!w.told)
                tell(&w);
        }
        if (atomic_load_explicit(&hot_of(&w)->asked, memory_order_relaxed) &&
            atomic_exchange(&hot_of(&w)->asked, 0) && !w.told)
            tell(&w);
        if (look(&w, entitled, why == OS_TIMEOUT))
            return finish(&w, WAIT_GOT, false);
    }
}
