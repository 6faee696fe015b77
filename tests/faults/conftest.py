"""What several of these files need, made once for all of them."""

from __future__ import annotations

import pytest
from point_build import with_points

__all__ = ["pytest_collection_modifyitems", "with_points"]

# What is asked there is a matter of the kernel, the core and the brain, not of Python's version.
ONCE = {
    "test_fault_map",
    "test_fault_runs",
    "test_fault_table",
    "test_journal_disk_full",
    "test_kills",
    "test_limits",
    "test_report_faults",
    "test_ring_limits",
    "test_trace_kills",
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent.name == "faults" and item.path.stem in ONCE:
            item.add_marker(pytest.mark.once)
