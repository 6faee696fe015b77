"""What is known about the rows in which treadle is behind; the report says it only where it is."""

from __future__ import annotations

BOARD = (
    "The range is wider than what is looked for: one build of the core may be some percent faster than another one "
    "that does the same, as its code lies. Counted in instructions, the board takes none of a lock's, and none of a "
    "shared queue's."
)

FREE = "On a free-threaded build the standard library's lock is one atomic step, too; here the owner is noted with it."
SHORT = "A run of a fifth of the operations: "

WHY = {
    "processes: 100 MB numpy, argument and result": (
        SHORT + "the first messages, for which memory is mapped that later ones find mapped, are a great part of them."
    ),
    "processes: map over ints": SHORT + "it has ended before the chunks have grown to their size.",
    "process queue, 4 x 4, small dicts": (
        SHORT
        + "what comes first (eight processes on two processors, a ring that grows) is a great part of it. The whole "
        "row gives 12 on 3.11, too."
    ),
    "a shared counter, 4 processes": SHORT + "a lock and an addition for all, and level within the spread.",
    "with lock": FREE,
    "with rlock": FREE,
    "processes: map over ints, no chunk size asked of the user": (
        "`Pool.map` is eager: it hands over whole chunks and keeps nothing of an item. Here each item keeps its "
        "index, so that blame, retries and order are its own, and results come lazily, in bounded memory."
    ),
    "processes: map over a million ints": (
        "`Pool.map` hands over whole chunks and keeps nothing of an item. Here each item keeps its index, so that "
        "blame, retries and order are its own, and results come lazily, in bounded memory; the eager "
        "`treadle.multiprocessing.Pool.map` stands beside it."
    ),
    "processes: submit all, then every result": (
        "What is left is the interpreter's own work for each call: a call of `submit`, a future, a pickle, a call "
        "of `result`, and the function itself in the worker."
    ),
    "processes: a program's first result, imports included": (
        "The import of `treadle.Pool` takes a sixth longer than that of `multiprocessing.pool`, and the nursery loads "
        "a little more than a fork server does (errors that are `concurrent.futures`' bring `logging`). A pool that "
        "forks has workers that have loaded everything already, with the program's locks as they stood, which "
        "deadlocks where threads hold some."
    ),
    "processes: a program's first result, from the end of its imports": (
        "The nursery, from which workers are forked, is a process that starts anew and loads treadle, as the fork "
        "server loads its own."
    ),
    "memory of a pool of 4, for each worker (PSS)": (
        "A worker that is forked from the program shares the program's pages; here workers come from a small "
        "process of their own, so that no lock of another thread is ever copied, and its memory counts too."
    ),
    "one machine: a task with 100 MB of numpy": (
        "Both copy the array into shared memory once; Ray does that with several threads, where a core is free."
    ),
    "threads: imap": (
        "The standard library's pool hands its results over without a look at what they are worth; here each call is "
        "a task that can be cancelled when the pool is left, and the input waits for the reader once there is one. "
        "That is done in Python, an item at a time; `treadle.map` does the like in C, and is ahead (see its row)."
    ),
    "manager dict copy, an item": (
        "There the whole dict is one pickle on the server. Here each value stands by itself, so that a change of one "
        "is a thirtieth of the work, and a copy of all has to load each."
    ),
    "dask: 2,000 tasks of 1 ms": (
        "Two workers need half a millisecond a task for nothing but the naps (the limit beside it); so twice the "
        "throughput is out of reach wherever Dask itself comes near a millisecond a task."
    ),
    "ray: 2,000 tasks of 1 ms": (
        "Two workers need half a millisecond a task for nothing but the naps (the limit beside it), and Ray itself "
        "about one: twice its throughput is out of reach then. On a busier machine, where Ray took 1.4 ms, it was 2.2."
    ),
    "parse the standard library's sources": (
        "Nothing but computing, in as many processes for all. Each file's result is taken in as it comes, which takes "
        "the parent an eighth of a millisecond, and here the workers have both processors; a map in chunks has eight "
        "messages in all, and tells nothing of a file before its chunk is done."
    ),
    "Monte Carlo with a small closure": "Nothing but computing, in as many processes for all.",
    "process queue, numpy arrays of 100 MB": (
        "One copy, into pages of shared memory that a busy machine often has to map anew: the range is wide, and in "
        "quieter hours it was 0.7 to 0.9."
    ),
    "manager dict set": "At the goal, within the spread.",
    "board: Lock, nobody waits": BOARD,
    "board: Lock of processes, nobody waits": BOARD,
    "board: Lock, four threads want it": BOARD,
    "board: Queue, put and get": "10 instructions of 626 are the board's: a queue's figures for `treadle top`.",
    "board: SimpleQueue, two threads in turns": BOARD,
    "board: pool of threads, map": BOARD,
    "board: pool of threads, submit": BOARD,
    "board: Queue of processes, put and get": BOARD,
    "board: pool of processes, submit": BOARD,
    "board: pool of processes, map": BOARD,
    "board: pool of processes, one after the other": BOARD,
    "simple queue put + get": ("Both are C, and two calls of the interpreter; there is nothing left to leave out."),
    "simple queue 4 x 4": ("Both are C; what one sees is where the interpreter happens to switch threads."),
    "condition ping-pong": (
        "A turn is two futex calls and two switches of the kernel, as for the two bare locks beside it: the rest "
        "is a small part."
    ),
    "event ping-pong": (
        "A turn is two futex calls and two switches of the kernel, as for the two bare locks beside it."
    ),
    "round trip of two processes": ("Two switches of the kernel, as for the bare pipes beside it."),
    "2,000 HTTP requests, 10 ms each, 32 at a time": (
        "`treadle.map` was not told that this waits: it runs the first calls in processes to measure them, and "
        "starting these is what it takes longer; `treadle.Pool, threads` was told."
    ),
    "hash a directory: 1,000 files of 128 KB": (
        "`treadle.map` was not told anything, and the whole job is a few tenths of a second: starting processes to"
        " measure the first calls is a part of that. Hashing lets go of the interpreter lock, so threads do as "
        "well, and start at once."
    ),
    "numpy: all rows of a shared array of 200 MB": (
        "The copy into shared memory counts, and each worker loads numpy anew; a fork copies nothing and has numpy"
        " already, as long as the array was there before the pool."
    ),
    "trace: tasks that compute for 1 ms, 2 processes": ("The writing of the file at the end counts."),
    "trace: tasks that sleep for 1 ms, 2 threads": (
        "These tasks take no processor time: what there is of it, 50 us a task, is the pool's own. The recording adds "
        "7, which is under 1 % of the task, as the clock says."
    ),
}
