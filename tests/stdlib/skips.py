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

PRELOADED_MAIN = {
    "*.test_std_streams_flushed_after_preload": "wants the fork server to run the main module; with us it never does, "
    "because that may start processes",
    "MiscTestCase.test_preload_main": "the same",
}
OLDER_DEFAULT = {"TestStartMethod.test_get_all": "wants fork or spawn to be the default; it is forkserver from 3.14 on"}

GOES_ON = "by design: what ends one worker fails the calls that it ran or that waited for it; the executor goes on"
LAZY = "by design: workers start when there is work for them, under fork as well"
INSIDE = "looks at the manager thread and the queue of the standard library's executor; ours has neither"
ALL_CANCELLED = "by design: cancels all calls that have not begun; wants some to be promised to workers before"

TRAVELS = "by design: closures, methods and local classes travel by value; wants them to be refused"
REFUSED = ("test_init_closure", "test_init_instance_method", "test_submit_closure", "test_submit_instance_method")
REFUSED += ("test_submit_local_instance",)

MOCKED = "puts a mock in the place of an inner method or of a worker's Process; ours are called otherwise"
# Some releases of 3.14 and 3.15 have them, earlier ones not.
NEW_IN_PROCESS_POOL = {
    "test_failed_worker_replacement_breaks_pool": INSIDE,
    "test_force_shutdown_during_max_tasks_worker_exit": INSIDE,
    "test_gc_during_max_tasks_worker_exit_gh152967": INSIDE,
    "test_shutdown_no_wait_max_tasks_gh119592": INSIDE,
    "test_force_shutdown_workers": MOCKED,
    "test_kill_workers": MOCKED,
    "test_terminate_workers": MOCKED,
}

BROKEN_LATER = {"*.test_broken_process_pool_traceback": GOES_ON}

MANAGER_ENDS = {f"ProcessPool*.test_shutdown_gh_132969_case_{case}": INSIDE for case in (1, 2)}

SKIPS: dict[str, dict[str, str]] = {
    "test_concurrent_futures.test_shutdown@3.14": MANAGER_ENDS,
    "test_concurrent_futures.test_shutdown@3.15": MANAGER_ENDS,
    "test_concurrent_futures.test_process_pool@3.14": BROKEN_LATER,
    "test_concurrent_futures.test_process_pool@3.15": BROKEN_LATER,
    **{f"processes_suite@3.{minor}": OLDER_DEFAULT for minor in (11, 12, 13)},
    "processes_suite@3.14": PRELOADED_MAIN,
    "processes_suite@3.15": PRELOADED_MAIN,
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
    "processes_suite": {
        "*.test_parent_process": "a grandchild tells of the end of its parent; here it ends with it",
        "TestNoForkBomb.test_noforkbomb": "a program without a guard is to fail; here it works, see "
        "tests/faults/test_process_programs.py",
        "_TestImportStar.test_import": "goes through the files of the standard library's package; our own "
        "tests/contract/test_faces.py checks that every name is there",
        "*.test_queue_feeder_donot_stop_onexc": "wants put() to print a pickling error in a thread; ours raises it",
        "*.test_queue_feeder_on_queue_feeder_error": "overrides what that thread calls; there is none",
        "TestSimpleQueue.test_closed": "looks at the two pipe ends inside; ours has none",
        "TestResourceTracker.test_resource_tracker_sigkill": "wants a warning about a semaphore that a tracker "
        "has lost; ours are tracked by nobody, because nothing of them can be left behind",
        "WithManagerTestContainers.test_dict_iter": "wants a change to end all iterations; with ours they go on, "
        "because other processes may change the dict at any time",
        "MiscTestCase.test_spawn_sys_executable_none_allows_import": "is about a program that has not imported "
        "multiprocessing yet; ours has",
        "*.test_mixed_startmethod": "wants locks that were made for fork to be refused by spawn; ours go anywhere",
        "*.test_resource_warning": "wants a warning for a pool that was not closed; here that is no mistake",
        "*.test_unpickleable_result": "returns a lambda; here that is no error; see tests/contract/test_pool_faces.py",
        "TestPoolNotLeakOnFailure.test_release_unused_processes": "counts the processes that a pool makes with its "
        "context; ours are started by the nursery",
        "WithManagerTestPool.test_make_pool": "wants the error as a server would report it; there is no server",
        "WithManagerTestEvent.test_repr": "wants a proxy; the manager's events are events themselves",
    },
    "test_concurrent_futures.test_init": {
        "*FailingInitializerTest.test_initializer": GOES_ON,
        "FailingInitializerResourcesTest.*": GOES_ON,
    },
    "test_concurrent_futures.test_interpreter_pool": {
        **{f"InterpreterPoolExecutorTest.{name}": TRAVELS for name in REFUSED},
        "InterpreterPoolExecutorTest.test_init_exception_in_func": "by design: the calls' error has it as its cause; "
        "wants it printed",
        "InterpreterPoolExecutorTest.test_submit_exception_in_func": "wants a cause of another class; ours is a "
        "RemoteTraceback, as for processes",
        "InterpreterPoolExecutorTest.test_pickle_errors_propagate": "by design: what can't be called is refused at the "
        "submit",
    },
    "test_concurrent_futures.test_process_pool": {
        "*.test_killed_child": GOES_ON,
        "*.test_max_tasks_per_child_defaults_to_spawn_context": "by design: forkserver does as well, and is faster",
        "*.test_python_finalization_error": "lets the second thread of an executor fail; ours needs one",
    },
    "test_concurrent_futures.test_shutdown": {
        "ProcessPool*.test_del_shutdown": INSIDE,
        "ProcessPool*.test_shutdown_no_wait": INSIDE,
        "ProcessPool*.test_cancel_futures": ALL_CANCELLED,
        "ProcessPoolForkProcess*.test_processes_terminate": LAZY,
    },
    "test_concurrent_futures.test_deadlock": {
        "*.test_shutdown_deadlock_pickle": INSIDE,
    },
    "test_queue": {
        "PySimpleQueueTest.*": "tests the standard library's private second SimpleQueue in Python; we have one, in C",
    },
}


def skips_for(module: str, method: str = "") -> dict[str, str]:
    """Those of the module, of the module for this version, and of the module for a start method."""
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    found = dict(SKIPS.get(module, {}))
    found.update(SKIPS.get(f"{module}@{version}", {}))
    if module == "test_threading" and version == "3.13":  # later releases of 3.13 have it, the first not
        from test.test_threading import ThreadTests

        name = "test_finalize_daemon_thread_hang"
        if hasattr(ThreadTests, name):
            found[f"ThreadTests.{name}"] = NEW_ONES[f"ThreadTests.{name}"]
    if module == "test_concurrent_futures.test_process_pool":
        from test.test_concurrent_futures.test_process_pool import ProcessPoolExecutorTest

        found.update({f"*.{n}": why for n, why in NEW_IN_PROCESS_POOL.items() if hasattr(ProcessPoolExecutorTest, n)})
    if method:
        found.update(SKIPS.get(f"{module}/{method}", {}))
        found.update(SKIPS.get(f"{module}/{method}@{version}", {}))
    return found
