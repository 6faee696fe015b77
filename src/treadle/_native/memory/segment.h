/* A segment: shared memory that lives as long as any process has it open, and can be sent between processes.
 *
 * It is a memfd named "treadle-<id>": the kernel counts its users, so it can't outlive them, and nothing unlinks it
 * under anybody's feet.  A handle says where it was: pid and descriptor of a process that had it.  If that process is
 * gone, or the number now means something else, it is looked for in the other processes of the session.
 *
 * This process's segments are in a registry, so that however often one arrives there is one descriptor and one
 * mapping of its head.  A segment that was sent and has not arrived is kept open by its sender: else an object that is
 * sent and dropped would be gone before anybody receives it.  The sender notices that it has arrived when it uses the
 * registry next, or in the slices of its waits; one that has not arrived after ten minutes is taken for lost.
 */
#ifndef TREADLE_SEGMENT_H
#define TREADLE_SEGMENT_H

#include "system/os.h"

#define TL_SEGMENT_MAGIC 0x31676573646c7274u /* "trldseg1" */
#define TL_SEGMENT_DATA 4096u                /* where the data begin; a page */

struct tl_segment_head {
    _Atomic uint64_t magic; /* stored last by the maker */
    uint64_t id;
    _Atomic uint64_t size; /* bytes of data that have memory; only grows */
    _Atomic int32_t transit; /* how often it was sent and has not arrived; never below 0 */
};

struct tl_segment {
    uint64_t id;
    int fd;
    struct tl_segment_head *head;
    /* Under the registry's mutex.  Invariant: in the registry <=> refs > 0 or pinned. */
    uint32_t refs;
    bool pinned; /* sent from here; looked at again whenever the registry is used */
    uint64_t sent; /* os_now() of the last time */
    struct tl_segment *next;
};

struct tl_handle {
    uint32_t pid;
    int fd;
    uint64_t id;
};

/* A new one with that many bytes of data, all zero, with one reference.  NULL and errno. */
struct tl_segment *tl_segment_new(uint64_t size);
/* The one that the handle names, with a reference; it has arrived.  NULL and errno: ENOENT if nobody has it any more. */
struct tl_segment *tl_segment_join(const struct tl_handle *handle);
/* The one that the descriptor is of, which is taken over, with a reference.  NULL and errno. */
struct tl_segment *tl_segment_take(int fd);
void tl_segment_drop(struct tl_segment *segment);
/* Send it: count it as under way, and keep it open here until it arrives. */
struct tl_handle tl_segment_send(struct tl_segment *segment);
/* Let go of what this process has sent and nobody here uses, if it has arrived, or if it was sent that long ago. */
#define TL_SEGMENT_LOST 600000000000u /* ns: ten minutes */
void tl_segments_tidy(uint64_t lost);
/* At least that many bytes of data have memory; 0 or errno, and then nothing has changed. */
int tl_segment_grow(struct tl_segment *segment, uint64_t size);

#endif
