"""Folders of pictures at scale: runs that survive what is in them and go on where they were stopped."""

from bodyfit.batch.run import BatchSummary, run_batch

__all__ = ["BatchSummary", "run_batch"]
