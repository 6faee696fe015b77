"""One queue between a thread and asyncio.

Watch for: the same kind of object on both sides; the thread waits for it with get(), the event loop with await.
"""

import asyncio

from treadle import queue, threading

questions: queue.Queue[int] = queue.Queue(2)
answers: queue.Queue[str] = queue.Queue(2)


def worker() -> None:
    for number in questions:
        answers.put(f"{number} squared is {number * number}")
    answers.shutdown()


async def ask() -> None:
    for number in range(5):
        await questions.aput(number)  # waits while the queue is full, and the loop goes on
    questions.shutdown()


async def main() -> None:
    threading.Thread(target=worker).start()
    asking = asyncio.create_task(ask())
    async for answer in answers:
        print(answer)
    await asking
    print("both queues are shut down and empty")


if __name__ == "__main__":
    asyncio.run(main())
