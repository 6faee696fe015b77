"""Python imports this before a program that `treadle run` starts: puts treadle in place, and leaves no trace.

The program, and the programs that it starts, see the environment and the path that they would see without treadle.
"""

import importlib
import json
import os
import sys


def _begin() -> None:
    text = os.environ.pop("TREADLE_RUN", None)
    if text is None:  # a program has kept PYTHONPATH to itself, and uses it for something else
        return
    wish = json.loads(text)
    for name, value in wish["environment"].items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    here = os.path.dirname(__file__)  # noqa: PTH120 - pathlib would be one module more
    sys.path[:] = [entry for entry in sys.path if entry != here]
    # The one that Python would have imported; this one makes room for it, and stays if there is none.
    mine = sys.modules.pop(__name__)
    try:
        importlib.import_module("sitecustomize")
    except ImportError as error:
        if error.name != "sitecustomize":
            raise
    finally:
        sys.modules.setdefault(__name__, mine)
    before = list(sys.path)
    sys.path.append(wish["home"])  # of treadle, if this Python does not find it by itself
    try:
        from treadle.stand_ins import install

        install(**wish["options"])
        if wish.get("trace"):
            _record(*wish["trace"])
    finally:
        sys.path[:] = before


def _record(path: str, title: str) -> None:
    """Until the end of the program, which writes the trace."""
    from treadle.recording import Recorder

    try:
        Recorder(path, title)
    except (OSError, ValueError) as error:  # here an exception would be a line on stderr, and the program would run
        print(f"treadle run: cannot record into {path}: {error}", file=sys.stderr)
        os._exit(2)


_begin()
