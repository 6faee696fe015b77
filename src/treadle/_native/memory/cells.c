/* Cells; see cells.h and README.md. */
#include "memory/cells.h"
#include "memory/extents.h"
#include "system/points.h"

#include <errno.h>
#include <string.h>

#define PAGE 4096u
#define CELLS_A_PAGE (PAGE / sizeof(struct ring_cell))
/* Bytes of memory that free cells keep: fresh pages cost more than what is copied into them.  While messages come and
 * go, as much as some of their size need; when nothing has gone through a cell for a while, little. */
#define KEEP_BUSY ((int64_t)64 << 20)
#define KEEP_MESSAGES 3
#define KEEP_IDLE ((int64_t)8 << 20)
#define IDLE_NS (500u * (uint64_t)1000000)

_Static_assert(sizeof(struct ring_cell) == 64, "a cell is one cache line");

/* -- extents -------------------------------------------------------------------------------------------------------- */

/* Sizes with four steps to each power of two, so that extents fit many messages. */
static uint64_t rounded(uint64_t length)
{
    uint64_t step = PAGE;
    while (step * 8 < length)
        step *= 2;
    return (length + step - 1) / step * step;
}

static bool fits(const struct ring_cell *cell, uint64_t length)
{
    uint64_t capacity = atomic_load_explicit(&cell->capacity, memory_order_relaxed);
    return capacity >= length && capacity <= 2 * rounded(length);
}

static void punch(struct ring *ring, struct ring_cell *cell)
{
    uint64_t capacity = atomic_load(&cell->capacity);
    if (capacity == 0 || atomic_load(&cell->hollow))
        return;
    atomic_store(&cell->filled, 0); /* first: killed after it, there is more memory than is said */
    os_memory_punch(ring->segment->fd, atomic_load(&cell->offset), capacity);
    TL_POINT("ring.cell.punched");
    atomic_store(&cell->hollow, 1);
}

/* The cell is ours.  The addresses of an extent that is replaced are never used again: only its memory is. */
static void provide(struct ring *ring, struct ring_cell *cell, uint64_t length)
{
    uint64_t capacity = atomic_load(&cell->capacity);
    if (capacity > 0 && !atomic_load(&cell->hollow))
        atomic_fetch_sub_explicit(&ring->head->spare, (int64_t)capacity, memory_order_relaxed);
    if (!fits(cell, length)) {
        punch(ring, cell);
        capacity = rounded(length);
        atomic_store(&cell->capacity, 0);
        atomic_store(&cell->filled, 0);
        atomic_store(&cell->offset, atomic_fetch_add(&ring->head->file_end, capacity));
        TL_POINT("ring.cell.extent");
        atomic_store(&cell->capacity, capacity);
    }
    atomic_store(&cell->hollow, 0);
    atomic_store_explicit(&ring->head->cell_used, os_now(), memory_order_relaxed);
}

void cells_trim(struct ring *ring, tl_token owner, bool now)
{
    struct ring_head *head = ring->head;
    uint32_t cells = atomic_load(&head->cells), i;
    int64_t spare = atomic_load_explicit(&head->spare, memory_order_relaxed);
    bool alone = true;
    if (spare <= KEEP_IDLE || (!now && os_now() - atomic_load_explicit(&head->cell_used, memory_order_relaxed) < IDLE_NS))
        return;
    for (i = 0; i < cells && atomic_load(&head->spare) > KEEP_IDLE; i++) {
        struct ring_cell *cell = cell_at(ring, i);
        int64_t capacity;
        alone &= atomic_load(&cell->word) == CELL_FREE;
        if (atomic_load(&cell->word) != CELL_FREE || atomic_load(&cell->hollow) || atomic_load(&cell->capacity) == 0 ||
            !cell_turn(ring, i, CELL_FREE, owner | CELL_FILLING))
            continue;
        capacity = (int64_t)atomic_load(&cell->capacity);
        punch(ring, cell);
        alone &= atomic_fetch_sub(&head->spare, capacity) == spare;
        spare -= capacity;
        atomic_store(&cell->word, CELL_FREE);
    }
    /* All are free and have no memory.  So what is left of the count never was: who is killed amid a release has its cell
     * counted twice.  If nobody has been here meanwhile, for it changes the count before, or finds its cell hollow. */
    if (alone && i == cells && spare > KEEP_IDLE)
        atomic_compare_exchange_strong(&head->spare, &spare, 0);
}

/* -- claiming and releasing ----------------------------------------------------------------------------------------- */

/* The cell's owner puts it back.  Killed before the last store: its owner is dead, and a sweep does it again. */
void cell_release(struct ring *ring, uint32_t index)
{
    struct ring_head *head = ring->head;
    struct ring_cell *cell = cell_at(ring, index);
    int64_t capacity = (int64_t)atomic_load(&cell->capacity);
    if (capacity > 0 && !atomic_load(&cell->hollow)) {
        int64_t most = capacity * KEEP_MESSAGES > KEEP_BUSY ? capacity * KEEP_MESSAGES : KEEP_BUSY;
        if (atomic_fetch_add(&head->spare, capacity) + capacity > most) {
            atomic_fetch_sub(&head->spare, capacity);
            punch(ring, cell);
        }
    }
    atomic_store(&cell->position, RING_NOWHERE);
    TL_POINT("ring.cell.releasing");
    atomic_store(&cell->word, CELL_FREE);
    atomic_fetch_add_explicit(&head->cells_free, 1, memory_order_relaxed);
}

void cell_fail(struct ring *ring, uint32_t index)
{
    struct ring_cell *cell = cell_at(ring, index);
    punch(ring, cell);
    atomic_store(&cell->capacity, 0);
    cell_release(ring, index);
}

/* A free cell that the length fits, or any free one. UINT32_MAX: there is none. */
static uint32_t claim_free(struct ring *ring, tl_token owner, uint64_t length)
{
    struct ring_head *head = ring->head;
    uint32_t cells = atomic_load(&head->cells), turn, i, at;
    for (turn = 0; turn < 2; turn++) {
        at = atomic_load_explicit(&head->cell_scan, memory_order_relaxed);
        for (i = 0; i < cells; i++, at++) {
            if (at >= cells)
                at = 0;
            if (atomic_load_explicit(&ring->cells[at].word, memory_order_relaxed) == CELL_FREE &&
                (turn == 1 || fits(&ring->cells[at], length)) &&
                cell_turn(ring, at, CELL_FREE, owner | CELL_FILLING)) {
                atomic_fetch_sub_explicit(&head->cells_free, 1, memory_order_relaxed);
                atomic_store_explicit(&head->cell_scan, at, memory_order_relaxed);
                return at;
            }
        }
    }
    atomic_store_explicit(&head->cells_free, 0, memory_order_relaxed);
    return UINT32_MAX;
}

int cell_claim(struct ring *ring, tl_token owner, uint64_t length, uint32_t *index)
{
    struct ring_head *head = ring->head;
    struct ring_cell *cell;
    uint32_t cells, found = UINT32_MAX;
    int error;
    while (found == UINT32_MAX) {
        if (atomic_load_explicit(&head->cells_free, memory_order_relaxed) > 0)
            found = claim_free(ring, owner, length);
        if (found != UINT32_MAX)
            break;
        cells = atomic_load(&head->cells);
        if (cells == RING_CELLS)
            return ENOMEM;
        error = ring_grow_cells(ring, cells);
        if (error != 0)
            return error;
        /* Another thread may have been faster: the system call is idempotent, and one of the two counts. */
        if (atomic_compare_exchange_strong(&head->cells, &cells, cells + (uint32_t)CELLS_A_PAGE))
            atomic_fetch_add(&head->cells_free, (int64_t)CELLS_A_PAGE);
    }
    TL_POINT("ring.cell.claimed");
    cell = cell_at(ring, found);
    atomic_store(&cell->position, RING_NOWHERE);
    atomic_store(&cell->length, length);
    atomic_store(&cell->attempt, 0);
    provide(ring, cell, length);
    *index = found;
    return 0;
}

/* Copy through a mapping, which is faster but must only touch what has memory.  False: not possible. */
static bool copy_mapped(struct ring *ring, uint32_t index, uint64_t at, const void *from, void *to, uint64_t size)
{
    struct extent *extent;
    if (size < EXTENT_LEAST || at + size > atomic_load(&cell_at(ring, index)->filled))
        return false;
    extent = extent_use(ring, index, from == NULL);
    if (extent == NULL)
        return false;
    if (from != NULL)
        memcpy(extent->memory + at, from, size);
    else if (to != NULL)
        memcpy(to, extent->memory + at, size);
    extent_drop(extent);
    return true;
}

int cell_write(struct ring *ring, uint32_t index, uint64_t at, const void *from, uint64_t size)
{
    struct ring_cell *cell = cell_at(ring, index);
    uint64_t offset = atomic_load(&cell->offset) + at, filled = atomic_load(&cell->filled);
    if (copy_mapped(ring, index, at, from, NULL, size)) {
        TL_POINT("ring.cell.written");
        return 0;
    }
    if (at / PAGE <= (filled + PAGE - 1) / PAGE && at + size > filled)
        filled = at + size; /* without a hole before it */
    while (size > 0) {
        int64_t n = os_memory_write(ring->segment->fd, from, size > (1u << 30) ? 1u << 30 : (size_t)size, offset);
        if (n <= 0)
            return n < 0 ? errno : ENOSPC;
        TL_POINT("ring.cell.written");
        from = (const char *)from + n;
        offset += (uint64_t)n;
        size -= (uint64_t)n;
    }
    atomic_store(&cell->filled, filled);
    return 0;
}

int cell_read(struct ring *ring, uint32_t index, uint64_t at, void *to, uint64_t size)
{
    uint64_t offset = atomic_load(&cell_at(ring, index)->offset) + at;
    if (copy_mapped(ring, index, at, NULL, to, size)) {
        TL_POINT("ring.cell.read");
        return 0;
    }
    while (size > 0) {
        int64_t n = os_memory_read(ring->segment->fd, to, size > (1u << 30) ? 1u << 30 : (size_t)size, offset);
        if (n <= 0)
            return n < 0 ? errno : EIO;
        TL_POINT("ring.cell.read");
        to = (char *)to + n;
        offset += (uint64_t)n;
        size -= (uint64_t)n;
    }
    return 0;
}

/* -- coming back ---------------------------------------------------------------------------------------------------- */

void cell_give_back(struct ring *ring, uint32_t index, uint64_t word)
{
    struct ring_head *head = ring->head;
    uint32_t most = atomic_load(&head->max_attempts);
    bool dead = most > 0 && atomic_load(&cell_at(ring, index)->attempt) >= most;
    if (!cell_turn(ring, index, word, dead ? CELL_DEAD : CELL_BACK))
        return;
    TL_POINT("ring.cell.back");
    /* Killed here: `held` still counts it, so the next consumer that sweeps finds it. */
    atomic_store(dead ? &head->dead : &head->returned, 1);
    if (dead) {
        uint64_t done = atomic_load(&head->done);
        /* Nobody will ever deal with it, so join() must not wait for it. */
        while (done < ring_count(&head->put) && !atomic_compare_exchange_weak(&head->done, &done, done + 1))
            ;
    }
}

int cell_returned(struct ring *ring, uint32_t *index)
{
    struct ring_head *head = ring->head;
    uint32_t cells = atomic_load(&head->cells), i, found = 0;
    uint64_t first = UINT64_MAX;
    if (!atomic_load(&head->returned))
        return 0;
    /* Before the look: who gives one back later sets it again. */
    atomic_store(&head->returned, 0);
    for (i = 0; i < cells; i++) {
        if (atomic_load(&ring->cells[i].word) != CELL_BACK)
            continue;
        found++;
        if (atomic_load(&ring->cells[i].position) < first) {
            first = atomic_load(&ring->cells[i].position);
            *index = i;
        }
    }
    if (found > 1)
        atomic_store(&head->returned, 1);
    return found > 0;
}

/* -- what the dead leave -------------------------------------------------------------------------------------------- */

/* Is the owner dead?  The last answer is kept: many cells have the same owner. */
static bool owner_dead(uint64_t word, tl_token *last, bool *was)
{
    if ((word & TL_OWNER_MASK) != *last) {
        *last = word & TL_OWNER_MASK;
        *was = !tl_token_alive(*last);
    }
    return *was;
}

uint32_t cells_sweep(struct ring *ring)
{
    struct ring_head *head = ring->head;
    uint32_t cells = atomic_load(&head->cells), i, held = 0, back = 0;
    uint64_t position = atomic_load(&head->get.position);
    int64_t free_ones = 0, spare = 0;
    tl_token last = 0;
    bool was = true;

    for (i = 0; i < cells; i++) {
        struct ring_cell *cell = cell_at(ring, i);
        uint64_t word = atomic_load(&cell->word);
        bool before = atomic_load(&cell->position) < position;
        switch (CELL_STATE(word)) {
        case CELL_FILLING:
            if (owner_dead(word, &last, &was))
                cell_release(ring, i);
            break;
        case CELL_TAKEN:
            if ((before || atomic_load(&cell->position) == RING_NOWHERE) && owner_dead(word, &last, &was))
                cell_release(ring, i);
            break;
        case CELL_HELD:
            if (before && owner_dead(word, &last, &was)) {
                cell_give_back(ring, i, word);
                back++;
            }
            break;
        default: break;
        }
        word = atomic_load(&cell->word);
        if (CELL_STATE(word) == CELL_HELD || CELL_STATE(word) == CELL_BACK)
            held++;
        if (CELL_STATE(word) == CELL_BACK)
            atomic_store(&head->returned, 1);
        if (CELL_STATE(word) == CELL_DEAD)
            atomic_store(&head->dead, 1);
        if (word == CELL_FREE) {
            free_ones++;
            if (!atomic_load(&cell->hollow))
                spare += (int64_t)atomic_load(&cell->capacity);
        }
    }
    /* Receipts are taken under this lock, and only here are they counted off: so this is never too low. */
    atomic_store(&head->held, held);
    atomic_store(&head->cells_free, free_ones);
    atomic_store(&head->spare, spare);
    return back;
}

void cells_repair_put(struct ring *ring)
{
    uint64_t tail = atomic_load(&ring->head->put.position);
    uint32_t cells = atomic_load(&ring->head->cells), i;
    for (i = 0; i < cells; i++) {
        struct ring_cell *cell = cell_at(ring, i);
        uint64_t position = atomic_load(&cell->position);
        if (CELL_STATE(atomic_load(&cell->word)) == CELL_USED && position >= tail && position != RING_NOWHERE)
            cell_release(ring, i);
    }
}

void cells_repair_get(struct ring *ring)
{
    uint64_t first = atomic_load(&ring->head->get.position);
    uint32_t cells = atomic_load(&ring->head->cells), i;
    for (i = 0; i < cells; i++) {
        struct ring_cell *cell = cell_at(ring, i);
        uint64_t position = atomic_load(&cell->position);
        enum cell_state state = CELL_STATE(atomic_load(&cell->word));
        if ((state != CELL_TAKEN && state != CELL_HELD) || position < first || position == RING_NOWHERE)
            continue;
        /* The head was not moved: a large message is as it was, the copy of a small one is void. */
        if (ring_head_names(ring, i))
            atomic_store(&cell->word, CELL_USED);
        else
            cell_release(ring, i);
    }
    cells_sweep(ring);
}
