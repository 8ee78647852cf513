"""Fields about posed bodies: rays cast through the space around them, and what a place in it looks like."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

_ROOMS = ("casting", "compositional", "radiance")


def __getattr__(name: str) -> ModuleType:
    if name in _ROOMS:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
