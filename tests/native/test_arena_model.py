"""Every interleaving of a slot's life: it is never freed while somebody has it, and always when nobody does."""

from __future__ import annotations

import pytest
from arena_model import ArenaModel

DROP, PASS, TAKE, BACK = ("drop",), ("send", "drop"), ("attach", "drop"), ("attach", "send", "drop")


@pytest.mark.timeout(300)
@pytest.mark.parametrize("kills", [0, 1, pytest.param(2, marks=[pytest.mark.heavy, pytest.mark.by_hand])])
@pytest.mark.parametrize(
    ("acts", "transit"),
    [
        ([DROP, TAKE], 0),  # it may come too late
        ([DROP, TAKE], 1),
        ([DROP, TAKE, TAKE], 0),
        ([DROP, TAKE, TAKE], 2),
        ([PASS, TAKE, TAKE], 1),
        ([DROP, BACK, TAKE], 1),
        ([DROP, TAKE, ("sweep",)], 1),
        ([DROP, TAKE, ("sweep", "sweep")], 0),
        pytest.param([DROP, TAKE, TAKE, ("sweep",)], 1, marks=[pytest.mark.heavy, pytest.mark.by_hand]),
    ],
)
def test_the_protocol_holds(acts: list[tuple[str, ...]], transit: int, kills: int) -> None:
    assert ArenaModel(acts, kills, transit).check() > 20


@pytest.mark.timeout(120)
@pytest.mark.parametrize("broken", ["no serial", "late word"])
def test_the_model_finds_what_is_wrong(broken: str) -> None:
    """Without serials, and if the word came after the look at the state, a slot is freed too early, or never."""
    with pytest.raises(AssertionError, match=r"robbed|left behind"):
        ArenaModel([DROP, TAKE, TAKE], 0, 0, broken).check()
