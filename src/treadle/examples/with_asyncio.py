"""The same pool from asyncio.

Watch for: the event loop goes on ticking while other processes compute.
"""

import asyncio

import treadle


def compute(number: int) -> int:
    return sum(step * step for step in range(number * 200_000))


async def main() -> None:
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0.01)

    ticking = asyncio.create_task(tick())
    with treadle.Pool(workers=2, engine="processes") as pool:
        print("one:", await pool.asubmit(compute, 1))
        async for result in pool.amap(compute, range(5)):
            print("next:", result)
    ticking.cancel()
    print("the loop went on ticking" if ticks > 5 else f"the loop stood still: {ticks} ticks")


if __name__ == "__main__":
    asyncio.run(main())
