"""A job that is killed in the middle, and resumed.

Watch for: the second run does only what the first had not written, and nothing is there twice.
"""

import json
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

JOB = [sys.executable, "-m", "treadle", "map", "treadle.examples.jobs:slow_square", "numbers.txt", "-o", "out.jsonl"]


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "numbers.txt").write_text("".join(f"{number}\n" for number in range(100)))
        print("$ treadle", *JOB[3:], flush=True)
        out = folder / "out.jsonl"
        with subprocess.Popen([*JOB, "--no-progress"], cwd=folder) as job:
            while not out.exists() or out.read_bytes().count(b"\n") < 20:
                if job.poll() is not None:
                    sys.exit("the job ended before it could be killed")
            job.send_signal(signal.SIGKILL)
        print("killed in the middle:", 20 <= len(out.read_bytes().splitlines()) < 100, flush=True)

        print("$ treadle", *JOB[3:], "--resume", flush=True)
        subprocess.run([*JOB, "--resume"], cwd=folder, check=True)
        rows = [json.loads(line) for line in out.read_text().splitlines()]
        print("every item once, in order:", [row["index"] for row in rows] == list(range(100)))


if __name__ == "__main__":
    main()
