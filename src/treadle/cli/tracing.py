"""`--trace FILE` of the commands that run something."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from treadle.cli.problems import Refusal

__all__ = ["recorded", "refuse"]


def refuse(path: str, command: str) -> None:
    """Raise Refusal where `path` can be no trace, before anything runs."""
    from treadle.recording.recorder import check

    try:
        check(path)
    except (OSError, ValueError) as error:
        raise _refusal(path, error, command)


def _refusal(path: str, error: Exception, command: str) -> Refusal:
    return Refusal(f"cannot record into {path}: {getattr(error, 'strerror', None) or error}", command)


@contextlib.contextmanager
def recorded(path: str | None, note: Callable[[str], None], command: str = "treadle map") -> Iterator[None]:
    """Record into `path` (None: not at all) what the program runs and waits for in the block, however that ends.

    Raises Refusal where nothing can be written there.  What is to be said in the end goes to `note`.
    """
    if path is None:
        yield
        return
    from treadle.recording import Recorder

    try:
        recorder = Recorder(path)
    except (OSError, ValueError) as error:
        raise _refusal(path, error, command)
    try:
        yield
    finally:
        try:
            recorder.finish()
        except OSError as error:
            note(f"{command}: the trace {path} could not be written: {error.strerror or error}")
        else:
            if recorder.dropped:
                note(f"{command}: the trace {path} is full: what came later is not in it")
