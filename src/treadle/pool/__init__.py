"""The pool: one brain (`state.py`), one pair of hands (`driver.py`), several engines.

README.md in this folder says how they work together, what a kill at any moment does, and how to add to them.

pool.py maps.py amaps.py future.py     what users hold
feeder.py inbox.py                     the two ends of a map, and how far apart they may be
driver.py                              performs what the brain says; the only one that does
state.py events.py task.py             pure: the brain, what it is told and says, its record of a task
crew.py stock.py backlog.py            pure: its workers, what each may hold, its tasks
decision.py                            pure: how auto chooses
engines/                               where tasks run: threads, processes, auto
transport/ launch/                     how tasks reach a process; how processes begin and end
worker.py                              the loop inside a worker process
payloads.py functions.py               calls as bytes and back
failures.py results.py                 exceptions and values as bytes and back
reactor.py waits.py registry.py        the one thread of a pool, sleeping safely, the end of the program
cpus.py busy.py stats.py               CPUs, computing or waiting, what a pool says of itself
"""
