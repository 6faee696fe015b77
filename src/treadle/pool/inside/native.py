"""Threads of BLAS and OpenMP libraries: the workers of a pool share the cores, they don't each take all of them."""

from __future__ import annotations

import contextlib
import os
import re

# The first one holds for all that have no word of their own.
GENERAL = "OMP_NUM_THREADS"
VARIABLES = (
    GENERAL,
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)

_LIBRARY = re.compile(r"(openblas|libgomp|libomp|libiomp|mkl_rt|libblis)[^/]*\.so", re.IGNORECASE)
_SETTERS = (
    "scipy_openblas_set_num_threads64_",
    "scipy_openblas_set_num_threads",
    "openblas_set_num_threads64_",
    "openblas_set_num_threads",
    "MKL_Set_Num_Threads",
    "bli_thread_set_num_threads",
    "omp_set_num_threads",
)


def share(workers: int, cpus: int) -> int | None:
    """In the program: how many threads one of so many workers may use; None if it may use all there are."""
    return None if workers <= 1 else max(1, cpus // workers)


def arrive(threads: int | None) -> None:
    """In the worker, before a library of the user's is loaded: what the user has set holds."""
    if threads is None:
        return
    if GENERAL in os.environ:
        return
    for name in VARIABLES:
        os.environ.setdefault(name, str(threads))
    _tell_loaded(threads)


def _tell_loaded(threads: int) -> None:
    """Those that are here already (by a fork of the program) have read their variables long ago."""
    try:
        with open("/proc/self/maps") as file:
            paths = {line.split(None, 5)[5].strip() for line in file if _LIBRARY.search(line)}
    except OSError:
        return
    if paths:
        import ctypes  # most programs have none of them, and shall not wait for it
    for path in paths:
        with contextlib.suppress(OSError):
            library = ctypes.CDLL(path, os.RTLD_NOLOAD | os.RTLD_NOW)
            for name in _SETTERS:
                setter = getattr(library, name, None)
                if setter is not None:
                    setter(ctypes.c_int(threads))
