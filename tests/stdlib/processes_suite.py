"""CPython's _test_multiprocessing for the start method in TREADLE_START_METHOD, importable in the children too.

The modules test.test_multiprocessing_* do the same, but some distributions of Python leave them out.
"""

import os

from test import _test_multiprocessing as suite

suite.PRELOAD = ["__main__", __name__]  # what the fork server loads: it is this module that the children need
suite.install_tests_in_module_dict(globals(), os.environ["TREADLE_START_METHOD"])
