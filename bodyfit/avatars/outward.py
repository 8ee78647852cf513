"""Move a body's surface out to the clothes and the hair, by the masks of many views."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.sparse import csc_array, dia_array
from scipy.sparse.linalg import splu

from bodyfit.avatars.posed import PosedView
from bodyfit.register.surface.smoothness import Smoothness

__all__ = ["outward"]

_LEVELS_M = np.arange(-0.012, 0.0601, 0.003)
_SMOOTH_M = 0.006
"""Details smaller than this are smoothed."""
_UNTOLD = 0.02
"""Weight of a vertex that no view sees outside: it stays where the ones around it do not pull."""


def outward(
    views: Sequence[PosedView],
    rest_m: Float[np.ndarray, "V 3"],
    faces: Int[np.ndarray, "F 3"],
    limits_m: Float[np.ndarray, "V 2"],
    *,
    background_share: float,
) -> Float[np.ndarray, " V"]:
    """Find how far each vertex goes along its normal, metres.

    A vertex goes from -12 to 60 mm until more than `background_share` of the views see background there; one that none
    sees outside (of the mouth, in the armpits) stays. rest_m: the body at rest. limits_m: least and greatest distance of each vertex.
    """
    from bodyfit.avatars.outward_loops import vote

    votes = np.zeros((len(limits_m), len(_LEVELS_M), 2), np.int32)
    for view in views:
        vote(view.points, view.outward, _LEVELS_M, *view.lens, view.state, votes)
    share = votes[..., 0] / np.maximum(votes[..., 1], 1)
    outside = share > background_share
    ever = outside.any(1)
    first = np.maximum(outside.argmax(1), 1)
    rows = np.arange(len(share))
    before, after = share[rows, first - 1], share[rows, first]
    part = np.clip((background_share - before) / np.maximum(after - before, 1e-6), 0, 1)
    distance = np.where(ever, _LEVELS_M[first - 1] + part * (_LEVELS_M[first] - _LEVELS_M[first - 1]), 0.0)
    distance = np.clip(distance, *limits_m.T)
    return np.clip(_smoothed(distance, ever, rest_m, faces), *limits_m.T)


def _smoothed(
    distance: Float[np.ndarray, " V"],
    ever: Bool[np.ndarray, " V"],
    rest_m: Float[np.ndarray, "V 3"],
    faces: Int[np.ndarray, "F 3"],
) -> Float[np.ndarray, " V"]:
    """Smooth distances over the surface, as a plate bends: unlike means of neighbours it keeps edges where they are."""
    smoothness = Smoothness(rest_m, faces)
    weight = smoothness.areas * np.where(ever, 1.0, _UNTOLD)
    form = smoothness.form(membrane_m=0.0, bending_m=_SMOOTH_M) + dia_array((weight[None], [0]), shape=(len(weight),) * 2)
    return splu(csc_array(form)).solve(weight * distance)
