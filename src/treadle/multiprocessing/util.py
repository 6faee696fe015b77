"""`multiprocessing.util`: the standard library's module itself."""

from __future__ import annotations

import sys
from multiprocessing import util
from multiprocessing.util import *  # noqa: F403 - for type checkers

sys.modules[__name__] = util
