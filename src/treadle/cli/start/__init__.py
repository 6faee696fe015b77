"""A folder that `treadle run` puts on PYTHONPATH, for Python to find its `sitecustomize` when it starts."""
