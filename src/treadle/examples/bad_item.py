"""One bad item spoils one item.

Watch for: 99 results and one exception, which knows its item, its worker, and where in the worker it was raised.
"""

import treadle


def parse(text: str) -> int:
    return int(text)


def main() -> None:
    inputs = [str(number) for number in range(100)]
    inputs[42] = "forty-two"
    good = 0
    for result in treadle.map(parse, inputs, engine="processes", on_error="return"):
        task = treadle.failure(result)  # what is known of a failed task; None for a result
        if task is None:
            good += 1
        else:
            print(f"{type(result).__name__}: {result}")
            print(f"item {task.index} was {task.item!r}, in worker process {task.pid}")
            print("raised in:", [line.strip() for line in task.traceback.splitlines() if "File" in line][-1])
    print(f"{good} good")


if __name__ == "__main__":
    main()
