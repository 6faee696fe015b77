/* Recording who ran and waited when, for `--trace`.
 *
 * A recording is a file.  Its first page is the head; behind it are chunks, each written by one thread alone and mapped by
 * it, so what was recorded is in the page cache, and a kill at any instruction loses nothing.  Nobody drains anything:
 * the file grows, up to a limit, and what finds no room is counted.
 *
 * The board says whether the session is recording, and which descriptor of which process is the file.  While it is not,
 * all this costs one load and one branch, on slow paths and around tasks only.
 */
#ifndef TREADLE_TRACE_H
#define TREADLE_TRACE_H

#include "board/self.h"

#define TL_TRACE_MAGIC 0x3165636172746472u       /* "rdtrace1" */
#define TL_TRACE_CHUNK_MAGIC 0x6b6e756863647274u /* "trdchunk" */
#define TL_TRACE_HEAD 4096u
#define TL_TRACE_FIRST 4096u  /* bytes of a thread's first chunk: most threads are short */
#define TL_TRACE_CHUNK 65536u /* ... and of its other ones */
#define TL_TRACE_TEXT 240u    /* bytes of a text at most */
#define TL_TRACE_SHORT 10000u /* nanoseconds: waits that are shorter are not kept, they hardly slept */

struct tl_trace_head {
    uint64_t magic;
    uint32_t slot_size, pid;
    uint64_t monotonic, wall; /* the same moment by both clocks, ns */
    uint64_t limit;           /* bytes that the file may have */
    _Atomic uint64_t next;    /* where the next chunk begins; may be beyond the limit */
    _Atomic uint64_t dropped; /* records that found no room */
};

/* Invariant: all but `used` and `ended` is written before `magic`, and does not change. */
struct tl_trace_chunk {
    _Atomic uint64_t magic;
    uint64_t token;          /* of the thread, see board.h */
    uint64_t start;          /* of its process, see os_process_start */
    uint32_t pid, tid;
    uint32_t size;           /* bytes, with this head */
    uint32_t number;         /* of this thread's chunks: 0, 1, ... */
    _Atomic uint32_t used;   /* slots that are written (SYNC POINT: slot) */
    uint32_t unused;
    _Atomic uint64_t ended;  /* when the thread ended; 0: it has not, or was killed */
    uint64_t spare;
};

/* A text takes a slot of kind TEXT and as many more as it is long. */
enum tl_trace_kind {
    TL_TRACE_NOTHING, /* taken back */
    TL_TRACE_TASK,    /* a: number in its pool, b: token of the worker's process, or of the worker's thread */
    TL_TRACE_WAIT,    /* sub: enum tl_kind, a: the object, b: the owner's token as in its edge */
    TL_TRACE_SPAN,    /* something else that took time: the life of a thread */
    TL_TRACE_SENT,    /* an instant: task `a` was given to worker `b`; name: its index in a map plus one, or 0 */
    TL_TRACE_TEXT_IS, /* name: its number, a: bytes; the text follows */
    TL_TRACE_END,     /* the end of a slot in an earlier chunk; a: that slot's place in the file */
    TL_TRACE_THREAD,  /* name, where: texts with the names of the thread and its process */
    TL_TRACE_MARK,    /* an instant: the worker `b` is gone */
};
enum tl_trace_flags { TL_TRACE_FAILED = 1, TL_TRACE_TIMED_OUT = 2, TL_TRACE_TIMED = 4, TL_TRACE_INDEXED = 8 };

struct tl_trace_slot {
    _Atomic uint64_t begin, end; /* monotonic ns; end 0: it was not over */
    uint32_t name, where;        /* texts of this thread; 0: none */
    uint16_t kind, sub;
    _Atomic uint32_t flags;
    uint64_t a, b;
};

#define TL_TRACE_TEXTS 256u

/* What a thread needs to record.  Its own. */
struct tl_tracer {
    uint64_t id; /* of the recording that the rest is for */
    char *chunk; /* mapped, or NULL */
    uint64_t offset;
    uint32_t size, used, room, chunks;
    bool refused;   /* there is no more room, or nobody to ask for it: nothing more in this recording */
    uint32_t texts; /* numbers given */
    struct { uint64_t hash; uint32_t number; } known[TL_TRACE_TEXTS];
};

/* A slot to be ended. */
struct tl_span {
    uint64_t id, at; /* of the recording; the slot's place in the file, 0: none */
};

/* The recording that is on in this session, or 0. */
static inline uint64_t tl_trace_on(void)
{
    return !TL_FOR_DIAGNOSIS || __builtin_expect(tl_board.head == NULL, 0)
               ? 0
               : atomic_load_explicit(&tl_board.head->trace, memory_order_acquire);
}

/* Let the whole session record into the file of this descriptor of this process.  Its number, or 0 and errno (EBUSY: there
 * is a recording). */
uint64_t tl_trace_start(int fd, uint64_t limit);
/* Nobody begins anything in it any more.  False: it was not on. */
bool tl_trace_stop(uint64_t id);
/* Where the recording that is on has its file: 0 if there is none, else its number.  One whose process is gone is
 * stopped. */
uint64_t tl_trace_place(uint32_t *pid, int *fd);

/* Is this the thread's first record in the recording?  Then it should say its name first. */
bool tl_trace_is_new(const struct tl_self *self, uint64_t id);
void tl_trace_introduce(struct tl_self *self, uint64_t id, const char *thread, const char *process);
/* The number of a text for records of this thread; 0 if there is no room. */
uint32_t tl_trace_text(struct tl_self *self, uint64_t id, const char *text, size_t length);
struct tl_span tl_span_begin(struct tl_self *self, uint64_t id, const struct tl_trace_slot *slot);
void tl_span_end(struct tl_self *self, struct tl_span span, uint32_t flags);
/* The same for a wait, which is not kept if it was short. */
void tl_span_end_wait(struct tl_self *self, struct tl_span span, uint32_t flags);

/* The thread ends; it is another process's thread now. */
void tl_trace_end(struct tl_self *self);
void tl_trace_forked(struct tl_self *self);

#endif
