"""`multiprocessing.popen_fork`: the standard library's module itself."""

from __future__ import annotations

import sys
from multiprocessing import popen_fork
from multiprocessing.popen_fork import *  # noqa: F403 - for type checkers

sys.modules[__name__] = popen_fork
