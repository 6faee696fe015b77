"""A program that has started another one, which knows nothing of treadle."""

import subprocess
import sys

from treadle import threading

if __name__ == "__main__":
    with threading.Lock(), subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        print("ready", flush=True)
        print(child.pid, flush=True)
        input() if sys.stdin.isatty() else sys.stdin.read()
        child.communicate(b"\n")
