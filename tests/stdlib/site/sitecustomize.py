"""Puts treadle.multiprocessing in the place of the standard library's, in every Python that a suite starts.

TREADLE_FACES=tests: before the suite's own module is imported (in processes that are started by spawn or forkserver).
TREADLE_FACES=always: at once (in scripts that a test runs).
"""

import os
import sys


def install():
    import importlib
    import multiprocessing
    import pkgutil

    import treadle.multiprocessing as ours
    from treadle import displaced
    from treadle.multiprocessing import managers, pool, sharedctypes

    if sys.modules["multiprocessing"] is ours:
        return
    for package in (multiprocessing, ours):  # all of it before the name multiprocessing means another package
        for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
            if "win32" not in module.name and not module.name.endswith(".preload"):
                importlib.import_module(module.name)
    faces = {
        "multiprocessing." + module.__name__.rpartition(".")[2]: module for module in (managers, pool, sharedctypes)
    }
    for name, module in {"multiprocessing": ours, **faces}.items():
        displaced.modules[name] = sys.modules[name]
        sys.modules[name] = module


class BeforeTheTests:
    """A finder that finds nothing; being asked for the suite is enough."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == "test._test_multiprocessing":
            install()
        return None


_mode = os.environ.get("TREADLE_FACES")
if _mode == "tests":
    sys.meta_path.insert(0, BeforeTheTests)
elif _mode == "always":
    install()
