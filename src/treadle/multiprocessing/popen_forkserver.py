"""`multiprocessing.popen_forkserver`: the standard library's module itself."""

from __future__ import annotations

import sys
from multiprocessing import popen_forkserver
from multiprocessing.popen_forkserver import *  # noqa: F403 - for type checkers

sys.modules[__name__] = popen_forkserver
