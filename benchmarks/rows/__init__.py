"""The rows, a file a group: each has `rows()`, and may have `sweeps()`."""
