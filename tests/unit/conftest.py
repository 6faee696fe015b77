"""What several unit tests need."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from treadle.pool.reactor import Reactor


@pytest.fixture
def reactor() -> Iterator[Reactor]:
    """One that runs."""
    made = Reactor("treadle-test-reactor")
    made.start()
    yield made
    made.stop()
    made.join(20)
