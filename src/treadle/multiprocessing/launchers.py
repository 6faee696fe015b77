"""How processes are started: the standard library's ways, with a parcel of ours on board."""

from __future__ import annotations

import contextlib
import io
import multiprocessing.context
import multiprocessing.forkserver
import multiprocessing.spawn
import multiprocessing.util
import os
import sys
import threading
from multiprocessing import (
    connection,
    popen_fork,
    popen_forkserver,
    popen_spawn_posix,
    process,
    reduction,
    resource_tracker,
)
from typing import Any

from treadle import first_steps

from ..pool import main_module, main_pickling
from . import arrival, contexts, folder, lifeline, preloading

__all__ = ["ForkPopen", "ForkServerPopen", "SpawnPopen"]

# Much of what is needed of these modules is not public.
context: Any = multiprocessing.context
forkserver: Any = multiprocessing.forkserver
spawn: Any = multiprocessing.spawn
util: Any = multiprocessing.util


class ForkPopen(popen_fork.Popen):
    """Starts a process by fork."""

    def _launch(self, process_obj: Any) -> None:
        with lifeline.starting():
            super()._launch(process_obj)  # type: ignore[misc]


class _Unique(list[int]):
    """The descriptors that a child inherits.  The same one twice would be one too many for the system."""

    def append(self, fd: int) -> None:
        if fd not in self:
            super().append(fd)


class SpawnPopen(popen_spawn_posix.Popen):
    """Starts a process as a new interpreter."""

    def __init__(self, process_obj: Any) -> None:
        self._fds: list[int] = _Unique()
        popen_fork.Popen.__init__(self, process_obj)

    def _launch(self, process_obj: Any) -> None:
        tracker_fd: Any = resource_tracker.getfd()
        self.duplicate_for_child(tracker_fd)
        data = pack(self, process_obj, kin=threading.current_thread() is threading.main_thread(), environment=False)
        parent_r = child_w = child_r = parent_w = None
        try:
            parent_r, child_w = os.pipe()
            child_r, parent_w = os.pipe()
            command = spawn.get_command_line(tracker_fd=tracker_fd, pipe_handle=child_r)
            self.pid = util.spawnv_passfds(spawn.get_executable(), command, [*self._fds, child_r, child_w])
            self.sentinel = parent_r
            with open(parent_w, "wb", closefd=False) as file:
                file.write(data)
        finally:
            self.finalizer = util.Finalize(self, util.close_fds, [fd for fd in (parent_r, parent_w) if fd is not None])
            for fd in (child_r, child_w):
                if fd is not None:
                    os.close(fd)


class ForkServerPopen(popen_forkserver.Popen):
    """Starts a process by asking the fork server, a small process that has no threads."""

    _fds: list[int]

    def _launch(self, process_obj: Any) -> None:
        self._ending = threading.Lock()
        data = pack(self, process_obj, kin=False, environment=True)
        if forkserver._forkserver._forkserver_pid is None:
            folder.prepare()
        with preloading.told():
            self.sentinel, writer = forkserver.connect_to_new_process(self._fds)
        # The child takes the end of this pipe for the end of its parent.
        kept = os.dup(writer)
        self.finalizer = util.Finalize(self, util.close_fds, (kept, self.sentinel))
        with open(writer, "wb", closefd=True) as file:
            file.write(data)
        self.pid = forkserver.read_signed(self.sentinel)

    def poll(self, flag: int = os.WNOHANG) -> int | None:
        """The exit code, once it has ended.  The server tells it once: only one thread may read it."""
        if self.returncode is None and connection.wait([self.sentinel], 0 if flag == os.WNOHANG else None):
            with self._ending:
                return super().poll(flag)
        return self.returncode


def pack(popen: Any, process_obj: Any, *, kin: bool, environment: bool) -> bytes:
    """The parcel for a new process."""
    spawn._check_not_importing_main()
    plan = main_module.plan()
    things = main_pickling.things_of_main(plan)
    outcome, process_obj._outcome = process_obj._outcome, None  # it goes by itself, to be there first
    file = io.BytesIO()
    context.set_spawning_popen(popen)
    try:
        blob = main_pickling.dumps(process_obj, plan)
        facts = arrival.Facts(
            line=arrival.line_for_child(),
            kin=kin,
            outcome=outcome,
            start_method=contexts.default.get_start_method(allow_none=True),
            stdlib_start_method=context._default_context.get_start_method(allow_none=True),
            environment=dict(os.environ) if environment else None,
            plan=plan,
            things=things,
            steps=first_steps.as_text(),
        )
        reduction.dump(_preparation(process_obj.name), file)
        reduction.dump(arrival.Parcel(facts, blob), file)
    finally:
        context.set_spawning_popen(None)
        process_obj._outcome = outcome
    return file.getvalue()


def _preparation(name: str) -> dict[str, Any]:
    """For the standard library's `spawn.prepare` in the child; start methods and the main module are in the parcel."""
    path = list(sys.path)
    original: str | None = process.ORIGINAL_DIR  # type: ignore[attr-defined]
    if "" in path and original is not None:
        path[path.index("")] = original
    found: dict[str, Any] = {
        "name": name,
        "authkey": process.current_process().authkey,
        "log_to_stderr": util._log_to_stderr,
        "sys_path": path,
        "sys_argv": sys.argv,
        "orig_dir": original,
    }
    with contextlib.suppress(OSError):  # it was removed; the child stays where it is
        found["dir"] = os.getcwd()  # noqa: PTH109 - text
    if (logger := util._logger) is not None:
        found["log_level"] = logger.getEffectiveLevel()
    return found
