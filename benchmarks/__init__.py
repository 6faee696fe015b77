"""How fast treadle is, beside its peers, in one run.

    make bench                                        everything, on each Python present; writes benchmarks/RESULTS.md
    make bench QUICK=1                                less of it, on one Python, in under three minutes
    python -m benchmarks [--quick] [GROUP ...]        some groups, printed

Absolute times say little on a shared machine.  So each row runs all its contestants in turns, round after round, and
what counts is the ratio to treadle within each round.

    harness.py      what a row, a contestant and a sweep are, and how they are measured
    paired.py       two ways of the same, compared to a fraction of a percent
    rows/           the rows, a file a group
    peers.py        contestants that several groups have
    runner.py       all rows on all Pythons, each row in a process of its own
    store.py        what was measured, as JSON, until the report reads it
    verdicts.py     goals: which were reached, and where treadle is behind
    why.py          what is known about the rows in which it is behind
    machine.py      where it was measured, and which versions
    report.py       RESULTS.md
    charts.py       its pictures
"""
