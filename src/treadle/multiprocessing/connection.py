"""`multiprocessing.connection`: the standard library's module itself."""

from __future__ import annotations

import sys
from multiprocessing import connection
from multiprocessing.connection import *  # noqa: F403 - for type checkers

sys.modules[__name__] = connection
