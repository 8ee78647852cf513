"""Detect self-penetration on the mesh: skin of one part inside another part.

Parts are pieces of the skin, each closed at its rims. Neighbours in the skeleton and the thighs' upper halves are not
tested, for they touch in any pose. Capsules are too coarse for this: a trunk is half as deep as it is wide.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from torch import Tensor

from bodyfit.body.anthropometry.cross_section import close_holes
from bodyfit.body.model import BodyModel

__all__ = ["SelfContact"]

_EVERY = 4
"""Every fourth vertex of the skin is tested: on the shipped bodies these are 1 to 2 cm apart."""
_TRUNK = ("pelvis", "spine1", "spine2", "spine3", "neck", "left_collar", "right_collar")
_SIDES = ("left", "right")


@dataclass(frozen=True)
class _PartPair:
    """Skin of one part that must not be inside another, closed part."""

    probes: Int[np.ndarray, " P"]
    """Vertices of the tested skin."""
    own: Int[np.ndarray, " N"]
    """Vertices of the closed part."""
    faces: Int[np.ndarray, "F 3"]
    """Faces of the closed part, as rows of `own` followed by the means of the rims."""
    rims: tuple[Int[np.ndarray, " _"], ...]
    """Vertices around each hole, as rows of `own`."""


class SelfContact:
    """Measures how deeply parts of a model's bodies penetrate each other."""

    def __init__(self, model: BodyModel) -> None:
        self._faces = model.faces.cpu().numpy()
        self._parents, self._names = model.skeleton.parents, model.skeleton.names
        owner = model.weights.argmax(1).cpu().numpy()
        limbs = {name: self._skin(owner, name, below=True) for name in self._names}
        only = {name: self._skin(owner, name, below=False) for name in self._names}
        height = model.v_template[:, 1].cpu().numpy()
        joint_y = dict(zip(self._names, model.joints_template[:, 1].tolist(), strict=True))
        trunk = np.any([only[name] for name in _TRUNK], 0)
        pairs = []
        for side, other in (_SIDES, _SIDES[::-1]):
            forearm, shin = limbs[f"{side}_elbow"], limbs[f"{side}_knee"]
            lower_thigh = only[f"{side}_hip"] & (height < (joint_y[f"{side}_hip"] + joint_y[f"{side}_knee"]) / 2)
            whole = [trunk, limbs["head"], limbs[f"{side}_hip"], limbs[f"{other}_hip"], limbs[f"{other}_shoulder"]]
            pairs += [(forearm, part) for part in whole]
            pairs += [(limbs[f"{side}_wrist"], only[f"{side}_shoulder"])]
            pairs += [(shin | lower_thigh, limbs[f"{other}_hip"]), (shin, trunk)]
        candidates = [self._pair(*pair) for pair in pairs]
        self._pairs = [pair for pair in candidates if len(pair.probes) and len(pair.own)]

    def depth(self, vertices: Float[Tensor, "B V 3"]) -> Float[np.ndarray, " B"]:
        """Measure the penetration depth of each body, metres: the deepest vertex's distance to the part's vertices."""
        from bodyfit.body.contact.self_contact_loops import depth, within_box

        deepest = np.zeros(len(vertices))
        for body, mesh in enumerate(np.ascontiguousarray(vertices.detach().cpu().numpy())):
            for pair in self._pairs:
                near = within_box(mesh, pair.probes, pair.own)
                if not len(near):
                    continue
                skin, part = mesh[near].astype(np.float64), mesh[pair.own].astype(np.float64)
                lids = [part[rim].mean(0, keepdims=True) for rim in pair.rims]
                deepest[body] = max(deepest[body], depth(skin, np.concatenate([part, *lids]), pair.faces))
        return deepest

    def _skin(self, owner: Int[np.ndarray, " V"], top: str, *, below: bool) -> Bool[np.ndarray, " V"]:
        """Select the vertices whose largest weight is a joint's, or with `below` one of its descendants'."""
        joints = [self._names.index(top)]
        for joint, parent in enumerate(self._parents):  # a parent comes before its children
            if below and parent in joints:
                joints.append(joint)
        return np.isin(owner, joints)

    def _pair(self, skin: Bool[np.ndarray, " V"], part: Bool[np.ndarray, " V"]) -> _PartPair:
        """Close a part and sample the skin that is tested against it."""
        # Faces with two or three vertices in the part: a face on a rim then belongs to one side only.
        own, faces = np.unique(self._faces[part[self._faces].sum(1) >= 2], return_inverse=True)
        faces, rims = close_holes(faces.reshape(-1, 3), len(own))
        return _PartPair(np.flatnonzero(skin)[::_EVERY], own, faces, tuple(rims))
