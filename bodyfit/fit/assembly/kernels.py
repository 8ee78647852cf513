"""The compiled kernels of residuals by what they act on, which the assembly's loop over people calls.

A residual declares its kernel and the record of arrays that it reads (`residuals.base.Loop`). Of a tuple of records
numba compiles one call after another, each kernel found by its record's type, so that there is one loop over people,
which numba keeps on disk, and no residual is named here. Imported where it is used, because numba takes a while.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from inspect import unwrap
from typing import Any

from numba import types
from numba.extending import overload

from bodyfit.fit.residuals import RESIDUALS

__all__ = ["any_weight", "centred_on_points", "on_own_points", "on_points", "on_variables"]


def _for_loops(function: Callable[..., Any]) -> Callable[..., Any]:
    """Register the compiled version of a function, which is chosen by the types of its arguments and inlined."""
    options: Any = {"nogil": True, "fastmath": {"contract"}, "forceinline": True}

    def register(choose: Callable[..., Any]) -> Callable[..., Any]:
        return overload(function, jit_options=options)(unwrap(choose))  # without the tests' shape checks

    return register


def _kernel(record: types.Type) -> Any:
    """Find the kernel of a record type. Raises `TypeError` if no residual declares it."""
    arrays = record.instance_class  # pyright: ignore[reportAttributeAccessIssue]
    for residual in RESIDUALS.values():
        if residual.loop is not None and residual.loop.arrays is arrays:
            module, name = residual.loop.kernel.split(":")
            return getattr(import_module(module), name)
    raise TypeError(f"no residual declares a loop that reads {arrays}")


def any_weight(terms):
    """Tell whether any record has a positive weight."""
    raise NotImplementedError("for compiled loops")


def on_points(b, positions, transl, terms, force, stiffness):
    """Return the cost of residuals on points of person b; add to force (K, 3) and stiffness (K, 6: xx xy xz yy yz zz).

    `positions` (K, 3) are without the translation `transl` (3,), metres.
    """
    raise NotImplementedError("for compiled loops")


def centred_on_points(b, positions, terms, force, stiffness, centred, gram, drag):
    """Return the cost of residuals on centred points of person b, which the translation does not change.

    Adds to force (K, 3) and stiffness (K, 6); fills centred (K, 10), gram (4, 4) and drag (4,), see `loops/lift.py`.
    """
    raise NotImplementedError("for compiled loops")


def on_variables(x, b, terms, room, t, H, g):
    """Return the cost of residuals on variables x (B, D) of person b; add to H (lower triangle) and g.

    `terms` are tuples (first column, number of columns, record); `room` (D,) and `t` (4,) are scratch.
    """
    raise NotImplementedError("for compiled loops")


def on_own_points(x, b, terms, tree, posed, lever, rows, room, t, H, g):
    """Return the cost of residuals on points of their own of person b; add to H (lower triangle) and g.

    `tree`, `posed`: the kinematic tree and its pose; `lever` (J, 4), `rows` (3, D), `room` (D,), `t` (4,): scratch.
    """
    raise NotImplementedError("for compiled loops")


@_for_loops(any_weight)
def _any_weight(terms):
    if not len(terms):
        return lambda terms: False

    def run(terms):
        return terms[0].weight > 0 or any_weight(terms[1:])

    return unwrap(run)


@_for_loops(on_points)
def _on_points(b, positions, transl, terms, force, stiffness):
    if not len(terms):
        return lambda b, positions, transl, terms, force, stiffness: 0.0
    kernel = _kernel(terms[0])

    def run(b, positions, transl, terms, force, stiffness):
        cost = 0.0
        if terms[0].weight > 0:
            cost += kernel(b, positions, transl, terms[0], force, stiffness)
        return cost + on_points(b, positions, transl, terms[1:], force, stiffness)

    return unwrap(run)


@_for_loops(centred_on_points)
def _centred_on_points(b, positions, terms, force, stiffness, centred, gram, drag):
    if not len(terms):
        return lambda b, positions, terms, force, stiffness, centred, gram, drag: 0.0
    kernel = _kernel(terms[0])

    def run(b, positions, terms, force, stiffness, centred, gram, drag):
        cost = 0.0
        if terms[0].weight > 0:
            cost += kernel(b, positions, terms[0], force, stiffness, centred, gram, drag)
        return cost + centred_on_points(b, positions, terms[1:], force, stiffness, centred, gram, drag)

    return unwrap(run)


@_for_loops(on_variables)
def _on_variables(x, b, terms, room, t, H, g):
    if not len(terms):
        return lambda x, b, terms, room, t, H, g: 0.0
    kernel = _kernel(terms[0][2])

    def run(x, b, terms, room, t, H, g):
        first, size, record = terms[0]
        cost = 0.0
        if record.weight > 0:
            cost += kernel(x, b, first, size, record, room, t, H, g)
        return cost + on_variables(x, b, terms[1:], room, t, H, g)

    return unwrap(run)


@_for_loops(on_own_points)
def _on_own_points(x, b, terms, tree, posed, lever, rows, room, t, H, g):
    if not len(terms):
        return lambda x, b, terms, tree, posed, lever, rows, room, t, H, g: 0.0
    kernel = _kernel(terms[0])

    def run(x, b, terms, tree, posed, lever, rows, room, t, H, g):
        cost = 0.0
        if terms[0].weight > 0:
            cost += kernel(x, b, terms[0], tree, posed, lever, rows, room, t, H, g)
        return cost + on_own_points(x, b, terms[1:], tree, posed, lever, rows, room, t, H, g)

    return unwrap(run)
