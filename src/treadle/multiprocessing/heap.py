"""`multiprocessing.heap`: the standard library's module itself."""

from __future__ import annotations

import sys
from multiprocessing import heap
from multiprocessing.heap import *  # noqa: F403 - for type checkers

sys.modules[__name__] = heap
