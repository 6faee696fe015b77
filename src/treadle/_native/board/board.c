/* The board and its records; see board.h, and README.md for why a kill at any instruction leaves it usable. */
#include "board/board.h"
#include "system/points.h"
#include "board/self.h"

#include <errno.h>

struct tl_board tl_board = {NULL, NULL, NULL, NULL, 0, -1};
static _Atomic uint64_t unwatched;
_Atomic(_Atomic uint64_t *) tl_watch = &unwatched;

_Static_assert(sizeof(struct tl_hot) == 64, "a hot record is one cache line");
_Static_assert(sizeof(struct tl_cold) == 2048, "cold records tile pages");
_Static_assert(sizeof(struct tl_board_head) <= TL_EVENTS_OFFSET, "the head fits before the events");
_Static_assert(TL_EVENTS_OFFSET + TL_EVENTS * sizeof(struct tl_event) <= TL_HOT_OFFSET, "events fit before the records");

static void locate(struct tl_board *board, char *memory, int fd, size_t size)
{
    board->hot = (struct tl_hot *)(memory + TL_HOT_OFFSET);
    board->cold = (struct tl_cold *)(memory + TL_COLD_OFFSET);
    board->arena = memory + TL_ARENA_OFFSET;
    board->size = size;
    board->fd = fd;
    board->head = (struct tl_board_head *)memory;
}

/* Records [0, upto) get memory. Two threads may do the same at once: the system call is idempotent. */
static int grow(struct tl_board *board, uint32_t upto)
{
    uint32_t ready = atomic_load(&board->head->ready);
    int error;
    while (ready < upto) {
        uint32_t next = ready + TL_BOARD_CHUNK;
        error = os_memory_grow(board->fd, TL_HOT_OFFSET + ready * sizeof(struct tl_hot),
                               TL_BOARD_CHUNK * sizeof(struct tl_hot));
        if (error == 0)
            error = os_memory_grow(board->fd, TL_COLD_OFFSET + ready * sizeof(struct tl_cold),
                                   TL_BOARD_CHUNK * sizeof(struct tl_cold));
        if (error != 0)
            return error;
        /* Loses against another thread that has grown as far or farther, which is as good. */
        if (atomic_compare_exchange_strong(&board->head->ready, &ready, next))
            ready = next;
    }
    return 0;
}

static int valid(const struct tl_board_head *head)
{
    return atomic_load(&head->magic) == TL_BOARD_MAGIC && head->hot_size == sizeof(struct tl_hot) &&
           head->cold_size == sizeof(struct tl_cold) && head->records == TL_BOARD_RECORDS && head->kinds == TL_KINDS;
}

int tl_board_view(const char *path, struct tl_board *view)
{
    size_t size = 0;
    char *memory;
    int saved, fd = os_memory_open(path, &size);
    if (fd < 0)
        return errno;
    if (size != TL_BOARD_SIZE) {
        os_memory_close(fd);
        return EINVAL;
    }
    memory = os_memory_map(fd, size);
    if (memory == NULL) {
        saved = errno;
        os_memory_close(fd);
        return saved;
    }
    locate(view, memory, fd, size);
    if (!valid(view->head)) {
        tl_board_close(view);
        return EINVAL;
    }
    return 0;
}

void tl_board_close(struct tl_board *view)
{
    os_memory_unmap(view->head, view->size);
    os_memory_close(view->fd);
    view->head = NULL;
}

static int board_new(struct tl_board *board)
{
    int error, fd = os_memory_new("treadle-board", TL_BOARD_SIZE); /* -1: the board serves forked children only */
    char *memory;
    error = os_memory_grow(fd, 0, TL_HOT_OFFSET);
    if (error == 0)
        error = os_memory_grow(fd, TL_ARENA_OFFSET, 4096);
    if (error != 0) {
        os_memory_close(fd);
        return error;
    }
    memory = os_memory_map(fd, TL_BOARD_SIZE);
    if (memory == NULL) {
        error = errno;
        os_memory_close(fd);
        return error;
    }
    locate(board, memory, fd, TL_BOARD_SIZE);
    board->head->hot_size = sizeof(struct tl_hot);
    board->head->cold_size = sizeof(struct tl_cold);
    board->head->records = TL_BOARD_RECORDS;
    board->head->kinds = TL_KINDS;
    atomic_store(&board->head->identity, (uint32_t)(os_now() ^ ((uint64_t)os_process_id() << 16)));
    atomic_store(&board->head->high, 1); /* record 0 is nobody */
    atomic_store(&board->head->ticket, 1);
    error = grow(board, TL_BOARD_CHUNK);
    if (error != 0) {
        tl_board_close(board);
        return error;
    }
    atomic_store(&board->head->magic, TL_BOARD_MAGIC);
    return 0;
}

int tl_board_open(const char *path)
{
    int error;
    if (tl_board.head != NULL)
        return 0;
    error = path != NULL ? tl_board_view(path, &tl_board) : board_new(&tl_board);
    if (error == 0)
        atomic_store(&tl_watch, &tl_board.head->watch_until);
    return error;
}

static uint32_t claim_below(uint32_t high, uint32_t pid)
{
    uint32_t number;
    for (number = 1; number < high; number++) {
        uint32_t nobody = 0;
        if (atomic_load_explicit(&tl_board.hot[number].pid, memory_order_relaxed) == 0 &&
            atomic_compare_exchange_strong(&tl_board.hot[number].pid, &nobody, pid))
            return number;
    }
    return 0;
}

uint32_t tl_record_claim(int *error)
{
    uint32_t pid = tl_process.pid, number, high;
    for (;;) {
        high = atomic_load(&tl_board.head->high);
        number = claim_below(high, pid);
        if (number == 0 && high % TL_BOARD_CHUNK == 0 && tl_board_sweep() > 0)
            continue;
        if (number != 0)
            break;
        if (high >= TL_BOARD_RECORDS) {
            *error = EAGAIN;
            return 0;
        }
        *error = grow(&tl_board, high + 1);
        if (*error != 0)
            return 0;
        atomic_compare_exchange_strong(&tl_board.head->high, &high, high + 1);
    }
    atomic_store(&tl_board.cold[number].start, tl_process.start);
    atomic_store(&tl_board.cold[number].tid, os_thread_id());
    atomic_store(&tl_board.cold[number].ident, 0);
    atomic_store(&tl_board.cold[number].nested, 0);
    atomic_store(&tl_board.cold[number].role, TL_ROLE_THREAD);
    atomic_store(&tl_board.cold[number].pool, 0);
    atomic_store(&tl_board.cold[number].task, 0);
    atomic_store(&tl_board.cold[number].sliced, 0);
    atomic_store(&tl_board.cold[number].debt, 0);
    atomic_store(&tl_board.cold[number].balance,
                 (uint64_t)atomic_load(&tl_board.hot[number].generation) << 32 | TL_BALANCE);
    tl_text_store(tl_board.cold[number].name, TL_NAME_SIZE, "");
    tl_text_store(tl_board.cold[number].what, TL_WHAT_SIZE, "");
    tl_text_store(tl_board.cold[number].stack, TL_STACK_SIZE, "");
    tl_text_store(tl_board.cold[number].title, TL_TASK_SIZE, "");
    return number;
}

/* Generation first: whoever dies between the two leaves a record that the next sweep frees again, and no token of
 * the old life is ever alive again. */
static void free_record(struct tl_hot *hot, uint32_t pid)
{
    atomic_store(&hot->edge, 0);
    atomic_store(&hot->state, (atomic_load(&hot->state) & ~7u) | TL_IDLE);
    atomic_store(&tl_board.cold[hot - tl_board.hot].start, 0);
    atomic_compare_exchange_strong(&hot->pid, &pid, 0);
}

void tl_record_release(uint32_t number)
{
    struct tl_hot *hot = &tl_board.hot[number];
    atomic_fetch_add(&hot->generation, 1);
    free_record(hot, tl_process.pid);
}

/* The thread is gone, and nothing that it held is left. */
static void forget(uint32_t number, uint32_t generation)
{
    struct tl_hot *hot = &tl_board.hot[number];
    uint32_t pid = atomic_load(&hot->pid), old = generation;
    /* SYNC POINT: sweep. Against a sweeper, if the process has died meanwhile. */
    if (atomic_compare_exchange_strong(&hot->generation, &old, generation + 1))
        free_record(hot, pid);
}

void tl_record_end(uint32_t number, uint32_t held)
{
    uint32_t generation = atomic_load(&tl_board.hot[number].generation);
    uint64_t left = atomic_fetch_add(&tl_board.cold[number].balance, held + TL_ENDED) + held;
    atomic_store(&tl_board.hot[number].edge, 0);
    if ((uint32_t)left == TL_BALANCE)
        forget(number, generation);
}

void tl_record_let_go(tl_token token)
{
    uint32_t number = TL_RECORD_OF(token);
    _Atomic uint64_t *balance = &tl_board.cold[number].balance;
    uint64_t seen = atomic_load(balance);
    while (seen >> 32 == TL_GENERATION_OF(token))
        if (atomic_compare_exchange_weak(balance, &seen, seen - 1)) {
            if ((uint32_t)(seen - 1) == (TL_BALANCE | TL_ENDED))
                forget(number, TL_GENERATION_OF(token));
            return;
        }
}

bool tl_token_ended(tl_token token)
{
    uint32_t number = TL_RECORD_OF(token);
    uint64_t balance;
    if (number == 0 || number >= TL_BOARD_RECORDS)
        return false;
    balance = atomic_load(&tl_board.cold[number].balance);
    return balance >> 32 == TL_GENERATION_OF(token) && (balance & TL_ENDED);
}

bool tl_token_alive(tl_token token)
{
    uint32_t number = TL_RECORD_OF(token), pid;
    uint64_t start;
    struct tl_hot *hot;
    if (number == 0 || number >= TL_BOARD_RECORDS)
        return false;
    hot = &tl_board.hot[number];
    if (atomic_load(&hot->generation) != TL_GENERATION_OF(token))
        return false;
    pid = atomic_load(&hot->pid);
    if (pid == tl_process.pid)
        return true;
    if (pid == 0)
        return false;
    start = atomic_load(&tl_board.cold[number].start);
    return os_process_alive(pid, start);
}

uint64_t tl_legacy(uint32_t number, uint32_t *state)
{
    struct tl_hot *hot = &tl_board.hot[number];
    *state = atomic_load(&hot->state);
    if (TL_PHASE_OF(*state) == TL_NOTIFIED && (atomic_load_explicit(&hot->flags, memory_order_acquire) & TL_HEIRS))
        return atomic_load_explicit(&hot->object, memory_order_acquire);
    return atomic_load(&tl_board.cold[number].debt);
}

/* Is there somebody who will inherit what the dead thread of that record was notified of? */
static bool has_heirs(uint32_t number, uint32_t high)
{
    uint32_t other, state;
    uint64_t object = tl_legacy(number, &state), claimed = atomic_load(&tl_board.cold[number].claimed);
    if (object == 0)
        return false;
    for (other = 1; other < high; other++) {
        struct tl_hot *hot = &tl_board.hot[other];
        if (TL_PHASE_OF(atomic_load(&hot->state)) == TL_WAITING &&
            atomic_load_explicit(&hot->object, memory_order_acquire) == object &&
            (atomic_load_explicit(&hot->flags, memory_order_acquire) & TL_HEIRS) &&
            atomic_load_explicit(&hot->ticket, memory_order_acquire) < claimed)
            return true;
    }
    return false;
}

uint32_t tl_board_sweep(void)
{
    uint32_t number, freed = 0, high = atomic_load(&tl_board.head->high);
    for (number = 1; number < high; number++) {
        struct tl_hot *hot = &tl_board.hot[number];
        uint32_t pid = atomic_load(&hot->pid), generation = atomic_load(&hot->generation);
        uint64_t start = atomic_load(&tl_board.cold[number].start);
        if (pid == 0 || pid == tl_process.pid || os_process_alive(pid, start) || has_heirs(number, high))
            continue;
        /* SYNC POINT: sweep. Only one of several sweepers wins a life of the record; the pid is compared again
         * because a new claimer may be there since. */
        if (atomic_load(&hot->pid) == pid &&
            atomic_compare_exchange_strong(&hot->generation, &generation, generation + 1)) {
            free_record(hot, pid);
            freed++;
        }
    }
    return freed;
}

void tl_task_title(struct tl_cold *cold, const char *title)
{
    uint16_t turn = atomic_load_explicit(&cold->task_turn, memory_order_relaxed) | 1;
    atomic_store_explicit(&cold->task_turn, turn, memory_order_relaxed);
    atomic_thread_fence(memory_order_release); /* SYNC POINT: title (store) */
    tl_text_store(cold->title, TL_TASK_SIZE, title);
    atomic_store_explicit(&cold->task_turn, (uint16_t)(turn + 1), memory_order_release);
}

/* Kill: at any step, the event stays odd, and readers pass it over. Two writers meet in one event only if 16 others come
 * while one of them writes; then the number of the later one stays, with words of both. */
void tl_note_recovery(tl_token dead, uint32_t dead_pid, const char *text)
{
    uint64_t number = atomic_fetch_add(&tl_board.head->events, 1), turn = 2 * number + 1;
    struct tl_event *event = &tl_events(&tl_board)[number % TL_EVENTS];
    atomic_store(&event->turn, turn);
    TL_POINT("lock.recovered.event");
    atomic_store(&event->when, os_now());
    atomic_store(&event->dead, dead);
    atomic_store(&event->dead_pid, dead_pid);
    atomic_store(&event->pid, tl_process.pid);
    atomic_store(&event->tid, os_thread_id());
    atomic_store(&event->kind, TL_EVENT_RECOVERED);
    tl_text_store(event->text, TL_EVENT_TEXT, text);
    atomic_compare_exchange_strong(&event->turn, &turn, turn + 1);
}

void tl_text_store(_Atomic char *to, size_t size, const char *from)
{
    size_t i;
    for (i = 0; i + 1 < size && from[i] != 0; i++)
        atomic_store_explicit(&to[i], from[i], memory_order_relaxed);
    atomic_store_explicit(&to[i], 0, memory_order_release);
}

void tl_text_load(const _Atomic char *from, size_t size, char *to)
{
    size_t i;
    for (i = 0; i + 1 < size; i++) {
        to[i] = atomic_load_explicit(&from[i], memory_order_relaxed);
        if (to[i] == 0)
            return;
    }
    to[i] = 0;
}
