"""Fitting bodies to what is known of them. The package is the function, too: `bodyfit.fit(evidence, model=...)`."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any


class _Callable(ModuleType):
    """`bodyfit.fit` is this package, and at the front door the function of the same name (`fitter.fit`)."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """See `bodyfit.fit.fitter.fit`."""
        from bodyfit.fit.fitter import fit

        return fit(*args, **kwargs)


sys.modules[__name__].__class__ = _Callable
