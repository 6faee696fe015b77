"""The C tests of the core, built plain and with each sanitizer."""

from __future__ import annotations

import pytest
from c_program import KINDS, MARKS, build, run

pytestmark = MARKS


@pytest.fixture(scope="session", params=KINDS)
def program(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    return build("core_test", request.param, tmp_path_factory.mktemp("core"))


@pytest.mark.parametrize("name", ["threads", "limits", "dead_waiter", "order", "records", "arena", "attach", "rounds"])
def test_core(program: str, name: str) -> None:
    run(program, name)


@pytest.mark.parametrize("kills", [60, pytest.param(3000, marks=pytest.mark.heavy)])
def test_kills(program: str, kills: int) -> None:
    for name in ("kills", "permits"):
        printed = run(program, name, str(kills))
        assert f"{kills} kills" in printed
