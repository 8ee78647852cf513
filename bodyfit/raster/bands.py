"""Process pictures in bands of rows, on threads, with memory that does not grow with the picture."""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch

__all__ = ["by_bands"]

_BAND_SAMPLES = 1 << 19
"""Samples that each thread holds in memory, about 8 bytes each."""


def by_bands(height: int, row_samples: int, work: Callable[[int, int], None], *, samples: int | None = None) -> None:
    """Call `work(first row, rows)` for bands of rows of at most so many samples, on as many threads as torch has.

    samples: half a million if left out.
    """
    threads = max(torch.get_num_threads(), 1)
    rows = max(min((samples or _BAND_SAMPLES) // max(row_samples, 1), math.ceil(height / threads)), 1)
    tops = range(0, height, rows)
    if threads == 1 or len(tops) == 1:
        for top in tops:
            work(top, min(rows, height - top))
        return
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda top: work(top, min(rows, height - top)), tops))
