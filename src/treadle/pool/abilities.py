"""What an engine can do: asked for what it can't, a pool says so at the call."""

from __future__ import annotations

from typing import NamedTuple

from ..errors import Unsupported
from .options import PoolOptions, TaskOptions


class Abilities(NamedTuple):
    """What an engine can do.  What is False is refused with `treadle.Unsupported`, where it is asked for."""

    background: bool = True  # `submit` returns at once, and the call goes on by itself
    timeout: bool = False  # ends, or gives up, a call that runs too long
    kill: bool = False  # ends a running task by force: `Future.cancel` of one that runs, crashes that cost one item
    memory_limit: bool = False  # bounds the memory of a call
    stream: bool = False  # runs generators, whose items come one by one
    initializer: bool = False  # prepares its workers, and watches their memory
    share_memory: bool = False  # workers are on this machine: large buffers travel through shared memory or not at all
    takes_anything: bool = False  # calls need not be pickled
    recall: bool = False  # gives tasks back that a worker holds and has not started
    resources: bool = False  # gives a call CPUs, GPUs or memory of its own

    def accept(self, name: str, options: TaskOptions) -> None:
        """Raise `Unsupported` for what can't be kept for a task."""
        if options.timeout is not None and not self.timeout:
            self._refuse(name, "timeout", "it can't end a call that runs")
        if options.memory_limit is not None and not self.memory_limit:
            self._refuse(name, "memory_limit", "it can't bound the memory of a call")
        if options.stream and not self.stream:
            self._refuse(name, "stream", "a call gives its result when it has it all")
        if options.resources and not self.resources:
            self._refuse(name, options.resources[0][0], "it gives out workers and nothing else")

    def configure(self, name: str, options: PoolOptions) -> None:
        """Raise `Unsupported` for what can't be kept for a pool."""
        if options.initializer is not None and not self.initializer:
            self._refuse(name, "initializer", "it has no workers to prepare")
        if options.max_memory_per_worker is not None and not (self.memory_limit and self.initializer):
            self._refuse(name, "max_memory_per_worker", "it can't see the memory of a worker")

    @staticmethod
    def _refuse(name: str, option: str, why: str) -> None:
        raise Unsupported(f"engine {name!r} has no {option}: {why}", name, option)
