"""A server as most are: its main thread waits for a signal's handler to say that it is over, and others for work."""

import signal

from treadle import queue, threading

over = threading.Event()
work = queue.Queue()
signal.signal(signal.SIGTERM, lambda *_: over.set())
threading.Thread(target=work.get, name="server", daemon=True).start()
print("ready", flush=True)
over.wait()
