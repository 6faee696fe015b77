"""100 threads in 8 processes pass items from queue to queue, with a lock in between, until standard input is closed."""

import sys

from treadle import multiprocessing, threading

PROCESSES, THREADS, ROUND = 8, 100, 1000


def pass_on(inbox, outbox, lock):
    while (item := inbox.get()) is not None:
        with lock:
            outbox.put(item)


def child(inbox, outbox, lock, threads):
    crew = [threading.Thread(target=pass_on, args=(inbox, outbox, lock)) for _ in range(threads)]
    for thread in crew:
        thread.start()
    for thread in crew:
        thread.join()


if __name__ == "__main__":
    inbox, outbox, lock = multiprocessing.Queue(), multiprocessing.Queue(), multiprocessing.Lock()
    sizes = [THREADS // PROCESSES + (number < THREADS % PROCESSES) for number in range(PROCESSES)]
    crew = [multiprocessing.Process(target=child, args=(inbox, outbox, lock, size)) for size in sizes]
    for process in crew:
        process.start()
    print("ready", flush=True)
    closed, rounds, right = threading.Event(), 0, True
    threading.Thread(target=lambda: (sys.stdin.read(), closed.set())).start()
    while not closed.is_set():
        wanted = range(rounds * ROUND, (rounds + 1) * ROUND)
        for item in wanted:
            inbox.put(item)
        right &= sorted(outbox.get() for _ in wanted) == list(wanted)
        rounds += 1
    for _ in range(THREADS):
        inbox.put(None)
    for process in crew:
        process.join()
        assert process.exitcode == 0
    print(f"{rounds} rounds:", "every item came, once" if right else "items were lost, or came twice", flush=True)
