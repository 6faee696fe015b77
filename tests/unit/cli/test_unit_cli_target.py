from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from treadle.cli.job.target import find
from treadle.cli.problems import BadImport, Refusal

HERE = Path(__file__).parent


pytestmark = pytest.mark.usefixtures("empty_directory")


def test_a_module_of_the_current_directory(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("def f(x): return x + 1\n")
    assert find("mine:f")(1) == b"2"


def test_a_dotted_module_and_a_dotted_function() -> None:
    assert find("os.path:basename")("a/b") == b'"b"'
    assert find(f"{HERE / 'cli_work.py'}:Shop.price")(1) == b"101"


def test_a_file_elsewhere_imports_its_neighbours(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "neighbour_of_mine.py").write_text("ONE = 1\n")
    (tmp_path / "sub" / "mine2.py").write_text("import neighbour_of_mine as n\ndef f(x): return x + n.ONE\n")
    assert find("sub/mine2.py:f")(1) == b"2"


def test_a_file_with_the_name_of_a_module_of_the_standard_library(tmp_path: Path) -> None:
    (tmp_path / "queue.py").write_text("def f(x): return [x, __name__]\n")
    assert find("./queue.py:f")(1) == b'[1, "queue_of_treadle_map"]'
    assert sys.modules.get("queue") is None or not str(sys.modules["queue"].__file__).startswith(str(tmp_path))


@pytest.mark.parametrize("spec", ["mine3:f", "./mine3.py:f"])
def test_another_process_loads_the_same_function_by_name(spec: str, tmp_path: Path) -> None:
    (tmp_path / "mine3.py").write_text(
        "import threading\n"
        "lock = threading.Lock()\n"
        "class Oops(Exception): pass\n"
        "def f(x):\n"
        "    with lock: raise Oops(x)\n"
    )
    target = find(spec)
    other = (
        "import pickle, sys\n"
        "f = pickle.load(sys.stdin.buffer)\n"
        "try: f(3)\n"
        "except Exception as e: sys.stdout.buffer.write(pickle.dumps(e))\n"
    )
    command = [sys.executable, "-c", other]
    ran = subprocess.run(command, input=pickle.dumps(target), capture_output=True, cwd="/", check=True)
    error = pickle.loads(ran.stdout)
    assert type(error) is sys.modules["mine3"].Oops
    assert error.args == (3,)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("nothing", "does not say which function"),
        (":f", "does not say which function"),
        ("json:", "does not say which function"),
        (".json:f", "does not say which function"),
        ("no_such_module_here:f", "no module 'no_such_module_here'"),
        ("json.no_such_part:f", "no module 'json.no_such_part'"),
        ("os.path.deeper:f", "no module 'os.path.deeper'"),
        ("no/such/file.py:f", "no file no/such/file.py"),
        ("json:dump_", "json has no function 'dump_' (did you mean 'dump'?)"),
        ("json:zzz", "json has no function 'zzz'"),
        ("math:pi", "math:pi is not a function but of type float"),
        (f"{HERE / 'cli_work.py'}:waits", "is an async function"),
        ("glob:iglob.x", "has no function 'iglob.x'"),
        (f"{HERE / 'cli_work.py'}:yields", "is a generator function"),
    ],
)
def test_what_can_be_wrong_with_it(spec: str, words: str) -> None:
    with pytest.raises(Refusal) as caught:
        find(spec)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("import not_installed_anywhere\n", "No module named 'not_installed_anywhere'"),
        ("1/0\n", "ZeroDivisionError"),
        ("def f(:\n", "SyntaxError"),
        ("import sys\nsys.exit(3)\n", "SystemExit: 3"),
    ],
)
@pytest.mark.parametrize("spec", ["broken_one:f", "./broken_one.py:f"])
def test_an_error_of_the_module_itself_shows_its_own_traceback_only(
    spec: str, source: str, words: str, tmp_path: Path
) -> None:
    (tmp_path / "broken_one.py").write_text(source)
    with pytest.raises(BadImport) as caught:
        find(spec)
    text = str(caught.value)
    assert words in text
    assert "broken_one.py" in text
    assert "treadle/cli" not in text
    assert "importlib" not in text
