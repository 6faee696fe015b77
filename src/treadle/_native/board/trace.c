/* Recording; see trace.h. */
#include "board/trace.h"
#include "system/points.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FIRST_SLOT sizeof(struct tl_trace_chunk)
#define SLOT sizeof(struct tl_trace_slot)

_Static_assert(sizeof(struct tl_trace_chunk) == 64, "a chunk's head is as the reader expects it");
_Static_assert(sizeof(struct tl_trace_slot) == 48, "a slot is as the reader expects it");

/* -- the recording ------------------------------------------------------------------------------------------------- */

uint64_t tl_trace_start(int fd, uint64_t limit)
{
    struct tl_board_head *board = tl_board.head;
    uint64_t claimed = 0, id = (uint64_t)tl_process.pid << 32 | (uint32_t)os_random() | 1;
    struct tl_trace_head *head;
    int error = os_memory_grow(fd, 0, TL_TRACE_HEAD);
    if (error != 0) {
        errno = error;
        return 0;
    }
    head = os_memory_map(fd, TL_TRACE_HEAD);
    if (head == NULL)
        return 0;
    head->slot_size = SLOT;
    head->pid = tl_process.pid;
    head->monotonic = os_now();
    head->wall = os_wall();
    head->limit = limit;
    atomic_store(&head->next, TL_TRACE_HEAD);
    head->magic = TL_TRACE_MAGIC;
    os_memory_unmap(head, TL_TRACE_HEAD);
    /* Claimed first, so that of two who start at once only one says where its file is; then the place, so that who sees
     * that it is on finds it.  A claim names its process: that of a killed one is anybody's. */
    while (!atomic_compare_exchange_strong(&board->trace_claim, &claimed, id)) {
        bool on = atomic_load(&board->trace) == claimed;
        if (claimed != 0 && os_process_alive((uint32_t)(claimed >> 32), on ? atomic_load(&board->trace_start) : 0)) {
            errno = EBUSY;
            return 0;
        }
    }
    TL_POINT("trace.claimed");
    atomic_store(&board->trace_start, tl_process.start);
    atomic_store(&board->trace_place, (uint64_t)tl_process.pid << 32 | (uint32_t)fd);
    TL_POINT("trace.placed");
    atomic_store_explicit(&board->trace, id, memory_order_release);
    TL_POINT("trace.started");
    return id;
}

bool tl_trace_stop(uint64_t id)
{
    struct tl_board_head *board = tl_board.head;
    uint64_t was = id;
    bool done = atomic_compare_exchange_strong(&board->trace, &was, 0);
    TL_POINT("trace.stopped");
    if (done)
        atomic_compare_exchange_strong(&board->trace_claim, &id, 0);
    return done;
}

uint64_t tl_trace_place(uint32_t *pid, int *fd)
{
    uint64_t id = tl_trace_on(), place;
    if (id == 0)
        return 0;
    place = atomic_load(&tl_board.head->trace_place);
    *pid = (uint32_t)(place >> 32);
    *fd = (int)(uint32_t)place;
    if (*pid != tl_process.pid && !os_process_alive(*pid, atomic_load(&tl_board.head->trace_start))) {
        tl_trace_stop(id); /* it was killed; the file is as it was then */
        return 0;
    }
    return id;
}

/* -- chunks -------------------------------------------------------------------------------------------------------- */

static void let_go(struct tl_tracer *tracer)
{
    if (tracer->chunk != NULL)
        os_memory_unmap(tracer->chunk, tracer->size);
    tracer->chunk = NULL;
    tracer->used = tracer->room = 0;
}

/* The next bytes of the file, as far as they are to be had.  They have real pages, so a full disk is no SIGBUS. */
static char *claim(struct tl_tracer *tracer, uint32_t size, uint64_t *offset)
{
    struct tl_trace_head *head;
    char path[48], *memory = NULL;
    size_t length;
    uint32_t pid = 0;
    int fd, own = -1;
    if (tl_trace_place(&pid, &own) != tracer->id)
        return NULL;
    snprintf(path, sizeof path, "/proc/%u/fd/%d", pid, own);
    fd = os_memory_open(path, &length);
    if (fd < 0)
        return NULL;
    head = length < TL_TRACE_HEAD ? NULL : os_memory_map(fd, TL_TRACE_HEAD);
    if (head != NULL && head->magic == TL_TRACE_MAGIC) {
        *offset = atomic_load(&head->next);
        while (*offset + size <= head->limit &&
               !atomic_compare_exchange_weak(&head->next, offset, *offset + size))
            ;
        TL_POINT("trace.chunk.reserved");
        if (*offset + size <= head->limit && os_memory_fill(fd, *offset, size) == 0)
            memory = os_memory_map_at(fd, *offset, size);
        if (memory == NULL)
            atomic_fetch_add(&head->dropped, 1);
    }
    if (head != NULL)
        os_memory_unmap(head, TL_TRACE_HEAD);
    os_memory_close(fd);
    return memory;
}

static bool next_chunk(struct tl_self *self, struct tl_tracer *tracer)
{
    uint32_t size = tracer->chunks == 0 ? TL_TRACE_FIRST : TL_TRACE_CHUNK;
    struct tl_trace_chunk *chunk;
    uint64_t offset;
    int saved = errno;
    char *memory;
    let_go(tracer);
    memory = claim(tracer, size, &offset);
    errno = saved;
    if (memory == NULL) {
        tracer->refused = true;
        return false;
    }
    chunk = (struct tl_trace_chunk *)memory;
    chunk->token = self->token;
    chunk->start = tl_process.start;
    chunk->pid = tl_process.pid;
    chunk->tid = os_thread_id();
    chunk->size = size;
    chunk->number = tracer->chunks++;
    TL_POINT("trace.chunk.claimed");
    atomic_store_explicit(&chunk->magic, TL_TRACE_CHUNK_MAGIC, memory_order_release);
    tracer->chunk = memory;
    tracer->offset = offset;
    tracer->size = size;
    tracer->used = 0;
    tracer->room = (uint32_t)((size - FIRST_SLOT) / SLOT);
    return true;
}

/* What this thread records with, made ready for that recording; NULL: nothing more is recorded. */
static struct tl_tracer *tracer_of(struct tl_self *self, uint64_t id)
{
    struct tl_tracer *tracer = self->tracer;
    if (tracer == NULL) {
        tracer = self->tracer = calloc(1, sizeof *tracer);
        if (tracer == NULL)
            return NULL;
    }
    if (tracer->id != id) {
        let_go(tracer);
        memset(tracer, 0, sizeof *tracer);
        tracer->id = id;
    }
    return tracer->refused ? NULL : tracer;
}

/* Room for so many slots that stand together; NULL: nothing more is recorded. */
static struct tl_trace_slot *room_for(struct tl_self *self, struct tl_tracer *tracer, uint32_t slots)
{
    if (tracer->room - tracer->used < slots && !next_chunk(self, tracer))
        return NULL;
    return (struct tl_trace_slot *)(tracer->chunk + FIRST_SLOT) + tracer->used;
}

/* SYNC POINT: slot.  Whoever reads `used` finds the slots below it written. */
static void publish(struct tl_tracer *tracer, uint32_t slots)
{
    tracer->used += slots;
    TL_POINT("trace.slot.written");
    atomic_store_explicit(&((struct tl_trace_chunk *)tracer->chunk)->used, tracer->used, memory_order_release);
}

/* -- texts --------------------------------------------------------------------------------------------------------- */

static uint64_t hash_of(const char *text, size_t length)
{
    uint64_t hash = 0xcbf29ce484222325u; /* FNV-1a: texts are short */
    size_t i;
    for (i = 0; i < length; i++)
        hash = (hash ^ (unsigned char)text[i]) * 0x100000001b3u;
    return hash | 1;
}

uint32_t tl_trace_text(struct tl_self *self, uint64_t id, const char *text, size_t length)
{
    struct tl_tracer *tracer = tracer_of(self, id);
    struct tl_trace_slot *slot;
    uint64_t hash;
    uint32_t at, slots;
    if (tracer == NULL)
        return 0;
    if (length > TL_TRACE_TEXT)
        length = TL_TRACE_TEXT;
    hash = hash_of(text, length);
    for (at = hash % TL_TRACE_TEXTS; tracer->known[at].hash != 0; at = (at + 1) % TL_TRACE_TEXTS)
        if (tracer->known[at].hash == hash)
            return tracer->known[at].number;
    if (tracer->texts > 0 && tracer->texts % (TL_TRACE_TEXTS / 2) == 0) {
        memset(tracer->known, 0, sizeof tracer->known); /* they get new numbers when they come again */
        at = hash % TL_TRACE_TEXTS;
    }
    slots = 1 + (uint32_t)((length + SLOT - 1) / SLOT);
    slot = room_for(self, tracer, slots);
    if (slot == NULL)
        return 0;
    memset((void *)slot, 0, slots * SLOT);
    slot->kind = TL_TRACE_TEXT_IS;
    slot->name = ++tracer->texts;
    slot->a = length;
    memcpy((void *)(slot + 1), text, length);
    publish(tracer, slots);
    tracer->known[at].hash = hash;
    tracer->known[at].number = tracer->texts;
    return tracer->texts;
}

bool tl_trace_is_new(const struct tl_self *self, uint64_t id)
{
    return self->tracer == NULL || self->tracer->id != id;
}

void tl_trace_introduce(struct tl_self *self, uint64_t id, const char *thread, const char *process)
{
    struct tl_trace_slot slot = {.kind = TL_TRACE_THREAD};
    slot.name = tl_trace_text(self, id, thread, strlen(thread));
    slot.where = tl_trace_text(self, id, process, strlen(process));
    tl_span_begin(self, id, &slot);
}

/* -- spans --------------------------------------------------------------------------------------------------------- */

struct tl_span tl_span_begin(struct tl_self *self, uint64_t id, const struct tl_trace_slot *content)
{
    struct tl_span span = {id, 0};
    struct tl_tracer *tracer = tracer_of(self, id);
    struct tl_trace_slot *slot = tracer == NULL ? NULL : room_for(self, tracer, 1);
    if (slot == NULL)
        return span;
    memcpy((void *)slot, (const void *)content, SLOT);
    span.at = tracer->offset + (uint64_t)((char *)slot - tracer->chunk);
    publish(tracer, 1);
    return span;
}

/* The slot, if it is in the chunk that this thread has; and the thread's tracer, if the recording is still the same. */
static struct tl_trace_slot *slot_of(struct tl_self *self, struct tl_span span, struct tl_tracer **tracer)
{
    struct tl_tracer *own = self->tracer;
    *tracer = own != NULL && own->id == span.id && span.at != 0 ? own : NULL;
    if (*tracer == NULL || own->chunk == NULL || span.at < own->offset || span.at >= own->offset + own->size)
        return NULL;
    return (struct tl_trace_slot *)(own->chunk + (span.at - own->offset));
}

static void finish(struct tl_self *self, struct tl_span span, uint32_t flags, bool wait)
{
    struct tl_tracer *tracer;
    struct tl_trace_slot *slot = slot_of(self, span, &tracer), end = {.kind = TL_TRACE_END, .a = span.at};
    uint64_t now;
    if (tracer == NULL)
        return;
    now = os_now();
    if (slot == NULL) { /* the thread has filled the chunk since, or has become another process's */
        atomic_store_explicit(&end.begin, now, memory_order_relaxed);
        atomic_store_explicit(&end.flags, flags, memory_order_relaxed);
        if (tl_trace_on() == span.id)
            tl_span_begin(self, span.id, &end);
        return;
    }
    if (wait && now - atomic_load_explicit(&slot->begin, memory_order_relaxed) < TL_TRACE_SHORT &&
        slot + 1 == (struct tl_trace_slot *)(tracer->chunk + FIRST_SLOT) + tracer->used) {
        tracer->used--; /* its room is for the next one */
        atomic_store_explicit(&((struct tl_trace_chunk *)tracer->chunk)->used, tracer->used, memory_order_release);
        return;
    }
    atomic_store_explicit(&slot->flags, atomic_load_explicit(&slot->flags, memory_order_relaxed) | flags,
                          memory_order_relaxed);
    TL_POINT("trace.slot.ending");
    atomic_store_explicit(&slot->end, now, memory_order_release);
}

void tl_span_end(struct tl_self *self, struct tl_span span, uint32_t flags) { finish(self, span, flags, false); }
void tl_span_end_wait(struct tl_self *self, struct tl_span span, uint32_t flags) { finish(self, span, flags, true); }

/* -- ends ---------------------------------------------------------------------------------------------------------- */

void tl_trace_end(struct tl_self *self)
{
    struct tl_tracer *tracer = self->tracer;
    if (tracer == NULL)
        return;
    if (tracer->chunk != NULL)
        atomic_store(&((struct tl_trace_chunk *)tracer->chunk)->ended, os_now());
    let_go(tracer);
    self->tracer = NULL;
    free(tracer);
}

void tl_trace_forked(struct tl_self *self)
{
    struct tl_tracer *tracer = self->tracer;
    if (tracer == NULL)
        return;
    let_go(tracer); /* the chunk is the parent's */
    self->tracer = NULL;
    free(tracer);
}
