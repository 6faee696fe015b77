"""How fast treadle is, beside its peers, in one run.

    python -m benchmarks [--quick] [GROUP ...]

Absolute times say little on a shared machine.  So each row runs all its contestants in turns, round after round, and
prints medians and the ratio to treadle within each round.
"""
