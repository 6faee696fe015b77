"""`multiprocessing.process`: the standard library's module itself."""

from __future__ import annotations

import sys
from multiprocessing import process
from multiprocessing.process import *  # noqa: F403 - for type checkers

sys.modules[__name__] = process
