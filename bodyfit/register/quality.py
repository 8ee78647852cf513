"""How well a body explains a scan, and when it does not: distances, coverage, and the reasons of `poor`."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int
from scipy.spatial import KDTree

from bodyfit.body.model import BodyModel
from bodyfit.body.params import BodyParams
from bodyfit.geometry.mesh_tree import MeshTree, vertex_normals
from bodyfit.register.cloud import PointCloud
from bodyfit.register.registration import Misfit

__all__ = ["misfit", "shortcoming", "unscanned_parts"]

_REACH_M, _REACH_CLOTHED_M = 0.03, 0.08
_NEAR_M = 0.03
_LEAST_COVERED = 0.2
_LEAST_EXPLAINED = 0.75
_MOST_MEDIAN_M, _MOST_MEDIAN_CLOTHED_M = 0.012, 0.035
_MOST_BETA = 6.0
_LEAST_OF_PART = 0.15
"""Parts of the body with a smaller share of scanned skin are guesses."""
_PARTS = {
    "head": ("head",),
    "trunk": ("pelvis", "spine1", "spine2", "spine3"),
    **{f"{side} arm": (f"{side}_elbow",) for side in ("left", "right")},
    **{f"{side} leg": (f"{side}_knee",) for side in ("left", "right")},
}
"""Joints whose skin tells whether a part was scanned: of limbs forearm and shin, for a bust has shoulders."""


def misfit(
    cloud: PointCloud, vertices: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"], *, clothed: bool = False
) -> Misfit:
    """Measure the distances between a cloud and a surface, metres."""
    nearest, normals = MeshTree(vertices, faces).nearest(cloud.points), vertex_normals(vertices, faces)
    distance = nearest.distance
    facing = np.einsum("pk,pkc->pc", nearest.weights, normals[faces[nearest.face]])
    signed = np.where(((cloud.points - nearest.points) * facing).sum(1) < 0, -distance, distance)
    away, partner = KDTree(cloud.points).query(vertices)
    reach = _REACH_CLOTHED_M if clothed else _REACH_M
    near = away < (reach if clothed else _NEAR_M)
    if cloud.normals is not None:
        cosine = (cloud.normals[partner] * normals).sum(1)
        near &= (cosine if cloud.oriented else np.abs(cosine)) > 0.3
    return Misfit(
        points_m=signed,
        vertices_m=away,
        median_m=float(np.median(distance)),
        p95_m=float(np.quantile(distance, 0.95)),
        explained=float((distance < reach).mean()),
        scanned=near,
        covered=float(near.mean()),
    )


def shortcoming(errors: Misfit, params: BodyParams, model: BodyModel, *, clothed: bool) -> str | None:
    """Tell in words why a body is not to be relied on; None if it is."""
    reach = 100 * (_REACH_CLOTHED_M if clothed else _REACH_M)
    if errors.covered < _LEAST_COVERED:
        return (
            f"the scan covers {100 * errors.covered:.0f} % of the body's surface, too little to know its shape and pose"
        )
    if errors.explained < _LEAST_EXPLAINED:
        return (
            f"{100 * (1 - errors.explained):.0f} % of the points lie more than {reach:.0f} cm from the body: the scan"
            " may be of something else, of several people, or have a room about it"
        )
    if errors.median_m > (_MOST_MEDIAN_CLOTHED_M if clothed else _MOST_MEDIAN_M):
        return f"half of the points lie more than {1000 * errors.median_m:.0f} mm from the body"
    if float(params.betas.abs().max()) > _MOST_BETA:
        return "the body's shape is far from that of any adult; are the units of the scan right?"
    return None


def unscanned_parts(errors: Misfit, model: BodyModel) -> tuple[str, ...]:
    """Name the parts of a body (head, trunk and limbs) of whose skin the scan shows next to nothing."""
    joint = model.weights.argmax(1).cpu().numpy()
    shares = {
        part: errors.scanned[np.isin(joint, [model.skeleton.index(name) for name in names])].mean()
        for part, names in _PARTS.items()
    }
    return tuple(part for part, share in shares.items() if share < _LEAST_OF_PART)
