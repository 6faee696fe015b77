/* Waiting at a queue of one process: for an item, for room, for the end of the work. */
#include "queues/queue_object.h"

#include <string.h>

struct waiting {
    struct wait wait;
    struct queue_object *queue;
    enum side side;
    bool registered;
};

static uint32_t *count_of(struct waiting *w)
{
    return w->side == GETTER ? &w->queue->getters : w->side == PUTTER ? &w->queue->putters : &w->queue->joiners;
}

static void unregister(struct waiting *w)
{
    if (w->registered)
        --*count_of(w);
    w->registered = false;
}

static bool look(struct wait *wait, struct tl_self *me, bool entitled, bool inspect)
{
    struct waiting *w = (struct waiting *)wait;
    struct queue_object *self = w->queue;
    bool now;
    (void)entitled;
    (void)inspect;
    queue_enter(self);
    now = queue_ready(self, w->side);
    if (!now && !w->registered) {
        w->registered = true;
        ++*count_of(w);
    }
    if (!now && w->side == GETTER)
        self->getters_told = false;
    else if (!now && w->side == PUTTER)
        self->putters_told = false;
    queue_leave(self, me);
    return now;
}

static void give_up(struct wait *wait, struct tl_self *me, bool claimed)
{
    struct waiting *w = (struct waiting *)wait;
    struct queue_object *self = w->queue;
    queue_enter(self);
    unregister(w);
    if (claimed && w->side == GETTER && queue_ready(self, GETTER))
        queue_tell_getter(self, me, 1);
    if (claimed && w->side == PUTTER && queue_ready(self, PUTTER))
        queue_tell_putter(self, me, 1);
    queue_leave(self, me);
}

static void describe(struct wait *wait, char *text, size_t size)
{
    static const char *const what[] = {"an item of a Queue", "room in a Queue", "join() of a Queue"};
    struct waiting *w = (struct waiting *)wait;
    open_describe((PyObject *)w->queue, what[w->side], text, size);
}

static const uint32_t kinds[] = {TL_QUEUE_GET, TL_QUEUE_PUT, TL_QUEUE_JOIN};

enum wait_result queue_wait(struct queue_object *self, struct tl_self *me, enum side side, int64_t timeout)
{
    struct waiting w;
    enum wait_result result;
    if (timeout == TOO_LONG) {
        PyErr_SetString(PyExc_OverflowError, "timeout value is too large");
        return WAIT_ERROR;
    }
    memset(&w, 0, sizeof w);
    w.queue = self;
    w.side = side;
    w.wait.object = queue_side_id(self, side);
    w.wait.flags = TL_PRIVATE | kinds[side] << TL_KIND_SHIFT;
    w.wait.claim_is_success = true;
    w.wait.look = look;
    w.wait.leave = give_up;
    w.wait.describe = describe;
    result = core_wait(core_state_of((PyObject *)self), &w.wait, timeout);
    if (w.registered) {
        queue_enter(self);
        unregister(&w);
        queue_leave(self, me);
    }
    return result;
}
