"""Runs programs, each in a process of its own that is forked from one that has imported treadle: a page has many.

python run_page.py AT_ONCE FOLDER/PROGRAM.py ...       (runs in its folder; writes PROGRAM.py.out and PROGRAM.py.code)
"""

from __future__ import annotations

import os
import signal
import sys
import types

import treadle.multiprocessing
import treadle.pool.pool
import treadle.queue
import treadle.threading  # noqa: F401


def become(path: str) -> None:
    """Run that file as the interpreter would: as the main module, to the program's end."""
    main = types.ModuleType("__main__")
    vars(main).update(__file__=path, __builtins__=__builtins__, __spec__=None, __cached__=None)
    sys.modules["__main__"] = main
    os.chdir(os.path.dirname(path))
    sys.argv[:] = [os.path.basename(path)]
    sys.path[0] = os.path.dirname(path)
    with open(path) as file:
        code = compile(file.read(), path, "exec", dont_inherit=True)
    try:
        exec(code, vars(main))
    except SystemExit:
        raise
    except BaseException as error:
        trace = error.__traceback__
        sys.excepthook(type(error), error, trace and trace.tb_next)  # without this frame
        sys.exit(1)


def start(path: str) -> int:
    """The pid of the process that is to run it; in that process: 0."""
    pid = os.fork()
    if pid == 0:
        os.setpgid(0, 0)
        for number, name in ((1, f"{path}.out"), (2, f"{path}.out")):
            opened = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            os.dup2(opened, number)
            os.close(opened)
    return pid


def main(at_once: int, paths: list[str]) -> str | None:
    """Run them all; in a child: the path of what it is to become."""
    waiting, running = paths[::-1], {}
    while waiting or running:
        if waiting and len(running) < at_once:
            path = waiting.pop()
            pid = start(path)
            if pid == 0:
                return path
            running[pid] = path
        else:
            pid, status = os.wait()
            if pid in running:
                with open(f"{running.pop(pid)}.code", "w") as file:
                    file.write(str(os.waitstatus_to_exitcode(status)))
    return None


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    chosen = main(int(sys.argv[1]), sys.argv[2:])
    if chosen:
        become(chosen)
