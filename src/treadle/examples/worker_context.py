"""A context variable is set in the program; each task sees it as it was when the task was submitted.

Watch for: every task sees the user of its own submit, in threads and in processes alike.
"""

from contextvars import ContextVar

import treadle

user = ContextVar("user", default="nobody")


def who(number: int) -> str:
    return f"task {number} works for {user.get()}"


def main() -> None:
    for engine in ("threads", "processes"):
        with treadle.Pool(workers=2, engine=engine) as pool:
            futures = []
            for number, name in enumerate(["ann", "bob", "eve"]):
                user.set(name)
                futures.append(pool.submit(who, number))
            user.set("somebody else")
            print(engine, [future.result() for future in futures])


if __name__ == "__main__":
    main()
