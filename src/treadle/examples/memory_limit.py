"""One task that wants too much memory fails, at once and alone; the machine does not swap.

treadle examples run memory_limit
"""

from __future__ import annotations

import treadle


def main() -> None:
    """Three inputs, the second of which is too large."""
    megabytes = [10, 5_000, 20]
    sizes = [megabyte << 20 for megabyte in megabytes]
    results = treadle.map(bytearray, sizes, engine="processes", workers=1, memory_limit=200 << 20, on_error="return")
    for megabyte, result in zip(megabytes, results, strict=True):
        print(megabyte, "MB:", type(result).__name__)


if __name__ == "__main__":
    main()
