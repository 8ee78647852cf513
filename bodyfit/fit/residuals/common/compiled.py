"""The compiled residuals, by where they act: what the assembly's loop over people calls.

A residual that has a version for the loops of a CPU has its call in one of these functions, and its arrays in
`arrays.CompiledTerms`. Written out and not looked up, so that numba compiles them into one loop and keeps that on disk.
Imported where it is used, because numba takes a while to load.
"""

from __future__ import annotations

from bodyfit.fit.residuals.loops.angles import bend, limit, shape
from bodyfit.fit.residuals.loops.capsules import overlap
from bodyfit.fit.residuals.loops.lift import lift
from bodyfit.fit.residuals.loops.measured import measure
from bodyfit.fit.residuals.loops.mixture import mixture
from bodyfit.fit.residuals.loops.reprojection import reproject
from bodyfit.runtime.compiled import inline

__all__ = ["centred_on_keypoints", "on_keypoints", "on_measured", "on_pairs", "on_variables"]


@inline
def on_keypoints(b, positions, transl, terms, one_list, force, stiffness):
    """Cost of what looks at the layout's points; adds to the force on each and its stiffness. `one_list`: measured
    points are of the same list."""
    total = 0.0
    if terms.reprojection.weight > 0:
        total += reproject(b, positions, transl, terms.reprojection, force, stiffness)
    if one_list and len(terms.points.target_m):
        total += measure(b, positions, transl, terms.points, force, stiffness)
    return total


@inline
def centred_on_keypoints(b, positions, terms, force, stiffness, centred, gram, drag):
    """Cost of what looks at the layout's points and does not feel where they are as a whole; see `lift_loops.lift`."""
    return lift(b, positions, terms.lift, force, stiffness, centred, gram, drag)


@inline
def on_measured(b, positions, transl, terms, force, stiffness):
    """Cost of what looks at the measured layout's points; adds to the force on each and its stiffness."""
    return measure(b, positions, transl, terms.points, force, stiffness)


@inline
def on_variables(x, b, pose, betas, n_betas, terms, room, t, H, g):
    """Cost of what looks at the solver's variables; adds to H, its lower triangle, and g."""
    total = 0.0
    if terms.pose.weight > 0:
        total += mixture(x, b, pose, terms.pose, room, t, H, g)
    if terms.angle.weight > 0:
        total += bend(x, b, pose, terms.angle, H, g)
    if terms.limits.weight > 0:
        total += limit(x, b, pose, terms.limits, H, g)
    if terms.shape.weight > 0:
        total += shape(x, b, betas, n_betas, terms.shape, H, g)
    return total


@inline
def on_pairs(x, b, terms, tree, posed, lever, rows, room, t, H, g):
    """Cost of what looks at pairs of points of a list of its own; adds to H, its lower triangle, and g."""
    if terms.interpenetration.weight > 0:
        return overlap(x, b, terms.interpenetration, tree, posed, lever, rows, room, t, H, g)
    return 0.0
