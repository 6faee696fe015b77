"""`multiprocessing.resource_sharer`: the standard library's module itself."""

from __future__ import annotations

import sys
from multiprocessing import resource_sharer
from multiprocessing.resource_sharer import *  # noqa: F403 - for type checkers

sys.modules[__name__] = resource_sharer
