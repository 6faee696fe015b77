"""What the fork server loads, so that its children have it."""

from __future__ import annotations

import atexit
import os

from treadle._native import _core

from ..pool import failures
from . import arrival, folder, preloading, processes

__all__ = ["arrival", "failures", "processes"]

_core.thread_name("forkserver")
_core.thread_role("service")
atexit.register(folder.clean_up, os.getpid())
preloading.load_in_server()
