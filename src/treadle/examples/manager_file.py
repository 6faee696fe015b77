"""A manager whose objects are in a file, and last: two programs, one after the other, use the same dict.

Watch for: the second program finds what the first has left when it was killed.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

PROGRAM = """
import os, signal, sys
from treadle.shared import Manager

cache = Manager(sys.argv[1]).dict(name="cache")
print("found:", cache, flush=True)
cache["runs"] = cache.get("runs", 0) + 1
cache[f"run {cache['runs']}"] = "some result"
os.kill(os.getpid(), signal.SIGKILL)
"""


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(3):
            subprocess.run([sys.executable, "-c", PROGRAM, str(Path(folder) / "state.db")], check=False)
        print("files:", [path.name for path in Path(folder).iterdir()])


if __name__ == "__main__":
    main()
