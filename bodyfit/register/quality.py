"""How well a body explains a scan, and when it does not: distances, coverage, and the reasons of `poor`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Int
from scipy.spatial import KDTree

from bodyfit.body.model import BodyModel
from bodyfit.body.params import BodyParams
from bodyfit.geometry.cloud import PointCloud, thinned
from bodyfit.geometry.mesh_tree import MeshTree, vertex_normals
from bodyfit.register.arms import SIDES, Side, hand_vertices
from bodyfit.register.registration import Misfit

__all__ = ["Verdict", "doubtful_hands", "misfit", "shortcoming", "unscanned_parts", "verdict"]

_REACH_M, _REACH_CLOTHED_M = 0.03, 0.08
_NEAR_M = 0.03
_LEAST_COVERED = 0.2
_LEAST_EXPLAINED = 0.75
_MOST_MEDIAN_M, _MOST_MEDIAN_CLOTHED_M = 0.012, 0.035
_UNSEEN_MEDIAN_M = 0.006
"""Largest median distance of a body that is believed though the detector sees nobody."""
_MOST_BETA = 6.0
_LEAST_OF_PART = 0.15
"""Parts of the body with a smaller share of scanned skin are guesses."""
_LEAST_OF_CLOTHED_PART = 0.35
"""The same in clothes, of skin next to which points are nearest to the part: limbs in clothes have 0.9."""
_OWNERS = 30_000
"""Points of which this is asked."""
_PARTS = {
    "head": ("head",),
    "trunk": ("pelvis", "spine1", "spine2", "spine3"),
    **{f"{side} arm": (f"{side}_elbow",) for side in ("left", "right")},
    **{f"{side} leg": (f"{side}_knee",) for side in ("left", "right")},
}
"""Joints whose skin tells whether a part was scanned: of limbs forearm and shin, for a bust has shoulders."""

_ABOUT_HAND_M = 0.1
"""Points within this distance of a hand, whose nearest skin is the hand's, are the hand's."""
_OFF_HAND_M, _MOST_OFF_HAND = 0.006, 0.03
"""Largest share of a bare hand's points that may lie farther than this from it: of right hands hardly any do, of one
with a finger in the place of another a twentieth, of one that is turned by 45 degrees half."""
_OFF_CLOTHED_M, _MOST_OFF_CLOTHED = 0.008, 0.35
"""The same in clothes: of right hands in sleeves up to a quarter do."""
_NOISE = 5.0
"""Points of a bare hand count as off it if they are farther than this times the median of the body's points, too."""
_NEAR_HAND_M, _LEAST_OF_HAND = 0.02, 0.15
"""Hands of which less than this share of the skin has points within this distance are guesses."""


@dataclass(frozen=True)
class Verdict:
    """Whether a body may be relied on, and where not."""

    reason: str | None
    """Why not, in words; None if it may."""
    unscanned: tuple[str, ...] = ()
    """Parts that are guesses, of a body that may be relied on elsewhere."""
    doubtful: Mapping[str, str] = field(default_factory=dict)
    """Hands that are not right, and why."""


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


def verdict(
    cloud: PointCloud,
    vertices: Float[np.ndarray, "V 3"],
    errors: Misfit,
    params: BodyParams,
    model: BodyModel,
    *,
    clothed: bool,
    unseen: bool,
) -> Verdict:
    """Judge a body that was fitted to a cloud; `unseen`: the detector sees nobody in it."""
    reason = shortcoming(errors, params, model, clothed=clothed)
    if unseen and (reason is not None or errors.median_m > _UNSEEN_MEDIAN_M):
        reason = f"the detector sees no person in the scan, and none explains it: {reason or 'the nearest is a guess'}"
    if reason is not None:
        return Verdict(reason)
    unscanned = unscanned_parts(errors, model, _owners(cloud, vertices, model) if clothed else None)
    hands = doubtful_hands(cloud, vertices, model, clothed=clothed, median_m=errors.median_m)
    doubtful = {f"{side} hand": why for side, why in hands.items() if f"{side} arm" not in unscanned}
    if unscanned:
        reason = f"the scan shows next to nothing of {_listed(unscanned)}: the body is a guess there"
    return Verdict(reason, unscanned, doubtful)


def _listed(parts: tuple[str, ...]) -> str:
    """List parts of the body in words."""
    *first, last = [f"the {part}" for part in parts]
    return f"{', '.join(first)} and {last}" if first else last


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


def unscanned_parts(errors: Misfit, model: BodyModel, owners: Int[np.ndarray, "V"] | None = None) -> tuple[str, ...]:
    """Name the parts of a body (head, trunk and limbs) of whose skin the scan shows next to nothing.

    owners: of clothed people, the joint of the skin that the point next to each vertex is nearest to. Within reach of
    clothes are also legs that are folded into a trunk, of which no point is the nearest to the leg.
    """
    joint = model.weights.argmax(1).cpu().numpy()
    found = []
    for part, names in _PARTS.items():
        joints = [model.skeleton.index(name) for name in names]
        own = np.isin(joint, joints)
        near = errors.scanned[own]
        if owners is not None:
            near = near & np.isin(owners[own], joints)
        if near.mean() < (_LEAST_OF_PART if owners is None else _LEAST_OF_CLOTHED_PART):
            found.append(part)
    return tuple(found)


def _owners(cloud: PointCloud, vertices: Float[np.ndarray, "V 3"], model: BodyModel) -> Int[np.ndarray, "V"]:
    """Find the joint of the skin to which the point of the scan next to each vertex is nearest."""
    faces, joint = model.faces.cpu().numpy(), model.weights.argmax(1).cpu().numpy()
    points = cloud.points[thinned(cloud.points, _OWNERS)]
    nearest = MeshTree(vertices, faces).nearest(points)
    corner = faces[nearest.face, nearest.weights.argmax(1)]
    return joint[corner[KDTree(points).query(vertices)[1]]]


def doubtful_hands(
    cloud: PointCloud,
    vertices: Float[np.ndarray, "V 3"],
    model: BodyModel,
    *,
    clothed: bool = False,
    median_m: float = 0.0,
) -> dict[Side, str]:
    """Tell in words what speaks against a hand, of those that are not to be relied on.

    median_m: median distance of the body's points, which tells the scan's noise.
    """
    off_m, most = (_OFF_CLOTHED_M, _MOST_OFF_CLOTHED) if clothed else (_OFF_HAND_M, _MOST_OFF_HAND)
    off_m = off_m if clothed else max(off_m, _NOISE * median_m)
    faces, found = model.faces.cpu().numpy(), {}
    tree = MeshTree(vertices, faces)
    for side in SIDES:
        hand = hand_vertices(model, side)
        near, _ = KDTree(vertices[hand]).query(cloud.points, distance_upper_bound=_ABOUT_HAND_M)
        points = cloud.points[np.isfinite(near)]
        nearest = tree.nearest(points)
        own = hand[faces[nearest.face]].any(1)
        covered = np.zeros(hand.sum(), bool)
        if own.any():
            covered = KDTree(points[own]).query(vertices[hand])[0] < _NEAR_HAND_M
        off = float((nearest.distance[own] > off_m).mean()) if own.any() else 0.0
        if covered.mean() < _LEAST_OF_HAND:
            found[side] = f"the scan shows next to nothing of the {side} hand, which is a guess"
        elif off > most:
            found[side] = (
                f"{100 * off:.0f} % of the points of the {side} hand lie more than {1000 * off_m:.0f} mm from it:"
                " it may be turned wrongly, or its fingers be bent otherwise"
            )
    return found
