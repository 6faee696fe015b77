"""How worker processes come into being, and how their end becomes known.

`base.py` is the interface.  `nursery.py` is a small process that starts workers by fork (forkserver) or by fork and
exec (spawn), and reaps them; `client.py` talks to it; `fork.py` forks the calling process itself; `child.py` is what
every new process does first.
"""
