"""How tasks reach a worker process and results come back: the seam behind which pipes may become shared memory.

`base.py` says what a transport is, `pipes.py` is the one there is, `frames.py` its wire format, and `page.py` the page
of shared memory in which a worker publishes what it runs.
"""
