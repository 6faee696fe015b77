"""What processes do to a manager's objects until they are killed."""

from __future__ import annotations

import random
from typing import Any

ACCOUNTS = 20
EACH = 1000


def transfer(accounts: Any, journal: Any, counter: Any, seed: int) -> None:
    """Move money between accounts, and write it down: three objects, all or nothing."""
    chance = random.Random(seed)
    while True:
        a, b, amount = chance.randrange(ACCOUNTS), chance.randrange(ACCOUNTS), chance.randrange(50)
        with accounts.transaction():
            accounts[a] -= amount
            accounts[b] += amount
            journal.append((seed, amount, "x" * chance.choice([1, 10, 100, 5000])))
            counter.value += 1
            if len(journal) > 200:
                counter.value -= 150
                del journal[chance.choice([slice(0, 150), slice(20, 170), slice(50, None)])]
                counter.value = len(journal)


def churn(shared: Any, seed: int) -> None:
    """Every kind of operation, on objects of all kinds, and nested ones that come and go."""
    chance = random.Random(seed)
    numbers, items, inner = shared["numbers"], shared["items"], shared["inner"]
    while True:
        key = chance.choice([chance.randrange(300), f"k{chance.randrange(300)}", (chance.randrange(30), None)])
        what = chance.randrange(14)
        if what == 0:
            numbers[key] = "v" * chance.choice([0, 5, 3000])
        elif what == 1:
            numbers.pop(key, None)
        elif what == 2:
            numbers.update({chance.randrange(300): seed for _ in range(20)})
        elif what == 3:
            items.insert(chance.randrange(50), key)
        elif what == 4 and len(items) > 40:
            del items[10:40]
        elif what == 5:
            items.append([key] * 3)
        elif what == 6:
            items.reverse()
        elif what == 7:
            inner[chance.randrange(10)] = shared["items"]
        elif what == 8:
            inner.pop(chance.randrange(10), None)
        elif what == 9:
            inner[chance.randrange(10)] = [items, numbers]
        elif what == 10:
            shared.update_value("n", _more, default=0)
        elif what == 11 and chance.random() < 0.1:
            numbers.clear()
        elif what == 12:
            shared["temporary", seed % 3] = {"deep": inner, "key": key}
        else:
            shared.setdefault("n", 0)
            numbers.copy()


def _more(value: int) -> int:
    return value + 1
