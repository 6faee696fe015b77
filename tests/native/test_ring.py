"""The C tests of the ring, built plain and with each sanitizer."""

from __future__ import annotations

import pytest
from c_program import KINDS, MARKS, build, run

pytestmark = MARKS


@pytest.fixture(scope="module", params=KINDS)
def program(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    return build("ring_test", request.param, tmp_path_factory.mktemp("ring"))


@pytest.mark.parametrize("name", ["order", "segments"])
def test_ring(program: str, name: str) -> None:
    run(program, name)


@pytest.mark.parametrize("kills", [100, pytest.param(2000, marks=pytest.mark.heavy)])
def test_kills(program: str, kills: int) -> None:
    printed = run(program, "kills", str(kills))
    assert f"{kills} kills" in printed
