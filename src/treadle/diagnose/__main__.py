"""``python -m treadle.diagnose [PID]``: as ``treadle why``, for where the command is not installed.

Without PID: the session that this process belongs to, which is the parent's if that uses treadle.
"""

from __future__ import annotations

import os
import sys

from treadle._native import _core

from .causes import causes
from .picture import NotThere, take
from .report import render


def main(arguments: list[str]) -> int:
    if len(arguments) > 1 or (arguments and not arguments[0].isdecimal()):
        print("usage: python -m treadle.diagnose [PID]", file=sys.stderr)
        return 2
    _core.thread_role("service")
    try:
        picture = take(int(arguments[0]) if arguments else os.getpid())
    except NotThere as error:
        print(error, file=sys.stderr)
        return 2
    found = causes(picture)
    print(render(picture, found))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
