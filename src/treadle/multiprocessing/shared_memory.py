"""`multiprocessing.shared_memory`: the standard library's module itself."""

from __future__ import annotations

import sys
from multiprocessing import shared_memory
from multiprocessing.shared_memory import *  # noqa: F403 - for type checkers

sys.modules[__name__] = shared_memory
