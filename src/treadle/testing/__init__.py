"""Tools for testing concurrent programs: ours, and those of our users.

leaks.py    what a piece of code leaves behind: processes, threads, descriptors, shared memory, temporary files
"""
