"""Short programs that show one idea each.  `treadle examples` lists and runs them.

A module of this package is an example if its docstring has a line "Watch for: ...": nothing else has to be told of
it.  The docstring's first line is what the list shows.  Each runs as `python -m treadle.examples.NAME` too.
"""
