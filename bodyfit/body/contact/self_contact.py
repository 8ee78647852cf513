"""Whether a body runs into itself, told by the mesh: skin of one part inside another part.

Parts are pieces of the skin, each closed at its rims. Neighbours in the skeleton are not looked at, nor the thighs'
upper halves: they touch in any pose. Capsules are too coarse to decide here: a trunk is half as deep as it is wide.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from torch import Tensor

from bodyfit.body.anthropometry.cross_section import closed
from bodyfit.body.model import BodyModel

__all__ = ["SelfContact"]

_EVERY = 4
"""Of the skin's vertices, every fourth is tried: on the shipped bodies they are then 1 to 2 cm apart."""
_TRUNK = ("pelvis", "spine1", "spine2", "spine3", "neck", "left_collar", "right_collar")
_SIDES = ("left", "right")


@dataclass(frozen=True)
class _Pair:
    """Skin that must not be inside a closed part."""

    probes: Int[np.ndarray, " P"]
    """Vertices of the skin."""
    own: Int[np.ndarray, " N"]
    """Vertices of the part."""
    faces: Int[np.ndarray, "F 3"]
    """Of the part, which is closed; they count `own`, then the middles of the rims."""
    rims: tuple[Int[np.ndarray, " _"], ...]
    """Vertices about each hole, as places in `own`."""


class SelfContact:
    """Measures how deep the parts of a model's bodies are in each other."""

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
        found = [self._pair(*pair) for pair in pairs]
        self._pairs = [pair for pair in found if len(pair.probes) and len(pair.own)]

    def depth(self, vertices: Float[Tensor, "B V 3"]) -> Float[np.ndarray, " B"]:
        """How far the deepest skin inside another part is from that part's nearest vertex, metres; 0 where none is."""
        from bodyfit.body.contact.self_contact_loops import depth

        deepest = np.zeros(len(vertices))
        vertices = vertices.detach()
        for pair in self._pairs:
            probes, part = vertices[:, pair.probes], vertices[:, pair.own]
            near = ((probes > part.amin(1, keepdim=True)) & (probes < part.amax(1, keepdim=True))).all(2)
            for body in near.any(1).nonzero()[:, 0].tolist():
                skin, closed_part = (a.cpu().double().numpy() for a in (probes[body, near[body]], part[body]))
                lids = [closed_part[rim].mean(0, keepdims=True) for rim in pair.rims]
                found = depth(skin, np.concatenate([closed_part, *lids]), pair.faces)
                deepest[body] = max(deepest[body], found)
        return deepest

    def _skin(self, owner: Int[np.ndarray, " V"], top: str, *, below: bool) -> Bool[np.ndarray, " V"]:
        """Vertices that follow a joint most, or one that hangs on it."""
        joints = [self._names.index(top)]
        for joint, parent in enumerate(self._parents):  # a parent comes before its children
            if below and parent in joints:
                joints.append(joint)
        return np.isin(owner, joints)

    def _pair(self, skin: Bool[np.ndarray, " V"], part: Bool[np.ndarray, " V"]) -> _Pair:
        # Faces that are the part's for the most: those over a rim then belong to one of both sides.
        own, faces = np.unique(self._faces[part[self._faces].sum(1) >= 2], return_inverse=True)
        faces, rims = closed(faces.reshape(-1, 3), len(own))
        return _Pair(np.flatnonzero(skin)[::_EVERY], own, faces, tuple(rims))
