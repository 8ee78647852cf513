"""Which limbs a depth map shows: those without which measured points would be left unexplained."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from bodyfit.body.model import BodyModel
from bodyfit.fit.initialise.left_right import PARTS
from bodyfit.geometry.mesh_tree import MeshTree, face_normals
from bodyfit.skeleton import layout_names

__all__ = ["Limb", "limbs_of", "visible_share"]

_LIMBS = {"arm": ("elbow", "wrist", "hand"), "leg": ("knee", "ankle", "foot")}
"""The joints that turn the lower part of each limb, without the side."""

_NEAR_M = 0.03
"""Points farther than this from the body are not explained by it."""
_APART_M = 0.02
"""Points farther than this from the rest of the body need the limb."""


@dataclass(frozen=True, eq=False)
class Limb:
    """A forearm with its hand, or a shin with its foot."""

    name: str
    """As in "left arm"."""
    joints: tuple[int, ...]
    """The body's joints that turn it."""
    relaxed: tuple[int, ...]
    """The joints that come to rest where it is hidden: of an arm the shoulder's, too."""
    keypoints: tuple[int, ...]
    """The rows of the layout's keypoints that lie on it."""
    faces: Int[np.ndarray, "F"]
    """Its faces, by number."""
    others: Int[np.ndarray, "R 3"]
    """The faces of the rest of the body."""
    area: float
    """Its share of the skin of the mean body."""


def limbs_of(model: BodyModel, layout: str) -> tuple[Limb, ...]:
    """Return the lower limbs of a model, and the keypoints of a layout that show them."""
    names, faces = model.skeleton.names, model.faces.cpu().numpy()
    area = np.linalg.norm(face_normals(model.v_template.cpu().double().numpy(), faces), axis=1)
    found = []
    for side in ("left", "right"):
        for limb, parts in _LIMBS.items():
            own_names = [f"{side}_{part}" for part in parts]
            joints = tuple(i for i, name in enumerate(names[: model.body_joints]) if name in own_names)
            relaxed = joints if limb == "leg" else (names.index(f"{side}_shoulder"), *joints)
            keypoints = tuple(
                row
                for row, name in enumerate(layout_names(layout))
                if name.startswith(side) and any(part in name for part in PARTS[f"{limb}s"])
            )
            moved = set(joints)
            for joint, parent in enumerate(model.parents):  # fingers, too
                if parent in moved:
                    moved.add(joint)
            of_limb = model.weights[:, sorted(moved)].sum(1).cpu().numpy() > 0.5
            own = of_limb[faces].any(1)
            share = float(area[own].sum() / area.sum())
            found.append(Limb(f"{side} {limb}", joints, relaxed, keypoints, np.flatnonzero(own), faces[~own], share))
    return tuple(found)


def visible_share(
    limb: Limb, vertices: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"], points: Float[np.ndarray, "N 3"]
) -> float:
    """Compute how many of a body's points need the limb, as a share of what one side of it would have.

    points: the body's measured points, evenly spread over what a camera sees: about half of the skin.
    """
    nearest = MeshTree(vertices, faces).nearest(points)
    on_limb = np.isin(nearest.face, limb.faces) & (nearest.distance < _NEAR_M)
    if not on_limb.any():
        return 0.0
    apart = MeshTree(vertices, limb.others).nearest(points[on_limb]).distance > _APART_M
    return float(apart.sum() / (limb.area * len(points)))
