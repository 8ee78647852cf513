"""Move a body's surface out to the clothes and the hair, by the masks of many views."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import csc_array, dia_array
from scipy.sparse.linalg import splu

from bodyfit.avatars.posed import PosedView
from bodyfit.register.surface.colors import continued
from bodyfit.register.surface.smoothness import Smoothness

__all__ = ["outward"]

_LEVELS_M = np.arange(-0.012, 0.0601, 0.003)
_EXACT_M, _FITTED_M = 0.006, 0.018
"""Details smaller than this are smoothed, where bodies and masks are exact, and where they are not."""
_EXACT_SHARE, _FITTED_SHARE = 0.05, 0.12
"""Share of views that must see background."""
_FADED_M = 0.05
"""Length over which a surface that no view tells of goes back to the skin."""
_ASIDE, _FITTED_ASIDE = 0.8, 0.5
"""Greatest cosine between the normal and a view that tells how far out the surface is: it sees it from the side."""


def outward(
    views: Sequence[PosedView],
    rest_m: Float[np.ndarray, "V 3"],
    faces: Int[np.ndarray, "F 3"],
    limits_m: Float[np.ndarray, "V 2"],
    *,
    exact: bool,
) -> Float[np.ndarray, " V"]:
    """Find how far each vertex goes along its normal, metres.

    A vertex goes from -12 to 60 mm until more than 12 % of the views that see it from the side see background there, or
    5 % where bodies and masks are `exact`. Where none does, as in the mouth or with few pictures, the surface goes back
    to the skin. rest_m: the body at rest. limits_m: least and greatest distance of each vertex.
    """
    from bodyfit.avatars.outward_loops import vote

    limit = _EXACT_SHARE if exact else _FITTED_SHARE
    aside = _ASIDE if exact else _FITTED_ASIDE
    votes = np.zeros((len(limits_m), len(_LEVELS_M), 2), np.int32)
    for view in views:
        vote(view.points, view.outward, _LEVELS_M, aside, *view.lens, view.state, votes)
    share = votes[..., 0] / np.maximum(votes[..., 1], 1)
    outside = share > limit
    ever = np.any(outside, axis=1)
    first = np.maximum(outside.argmax(1), 1)
    rows = np.arange(len(share))
    before, after = share[rows, first - 1], share[rows, first]
    part = np.clip((limit - before) / np.maximum(after - before, 1e-6), 0, 1)
    distance = np.where(ever, _LEVELS_M[first - 1] + part * (_LEVELS_M[first] - _LEVELS_M[first - 1]), 0.0)
    distance = np.clip(distance, *limits_m.T)[:, None]
    whole = continued(rest_m, faces, distance, ever, np.zeros(1), within_m=_FADED_M)[:, 0]
    return np.clip(_smoothed(whole, rest_m, faces, _EXACT_M if exact else _FITTED_M), *limits_m.T)


def _smoothed(
    distance: Float[np.ndarray, " V"], rest_m: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"], detail_m: float
) -> Float[np.ndarray, " V"]:
    """Smooth distances over the surface, as a plate bends: unlike means of neighbours it keeps edges where they are."""
    smoothness = Smoothness(rest_m, faces)
    weight = smoothness.areas
    mass = dia_array((weight[None], [0]), shape=(len(weight),) * 2)
    return splu(csc_array(smoothness.form(membrane_m=0.0, bending_m=detail_m) + mass)).solve(weight * distance)
