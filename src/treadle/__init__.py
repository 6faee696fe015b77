"""treadle: concurrency for Python that never hangs in silence."""

__version__ = "0.1.0.dev0"
