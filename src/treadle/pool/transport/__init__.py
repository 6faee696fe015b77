"""How tasks reach a worker process and results come back: rings in shared memory, in C (`_native/memory/lane.h`).

`base.py` says what travels, `channel.py` is the parent's end with what the reactor polls.
"""
