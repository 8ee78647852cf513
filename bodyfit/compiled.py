"""How loops are compiled by numba; imported where it is used, because numba takes a while to load."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numba

__all__ = ["inline", "jit", "loose"]


def jit(function: Callable[..., Any], **options: Any) -> Any:
    """Compile on first use, cached on disk where any place for a cache can be written; `options` are numba's."""
    function = inspect.unwrap(function)  # of the tests' shape checks, which numba cannot compile
    try:
        return numba.njit(cache=True, nogil=True, **options)(function)
    except RuntimeError:  # numba found no writable place: neither the package's folder nor the user's
        return numba.njit(nogil=True, **options)(function)


def loose(function: Callable[..., Any]) -> Any:
    """`jit` where products and sums may be contracted and reordered; NaN and infinity keep their meaning."""
    return jit(function, fastmath={"contract", "reassoc", "nsz"})


def inline(function: Callable[..., Any]) -> Any:
    """Compile as a part of kernels."""
    return numba.njit(nogil=True, fastmath={"contract"}, forceinline=True)(inspect.unwrap(function))
