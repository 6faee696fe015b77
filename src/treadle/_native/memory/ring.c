/* The log; see ring.h and README.md. */
#include "memory/ring.h"
#include "memory/cells.h"
#include "memory/extents.h"
#include "system/points.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PAGE 4096u
#define HEAD_SIZE PAGE
#define CHUNKS_AT (HEAD_SIZE)
#define GROUPS_AT (CHUNKS_AT + RING_CHUNKS * sizeof(uint64_t))
#define CELLS_AT (GROUPS_AT + RING_GROUPS * sizeof(uint64_t))
#define TABLES_END (CELLS_AT + RING_CELLS * sizeof(struct ring_cell))
#define FILE_START (((uint64_t)TL_SEGMENT_DATA + TABLES_END + RING_GROUP - 1) / RING_GROUP * RING_GROUP)

_Static_assert(sizeof(struct ring_head) <= HEAD_SIZE, "the head is a page");
_Static_assert(sizeof(struct ring_record) == 8, "a record's head is 8 bytes");
_Static_assert(RING_GROUP % 65536 == 0, "groups begin at page boundaries, whatever the page size");

static uint64_t align8(uint64_t n) { return (n + 7) & ~(uint64_t)7; }

/* The part of a table that has memory begins at its first page. */
static int grow_table(struct ring *ring, uint64_t at, uint64_t length)
{
    return os_memory_grow(ring->segment->fd, TL_SEGMENT_DATA + at, length);
}

int ring_grow_cells(struct ring *ring, uint32_t from)
{
    return grow_table(ring, CELLS_AT + (uint64_t)from * sizeof(struct ring_cell), PAGE);
}

static int map_tables(struct ring *ring)
{
    ring->memory = os_memory_map(ring->segment->fd, TL_SEGMENT_DATA + TABLES_END);
    if (ring->memory == NULL)
        return errno;
    ring->head = (struct ring_head *)(ring->memory + TL_SEGMENT_DATA);
    ring->chunk_state = (_Atomic uint64_t *)(ring->memory + TL_SEGMENT_DATA + CHUNKS_AT);
    ring->groups = (_Atomic uint64_t *)(ring->memory + TL_SEGMENT_DATA + GROUPS_AT);
    ring->cells = (struct ring_cell *)(ring->memory + TL_SEGMENT_DATA + CELLS_AT);
    return 0;
}

int ring_open(struct ring *ring, struct tl_segment *segment)
{
    int error;
    memset(ring, 0, sizeof *ring);
    ring->segment = segment;
    error = map_tables(ring);
    if (error == 0 && (atomic_load(&segment->head->size) < HEAD_SIZE ||
                       atomic_load(&ring->head->magic) != RING_MAGIC ||
                       ring->head->head_size != sizeof(struct ring_head) ||
                       ring->head->cell_size != sizeof(struct ring_cell)))
        error = EINVAL;
    if (error != 0)
        ring_close(ring);
    return error;
}

void ring_close(struct ring *ring)
{
    size_t i, k;
    extents_close(ring);
    for (i = 0; i < sizeof ring->maps / sizeof *ring->maps; i++) {
        for (k = 0; ring->maps[i] != NULL && k < 256; k++)
            if (ring->maps[i][k] != NULL)
                os_memory_unmap(ring->maps[i][k], RING_GROUP);
        free(ring->maps[i]);
    }
    if (ring->memory != NULL)
        os_memory_unmap(ring->memory, TL_SEGMENT_DATA + TABLES_END);
    if (ring->segment != NULL)
        tl_segment_drop(ring->segment);
    memset(ring, 0, sizeof *ring);
}

/* -- chunks --------------------------------------------------------------------------------------------------------- */

static uint64_t serving(uint64_t logical) { return (logical + 1) << 2 | CHUNK_SERVES; }

static uint64_t chunk_offset(struct ring *ring, uint32_t chunk)
{
    return atomic_load_explicit(&ring->groups[chunk / RING_GROUP_CHUNKS], memory_order_acquire) +
           chunk % RING_GROUP_CHUNKS * RING_CHUNK;
}

/* Where this process has the chunk; NULL and errno.  Needs no lock. */
static char *chunk_map(struct ring *ring, uint32_t chunk)
{
    uint32_t group = chunk / RING_GROUP_CHUNKS;
    _Atomic(char *) *part = __atomic_load_n(&ring->maps[group / 256], __ATOMIC_ACQUIRE);
    char *map, *other = NULL;
    if (__builtin_expect(part == NULL, 0)) {
        _Atomic(char *) *fresh = calloc(256, sizeof *fresh);
        if (fresh == NULL) {
            errno = ENOMEM;
            return NULL;
        }
        if (__atomic_compare_exchange_n(&ring->maps[group / 256], &part, fresh, false, __ATOMIC_ACQ_REL,
                                        __ATOMIC_ACQUIRE))
            part = fresh;
        else
            free(fresh);
    }
    map = atomic_load_explicit(&part[group % 256], memory_order_acquire);
    if (__builtin_expect(map == NULL, 0)) {
        map = os_memory_map_at(ring->segment->fd, atomic_load(&ring->groups[group]), RING_GROUP);
        if (map == NULL)
            return NULL;
        if (!atomic_compare_exchange_strong(&part[group % 256], &other, map)) {
            os_memory_unmap(map, RING_GROUP);
            map = other;
        }
    }
    return map + chunk % RING_GROUP_CHUNKS * RING_CHUNK;
}

/* One more physical chunk, for that logical one. */
static int chunk_add(struct ring *ring, uint64_t logical, uint32_t *chunk)
{
    struct ring_head *head = ring->head;
    uint32_t number = atomic_load(&head->chunks);
    int error;
    if (number == RING_CHUNKS)
        return ENOMEM;
    if (number % (PAGE / sizeof(uint64_t)) == 0 &&
        (error = grow_table(ring, CHUNKS_AT + number * sizeof(uint64_t), PAGE)) != 0)
        return error;
    if (number % RING_GROUP_CHUNKS == 0) {
        uint32_t group = number / RING_GROUP_CHUNKS;
        if (group % (PAGE / sizeof(uint64_t)) == 0 &&
            (error = grow_table(ring, GROUPS_AT + group * sizeof(uint64_t), PAGE)) != 0)
            return error;
        /* Killed in between, or if this fails below: some of the file's addresses are never used. */
        atomic_store(&ring->groups[group], atomic_fetch_add(&head->file_end, RING_GROUP));
    }
    error = os_memory_grow(ring->segment->fd, chunk_offset(ring, number), RING_CHUNK);
    if (error != 0)
        return error;
    TL_POINT("ring.chunk.allocated");
    atomic_store(&ring->chunk_state[number], serving(logical));
    atomic_fetch_add_explicit(&head->resident, 1, memory_order_relaxed);
    TL_POINT("ring.chunk.claimed");
    atomic_store(&head->chunks, number + 1);
    *chunk = number;
    return 0;
}

/* A physical chunk with memory for the logical one behind the tail's: 0 or an errno. */
static int chunk_find(struct ring *ring, uint64_t logical, uint32_t *chunk)
{
    struct ring_head *head = ring->head;
    /* SYNC POINT: take (load). What consumers read in the chunks before this one, they have read. */
    uint64_t first = atomic_load(&head->get.position) >> RING_SHIFT, state;
    uint32_t chunks = atomic_load(&head->chunks), at = atomic_load(&head->chunk_scan), i, hollow = UINT32_MAX;
    int error;

    if (chunks <= logical - first) /* each holds a part of the log */
        return chunk_add(ring, logical, chunk);
    for (i = 0; i < chunks; i++, at++) {
        if (at >= chunks)
            at = 0;
        state = atomic_load_explicit(&ring->chunk_state[at], memory_order_relaxed);
        if ((state & 3) == CHUNK_HOLLOW) {
            hollow = at;
        } else if ((state & 3) == CHUNK_SERVES && state < serving(first)) {
            /* A consumer may want to punch it. */
            if (atomic_compare_exchange_strong(&ring->chunk_state[at], &state, serving(logical))) {
                TL_POINT("ring.chunk.claimed");
                atomic_store_explicit(&head->chunk_scan, at + 1, memory_order_relaxed);
                *chunk = at;
                return 0;
            }
        }
    }
    if (hollow == UINT32_MAX) /* the free ones are being punched */
        return chunk_add(ring, logical, chunk);
    error = os_memory_grow(ring->segment->fd, chunk_offset(ring, hollow), RING_CHUNK);
    if (error != 0)
        return error;
    TL_POINT("ring.chunk.allocated");
    /* Killed before this store: a hollow chunk has memory, until it is used. */
    atomic_store(&ring->chunk_state[hollow], serving(logical));
    atomic_fetch_add_explicit(&head->resident, 1, memory_order_relaxed);
    *chunk = hollow;
    return 0;
}

/* The physical chunk of a side's position. */
static uint32_t chunk_of(struct ring *ring, const struct ring_side *side)
{
    uint64_t wanted = serving(atomic_load_explicit(&side->position, memory_order_relaxed) >> RING_SHIFT);
    uint32_t hint = atomic_load_explicit(&side->chunk, memory_order_relaxed), i, chunks;
    if (__builtin_expect(atomic_load_explicit(&ring->chunk_state[hint], memory_order_relaxed) == wanted, 1))
        return hint;
    chunks = atomic_load(&ring->head->chunks);
    for (i = 0; i < chunks; i++)
        if (atomic_load(&ring->chunk_state[i]) == wanted)
            return i;
    return hint; /* never: the chunk of a position is never given away */
}

/* The head has left the chunk: give its memory back, if there are enough free ones with memory. */
static void chunk_left(struct ring *ring, uint32_t chunk)
{
    struct ring_head *head = ring->head;
    uint64_t first = atomic_load(&head->get.position) >> RING_SHIFT;
    uint64_t last = atomic_load(&head->put.position) >> RING_SHIFT;
    uint64_t state = atomic_load(&ring->chunk_state[chunk]);
    int64_t free_ones = atomic_load(&head->resident) - (int64_t)(last - first + 1);
    if (free_ones <= (int64_t)RING_KEEP || (state & 3) != CHUNK_SERVES || state >= serving(first))
        return;
    if (!atomic_compare_exchange_strong(&ring->chunk_state[chunk], &state, state | CHUNK_PUNCHING))
        return; /* a producer has it */
    TL_POINT("ring.chunk.punching");
    os_memory_punch(ring->segment->fd, chunk_offset(ring, chunk), RING_CHUNK);
    TL_POINT("ring.chunk.punched");
    atomic_fetch_sub_explicit(&head->resident, 1, memory_order_relaxed);
    atomic_store(&ring->chunk_state[chunk], (state & ~(uint64_t)3) | CHUNK_HOLLOW);
}

static void recount_resident(struct ring *ring)
{
    uint32_t i, chunks = atomic_load(&ring->head->chunks);
    int32_t resident = 0;
    for (i = 0; i < chunks; i++)
        if ((atomic_load(&ring->chunk_state[i]) & 3) == CHUNK_SERVES)
            resident++;
    atomic_store(&ring->head->resident, resident);
}

/* -- both sides ----------------------------------------------------------------------------------------------------- */

uint64_t ring_count(const struct ring_side *side)
{
    /* In this order: next_position is stored before next_count, so a next_count that was read belongs to the
     * next_position that is read after it, or to an older one, and then this is behind by one.  SYNC POINT: count */
    uint64_t stable = atomic_load(&side->count), next = atomic_load(&side->next_count);
    uint64_t at = atomic_load(&side->next_position);
    return at == atomic_load(&side->position) && next > stable ? next : stable;
}

uint64_t ring_size(const struct ring *ring)
{
    uint64_t got = ring_count(&ring->head->get), put = ring_count(&ring->head->put);
    return put > got ? put - got : 0;
}

/* Move the side, by one message, with one store.  Its lock is held. */
static void commit(struct ring_side *side, uint64_t position, uint64_t more)
{
    uint64_t count = ring_count(side) + more;
    /* SYNC POINT: count.  Killed before `position` is stored: nothing has happened. Killed after it: next_count holds. */
    atomic_store_explicit(&side->next_position, position, memory_order_release);
    atomic_store_explicit(&side->next_count, count, memory_order_release);
    TL_POINT("ring.commit.intent");
    /* SYNC POINT: message (store); SYNC POINT: take (store).  Also the first half of "change, then look for marks". */
    atomic_store(&side->position, position);
    TL_POINT("ring.commit.done");
    atomic_store_explicit(&side->count, count, memory_order_release);
}

/* -- producers ------------------------------------------------------------------------------------------------------ */

static void write_record(char *at, uint8_t kind, uint8_t encoding, uint32_t length)
{
    struct ring_record record = {length, kind, encoding, 0};
    memcpy(at, &record, sizeof record);
}

int ring_append(struct ring *ring, uint8_t kind, uint8_t encoding, const void *data, uint32_t length)
{
    struct ring_side *side = &ring->head->put;
    uint64_t position = atomic_load_explicit(&side->position, memory_order_relaxed);
    uint64_t offset = position & (RING_CHUNK - 1), need = sizeof(struct ring_record) + align8(length);
    uint32_t chunk = chunk_of(ring, side), next;
    char *memory = chunk_map(ring, chunk);
    int error;

    if (memory == NULL)
        return errno;
    /* A link always fits behind the last record. */
    if (offset + need > RING_CHUNK - sizeof(struct ring_record)) {
        uint64_t logical = (position >> RING_SHIFT) + 1;
        char *fresh;
        error = chunk_find(ring, logical, &next);
        if (error != 0)
            return error;
        fresh = chunk_map(ring, next);
        if (fresh == NULL) {
            error = errno;
            atomic_store(&ring->chunk_state[next], (uint64_t)CHUNK_HOLLOW);
            return error;
        }
        write_record(memory + offset, RECORD_LINK, 0, next);
        TL_POINT("ring.put.linked");
        position = logical << RING_SHIFT;
        offset = 0;
        memory = fresh;
        chunk = next;
    }
    write_record(memory + offset, kind, encoding, length);
    memcpy(memory + offset + sizeof(struct ring_record), data, length);
    TL_POINT("ring.put.written");
    commit(side, position + need, 1);
    atomic_store_explicit(&side->chunk, chunk, memory_order_relaxed);
    return 0;
}

void ring_repair_put(struct ring *ring)
{
    struct ring_head *head = ring->head;
    uint64_t count = ring_count(&head->put), last = atomic_load(&head->put.position) >> RING_SHIFT;
    uint32_t i, chunks = atomic_load(&head->chunks);
    atomic_store(&head->put.count, count);
    /* A chunk that was claimed and not linked. */
    for (i = 0; i < chunks; i++) {
        uint64_t state = atomic_load(&ring->chunk_state[i]);
        if ((state & 3) == CHUNK_SERVES && state > serving(last))
            atomic_compare_exchange_strong(&ring->chunk_state[i], &state, (uint64_t)CHUNK_HOLLOW);
    }
    recount_resident(ring);
    cells_repair_put(ring);
}

/* -- consumers ------------------------------------------------------------------------------------------------------ */

int ring_peek(struct ring *ring, struct ring_message *message)
{
    struct ring_side *side = &ring->head->get;
    uint64_t position = atomic_load_explicit(&side->position, memory_order_relaxed);
    struct ring_record record;
    uint32_t chunk;
    const char *memory;

    /* SYNC POINT: message (load) */
    if (position == atomic_load(&ring->head->put.position))
        return 0;
    chunk = chunk_of(ring, side);
    message->left_chunk = UINT32_MAX;
    memory = chunk_map(ring, chunk);
    if (memory == NULL)
        return -errno;
    memcpy(&record, memory + (position & (RING_CHUNK - 1)), sizeof record);
    if (record.kind == RECORD_LINK) {
        message->left_chunk = chunk;
        chunk = record.length;
        position = ((position >> RING_SHIFT) + 1) << RING_SHIFT;
        memory = chunk_map(ring, chunk);
        if (memory == NULL)
            return -errno;
        memcpy(&record, memory, sizeof record);
    }
    message->position = position;
    message->next = position + sizeof record + align8(record.length);
    message->chunk = chunk;
    message->kind = record.kind;
    message->encoding = record.encoding;
    message->length = record.length;
    message->data = memory + (position & (RING_CHUNK - 1)) + sizeof record;
    if (record.kind == RECORD_CELL)
        memcpy(&message->cell, message->data, sizeof message->cell);
    return 1;
}

void ring_take(struct ring *ring, const struct ring_message *message)
{
    struct ring_side *side = &ring->head->get;
    commit(side, message->next, 1);
    atomic_store_explicit(&side->chunk, message->chunk, memory_order_relaxed);
    if (__builtin_expect(message->left_chunk != UINT32_MAX, 0))
        chunk_left(ring, message->left_chunk);
}

bool ring_head_names(struct ring *ring, uint32_t cell)
{
    struct ring_message message = {0};
    return ring_peek(ring, &message) == 1 && message.kind == RECORD_CELL && message.cell == cell;
}

void ring_repair_get(struct ring *ring)
{
    struct ring_head *head = ring->head;
    uint64_t count = ring_count(&head->get);
    uint32_t i, chunks = atomic_load(&head->chunks);
    atomic_store(&head->get.count, count);
    /* A chunk that was being punched: only holders of this lock do that, so nobody else does now. */
    for (i = 0; i < chunks; i++) {
        uint64_t state = atomic_load(&ring->chunk_state[i]);
        if ((state & 3) != CHUNK_PUNCHING)
            continue;
        os_memory_punch(ring->segment->fd, chunk_offset(ring, i), RING_CHUNK);
        atomic_store(&ring->chunk_state[i], (uint64_t)CHUNK_HOLLOW);
    }
    recount_resident(ring);
    cells_repair_get(ring);
}

/* -- a new ring ----------------------------------------------------------------------------------------------------- */

int ring_new(struct ring *ring, int64_t maxsize, uint32_t max_attempts)
{
    struct tl_segment *segment = tl_segment_new(HEAD_SIZE);
    struct ring_head *head;
    uint32_t chunk;
    int error;
    if (segment == NULL)
        return errno;
    memset(ring, 0, sizeof *ring);
    ring->segment = segment;
    error = map_tables(ring);
    if (error == 0) {
        head = ring->head;
        head->head_size = sizeof(struct ring_head);
        head->cell_size = sizeof(struct ring_cell);
        atomic_store(&head->maxsize, maxsize);
        atomic_store(&head->max_attempts, max_attempts);
        atomic_store(&head->file_end, FILE_START);
        error = chunk_add(ring, 0, &chunk);
    }
    if (error != 0) {
        ring_close(ring);
        return error;
    }
    atomic_store(&head->magic, RING_MAGIC);
    return 0;
}
