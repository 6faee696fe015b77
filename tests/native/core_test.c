/* Tests of the core below Python: threads and processes on the lock, parking and the board.
 *
 * core_test NAME runs one test; it prints a line, and exits with 0 if all is well.
 */
#define _GNU_SOURCE
#include "board/cycle.h"
#include "board/guard.h"
#include "board/lock.h"
#include "memory/permits.h"
#include "memory/rounds.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
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

/* The waiting loop without Python: wait.c does the same. False if the time ran out. */
static bool take(struct tl_lock *lock, uint64_t object, int64_t timeout, bool *recovered)
{
    struct tl_self *self = tl_self();
    uint32_t flags = atomic_load(&lock->flags), record, episode;
    uint64_t ticket, deadline = os_now() + (uint64_t)timeout;
    bool entitled = false, got;
    *recovered = false;
    if (tl_lock_try(lock, self->token))
        return true;
    record = tl_self_enter(self);
    CHECK(record != 0);
    ticket = tl_ticket();
    episode = tl_publish(record, object, flags, ticket);
    got = tl_lock_look(lock, self, 0, false, true, recovered);
    while (!got) {
        enum os_wake why;
        if (timeout >= 0 && os_now() >= deadline) {
            enum tl_phase phase = tl_withdraw(record, episode);
            if (phase == TL_NOTIFIED && tl_lock_look(lock, self, 0, true, false, recovered)) {
                tl_self_leave(self);
                return true;
            }
            if (phase == TL_NOTIFIED)
                tl_lock_pass_on(lock, object);
            tl_self_leave(self);
            return false;
        }
        why = tl_park(tl_self(), record, episode, 20000000, false);
        if (TL_PHASE_OF(atomic_load(&tl_board.hot[record].state)) == TL_NOTIFIED) {
            got = tl_lock_look(lock, self, 0, true, false, recovered);
            if (got)
                break;
            episode = tl_publish(record, object, flags, ticket);
            got = tl_lock_look(lock, self, 0, true, false, recovered);
            continue;
        }
        entitled = entitled || why == OS_TIMEOUT;
        got = tl_lock_look(lock, self, 0, entitled, why == OS_TIMEOUT, recovered);
    }
    tl_withdraw(record, episode);
    tl_self_leave(self);
    return true;
}

struct shared {
    struct tl_lock lock;
    _Atomic uint64_t inside, first, second, rounds, recovered;
    struct tl_guard guard;
    uint64_t guarded;
};

static struct shared *map_shared(uint32_t flags)
{
    struct shared *shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(shared != MAP_FAILED);
    atomic_store(&shared->lock.flags, flags);
    return shared;
}

static uint64_t id_of(struct shared *shared)
{
    return (uint64_t)(uintptr_t)&shared->lock; /* the same in all children: mapped before the fork */
}

static void *many_rounds(void *arg)
{
    struct shared *shared = arg;
    bool recovered;
    for (int i = 0; i < 5000; i++) {
        CHECK(take(&shared->lock, id_of(shared), -1, &recovered));
        CHECK(atomic_fetch_add(&shared->inside, 1) == 0);
        atomic_fetch_add(&shared->rounds, 1);
        atomic_fetch_sub(&shared->inside, 1);
        CHECK(tl_lock_release(&shared->lock, id_of(shared), tl_self()));
        tl_guard_enter(&shared->guard, TL_RANK_QUEUE);
        shared->guarded++;
        tl_guard_leave(&shared->guard);
    }
    return NULL;
}

static void test_threads(void)
{
    enum { THREADS = 8 };
    pthread_t threads[THREADS];
    struct shared *shared = map_shared(TL_PRIVATE);
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_create(&threads[i], NULL, many_rounds, shared) == 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    CHECK(atomic_load(&shared->rounds) == THREADS * 5000);
    CHECK(shared->guarded == THREADS * 5000);
    CHECK(atomic_load(&shared->lock.word) == 0);
    printf("%d threads, %llu rounds\n", THREADS, (unsigned long long)atomic_load(&shared->rounds));
}

static void *try_with_limits(void *arg)
{
    struct shared *shared = arg;
    bool recovered;
    for (int i = 0; i < 3000; i++) {
        if (!take(&shared->lock, id_of(shared), (i % 7) * 3000, &recovered))
            continue;
        CHECK(atomic_fetch_add(&shared->inside, 1) == 0);
        atomic_fetch_add(&shared->rounds, 1);
        atomic_fetch_sub(&shared->inside, 1);
        CHECK(tl_lock_release(&shared->lock, id_of(shared), tl_self()));
    }
    return NULL;
}

static void test_limits(void)
{
    enum { THREADS = 6 };
    pthread_t threads[THREADS];
    struct shared *shared = map_shared(TL_PRIVATE);
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_create(&threads[i], NULL, try_with_limits, shared) == 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    CHECK(atomic_load(&shared->rounds) > 0);
    CHECK((atomic_load(&shared->lock.word) & TL_OWNER_MASK) == 0);
    printf("%llu of %d within their limits\n", (unsigned long long)atomic_load(&shared->rounds), THREADS * 3000);
}

/* A child that changes two numbers under the lock, forever; a kill in between leaves them unequal. */
static void churn(struct shared *shared)
{
    bool recovered;
    for (;;) {
        take(&shared->lock, id_of(shared), -1, &recovered);
        if (recovered) {
            atomic_fetch_add(&shared->recovered, 1);
            atomic_store(&shared->second, atomic_load(&shared->first));
            atomic_store(&shared->inside, 0);
        }
        CHECK(atomic_fetch_add(&shared->inside, 1) == 0);
        CHECK(atomic_load(&shared->first) == atomic_load(&shared->second));
        atomic_fetch_add(&shared->first, 1);
        atomic_fetch_add(&shared->second, 1);
        atomic_fetch_sub(&shared->inside, 1);
        tl_lock_release(&shared->lock, id_of(shared), tl_self());
    }
}

static pid_t start_churn(struct shared *shared)
{
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        churn(shared);
        _exit(0);
    }
    return pid;
}

static void test_kills(int kills)
{
    enum { CHILDREN = 4 };
    struct shared *shared = map_shared(0);
    pid_t children[CHILDREN];
    uint64_t longest = 0, before;
    int status;
    for (int i = 0; i < CHILDREN; i++)
        children[i] = start_churn(shared);
    srand(7);
    for (int k = 0; k < kills; k++) {
        int victim = rand() % CHILDREN;
        usleep((useconds_t)(rand() % 3000));
        CHECK(kill(children[victim], SIGKILL) == 0);
        CHECK(waitpid(children[victim], &status, 0) == children[victim]);
        CHECK(WIFSIGNALED(status)); /* it had not found anything wrong */
        before = os_now();
        uint64_t was = atomic_load(&shared->first);
        while (atomic_load(&shared->first) == was)
            CHECK(os_now() - before < 5000000000u);
        if (os_now() - before > longest)
            longest = os_now() - before;
        children[victim] = start_churn(shared);
    }
    for (int i = 0; i < CHILDREN; i++) {
        kill(children[i], SIGKILL);
        waitpid(children[i], &status, 0);
        CHECK(WIFSIGNALED(status));
    }
    CHECK(tl_board_sweep() >= CHILDREN - 1); /* claimed records of the dead are free again */
    printf("%d kills, %llu locks recovered, %llu rounds, longest stop %.1f ms\n", kills,
           (unsigned long long)atomic_load(&shared->recovered), (unsigned long long)atomic_load(&shared->first),
           (double)longest / 1e6);
}

/* A dead waiter that came first must not get the notification that a living one needs. */
static void test_dead_waiter(void)
{
    struct shared *shared = map_shared(0);
    uint64_t object = 4711;
    pid_t dead = fork(), living;
    int status;
    if (dead == 0) {
        uint32_t record = tl_self_enter(tl_self());
        uint32_t episode = tl_publish(record, object, 0, tl_ticket());
        atomic_store(&shared->rounds, 1);
        for (;;)
            tl_park(tl_self(), record, episode, -1, true);
    }
    while (atomic_load(&shared->rounds) < 1)
        usleep(100);
    living = fork();
    if (living == 0) {
        uint32_t record = tl_self_enter(tl_self());
        uint32_t episode = tl_publish(record, object, 0, tl_ticket());
        atomic_store(&shared->rounds, 2);
        while (TL_PHASE_OF(atomic_load(&tl_board.hot[record].state)) == TL_WAITING)
            tl_park(tl_self(), record, episode, -1, true);
        _exit(0);
    }
    while (atomic_load(&shared->rounds) < 2)
        usleep(100);
    kill(dead, SIGKILL);
    CHECK(tl_notify(object, TL_PRIVATE, 1, NULL).count == 0); /* of another process: no private object */
    usleep(20000); /* dead, and not reaped: a zombie counts as dead */
    CHECK(tl_notify(object, 0, 1, NULL).count == 1);
    CHECK(waitpid(living, &status, 0) == living);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    waitpid(dead, &status, 0);
    printf("the living one was woken\n");
}

static _Atomic int arrived, order[16], woken_count;

static void *wait_in_line(void *arg)
{
    int me = (int)(intptr_t)arg;
    uint32_t record = tl_self_enter(tl_self());
    uint32_t episode = tl_publish(record, 99, TL_PRIVATE, tl_ticket());
    atomic_fetch_add(&arrived, 1);
    while (TL_PHASE_OF(atomic_load(&tl_board.hot[record].state)) == TL_WAITING)
        tl_park(tl_self(), record, episode, -1, true);
    atomic_store(&order[atomic_fetch_add(&woken_count, 1)], me);
    tl_withdraw(record, episode);
    tl_self_leave(tl_self());
    return NULL;
}

static void test_order(void)
{
    pthread_t threads[8];
    for (int i = 0; i < 8; i++) {
        CHECK(pthread_create(&threads[i], NULL, wait_in_line, (void *)(intptr_t)i) == 0);
        while (atomic_load(&arrived) < i + 1)
            usleep(50);
    }
    CHECK(tl_waiters(99, TL_PRIVATE) == 8);
    for (int i = 0; i < 8; i++) {
        struct tl_woken woken = tl_notify(99, TL_PRIVATE, 1, NULL);
        CHECK(woken.count == 1 && woken.left == (uint32_t)(7 - i));
        while (atomic_load(&woken_count) < i + 1)
            usleep(50);
        CHECK(atomic_load(&order[i]) == i);
    }
    for (int i = 0; i < 8; i++)
        pthread_join(threads[i], NULL);
    CHECK(tl_notify(99, TL_PRIVATE, -1, NULL).count == 0);
    printf("first come, first woken\n");
}

static void *just_a_record(void *arg)
{
    *(tl_token *)arg = tl_self()->token;
    return NULL;
}

static void test_records(void)
{
    tl_token token[2], mine = tl_self()->token;
    pthread_t thread;
    for (int i = 0; i < 2; i++) {
        CHECK(pthread_create(&thread, NULL, just_a_record, &token[i]) == 0);
        pthread_join(thread, NULL);
    }
    CHECK(TL_RECORD_OF(token[0]) == TL_RECORD_OF(token[1])); /* used again ... */
    CHECK(token[0] != token[1]);                             /* ... by another owner */
    CHECK(!tl_token_alive(token[0]) && !tl_token_alive(token[1]) && tl_token_alive(mine));
    CHECK(!tl_token_alive(0) && !tl_token_alive(~(tl_token)0));
    pid_t child = fork();
    if (child == 0) {
        CHECK(tl_self()->token != mine);
        CHECK(tl_self_is(tl_self(), mine)); /* what it held in its parent's private memory is its own */
        CHECK(tl_token_alive(mine));        /* the parent lives */
        _exit(0);
    }
    int status;
    waitpid(child, &status, 0);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    CHECK(tl_board_sweep() == 1);
    printf("records and tokens\n");
}

static uint32_t slots_used(void)
{
    uint32_t slots, entries;
    tl_arena_sweep(true);
    tl_arena_used(&slots, &entries);
    return slots;
}

/* A slot lives as long as anybody has it, and its handle never means another one. */
static void test_arena(void)
{
    struct shared *shared = map_shared(0);
    uint32_t number, generation, other, later;
    int status;
    pid_t child;
    CHECK(tl_arena_new(TL_SLOT_LOCK, &number, &generation) == 0);
    CHECK(tl_arena_attach(number, generation) == 0);
    tl_arena_drop(number, generation);
    CHECK(tl_arena_attach(number, generation + 1) == ESTALE);
    child = fork();
    if (child == 0) {
        atomic_store(&shared->rounds, 1);
        for (;;)
            pause();
    }
    tl_arena_drop(number, generation);
    CHECK(slots_used() == 1); /* the child has it from its birth on */
    CHECK(tl_arena_attach(number, generation) == 0);
    tl_arena_drop(number, generation);
    while (atomic_load(&shared->rounds) < 1) /* one that dies before it runs is believed to come for ten seconds */
        usleep(100);
    kill(child, SIGKILL);
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(slots_used() == 0);
    CHECK(tl_arena_attach(number, generation) == ESTALE);
    CHECK(tl_arena_new(TL_SLOT_LOCK, &other, &later) == 0);
    CHECK(other == number && later == generation + 1); /* used again */
    CHECK(tl_arena_attach(number, generation) == ESTALE);
    tl_arena_sent(other);
    tl_arena_drop(other, later);
    CHECK(tl_arena_attach(other, later) == 0); /* a pickle kept it */
    tl_arena_received(other);
    tl_arena_drop(other, later);
    CHECK(tl_arena_attach(other, later) == ESTALE);
    printf("a slot's life\n");
}

static void *attach_and_drop(void *arg)
{
    uint32_t *handle = arg;
    for (int i = 0; i < 20000; i++) {
        CHECK(tl_arena_attach(handle[0], handle[1]) == 0);
        tl_arena_drop(handle[0], handle[1]);
    }
    return NULL;
}

static void test_attach(void)
{
    enum { THREADS = 4 };
    pthread_t threads[THREADS];
    uint32_t handle[2];
    CHECK(tl_arena_new(TL_SLOT_LOCK, &handle[0], &handle[1]) == 0);
    tl_arena_sent(handle[0]); /* so that it lives even when no thread has it */
    tl_arena_drop(handle[0], handle[1]);
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_create(&threads[i], NULL, attach_and_drop, handle) == 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    CHECK(slots_used() == 0);
    printf("%d threads attach and drop\n", THREADS);
}

/* Processes that take and give permits, killed anywhere: none is lost, and none comes out of nothing. */
static void test_permits(int kills)
{
    enum { CHILDREN = 3, PERMITS = 2 };
    pid_t children[CHILDREN] = {0};
    uint32_t number, generation;
    uint64_t object, until;
    int status;
    CHECK(tl_arena_new(TL_SLOT_SEMAPHORE, &number, &generation) == 0);
    tl_permits_init(number, PERMITS, TL_PERMITS_MOST);
    object = tl_slot_id(number, generation);
    srand(11);
    for (int k = 0; k < kills + CHILDREN; k++) {
        int i = k % CHILDREN;
        if (children[i] != 0) {
            usleep((useconds_t)(rand() % 2000));
            kill(children[i], SIGKILL);
            CHECK(waitpid(children[i], &status, 0) == children[i]);
            CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
        }
        children[i] = k < kills ? fork() : 0;
        if (children[i] == 0 && k < kills)
            for (;;) {
                if (tl_permits_take(number))
                    CHECK(tl_permits_give(number, object) == TL_GIVEN);
                else
                    tl_permits_look_for_dead(number, object);
            }
    }
    for (int i = 0; i < CHILDREN; i++)
        if (children[i] != 0) {
            kill(children[i], SIGKILL);
            waitpid(children[i], &status, 0);
        }
    until = os_now() + 5000000000u;
    while (TL_PERMITS_VALUE(atomic_load(&tl_slot(number)->u.permits.word)) < PERMITS && os_now() < until)
        tl_permits_look_for_dead(number, object);
    CHECK(TL_PERMITS_VALUE(atomic_load(&tl_slot(number)->u.permits.word)) == PERMITS);
    printf("%d kills, all permits are there\n", kills);
}

static uint32_t rounds_slot;

static void *go_round(void *arg)
{
    (void)arg;
    for (int i = 0; i < 2000; i++) {
        struct tl_party party;
        enum tl_arrival arrival;
        while ((arrival = tl_rounds_arrive(rounds_slot, tl_self()->token, &party)) == TL_FULL)
            sched_yield();
        CHECK(arrival == TL_ARRIVED);
        if (party.index == 3)
            CHECK(tl_rounds_end(rounds_slot, 5, party.round, TL_THROUGH) == TL_THROUGH);
        while (tl_rounds_outcome(rounds_slot, party.round) == TL_OPEN)
            sched_yield();
        CHECK(tl_rounds_outcome(rounds_slot, party.round) == TL_THROUGH);
    }
    return NULL;
}

static void test_rounds(void)
{
    pthread_t threads[4];
    uint32_t cells, generation;
    struct tl_party party;
    CHECK(tl_arena_new(TL_SLOT_BARRIER, &rounds_slot, &generation) == 0);
    CHECK(tl_arena_new(TL_SLOT_CELLS, &cells, &generation) == 0);
    tl_rounds_chain(cells, 0);
    tl_rounds_init(rounds_slot, 4, cells);
    for (int i = 0; i < 4; i++)
        CHECK(pthread_create(&threads[i], NULL, go_round, NULL) == 0);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    CHECK(tl_rounds_now(atomic_load(&tl_slot(rounds_slot)->u.barrier.word)) == 2001);
    CHECK(tl_rounds_arrive(rounds_slot, tl_self()->token, &party) == TL_ARRIVED && party.index == 0);
    CHECK(tl_rounds_end(rounds_slot, 5, party.round, TL_BROKEN) == TL_BROKEN);
    CHECK(tl_rounds_end(rounds_slot, 5, party.round, TL_THROUGH) == TL_BROKEN); /* it has ended already */
    CHECK(tl_rounds_arrive(rounds_slot, tl_self()->token, &party) == TL_IS_BROKEN);
    tl_rounds_force(rounds_slot, 5, TL_RESET);
    CHECK(tl_rounds_arrived(rounds_slot) == 0);
    printf("2000 rounds\n");
}

int main(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "";
    CHECK(tl_self_setup(true) == 0);
    CHECK(tl_board_open(NULL) == 0);
    CHECK(tl_arena_setup() == 0);
    if (strcmp(name, "threads") == 0)
        test_threads();
    else if (strcmp(name, "limits") == 0)
        test_limits();
    else if (strcmp(name, "kills") == 0)
        test_kills(argc > 2 ? atoi(argv[2]) : 100);
    else if (strcmp(name, "dead_waiter") == 0)
        test_dead_waiter();
    else if (strcmp(name, "order") == 0)
        test_order();
    else if (strcmp(name, "records") == 0)
        test_records();
    else if (strcmp(name, "arena") == 0)
        test_arena();
    else if (strcmp(name, "attach") == 0)
        test_attach();
    else if (strcmp(name, "permits") == 0)
        test_permits(argc > 2 ? atoi(argv[2]) : 100);
    else if (strcmp(name, "rounds") == 0)
        test_rounds();
    else
        return 2;
    return 0;
}
