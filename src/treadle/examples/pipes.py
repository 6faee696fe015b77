"""A pipe: two processes that talk to each other.

Watch for: a question and an answer three times, then the end of the conversation.
"""

from multiprocessing.connection import Connection

from treadle import multiprocessing


def answer(conn: Connection) -> None:
    with conn:
        while True:
            try:
                question = conn.recv()
            except EOFError:  # the other end is closed
                break
            conn.send(question.upper())


def main() -> None:
    here, there = multiprocessing.Pipe()
    process = multiprocessing.Process(target=answer, args=(there,))
    process.start()
    there.close()  # it is the other process's now; while it is open here, nobody sees its end
    for word in ("loom", "warp", "weft"):
        here.send(word)
        print(f"{word} -> {here.recv()}")
    here.close()
    process.join()
    print("the other process ended with", process.exitcode)


if __name__ == "__main__":
    main()
