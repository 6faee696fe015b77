"""``python -m treadle.diagnose [PID]``: the threads that wait now, in the session of process PID.

Without PID: in the session that this one belongs to, which is the parent's if that uses treadle.
"""

from __future__ import annotations

import sys

from treadle._native.waits import Wait, threads


def render(found: list[Wait]) -> str:
    """The waits as text, an entry each."""
    names = {thread.token: thread.who for thread in found}
    waiting = sorted((thread for thread in found if thread.kind), key=lambda wait: -wait.seconds)
    if not waiting:
        return "nobody waits"
    lines = []
    for wait in waiting:
        limit = ", with a time-out" if wait.timed else ""
        lines.append(f"pid {wait.pid}  {wait.who}")
        lines.append(f"  waits for  {wait.what}  since {wait.seconds:.3f} s{limit}")
        if wait.owner:
            lines.append(f"  held by    {names.get(wait.owner, 'a thread that has ended')}")
        lines += [f"             {frame}" for frame in wait.stack]
    return "\n".join(lines)


def main(arguments: list[str]) -> int:
    if len(arguments) > 1 or (arguments and not arguments[0].isdecimal()):
        print("usage: python -m treadle.diagnose [PID]", file=sys.stderr)
        return 2
    try:
        print(render(threads(int(arguments[0]) if arguments else None)))
    except ProcessLookupError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
