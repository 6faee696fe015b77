"""Runs one of CPython's own test modules with treadle's faces in the place of the modules that it tests.

    python tests/stdlib/harness.py test_threading [-v] [-k NAME ...]
    python tests/stdlib/harness.py processes_suite --method spawn [--kind manager] [--stdlib] ...
    python tests/stdlib/harness.py test_concurrent_futures.test_wait [--kind ThreadPool] [--stdlib] ...

Run in a process of its own, because it changes sys.modules.  Scripts that a test starts with `assert_python_ok` get the
same faces.  The last line of the output is a JSON object with the counts.
"""

from __future__ import annotations

import argparse
import faulthandler
import fnmatch
import importlib
import json
import os
import pathlib
import sys
import unittest

import treadle

PRELUDE = (
    "import sys, treadle.threading, treadle.queue\n"
    "sys.modules['threading'] = treadle.threading\n"
    "sys.modules['queue'] = treadle.queue\n"
)


FUTURES = "test_concurrent_futures"
FUTURES_PRELUDE = (
    "import sys, concurrent, treadle.multiprocessing, treadle.futures.thread, treadle.futures.process\n"
    "sys.modules['multiprocessing'] = treadle.multiprocessing\n"
    "concurrent.futures = sys.modules['concurrent.futures'] = treadle.futures\n"
    "sys.modules['concurrent.futures.thread'] = treadle.futures.thread\n"
    "sys.modules['concurrent.futures.process'] = treadle.futures.process\n"
)

HERE = pathlib.Path(__file__).parent
POOL_KINDS = ("ThreadPool", "ProcessPoolForkserver", "ProcessPoolFork", "ProcessPoolSpawn", "InterpreterPool")
KINDS = ("processes", "threads", "manager", *POOL_KINDS)


def install_processes(method: str, stdlib: bool) -> None:
    """treadle.multiprocessing instead, here and in every Python that is started; `stdlib`: leave it as it is."""
    os.environ["TREADLE_START_METHOD"] = method
    path = [HERE, HERE / "site", pathlib.Path(treadle.__file__).parent.parent]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [*map(str, path), os.environ.get("PYTHONPATH")]))
    sys.path.insert(0, str(HERE / "site"))
    if stdlib:
        return
    os.environ["TREADLE_FACES"] = "tests"
    import sitecustomize

    if not hasattr(sitecustomize, "install"):  # another one was imported when this Python started
        del sys.modules["sitecustomize"]
        import sitecustomize
    sitecustomize.install()

    from test.support import script_helper

    original = script_helper.run_python_until_end

    def run(*args, **env):
        # A script or a -c text is to see the face as well, so no isolated mode.
        env = {"PYTHONPATH": os.environ["PYTHONPATH"], "TREADLE_FACES": "always", "__isolated": False, **env}
        return original(*args, **env)

    script_helper.run_python_until_end = run


def install() -> None:
    from treadle import queue, threading

    sys.modules["threading"] = threading
    sys.modules["queue"] = queue


def install_futures() -> None:
    """treadle.futures and treadle.multiprocessing instead, here and in every script that a test runs."""
    import concurrent.futures.process

    from treadle.futures import process, thread

    if sys.version_info >= (3, 14):
        from treadle.futures import interpreter

    sys.path.insert(0, str(HERE / "site"))
    import sitecustomize

    if not hasattr(sitecustomize, "install"):
        del sys.modules["sitecustomize"]
        import sitecustomize
    sitecustomize.install()
    concurrent.futures = sys.modules["concurrent.futures"] = treadle.futures
    sys.modules["concurrent.futures.thread"] = treadle.futures.thread = thread
    sys.modules["concurrent.futures.process"] = treadle.futures.process = process
    if sys.version_info >= (3, 14):
        sys.modules["concurrent.futures.interpreter"] = treadle.futures.interpreter = interpreter
    prelude = FUTURES_PRELUDE
    if sys.version_info >= (3, 14):
        prelude = prelude.replace(
            "treadle.multiprocessing, ", "treadle.multiprocessing, treadle.futures.interpreter, ", 1
        )
        prelude += "sys.modules['concurrent.futures.interpreter'] = treadle.futures.interpreter\n"
    patch_scripts(prelude)


def patch_support() -> None:
    """Fresh imports and scripts see the faces too."""
    from test.support import import_helper

    faces = {"threading": sys.modules["threading"], "queue": sys.modules["queue"]}
    fresh = import_helper.import_fresh_module

    def import_fresh_module(name, *args, **kwargs):
        return faces[name] if name in faces else fresh(name, *args, **kwargs)

    import_helper.import_fresh_module = import_fresh_module
    patch_scripts(PRELUDE)


def patch_scripts(prelude: str) -> None:
    """Scripts that a test runs begin with these lines."""
    from test.support import script_helper

    for helper in ("assert_python_ok", "assert_python_failure", "run_python_until_end"):
        original = getattr(script_helper, helper)

        def run(*args, _original=original, **kwargs):
            args = list(args)
            if "-c" in args and not args[args.index("-c") + 1].startswith(prelude):
                at = args.index("-c") + 1
                args[at] = prelude + with_dedent(args[at])
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


def kind_of(name: str) -> str:
    for kind in KINDS:
        if name.startswith("With" + kind.capitalize()) or (kind in POOL_KINDS and name.startswith(kind)):
            return kind
    return "rest"


def concerns(key: str, kind: str) -> bool:
    """Can a skip of that key be used in a run of that kind of tests? Of a pattern it is not known."""
    return not kind or ("*" not in key.split(".")[0] and kind_of(key) == kind)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("module")
    parser.add_argument("-v", action="store_true")
    parser.add_argument("-k", action="append", default=[])
    parser.add_argument("--method", default="", help="for processes_suite: spawn, forkserver or fork")
    parser.add_argument("--kind", default="", help=f"which classes: {', '.join(KINDS)}, or rest")
    parser.add_argument("--stdlib", action="store_true", help="without treadle: is it the harness?")
    parser.add_argument("--seconds", type=float, default=0, help="then all stacks are dumped, and it ends")
    options = parser.parse_args()
    if options.seconds:
        faulthandler.dump_traceback_later(options.seconds, exit=True)

    if options.method:
        install_processes(options.method, options.stdlib)
    elif options.module.startswith(FUTURES):
        if not options.stdlib:
            install_futures()
    else:
        install()
        patch_support()
    from skips import skips_for

    if options.module == "lock_tests":
        import lock_classes as module
    elif options.method:
        import processes_suite as module
    else:
        module = importlib.import_module(f"test.{options.module}")
    skips = {} if options.stdlib else skips_for(options.module, options.method)
    loader = unittest.TestLoader()
    if options.k:
        loader.testNamePatterns = [f"*{name}*" for name in options.k]
    suite = loader.loadTestsFromModule(module)
    if options.kind:
        suite = unittest.TestSuite(test for test in tests_of(suite) if kind_of(type(test).__name__) == options.kind)
    used = set()
    for test in tests_of(suite):
        name = ".".join(test.id().split(".")[-2:])
        for key in skips:
            if fnmatch.fnmatchcase(name, key):
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
        "unused_skips": [] if options.k else sorted(key for key in set(skips) - used if concerns(key, options.kind)),
    }
    print(json.dumps(counts))
    return 0 if result.wasSuccessful() and result.testsRun else 1


if __name__ == "__main__":
    sys.exit(main())
