"""Where tasks run.  `base.py` says what an engine has to offer; each other module is one engine."""
