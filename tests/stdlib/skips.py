"""What of CPython's tests is not run on treadle's faces, and why.  No entry is here because it fails for a real reason.

Keys are ``Class.method``, or ``*.method`` for every class, or ``Class.*`` for a whole class.
"""

from __future__ import annotations

import sys

NEW_ONES = {
    "ThreadTests.test_finalize_daemon_thread_hang": "takes the first flush of stderr for the finalization; a program "
    "that has imported logging, as ours, flushes before it",
    "ThreadTests.test_lazy_import": "is about what the standard library's module imports",
}

SKIPS: dict[str, dict[str, str]] = {
    "lock_tests": {
        "EventTests.test_at_fork_reinit": "looks at Event._cond: ours is one word, without a condition in it",
    },
    "test_threading": {
        "EventTests.test_at_fork_reinit": "looks at Event._cond: ours is one word, without a condition in it",
        "MiscTestCase.test__all__": "compares __all__ with what has __module__ 'threading'; our own "
        "tests/contract/test_faces.py checks that every name is there",
        "ThreadTests.test_import_from_another_thread": "is about a program that has not imported "
        "threading yet; ours has",
        "ThreadTests.test_no_refcycle_through_target": "Thread.exception() keeps the exception and hence its frames, "
        "which here refer to the thread; the garbage collector frees them",
    },
    "test_threading@3.11": {
        "ThreadTests.test_frame_tstate_tracing": "OPEN: after the tests before it, Python 3.11.7 spins in its own "
        "evaluation loop here, with no code of ours on the stack; alone it passes",
        "ThreadTests.test_disallow_instantiation": "wants threading.Lock to be a function; it is a class from 3.13 on, "
        "and ours on every version",
    },
    "test_threading@3.12": {
        "ThreadTests.test_disallow_instantiation": "wants threading.Lock to be a function; it is a class from 3.13 on, "
        "and ours on every version",
    },
    "test_threading@3.14": NEW_ONES,
    "test_threading@3.15": NEW_ONES,
    "test_queue@3.15": {
        "CSimpleQueueTest.test_simplequeue_sizeof": "wants the size of the standard library's struct; ours is another",
    },
    "test_queue": {
        "PySimpleQueueTest.*": "tests the standard library's private second SimpleQueue in Python; we have one, in C",
    },
}


def skips_for(module: str) -> dict[str, str]:
    found = dict(SKIPS.get(module, {}))
    found.update(SKIPS.get(f"{module}@{sys.version_info[0]}.{sys.version_info[1]}", {}))
    return found
