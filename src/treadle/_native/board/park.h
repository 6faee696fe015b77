/* Parking: the one place that blocks.
 *
 * A thread that has to wait publishes an episode in its record (what, since when, its place in line), looks at the
 * object once more, and sleeps on its own state word.  Whoever changes the object looks through the board for the
 * oldest episodes on it and claims them, one compare-and-swap each.  There are no lists, hence nothing that a kill
 * could leave half linked; a record of a dead process is passed over.
 *
 * No lost wake-up: the waiter publishes (1) and then marks the object as waited for (2), both sequentially
 * consistent; the waker takes the mark off the object (3) and then looks through the board (4).  If (3) comes before
 * (2), the mark is still there for the next waker, and the waiter's look after (2) sees what the waker changed before
 * (3).  If (2) comes before (3), then (1) comes before (4), and the waker finds the episode.
 */
#ifndef TREADLE_PARK_H
#define TREADLE_PARK_H

#include "board/self.h"

/* Publish an episode in the record, and return its state: episode << 3 | TL_WAITING. */
uint32_t tl_publish(uint32_t record, uint64_t object, uint32_t flags, uint64_t ticket);
uint64_t tl_ticket(void);
/* End the episode.  The phase that it had come to: TL_NOTIFIED means that somebody claimed it. */
enum tl_phase tl_withdraw(uint32_t record, uint32_t state);
/* A wait with TL_HEIRS has just returned, whatever with: nobody inherits from it. */
void tl_returned(uint32_t record);
/* For the waiter of record, which came with that ticket: has somebody died with a notification of the object that it was
 * given while this one waited?  Then this one has it now. */
bool tl_inherit(uint32_t record, uint64_t object, uint64_t ticket);
/* Look for a moment whether it is over, if that has been worth it lately; was it? */
bool tl_spin(struct tl_self *self, bool (*over)(void *), void *what);
/* Wait while the record's state is the given one: at first without a system call, if that has been worth it lately. */
enum os_wake tl_park(struct tl_self *self, uint32_t record, uint32_t state, int64_t ns, bool spin);
/* Make the sleeper look again, without claiming it. */
void tl_poke(uint32_t record);

struct tl_woken {
    uint32_t count;  /* episodes claimed */
    uint32_t left;   /* waiters seen that were not claimed */
};
/* Claim and wake the n oldest waiters of object (n < 0: all).  With TL_PRIVATE in flags, only this process's.
 * If owed is not NULL, waiters are put there instead of being woken, as far as there is room. */
struct tl_woken tl_notify(uint64_t object, uint32_t flags, int64_t n, struct tl_self *owed);
/* Wake those that are owed a wake-up. */
void tl_pay(struct tl_self *self);
/* How many wait for object now. */
uint32_t tl_waiters(uint64_t object, uint32_t flags);

#endif
