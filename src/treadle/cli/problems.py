"""The exit codes, and the errors that the command line shows as one sentence instead of a traceback."""

from __future__ import annotations

__all__ = ["OK", "SOME_FAILED", "USAGE", "STUCK", "Problem", "Refusal", "BadImport", "Unreadable", "Unwritable"]

OK = 0
SOME_FAILED = 1
USAGE = 2
STUCK = 3  # the job could not go on: the disk is full, the input became unreadable, workers do not start


class Problem(Exception):
    """Ends the command with exit code `code`; its text is the whole message."""

    code = STUCK

    def __init__(self, message: str, command: str = "treadle map") -> None:
        super().__init__(message)
        self.command = command

    def add(self, sentence: str) -> None:
        """Say one thing more."""
        self.args = (f"{self}; {sentence}",)


class Refusal(Problem):
    """What was asked for can't be done as it stands; nothing was changed."""

    code = USAGE


class BadImport(Refusal):
    """The user's module raised an exception while it was imported; the text is that exception's own traceback."""


class Unreadable(Problem):
    """The input could not be read to its end."""


class Unwritable(Problem):
    """Results could not be written: no space, no permission, a file that vanished."""

    def __init__(self, path: str, error: OSError) -> None:
        super().__init__(f"cannot write {path}: {error.strerror or error}")
        self.errno = error.errno
