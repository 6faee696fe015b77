"""`multiprocessing.spawn`: the standard library's module itself."""

from __future__ import annotations

import sys
from multiprocessing import spawn
from multiprocessing.spawn import *  # noqa: F403 - for type checkers

sys.modules[__name__] = spawn
