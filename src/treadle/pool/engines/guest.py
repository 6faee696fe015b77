"""The public engine interface: what somebody has to write to run a pool's tasks in a place of their own.

A pool numbers its workers and decides which one runs what, when it is tried again, and how it ends.  An engine carries:
it is given a run of calls (`Work`) for a worker, has them made somewhere, and reports how they ended.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NamedTuple, Protocol

from ...errors import ResultNotPicklable, TaskNotLoadable, shorten
from .. import failures
from ..abilities import Abilities
from ..contexts import Runner
from ..events import Result
from ..options import PoolOptions, TaskOptions
from ..payloads import decode_arguments, describe, dumps, loads
from ..task import RAISED_PACKED, RETURNED_PACKED


class Order(NamedTuple):
    """One call, as it travels: everything in it is a plain value."""

    seq: int  # by this number its end is reported
    function: int  # in `Work.functions`
    payload: bytes  # the arguments, pickled
    variables: int  # in `Work.functions`: the context variables of its submit; 0: none were set
    timeout: float | None = None  # seconds, and
    memory_limit: int | None = None  # bytes: set only where the engine's abilities say that it keeps them
    resources: tuple[tuple[str, Any], ...] = ()  # what `Pool.options` was given for this engine
    apart: tuple[int, ...] = ()  # arguments that are not in `payload` but in `Work.functions`: clusters use that


class Work:
    """Calls to make one after the other, in their order.  It can be pickled.

    Calling it makes them here, and returns how they ended, for `Host.results`.  Raises nothing that a call raises.
    """

    def __init__(self, orders: Sequence[Order], functions: dict[int, bytes]) -> None:
        self.orders = list(orders)
        self.functions = functions  # pickled, by number: those of `orders`, at least

    def __len__(self) -> int:
        return len(self.orders)

    def __call__(self) -> list[Result]:
        loaded: dict[int, Any] = {}
        runner = Runner()
        return [self._make(order, loaded, runner) for order in self.orders]

    def _make(self, order: Order, loaded: dict[int, Any], runner: Runner) -> Result:
        begin = time.monotonic_ns()
        try:
            fn = self._function(order.function, loaded)
            try:
                args, kwargs = decode_arguments(order.payload)
            except Exception as error:
                raise TaskNotLoadable(f"the arguments can't be loaded in the worker: {describe(error)}") from error
            context = runner.enter(self._function(order.variables, loaded)() if order.variables else None)
            try:
                value = context.run(fn, *args, **kwargs)
            finally:
                runner.leave(context)
            try:
                kind, data = RETURNED_PACKED, dumps(value)
            except Exception as error:
                what, why = shorten(value), describe(error)
                raise ResultNotPicklable(
                    f"{failures.title(fn)} returned {what}, which can't be pickled: {why}", what, why
                ) from error
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:
            kind, data = RAISED_PACKED, failures.pack(error, skip=1)
        return order.seq, kind, data, time.monotonic_ns() - begin, 0

    def _function(self, number: int, loaded: dict[int, Any]) -> Callable[..., Any]:
        if number not in loaded:
            try:
                loaded[number] = loads(self.functions[number])
            except Exception as error:
                raise TaskNotLoadable(f"the function can't be loaded in the worker: {describe(error)}") from error
        fn: Callable[..., Any] = loaded[number]
        return fn


class Host(Protocol):
    """Whom an engine reports to.  Every method may be called from any thread, and returns at once."""

    def ready(self, worker: int) -> None:
        """It can take work."""

    def results(self, worker: int, results: Sequence[Result]) -> None:
        """So these calls have ended: what calling their `Work` has returned, or some of it."""

    def given_back(self, worker: int, seqs: Sequence[int]) -> None:
        """These have not started, and will not: the answer to `recall`."""

    def ended(
        self,
        worker: int,
        *,
        pid: int | None = None,
        exitcode: int | None = None,
        error: BaseException | None = None,
        began: bool = True,
    ) -> None:
        """It is gone, and all its results were reported before.  `error`: it never got ready, for this reason.

        Of what it had, the first is taken to have been running (without `began`, nothing), and the rest not.
        """

    def then(self, what: Callable[[], None]) -> None:
        """Call it when all that was reported before is taken in, and what follows from it was given out.

        In the thread that gives work out: it must return at once.
        """

    def crew(self, workers: int) -> None:
        """There may be so many workers from now on, where the pool's user has not said how many."""


class Engine:
    """Subclass it, and give an instance to `Pool(engine=...)`.  It serves one pool.

    Methods are called by several threads, never two for the same worker at a time, and must not block for long, except
    in `open` and `close`.
    """

    name: str = "engine"
    abilities: ClassVar[Abilities] = Abilities()
    # Seconds of work that a worker may hold, so that it has something to do while its results travel; 0: one call at a
    # time.  More than that costs time where the calls turn out to be long, unless there is the ability `recall`.
    stock_seconds: float = 0.0

    host: Host

    def open(self, host: Host, options: PoolOptions, workers: int | None) -> None:
        """Called once, by the thread that makes the pool; what it raises, that thread gets.

        `workers` is what the pool's user wants, or None.
        """
        self.host = host

    def workers(self) -> int:
        """How many workers are sensible, where nobody says.  After `open`."""
        return 1

    def accept(self, options: TaskOptions) -> None:
        """Raise `treadle.Unsupported` for options that are not kept; `abilities` were looked at before."""

    def start(self, worker: int) -> None:
        """Have a worker; `Host.ready` or `Host.ended` follows."""
        self.host.ready(worker)

    def run(self, worker: int, work: Work) -> None:
        """Have this done, after what the worker has already; `Host.results` follows, once or bit by bit."""
        raise NotImplementedError

    def stop(self, worker: int) -> None:
        """It has nothing to do and is not needed any more; `Host.ended` follows."""
        self.host.ended(worker)

    def kill(self, worker: int) -> None:
        """With the ability `kill`: end it by force, whatever it does; `Host.ended` follows."""
        raise NotImplementedError

    def recall(self, worker: int, seqs: Sequence[int], running: bool) -> None:
        """With the ability `recall`: give back which of these have not started, by `Host.given_back`.

        With `running`, end those that have, and report them the same way: nobody wants them.
        """
        raise NotImplementedError

    def pid(self, worker: int) -> int | None:
        """The process that it runs in, if that means anything here."""
        return None

    def stays(self) -> bool:
        """Is it still what another `treadle.map` with the same engine, address and workers would be given?

        That may have its pool then, which is kept for a while.
        """
        return True

    def close(self) -> None:
        """Give everything back, whatever is under way.  Idempotent."""
