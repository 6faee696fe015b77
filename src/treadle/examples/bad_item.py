"""One bad item spoils one item.

Watch for: 99 results and one exception, which knows its item, its worker, and where in the worker it was raised.
"""

import treadle


def parse(text: str) -> int:
    return int(text)


def main() -> None:
    inputs = [str(number) for number in range(100)]
    inputs[42] = "forty-two"
    good, bad = [], []
    for result in treadle.map(parse, inputs, engine="processes", on_error="return"):
        (bad if isinstance(result, Exception) else good).append(result)

    print(f"{len(good)} good, {len(bad)} bad")
    (error,) = bad
    print(f"{type(error).__name__}: {error}")
    print(f"item {error.task.index} was {error.task.item!r}, in worker {error.task.pid}")
    print(error.task.traceback.splitlines()[-2].strip())


if __name__ == "__main__":
    main()
