"""Recordings for `--trace`: who ran what and waited for what, on every thread of every process of a session.

recorder.py   begins and ends one, and leaves the file that the user asked for
raw.py        what the native core writes (`_native/board/trace.h`), read back
events.py     the same in the trace-event format of Chrome and Perfetto
"""

from __future__ import annotations

from .raw import NotARecording
from .recorder import Recorder

__all__ = ["NotARecording", "Recorder"]
