/* Tests of the ring below Python.
 *
 * ring_test NAME [N] runs one test; it prints a line, and exits with 0 if all is well.
 */
#define _GNU_SOURCE
#include "memory/cells.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHECK(what)                                                                     \
    do {                                                                                \
        if (!(what)) {                                                                  \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #what);          \
            _exit(1);                                                                   \
        }                                                                               \
    } while (0)

/* A side's lock without the waiting loop: look, and let others go on. */
static void lock(struct ring *ring, struct ring_side *side)
{
    struct tl_self *self = tl_self();
    bool recovered = false, get = side == &ring->head->get;
    uint32_t looks = 0;
    while (!tl_lock_try(&side->lock, self->token) &&
           !tl_lock_look(&side->lock, self, 0, true, ++looks % 64 == 0, &recovered))
        os_yield();
    if (recovered && get)
        ring_repair_get(ring);
    else if (recovered)
        ring_repair_put(ring);
}

static void unlock(struct ring *ring, struct ring_side *side)
{
    tl_lock_release(&side->lock, ring_object(ring, side == &ring->head->get ? RING_GET_LOCK : RING_PUT_LOCK), tl_self());
}

struct note {
    uint32_t producer, incarnation;
    uint64_t number;
};
#define LARGE 30000u

static uint32_t size_of(uint64_t number) { return number % 11 == 0 ? LARGE : 8 + (uint32_t)(number % 900); }

static void fill(char *data, const struct note *note)
{
    uint32_t size = sizeof *note + size_of(note->number);
    memset(data, (int)(note->number * 7 + note->producer), size);
    memcpy(data, note, sizeof *note);
}

static bool whole(const char *data, size_t size)
{
    static _Thread_local char wanted[sizeof(struct note) + LARGE];
    struct note note;
    memcpy(&note, data, sizeof note);
    if (size != sizeof note + size_of(note.number))
        return false;
    fill(wanted, &note);
    return memcmp(wanted, data, size) == 0;
}

static void put(struct ring *ring, const struct note *note)
{
    struct tl_self *self = tl_self();
    static _Thread_local char data[sizeof(struct note) + LARGE];
    uint32_t size = sizeof *note + size_of(note->number), cell = UINT32_MAX;
    fill(data, note);
    if (size > RING_INLINE) {
        CHECK(cell_claim(ring, self->token, size, &cell) == 0);
        CHECK(cell_write(ring, cell, 0, data, size) == 0);
    }
    lock(ring, &ring->head->put);
    if (cell == UINT32_MAX) {
        CHECK(ring_append(ring, RECORD_INLINE, 0, data, size) == 0);
    } else {
        atomic_store(&cell_at(ring, cell)->position, atomic_load(&ring->head->put.position));
        atomic_store(&cell_at(ring, cell)->word, CELL_USED);
        CHECK(ring_append(ring, RECORD_CELL, 0, &cell, sizeof cell) == 0);
    }
    unlock(ring, &ring->head->put);
}

/* Take one, and check it: false if there is none. */
static bool get(struct ring *ring, struct note *note)
{
    struct tl_self *self = tl_self();
    static _Thread_local char data[sizeof(struct note) + LARGE];
    struct ring_message message = {0};
    size_t size;
    int found;
    lock(ring, &ring->head->get);
    found = ring_peek(ring, &message);
    CHECK(found >= 0);
    if (found == 0) {
        unlock(ring, &ring->head->get);
        return false;
    }
    size = message.length;
    if (message.kind == RECORD_CELL) {
        size = atomic_load(&cell_at(ring, message.cell)->length);
        atomic_store(&cell_at(ring, message.cell)->word, self->token | CELL_TAKEN);
    } else {
        memcpy(data, message.data, size);
    }
    ring_take(ring, &message);
    unlock(ring, &ring->head->get);
    if (message.kind == RECORD_CELL) {
        CHECK(cell_read(ring, message.cell, 0, data, size) == 0);
        cell_release(ring, message.cell);
    }
    CHECK(whole(data, size));
    memcpy(note, data, sizeof *note);
    return true;
}

static uint32_t cells_used(struct ring *ring)
{
    uint32_t i, used = 0;
    for (i = 0; i < atomic_load(&ring->head->cells); i++)
        used += atomic_load(&cell_at(ring, i)->word) != CELL_FREE;
    return used;
}

static void test_order(void)
{
    struct ring ring;
    struct note note = {1, 1, 0}, got;
    uint64_t turn, taken = 0;
    CHECK(ring_new(&ring, 0, 0) == 0);
    for (turn = 0; turn < 40; turn++) {
        uint64_t burst = turn % 4 == 0 ? 8000 : 10, i;
        for (i = 0; i < burst; i++) {
            put(&ring, &note);
            note.number++;
        }
        CHECK(ring_size(&ring) == note.number - taken);
        for (i = 0; i < burst; i++) {
            CHECK(get(&ring, &got) && got.number == taken);
            taken++;
        }
        CHECK(!get(&ring, &got) && ring_size(&ring) == 0 && ring_log_empty(&ring));
        CHECK(atomic_load(&ring.head->resident) <= (int32_t)RING_KEEP + 2);
    }
    CHECK(cells_used(&ring) == 0);
    CHECK(ring_count(&ring.head->put) == note.number && ring_count(&ring.head->get) == taken);
    ring_close(&ring);
}

static void test_segments(void)
{
    uint32_t i;
    for (i = 0; i < 2000; i++) {
        struct tl_segment *segment = tl_segment_new(5000), *again;
        struct tl_handle handle;
        CHECK(segment != NULL && tl_segment_grow(segment, 20000) == 0 && atomic_load(&segment->head->size) == 20000);
        handle = tl_segment_send(segment);
        tl_segment_drop(segment); /* under way: it is kept */
        again = tl_segment_join(&handle);
        CHECK(again != NULL && again->id == handle.id && atomic_load(&again->head->transit) == 0);
        tl_segment_drop(again);
        CHECK(tl_segment_join(&handle) == NULL && errno == ENOENT);
    }
}

/* -- processes that are killed ------------------------------------------------------------------------------------- */

#define CREW 3
struct page {
    _Atomic uint64_t put[CREW]; /* how many the producer has put since it started */
    _Atomic uint64_t got;
    _Atomic uint64_t taken[CREW][4096]; /* by producer and incarnation */
};

static pid_t start_producer(struct ring *ring, struct page *page, uint32_t which, uint32_t incarnation)
{
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        struct note note = {which, incarnation, 0};
        for (;;) {
            put(ring, &note);
            atomic_store(&page->put[which], ++note.number);
            while (ring_size(ring) > 3000)
                os_yield();
        }
    }
    return pid;
}

static pid_t start_consumer(struct ring *ring, struct page *page)
{
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        struct note note;
        for (;;) {
            if (!get(ring, &note)) {
                os_yield();
                continue;
            }
            atomic_fetch_add(&page->taken[note.producer][note.incarnation], 1);
            atomic_fetch_add(&page->got, 1);
        }
    }
    return pid;
}

static void end(pid_t pid)
{
    CHECK(kill(pid, SIGKILL) == 0);
    CHECK(waitpid(pid, NULL, 0) == pid);
}

static void test_kills(uint64_t kills)
{
    struct ring ring;
    struct page *page = mmap(NULL, sizeof *page, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pid_t producers[CREW], consumers[CREW];
    uint32_t incarnations[CREW] = {0}, i, lost_at_most = 0;
    uint64_t k, put_in_all = 0, got;
    CHECK(page != MAP_FAILED && ring_new(&ring, 0, 0) == 0);
    for (i = 0; i < CREW; i++) {
        producers[i] = start_producer(&ring, page, i, 0);
        consumers[i] = start_consumer(&ring, page);
    }
    for (k = 0; k < kills; k++) {
        uint64_t before = atomic_load(&page->got), until = os_now() + 10000000000u;
        i = (uint32_t)rand() % CREW;
        usleep((useconds_t)(rand() % 2000));
        if (rand() % 2) {
            end(producers[i]);
            put_in_all += atomic_load(&page->put[i]);
            lost_at_most++; /* one may have been put and not been counted */
            atomic_store(&page->put[i], 0);
            producers[i] = start_producer(&ring, page, i, ++incarnations[i] % 4096);
        } else {
            end(consumers[i]);
            lost_at_most++;
            consumers[i] = start_consumer(&ring, page);
        }
        while (atomic_load(&page->got) == before)
            CHECK(os_now() < until);
    }
    for (i = 0; i < CREW; i++) {
        end(producers[i]);
        put_in_all += atomic_load(&page->put[i]);
    }
    for (k = os_now() + 20000000000u; !ring_log_empty(&ring);)
        CHECK(os_now() < k);
    usleep(50000);
    for (i = 0; i < CREW; i++)
        end(consumers[i]);
    got = atomic_load(&page->got);
    CHECK(got + lost_at_most + 2 * CREW >= put_in_all && got <= put_in_all + lost_at_most + CREW);
    CHECK(ring_count(&ring.head->put) == ring_count(&ring.head->get));
    lock(&ring, &ring.head->get);
    cells_sweep(&ring);
    unlock(&ring, &ring.head->get);
    lock(&ring, &ring.head->put);
    unlock(&ring, &ring.head->put);
    CHECK(cells_used(&ring) == 0);
    printf("%llu kills, %llu messages\n", (unsigned long long)kills, (unsigned long long)got);
    ring_close(&ring);
}

int main(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "";
    CHECK(tl_board_open(NULL) == 0 && tl_self_setup(false) == 0 && tl_self() != NULL);
    if (strcmp(name, "order") == 0)
        test_order();
    else if (strcmp(name, "segments") == 0)
        test_segments();
    else if (strcmp(name, "kills") == 0)
        test_kills(argc > 2 ? strtoull(argv[2], NULL, 10) : 100);
    else
        return 2;
    printf("ok %s\n", name);
    return 0;
}
