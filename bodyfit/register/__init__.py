"""Registering bodies to scans. The package is the function, too: `bodyfit.register(points, model=...)`."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any


class _Callable(ModuleType):
    """`bodyfit.register` is this package, and at the front door the function of the same name (`run.register`)."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """See `bodyfit.register.run.register`."""
        from bodyfit.register.run import register

        return register(*args, **kwargs)


sys.modules[__name__].__class__ = _Callable
