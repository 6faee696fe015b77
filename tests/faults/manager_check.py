"""Is a manager's store sound?  Looks at every record, and at LMDB's own pages."""

from __future__ import annotations

import struct
from collections import Counter
from typing import Any

from treadle.shared import Manager
from treadle.shared.lifetimes import DATA, HOLD, NAME, TICKET, VALUES, contained
from treadle.shared.mapping import place_of
from treadle.shared.store import prefixed


def problems(manager: Manager) -> list[str]:
    """What is wrong; nothing should be."""
    store = manager._space.store
    return store.read(_records, manager) + _pages(manager)


def _records(txn: Any, manager: Manager) -> list[str]:
    wrong = []
    life = manager._space.life
    objects = dict(life.objects(txn))
    refs: Counter[int] = Counter()
    for key, _ in prefixed(txn, HOLD):
        refs[struct.unpack_from(">Q", key, 9)[0]] += 1
    for prefix in (TICKET, NAME):
        for _, value in prefixed(txn, prefix):
            refs[struct.unpack_from(">Q", value)[0]] += 1
    for number, header in objects.items():
        start = DATA + struct.pack(">Q", number)
        tags: Counter[bytes] = Counter()
        for key, value in prefixed(txn, start):
            tag = key[9:10]
            tags[tag] += 1
            if tag in VALUES:
                refs.update(contained(value))
            if tag == b"k" and txn.get(start + b"o" + place_of(value)) is None:
                wrong.append(f"object {number}: a value without its key: {key!r}")
        if header.kind in b"dsn" and not tags[b"k"] == tags[b"o"] == header.length:
            wrong.append(f"object {number}: {header} has {tags}")
        if header.kind == b"l":
            if tags[b"l"] != header.length:
                wrong.append(f"object {number}: {header} has {tags}")
            places = [start + b"l" + struct.pack(">Q", (1 << 63) + header.a + i) for i in range(header.length)]
            if any(txn.get(place) is None for place in places):
                wrong.append(f"object {number}: items are missing")
    for number in {*refs, *objects}:
        known = objects[number].refs if number in objects else 0
        if known != refs[number]:
            wrong.append(f"object {number}: counts {known}, but {refs[number]} refer to it")
    return wrong


def _pages(manager: Manager) -> list[str]:
    """LMDB's own structure, by the verifier that comes with newer versions of its Python binding."""
    try:
        from lmdb.verify import verify
    except ImportError:
        return []
    store = manager._space.store
    with store.lock:  # nobody writes meanwhile
        return [str(problem) for problem in verify(store.path or f"/proc/self/fd/{store.fd}", subdir=False)]
