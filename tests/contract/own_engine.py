"""An engine in one file: each run of calls in a fresh Python of its own."""

import os
import pickle
import subprocess
import sys
import threading

from treadle.engines import Abilities, Engine, Work

SCRIPT = "import pickle, sys; sys.stdout.buffer.write(pickle.dumps(pickle.load(sys.stdin.buffer)()))"


class FreshPython(Engine):
    """Nothing that a call leaves behind is there for the next one."""

    name = "fresh"
    abilities = Abilities(kill=True, timeout=True)

    def __init__(self, workers: int = 2) -> None:
        self._count = workers
        self._running: dict[int, subprocess.Popen[bytes]] = {}

    def workers(self) -> int:
        return self._count

    def run(self, worker: int, work: Work) -> None:
        path = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}  # it finds what this program finds
        child = subprocess.Popen(
            [sys.executable, "-c", SCRIPT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=path
        )
        self._running[worker] = child
        threading.Thread(target=self._wait, args=(worker, child, pickle.dumps(work))).start()

    def _wait(self, worker: int, child: "subprocess.Popen[bytes]", work: bytes) -> None:
        output, _ = child.communicate(work)
        if child.returncode == 0:
            self.host.results(worker, pickle.loads(output))
        else:
            self.host.ended(worker, pid=child.pid, exitcode=child.returncode)

    def kill(self, worker: int) -> None:
        child = self._running.get(worker)
        if child is not None and child.poll() is None:
            child.kill()
        else:
            self.host.ended(worker)

    def close(self) -> None:
        for child in self._running.values():
            child.kill()
