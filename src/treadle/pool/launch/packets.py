"""What the program and its nursery say to each other: small messages, each one packet, with descriptors attached.

The standard library's `socket` and `json` would do this as well.  But a nursery loads this before its first worker can
be born, and those two take longer to import than all of it.
"""

from __future__ import annotations

import _socket
import errno
import marshal
import sys
from collections.abc import Sequence
from typing import Any

MSG_DONTWAIT = _socket.MSG_DONTWAIT
MESSAGE = 1 << 12  # bytes; every message is much shorter
FDS = 16

Socket = _socket.socket
Message = dict[str, Any]  # of what `marshal` can write


def pair() -> tuple[Socket, Socket]:
    """Two ends of a connection that keeps packets apart."""
    return _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)


def opened(fd: int) -> Socket:
    """The end that has this descriptor."""
    return _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET, 0, fd)


class Full(OSError):
    """It can't be sent now.  Later perhaps."""


# ETOOMANYREFS: a user may have no more descriptors on their way, in all of their packets together, than a process may
# have open (RLIMIT_NOFILE); root may.
_FULL = (errno.EAGAIN, errno.ETOOMANYREFS, errno.ENOBUFS, errno.ENOMEM)


def send(to: Socket, message: Message, fds: Sequence[int] = (), flags: int = 0) -> None:
    """Send it; the receiver gets copies of the descriptors.  Raises Full; another OSError if the other end is gone."""
    packed = b"".join(fd.to_bytes(4, sys.byteorder) for fd in fds)
    about = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, packed)] if fds else []
    try:
        to.sendmsg([marshal.dumps(message)], about, flags)
    except OSError as error:
        if error.errno in _FULL:
            raise Full(*error.args) from None
        raise


def receive(end: Socket, flags: int = 0) -> tuple[Message | None, list[int]]:
    """The next message, and descriptors that are the caller's now; None if the other end is gone."""
    try:
        data, extras, _, _ = end.recvmsg(MESSAGE, _socket.CMSG_SPACE(4 * FDS), flags | _socket.MSG_CMSG_CLOEXEC)
    except BlockingIOError:
        raise
    except OSError:
        return None, []
    fds: list[int] = []
    for level, kind, packed in extras:
        if level == _socket.SOL_SOCKET and kind == _socket.SCM_RIGHTS:
            fds += (int.from_bytes(packed[at : at + 4], sys.byteorder) for at in range(0, len(packed) - 3, 4))
    return (marshal.loads(data) if data else None), fds
