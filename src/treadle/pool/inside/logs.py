"""Log records of workers reach the program's loggers, and so its levels, filters and handlers."""

from __future__ import annotations

import io
import logging
import traceback
from typing import Any

from ..payloads import PLAIN, dumps, loads
from ..reports import LOG, Sender, describe_sender

_NEVER_SENT = ("exc_info", "processName")


def settings() -> tuple[int, list[tuple[str, int, bool]]]:
    """In the program: what is switched off altogether, and each logger that has a level of its own or is disabled."""
    manager = logging.root.manager
    own = [("", logging.root.level, logging.root.disabled)]
    for name, logger in list(manager.loggerDict.items()):
        if isinstance(logger, logging.Logger) and (logger.level or logger.disabled):
            own.append((name, logger.level, logger.disabled))
    return manager.disable, own


def arrive(values: tuple[int, list[tuple[str, int, bool]]], sender: Sender) -> None:
    """In the worker: the program's levels, and one handler, which sends.

    Handlers and filters that were inherited by a fork are dropped: the program applies its own.
    """
    disable, own = values
    logging.root.manager.disable = disable
    for logger in [logging.root, *logging.root.manager.loggerDict.values()]:
        if isinstance(logger, logging.Logger):
            logger.handlers.clear()
            logger.filters.clear()
            logger.propagate = True
    for name, level, disabled in own:
        logger = logging.getLogger(name or None)
        logger.setLevel(level)
        logger.disabled = disabled
    logging.root.addHandler(_Handler(sender))


class _Handler(logging.Handler):
    """Sends records to the program; prints them where that is gone."""

    def __init__(self, sender: Sender) -> None:
        super().__init__()
        self._sender = sender

    def createLock(self) -> None:
        """None is needed, so a forked child or a signal handler can't find it taken."""
        self.lock = None

    def handle(self, record: logging.LogRecord) -> Any:
        """Emit it if the filters let it pass.  The inherited method can't do without a lock from Python 3.13 on."""
        passed = self.filter(record)
        if isinstance(passed, logging.LogRecord):  # a filter may put another one in its place
            record = passed
        if passed:
            self.emit(record)
        return passed

    def emit(self, record: logging.LogRecord) -> None:
        try:
            if self._sender.send(LOG, _pack(record)):
                return
        except Exception:
            self.handleError(record)
            return
        last = logging.lastResort
        if last is not None and record.levelno >= last.level:
            last.handle(record)


def _pack(record: logging.LogRecord) -> bytes:
    values = {name: value for name, value in record.__dict__.items() if name not in _NEVER_SENT}
    args = values["args"]
    if args and not (type(args) is tuple and all(type(each) in PLAIN for each in args)):
        values["msg"], values["args"] = record.getMessage(), None
    elif type(values["msg"]) is not str:
        values["msg"] = str(values["msg"])
    if record.exc_info and not record.exc_text and record.exc_info[1] is not None:
        with io.StringIO() as file:
            traceback.print_exception(*record.exc_info, file=file)
            values["exc_text"] = file.getvalue().rstrip("\n")
    values["processName"] = describe_sender(record.process or 0)
    try:
        return dumps(values)
    except Exception:
        return dumps({name: value if _travels(value) else repr(value) for name, value in values.items()})


def _travels(value: Any) -> bool:
    try:
        dumps(value)
    except Exception:
        return False
    return True


def handle(message: bytes) -> None:
    """In the program: as if it had been logged here."""
    record = logging.makeLogRecord(loads(message))
    logger = logging.getLogger(record.name)
    if logger.isEnabledFor(record.levelno):
        logger.handle(record)
