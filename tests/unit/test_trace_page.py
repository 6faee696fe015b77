"""The page of a trace, in a real browser: it draws what is there, zooms, and says what is pointed at."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import chromium
import pytest

from treadle.diagnose.html import page as page_of
from treadle.diagnose.timeline import load

EVIL = "</script><img src=x onerror=alert(1)>"


def task(name: str, ts: float, dur: float, pid: int, seq: int, **more: Any) -> dict[str, Any]:
    return {
        "ph": "X", "cat": "task", "name": name, "ts": ts, "dur": dur, "pid": pid, "tid": pid,
        "args": {"task": seq, "index": seq - 1, **more},
    }  # fmt: skip


def wait(ts: float, dur: float, what: str, **more: Any) -> dict[str, Any]:
    args = {"kind": "lock", "what": what, "where": "/srv/shop.py:11", **more}
    return {"ph": "X", "cat": "wait", "name": "wait: lock", "ts": ts, "dur": dur, "pid": 1, "tid": 1, "args": args}


def names(pid: int, name: str) -> list[dict[str, Any]]:
    return [
        {"ph": "M", "name": "process_name", "pid": pid, "tid": pid, "args": {"name": name}},
        {"ph": "M", "name": "thread_name", "pid": pid, "tid": pid, "args": {"name": "MainThread"}},
    ]


EVENTS = [
    *names(1, "shop.py"), *names(2, "worker 1"),
    # A second in which worker 1 works during the first half, and the program waits in twelve ways.
    task("bake", 0, 500_000, 2, 1),
    task(EVIL, 600_000, 2_000, 2, 2, failed=True),
    {"ph": "s", "cat": "task", "name": "task", "id": "a", "ts": 590_000, "pid": 1, "tid": 1},
    {"ph": "f", "cat": "task", "name": "task", "id": "a", "ts": 600_000, "pid": 2, "tid": 2},
    *[wait(60_000 * n, 1000 * (n + 1), f"Lock 'l{n}'", owner="cook") for n in range(12)],
    {"ph": "X", "cat": "span", "name": "end", "ts": 999_999, "dur": 1, "pid": 1, "tid": 1},
]  # fmt: skip


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[chromium.Page]:
    with chromium.browser(tmp_path_factory.mktemp("browser")) as page:
        yield page


@pytest.fixture
def page(browser: chromium.Page, tmp_path: Path) -> chromium.Page:
    show(browser, tmp_path, EVENTS)
    return browser


def show(browser: chromium.Page, folder: Path, events: list[Any], dark: bool = False) -> None:
    trace, out = folder / "trace.json", folder / "trace.html"
    trace.write_text(json.dumps({"otherData": {"program": f"python {EVIL}"}, "traceEvents": events}))
    out.write_text(page_of(load(trace), trace.name))
    browser.errors.clear()
    browser.open(out, dark=dark)


def text(page: chromium.Page, selector: str) -> str:
    return str(page.js(f"document.querySelector({json.dumps(selector)}).textContent"))


ROWS = {0: 4, 1: 30}  # where the two processes' rows begin


def pixel(page: chromium.Page, us: float, row: int) -> list[int]:
    """The colour at that time in that row."""
    canvas = "document.getElementById('rows').getContext('2d')"
    code = f"Array.from({canvas}.getImageData(timeline.toX({us}), {ROWS[row] + 6}, 1, 1).data)"
    found: list[int] = page.js(code)
    return found


def place(page: chromium.Page, us: float, row: int) -> tuple[float, float]:
    """Where that is in the window."""
    box = page.js("(({left, top}) => [left, top])(document.getElementById('rows').getBoundingClientRect())")
    return box[0] + page.js(f"timeline.toX({us})"), box[1] + ROWS[row] + 10


def view(page: chromium.Page) -> tuple[float, float]:
    found = page.js("[timeline.view.from, timeline.view.to]")
    return found[0], found[1]


BLUE = [0, 0x72, 0xB2, 255]


def test_it_says_what_was_there(page: chromium.Page) -> None:
    assert text(page, "h1") == f"python {EVIL}" and page.js("document.images.length") == 0
    facts = page.js(
        "Object.fromEntries([...document.querySelectorAll('#facts div')]"
        ".map((d) => [d.children[0].textContent, d.children[1].textContent]))"
    )
    assert facts["duration"] == "1.00 s" and facts["tasks"] == "2" and facts["failed"] == "1"
    assert facts["processes"] == "2" and facts["waits"] == "12" and facts["tasks at a time, on average"] == "0.50"
    waits = page.js("[...document.querySelectorAll('#waits tbody tr')].map((r) => r.innerText)")
    assert len(waits) == 10  # the longest, and in that order
    assert waits[0].startswith("12.0 ms") and "Lock 'l11'" in waits[0] and "which cook had" in waits[0]
    assert "shop.py:11" in waits[0] and "/srv" not in waits[0] and waits[9].startswith("3.00 ms")
    tasks = page.js("[...document.querySelectorAll('#tasks tbody tr')].map((r) => r.innerText)")
    assert tasks[0].split() == ["bake", "1", "0", "500", "ms", "500", "ms", "500", "ms"] and EVIL in tasks[1]
    assert "bake" in text(page, "#legend") and "wait: lock" in text(page, "#legend")
    assert page.errors == []


def test_the_picture_has_the_tasks(page: chromium.Page) -> None:
    assert pixel(page, 250_000, 1) == BLUE
    assert pixel(page, 550_000, 1) != BLUE and pixel(page, 800_000, 1) != BLUE
    drawn = page.js(
        "(() => { const c = document.getElementById('use'), y = 60, d = c.getContext('2d');"
        "return [100000, 400000, 550000, 800000].map((t) => d.getImageData(timeline.toX(t), y, 1, 1).data[2]) })()"
    )
    assert drawn[0] == drawn[1] == 0xB2 and drawn[2] != 0xB2 and drawn[3] != 0xB2
    blue = page.js(
        "(() => { const c = document.getElementById('histogram');"
        "const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data; let n = 0;"
        "for (let i = 0; i < d.length; i += 4) n += d[i] === 0 && d[i + 1] === 0x72 && d[i + 2] === 0xb2; return n })()"
    )
    assert blue > 500  # the bar of the one task of that colour


def test_keys_zoom_and_move(page: chromium.Page) -> None:
    assert view(page) == (0, 1_000_000) and text(page, "#range") == "all 1.00 s"
    page.key("w")
    assert view(page) == (250_000, 750_000) and "500 ms of 1.00 s, from 250.0 ms" in text(page, "#range")
    assert pixel(page, 490_000, 1) == BLUE and pixel(page, 510_000, 1) != BLUE
    page.key("+")
    assert view(page) == (375_000, 625_000)
    page.key("ArrowRight")
    assert view(page) == (437_500, 687_500)
    page.key("a")
    page.key("-")
    page.key("s")
    assert view(page) == (0, 1_000_000)
    page.key("s")
    assert view(page) == (0, 1_000_000)  # there is no more
    for _ in range(60):
        page.js("document.getElementById('zoom-in').click()")
    page.settle()
    begin, end = view(page)
    assert 0 < end - begin < 0.06
    page.key("0")
    assert view(page) == (0, 1_000_000)


def test_pointing_says_what_it_is(page: chromium.Page) -> None:
    x, y = place(page, 250_000, 1)
    page.mouse("mouseMoved", x, y)
    tip = page.js("document.getElementById('tip').innerText")
    assert "bake" in tip and "item 0" in tip and "500 ms, from 0 ms" in tip and "worker 1" in tip and "pid 2" in tip
    x, y = place(page, 601_000, 1)
    page.mouse("mouseMoved", x, y)
    tip = page.js("document.getElementById('tip').innerText")
    assert EVIL in tip and "it raised an exception" in tip
    x, y = place(page, 800_000, 1)
    page.mouse("mouseMoved", x, y)
    assert page.js("document.getElementById('tip').hidden") is True


def test_the_wheel_zooms_at_the_pointer_and_dragging_moves(page: chromium.Page) -> None:
    x, y = place(page, 250_000, 1)
    page.mouse("mouseWheel", x, y, deltaX=0, deltaY=-60, modifiers=2)
    begin, end = view(page)
    assert end - begin == pytest.approx(548_812, rel=0.01)
    left = "document.getElementById('rows').getBoundingClientRect().left"
    assert page.js(f"timeline.toTime({x} - {left})") == pytest.approx(250_000, abs=2_000)
    page.mouse("mousePressed", x, y, button="left", clickCount=1)
    page.mouse("mouseMoved", x - 200, y, button="left", buttons=1)
    page.mouse("mouseReleased", x - 200, y, button="left", clickCount=1)
    moved, _ = view(page)
    assert moved > begin + 50_000


def test_choosing_a_wait_shows_it(page: chromium.Page) -> None:
    page.js("document.querySelector('#waits tbody tr').click()")
    page.settle()
    begin, end = view(page)
    assert begin < 660_000 < 672_000 < end and end - begin == pytest.approx(12_000 * 1.6)
    assert pixel(page, 669_500, 0) != pixel(page, 674_500, 0)


def test_in_the_dark(browser: chromium.Page, tmp_path: Path) -> None:
    show(browser, tmp_path, EVENTS, dark=True)
    assert browser.js("getComputedStyle(document.body).backgroundColor") == "rgb(21, 23, 26)"
    assert pixel(browser, 250_000, 1) == BLUE and browser.errors == []


@pytest.mark.heavy
@pytest.mark.timeout(120)
def test_a_million_events_stay_usable(browser: chromium.Page, tmp_path: Path) -> None:
    events = [task(f"f{n % 5}", n * 10, 8, 2 + n % 4, n + 1) for n in range(1_000_000)]
    show(browser, tmp_path, events)
    assert browser.js("timeline.count") == 1_000_000
    took = browser.js(
        "(async () => { const t = performance.now();"
        "for (let k = 0; k < 20; k++) { timeline.show(k * 1e5, 1e7 - k * 1e5);"
        "await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))); }"
        "return (performance.now() - t) / 20 })()"
    )
    assert took < 1000  # ms a picture, on a busy machine; 60 alone
    assert browser.errors == []
