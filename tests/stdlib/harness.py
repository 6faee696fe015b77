"""Runs one of CPython's own test modules with treadle's faces in the place of the modules that it tests.

    python tests/stdlib/harness.py test_threading [-v] [-k NAME ...]

Run in a process of its own, because it changes sys.modules.  Scripts that a test starts with `assert_python_ok` get the
same faces.  The last line of the output is a JSON object with the counts.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import unittest

PRELUDE = (
    "import sys, treadle.threading, treadle.queue\n"
    "sys.modules['threading'] = treadle.threading\n"
    "sys.modules['queue'] = treadle.queue\n"
)


def install() -> None:
    from treadle import queue, threading

    sys.modules["threading"] = threading
    sys.modules["queue"] = queue


def patch_support() -> None:
    """Fresh imports and scripts see the faces too."""
    from test.support import import_helper, script_helper

    faces = {"threading": sys.modules["threading"], "queue": sys.modules["queue"]}
    fresh = import_helper.import_fresh_module

    def import_fresh_module(name, *args, **kwargs):
        return faces[name] if name in faces else fresh(name, *args, **kwargs)

    import_helper.import_fresh_module = import_fresh_module

    for helper in ("assert_python_ok", "assert_python_failure", "run_python_until_end"):
        original = getattr(script_helper, helper)

        def run(*args, _original=original, **kwargs):
            args = list(args)
            if "-c" in args and not args[args.index("-c") + 1].startswith(PRELUDE):
                at = args.index("-c") + 1
                args[at] = PRELUDE + with_dedent(args[at])
            return _original(*args, **kwargs)

        setattr(script_helper, helper, run)


def with_dedent(script: str) -> str:
    import textwrap

    return textwrap.dedent(script)


def _skipper(reason: str):
    def skip() -> None:
        raise unittest.SkipTest(reason)

    return skip


def tests_of(suite):
    for test in suite:
        if isinstance(test, unittest.TestSuite):
            yield from tests_of(test)
        else:
            yield test


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("module")
    parser.add_argument("-v", action="store_true")
    parser.add_argument("-k", action="append", default=[])
    options = parser.parse_args()

    install()
    patch_support()
    from skips import skips_for

    if options.module == "lock_tests":
        import locks_under_test as module
    else:
        module = importlib.import_module(f"test.{options.module}")
    skips = skips_for(options.module)
    loader = unittest.TestLoader()
    if options.k:
        loader.testNamePatterns = [f"*{name}*" for name in options.k]
    suite = loader.loadTestsFromModule(module)
    used = set()
    for test in tests_of(suite):
        name = ".".join(test.id().split(".")[-2:])
        for key in (name, "*." + name.split(".")[-1], name.split(".")[0] + ".*"):
            if key in skips:
                used.add(key)
                method = test._testMethodName
                setattr(test, method, _skipper(skips[key]))
                test.setUp = lambda: None
                test.tearDown = lambda: None
    result = unittest.TextTestRunner(verbosity=2 if options.v else 1, stream=sys.stdout).run(suite)
    counts = {
        "run": result.testsRun,
        "failed": [test.id() for test, _ in result.failures + result.errors],
        "skipped": len(result.skipped),
        "skipped_by_us": len(used),
        "unused_skips": sorted(set(skips) - used) if not options.k else [],
    }
    print(json.dumps(counts))
    return 0 if result.wasSuccessful() and result.testsRun else 1


if __name__ == "__main__":
    sys.exit(main())
