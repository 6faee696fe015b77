"""Every interleaving of the lock and of parking: exclusion, no lost wake-up, no hand-over lost with a dead waiter."""

from __future__ import annotations

import pytest
from model import Model


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("threads", "rounds", "kills", "gives_up"),
    [
        (2, 2, 0, 1),
        (3, 1, 0, 0),
        (2, 1, 1, 1),
        pytest.param(2, 2, 1, 1, marks=pytest.mark.heavy),
        pytest.param(3, 1, 1, 0, marks=pytest.mark.heavy),
        pytest.param(3, 1, 0, 1, marks=pytest.mark.heavy),
        pytest.param(3, 1, 1, 1, marks=[pytest.mark.heavy, pytest.mark.by_hand, pytest.mark.timeout(1800)]),
    ],
)
def test_the_protocol_holds(threads: int, rounds: int, kills: int, gives_up: int) -> None:
    states = Model(threads, rounds, kills, gives_up).check()
    assert states > 100


@pytest.mark.timeout(120)
def test_the_model_finds_what_is_wrong() -> None:
    """A waiter that gives up and keeps its claim to itself loses a wake-up: the model must see that."""
    with pytest.raises(AssertionError, match="can't come to the end"):
        Model(2, 2, 0, 1, broken="no pass on").check()
