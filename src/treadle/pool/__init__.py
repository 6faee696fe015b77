"""The pool: one brain (`state.py`), one pair of hands (`driver.py`), several engines.

pool.py maps.py amaps.py future.py     what users hold
driver.py                              performs what the brain says; the only one that does
state.py task.py window.py decision.py pure: the brain, its record of a task, how far a map runs ahead, auto's choice
engines/                               where tasks run: threads, processes, auto
transport/ launch/                     how tasks reach a process; how processes begin and end
worker.py                              the loop inside a worker process
payloads.py failures.py results.py     calls, exceptions and values as bytes and back
reactor.py registry.py cpus.py stats.py
"""
