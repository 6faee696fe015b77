"""`multiprocessing.resource_tracker`: the standard library's module itself."""

from __future__ import annotations

import sys
from multiprocessing import resource_tracker
from multiprocessing.resource_tracker import *  # noqa: F403 - for type checkers

sys.modules[__name__] = resource_tracker
