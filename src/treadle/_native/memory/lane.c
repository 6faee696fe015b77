/* See lane.h and README.md. */
#include "memory/lane.h"
#include "system/points.h"

#include <errno.h>
#include <string.h>

_Static_assert(sizeof(struct lane_record) == LANE_UNIT, "a record's head is one unit");
_Static_assert(sizeof(struct lane_page) <= LANE_PAGE, "it is a page");

/* Bytes that a record takes. */
static uint64_t span(uint64_t length)
{
    return (sizeof(struct lane_record) + length + LANE_UNIT - 1) / LANE_UNIT * LANE_UNIT;
}

static void ends(struct lane *lane, struct lane_page *page, bool parent)
{
    char *tasks = (char *)page + LANE_PAGE, *results = tasks + LANE_ROOM;
    memset(lane, 0, sizeof *lane);
    lane->page = page;
    lane->write.ring = parent ? &page->tasks : &page->results;
    lane->write.memory = parent ? tasks : results;
    lane->read.ring = parent ? &page->results : &page->tasks;
    lane->read.memory = parent ? results : tasks;
}

int lane_new(struct lane *lane, int *fd)
{
    struct lane_page *page = NULL;
    int error;
    *fd = os_memory_new("treadle-worker", 0);
    if (*fd < 0)
        return errno;
    error = os_memory_grow(*fd, 0, LANE_SIZE);
    if (error == 0 && (page = os_memory_map(*fd, LANE_SIZE)) == NULL)
        error = errno;
    if (error != 0) {
        os_memory_close(*fd);
        *fd = -1;
        return error;
    }
    ends(lane, page, true);
    atomic_store(&page->limit, UINT64_MAX);
    atomic_store(&page->results.asleep, LANE_ASLEEP);
    atomic_store(&page->magic, LANE_MAGIC);
    return 0;
}

int lane_open(struct lane *lane, int fd)
{
    struct lane_page *page = os_memory_map(fd, LANE_SIZE);
    if (page == NULL)
        return errno;
    if (atomic_load(&page->magic) != LANE_MAGIC) {
        os_memory_unmap(page, LANE_SIZE);
        return EINVAL;
    }
    ends(lane, page, false);
    return 0;
}

void lane_close(struct lane *lane)
{
    if (lane->page != NULL)
        os_memory_unmap(lane->page, LANE_SIZE);
    lane->page = NULL;
}

/* -- the writer ----------------------------------------------------------------------------------------------------- */

/* Is there room for so many bytes in one piece, and for the padding before them? */
static bool fits(struct lane_end *end, uint64_t need)
{
    uint64_t left = LANE_ROOM - (end->mine & (LANE_ROOM - 1));
    uint64_t whole = need <= left ? need : left + need;
    if (end->mine + whole - end->others <= LANE_ROOM)
        return true;
    /* SYNC POINT: room (load). What the reader read before it stored its head, it has read. */
    end->others = atomic_load(&end->ring->head);
    return end->mine + whole - end->others <= LANE_ROOM;
}

static struct lane_record *at(struct lane_end *end)
{
    return (struct lane_record *)(end->memory + (end->mine & (LANE_ROOM - 1)));
}

bool lane_put(struct lane_end *end, uint8_t kind, uint8_t flags, uint64_t seq, uint64_t a, uint64_t b, const void *data,
              uint32_t length)
{
    uint64_t need = span(length), left = LANE_ROOM - (end->mine & (LANE_ROOM - 1));
    if (!fits(end, need))
        return false;
    if (need > left) {
        *at(end) = (struct lane_record){.length = (uint32_t)(left - LANE_UNIT), .kind = LANE_PAD};
        end->mine += left;
    }
    *at(end) = (struct lane_record){length, kind, flags, 0, seq, a, b};
    if (length > 0)
        memcpy(at(end) + 1, data, length);
    TL_POINT("lane.put.written");
    end->mine += need;
    return true;
}

bool lane_put_inline(struct lane_end *end, uint8_t kind, uint8_t flags, uint64_t seq, uint64_t a, const char *data,
                     uint32_t length)
{
    struct lane_record record = {.kind = kind, .flags = flags | LANE_INLINE, .seq = seq, .a = a,
                                 .more = (uint16_t)(length << 8 | (uint8_t)data[0])};
    memcpy(&record.b, data + 1, length - 1);
    if (!fits(end, LANE_UNIT)) /* there always is a whole unit before the end */
        return false;
    *at(end) = record;
    TL_POINT("lane.put.written");
    end->mine += LANE_UNIT;
    return true;
}

uint32_t lane_inline(const struct lane_record *record, char data[LANE_INLINE_MOST])
{
    uint32_t length = record->more >> 8;
    data[0] = (char)(record->more & 0xff);
    memcpy(data + 1, &record->b, sizeof record->b);
    return record->length == 0 && length <= LANE_INLINE_MOST ? length : 0;
}

bool lane_show(struct lane_end *end)
{
    struct lane_ring *ring = end->ring;
    if (atomic_load_explicit(&ring->tail, memory_order_relaxed) == end->mine)
        return false;
    /* SYNC POINT: record (store), and the first half of "publish, then look whether the reader sleeps". */
    atomic_store(&ring->tail, end->mine);
    TL_POINT("lane.published");
    return true;
}

uint32_t lane_rouse(struct lane_end *end)
{
    /* SYNC POINT: record, the second half. */
    if (atomic_load(&end->ring->asleep) == LANE_AWAKE)
        return LANE_AWAKE;
    return atomic_exchange(&end->ring->asleep, LANE_AWAKE);
}

uint32_t lane_publish(struct lane_end *end) { return lane_show(end) ? lane_rouse(end) : LANE_AWAKE; }

bool lane_starve(struct lane_end *end, uint32_t length)
{
    /* SYNC POINT: room. This store, then the look at the head; the reader stores its head, then looks here. */
    atomic_store(&end->ring->starved, 1);
    end->others = atomic_load(&end->ring->head);
    if (!fits(end, span(length)))
        return true;
    atomic_store(&end->ring->starved, 0);
    return false;
}

/* -- the reader ----------------------------------------------------------------------------------------------------- */

enum lane_found lane_next(struct lane_end *end, struct lane_record *record, const char **payload)
{
    for (;;) {
        uint64_t left = LANE_ROOM - (end->mine & (LANE_ROOM - 1));
        if (end->others == end->mine) {
            /* SYNC POINT: record (load) */
            end->others = atomic_load_explicit(&end->ring->tail, memory_order_acquire);
            if (end->others == end->mine)
                return LANE_EMPTY;
            if (end->others - end->mine > LANE_ROOM || end->others % LANE_UNIT != 0)
                return LANE_DAMAGED;
        }
        memcpy(record, at(end), sizeof *record);
        if (span(record->length) > left || span(record->length) > end->others - end->mine)
            return LANE_DAMAGED;
        if (record->kind != LANE_PAD) {
            *payload = (const char *)(at(end) + 1);
            return LANE_FOUND;
        }
        if (span(record->length) != left)
            return LANE_DAMAGED;
        end->mine += left;
    }
}

void lane_take(struct lane_end *end, const struct lane_record *record) { end->mine += span(record->length); }

bool lane_give_room(struct lane_end *end)
{
    struct lane_ring *ring = end->ring;
    if (atomic_load_explicit(&ring->head, memory_order_relaxed) == end->mine)
        return false;
    /* SYNC POINT: room (store) */
    atomic_store(&ring->head, end->mine);
    TL_POINT("lane.taken");
    return atomic_load(&ring->starved) != 0 && atomic_exchange(&ring->starved, 0) != 0;
}

bool lane_rest(struct lane_end *end)
{
    /* SYNC POINT: record. This store, then the look at the tail; the writer stores its tail, then looks here. */
    atomic_store(&end->ring->asleep, LANE_ASLEEP);
    if (atomic_load(&end->ring->tail) == end->mine)
        return true;
    atomic_store(&end->ring->asleep, LANE_AWAKE);
    return false;
}

/* -- what it runs, and how far it may go ----------------------------------------------------------------------------- */

bool lane_start(struct lane *lane, uint64_t seq, uint64_t now)
{
    struct lane_page *page = lane->page;
    atomic_store_explicit(&page->since, now, memory_order_relaxed);
    atomic_store_explicit(&page->called, 0, memory_order_relaxed);
    /* SYNC POINT: revoke. Store current, then load limit; the parent stores limit, then loads current, all of it
     * sequentially consistent: one of the two sees the other's store. */
    atomic_store(&page->current, seq);
    TL_POINT("lane.started");
    if (seq <= atomic_load(&page->limit))
        return true;
    atomic_store(&page->current, 0);
    TL_POINT("lane.passed");
    return false;
}

uint64_t lane_revoke(struct lane *lane)
{
    struct lane_page *page = lane->page;
    uint64_t before = atomic_load(&page->current), after;
    /* SYNC POINT: revoke */
    atomic_store(&page->limit, before);
    after = atomic_load(&page->current);
    return after > before ? after : before;
}
