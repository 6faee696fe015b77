"""`multiprocessing.reduction`: the standard library's module itself."""

from __future__ import annotations

import sys
from multiprocessing import reduction
from multiprocessing.reduction import *  # noqa: F403 - for type checkers

sys.modules[__name__] = reduction
