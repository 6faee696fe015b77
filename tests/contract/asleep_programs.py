"""Programs in which all threads sleep for ever, and such in which it only looks like that for two seconds."""

STUCK = {
    "forgotten consumer": """\
import queue, threading
def consumer():
    while True:
        q.get()
        q.task_done()
q = queue.Queue(4)
threading.Thread(target=consumer, name="hungry").start()
for i in range(3):
    q.put(i)
q.join()
print("all eaten")
""",
    "nobody sets the event": """\
import threading
done = threading.Event()
threading.Thread(target=done.wait, daemon=True).start()
done.wait()
""",
    "its own lock": """\
import threading, warnings
warnings.simplefilter("ignore")
lock = threading.Lock()
lock.acquire()
lock.acquire()
""",
    "a future that nobody fulfils": """\
import concurrent.futures
concurrent.futures.Future().result()
""",
    "a process that waits for its parent": """\
import multiprocessing
def child(q):
    q.get()
if __name__ == "__main__":
    context = multiprocessing.get_context("fork")
    q = context.Queue()
    process = context.Process(target=child, args=(q,), name="waits too")
    process.start()
    process.join()
""",
    "a child of the fork server": """\
import multiprocessing
if __name__ == "__main__":
    q = multiprocessing.Queue()
    process = multiprocessing.Process(target=q.get)
    process.start()
    process.join()
""",
    "a manager's queue": """\
import multiprocessing
multiprocessing.Manager().Queue().get()
""",
    "a barrier that nobody else comes to": """\
import threading
threading.Thread(target=threading.Barrier(2).wait, name="early").start()
""",
    "a pool whose workers all wait": """\
import concurrent.futures, multiprocessing
def task(event):
    event.wait()
if __name__ == "__main__":
    event = multiprocessing.Event()
    with concurrent.futures.ProcessPoolExecutor(1) as pool:
        concurrent.futures.wait([pool.submit(task, event) for _ in range(2)])
""",
    "a pool of threads that wait": """\
import concurrent.futures, threading
event = threading.Event()
with concurrent.futures.ThreadPoolExecutor(1) as pool:
    pool.submit(event.wait).result()
""",
}

GOES_ON = {
    "a thread that sleeps": """\
import threading, time
done = threading.Event()
threading.Thread(target=lambda: (time.sleep(2), done.set()), daemon=True).start()
done.wait()
""",
    "a timer": """\
import threading
done = threading.Event()
threading.Timer(2, done.set).start()
done.wait()
""",
    "a server, and a client that is no Python": """\
import socket, subprocess, sys, threading
server = socket.create_server(("127.0.0.1", 0))
code = f"import socket, time; time.sleep(2); socket.create_connection({server.getsockname()!r})"
client = subprocess.Popen([sys.executable, "-c", code])
thread = threading.Thread(target=server.accept)
thread.start()
thread.join()
client.wait()
""",
    "input": """\
import threading
thread = threading.Thread(target=input)
thread.start()
thread.join()
""",
    "an event loop": """\
import asyncio, threading
done = threading.Event()
async def main():
    asyncio.get_running_loop().call_later(2, done.set)
    await asyncio.sleep(2.1)
threading.Thread(target=asyncio.run, args=(main(),)).start()
done.wait()
""",
    "a signal handler": """\
import signal, threading
done = threading.Event()
signal.signal(signal.SIGALRM, lambda *_: done.set())
signal.setitimer(signal.ITIMER_REAL, 2)
done.wait()
""",
    "a child process": """\
import multiprocessing, time
def child(q):
    time.sleep(2)
    q.put(1)
if __name__ == "__main__":
    q = multiprocessing.Queue()
    process = multiprocessing.Process(target=child, args=(q,))
    process.start()
    q.get()
    process.join()
""",
    "a pool of processes": """\
import concurrent.futures, time
if __name__ == "__main__":
    with concurrent.futures.ProcessPoolExecutor(1) as pool:
        pool.submit(time.sleep, 2).result()
""",
    "a pool of threads": """\
import concurrent.futures, time
with concurrent.futures.ThreadPoolExecutor(1) as pool:
    pool.submit(time.sleep, 2).result()
""",
    "a pool's time-out": """\
import threading, treadle
event = threading.Event()
with treadle.Pool(1, "threads") as pool:
    try:
        next(iter(pool.map(lambda _: event.wait(), [1], timeout=2)))
    except treadle.TaskTimeout:
        event.set()
""",
    "a pool's second attempt": """\
import treadle, threading
done = threading.Event()
def task(_):
    if not tried:
        tried.append(1)
        raise ValueError
    done.set()
tried = []
with treadle.Pool(1, "threads") as pool:
    list(pool.map(task, [1], retries=1, backoff=4))
done.wait()
""",
    "a callback": """\
import concurrent.futures, threading, time
done = threading.Event()
with concurrent.futures.ThreadPoolExecutor(1) as pool:
    pool.submit(int).add_done_callback(lambda _: (time.sleep(2), done.set()))
    done.wait()
""",
    "waits with time-outs": """\
import threading
done = threading.Event()
def patient():
    while not done.wait(0.7):
        pass
thread = threading.Thread(target=patient)
thread.start()
threading.Thread(target=lambda: done.wait(2) or done.set()).start()
thread.join()
""",
    "a program that is waited for": """\
import subprocess, sys, threading
thread = threading.Thread(target=subprocess.run, args=([sys.executable, "-c", "import time; time.sleep(2)"],))
thread.start()
thread.join()
""",
    "a thread that nobody knows": """\
import _thread, threading, time
done = threading.Event()
_thread.start_new_thread(lambda: (time.sleep(2), done.set()), ())
done.wait()
""",
    "a thread that reads a pipe": """\
import multiprocessing, os, subprocess, sys, threading
ours, theirs = os.pipe()
sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(2)"], pass_fds=[theirs])
os.close(theirs)
thread = threading.Thread(target=os.read, args=(ours, 1))
thread.start()
thread.join()
sleeper.wait()
""",
}
