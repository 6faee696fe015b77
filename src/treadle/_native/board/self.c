/* The calling thread: its record, its end, and what a fork makes of it. */
#include "board/park.h"
#include "board/trace.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

struct tl_process tl_process;
_Thread_local struct tl_self *tl_self_here TL_TLS_MODEL;

static pthread_key_t at_thread_end;
static _Atomic uint32_t process_record; /* 0: not claimed yet */

static void thread_ends(void *memory)
{
    struct tl_self *self = memory;
    uint32_t depth;
    tl_pay(self);
    tl_trace_end(self);
    if (self->records[0] != 0)
        tl_record_end(self->records[0], self->held);
    for (depth = 1; depth < TL_DEPTH; depth++)
        if (self->records[depth] != 0)
            tl_record_release(self->records[depth]);
    tl_self_here = NULL;
    free(self->aliases);
    free(self);
}

/* The parent's threads, this one too, keep their records; the child's only thread gets new ones. */
static void forked_child(void)
{
    struct tl_self *self = tl_self_here;
    int error = 0;
    tl_process.pid = os_process_id();
    tl_process.start = os_process_start(tl_process.pid);
    atomic_fetch_add(&tl_process.forks, 1);
    atomic_store(&process_record, 0); /* it is the parent's */
    if (self == NULL)
        return;
    tl_trace_forked(self);
    if (self->alias_count == self->alias_room) {
        uint32_t room = self->alias_room + 8;
        tl_token *aliases = realloc(self->aliases, room * sizeof *aliases);
        if (aliases != NULL) {
            self->aliases = aliases;
            self->alias_room = room;
        }
    }
    if (self->alias_count < self->alias_room)
        self->aliases[self->alias_count++] = self->token;
    memset(self->records, 0, sizeof self->records);
    self->owed_count = 0;
    self->held = 0; /* what the parent holds in shared memory stays the parent's */
    self->guard_rank = 0;
    self->records[0] = tl_record_claim(&error);
    /* With no record left, the parent's token stays: its locks work, only diagnosis names the wrong process. */
    if (self->records[0] != 0)
        self->token = tl_record_token(self->records[0]);
}

int tl_self_setup(bool spins)
{
    int error;
    if (tl_process.pid != 0)
        return 0;
    error = pthread_key_create(&at_thread_end, thread_ends);
    if (error == 0)
        error = pthread_atfork(NULL, NULL, forked_child);
    if (error != 0)
        return error;
    tl_process.start = os_process_start(os_process_id());
    tl_process.several = os_cpu_count() > 1;
    tl_process.spins = spins && tl_process.several;
    tl_process.pid = os_process_id();
    return 0;
}

struct tl_self *tl_self_new(void)
{
    int error = 0;
    struct tl_self *self = calloc(1, sizeof *self);
    if (self == NULL) {
        errno = ENOMEM;
        return NULL;
    }
    self->records[0] = tl_record_claim(&error);
    if (self->records[0] == 0) {
        free(self);
        errno = error;
        return NULL;
    }
    self->token = tl_record_token(self->records[0]);
    if ((error = pthread_setspecific(at_thread_end, self)) != 0) {
        tl_record_release(self->records[0]);
        free(self);
        errno = error;
        return NULL;
    }
    tl_self_here = self;
    return self;
}

bool tl_self_was(const struct tl_self *self, tl_token token)
{
    uint32_t i;
    for (i = 0; i < self->alias_count; i++)
        if (self->aliases[i] == (token & TL_OWNER_MASK))
            return true;
    return false;
}

uint32_t tl_self_enter(struct tl_self *self)
{
    int error = 0;
    uint32_t depth = self->depth;
    if (depth >= TL_DEPTH) {
        errno = EAGAIN;
        return 0;
    }
    if (self->records[depth] == 0) {
        self->records[depth] = tl_record_claim(&error);
        if (self->records[depth] == 0) {
            errno = error;
            return 0;
        }
        atomic_store(&tl_board.cold[self->records[depth]].nested, self->records[0]);
    }
    self->depth = depth + 1;
    return self->records[depth];
}

tl_token tl_process_token(void)
{
    uint32_t number = atomic_load(&process_record), none = 0;
    int error = 0;
    if (number != 0)
        return tl_record_token(number);
    number = tl_record_claim(&error);
    if (number == 0) {
        errno = error;
        return 0;
    }
    tl_text_store(tl_board.cold[number].name, TL_NAME_SIZE, "(process)");
    atomic_store(&tl_board.cold[number].role, TL_ROLE_PROCESS);
    if (!atomic_compare_exchange_strong(&process_record, &none, number)) {
        tl_record_release(number);
        number = none;
    }
    return tl_record_token(number);
}
