"""Folders of pictures at scale: runs that survive what is in them and go on where they were stopped.

`run_batch` and `BatchSummary` are in `batch.run`; nothing is imported here, for a worker process starts by importing
this package and needs neither torch nor the fit.
"""
