"""Which signals a process handles: whoever sends it one may wake what waits there."""

from __future__ import annotations

from pathlib import Path

__all__ = ["handled"]

# Those that Python handles by itself, those that a crash raises (faulthandler), the end of a child (of those that are
# looked at, all sleep), and those of the C library.
_HARMLESS = (2, 4, 6, 7, 8, 11, 17, 32, 33)


def handled(pid: int) -> tuple[int, ...]:
    """The numbers of the signals for which the process has a handler of its program's own.  OSError if it is gone."""
    for line in Path(f"/proc/{pid}/status").read_text(errors="replace").splitlines():
        if line.startswith("SigCgt:"):
            caught = int(line.split()[1], 16)
            return tuple(n for n in range(1, 65) if caught >> (n - 1) & 1 and n not in _HARMLESS)
    raise OSError(f"the kernel does not tell which signals process {pid} handles")
