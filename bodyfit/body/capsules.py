"""The body's parts as capsules, for what must know quickly whether parts touch.

Each capsule's axis runs between two points that are linear in betas, its radius is regressed from betas (Bogo et al.
2016, section 3.3).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float

from bodyfit.body.model import BodyModel

__all__ = ["CAPSULES", "Capsules", "may_touch"]

# Name -> (joints whose skin it stands for, axis from, axis to).
CAPSULES: dict[str, tuple[tuple[str, ...], str, str]] = {
    "belly": (("pelvis", "spine1"), "pelvis", "spine2"),
    "chest": (("spine2", "spine3"), "spine2", "neck"),
    "head": (("head",), "head", "head_top"),
    **{
        f"{side}_{part}": ((f"{side}_{owner}",), f"{side}_{a}", f"{side}_{b}")
        for side in ("left", "right")
        for part, owner, a, b in (
            ("upper_arm", "shoulder", "shoulder", "elbow"),
            ("forearm", "elbow", "elbow", "wrist"),
            ("hand", "wrist", "wrist", "hand"),
            ("thigh", "hip", "hip", "knee"),
            ("shin", "knee", "knee", "ankle"),
            ("foot", "ankle", "ankle", "foot"),
        )
    },
}


def may_touch(a: str, b: str) -> bool:
    """Whether two parts meet at a joint or in any pose, so that their overlap says nothing."""
    chain = ("belly", "chest", "head")
    if a in chain and b in chain:
        return True
    (side_a, _, part_a), (side_b, _, part_b) = a.partition("_"), b.partition("_")
    if a in chain or b in chain:
        part = part_b if a in chain else part_a
        trunk = a if a in chain else b
        return (part, trunk) in {("upper_arm", "chest"), ("upper_arm", "head"), ("thigh", "belly"), ("thigh", "chest")}
    if side_a != side_b:
        return part_a == part_b == "thigh"
    order = ("upper_arm", "forearm", "hand"), ("thigh", "shin", "foot")
    return any(p in o and q in o and abs(o.index(p) - o.index(q)) <= 1 for o in order for p, q in [(part_a, part_b)])


@dataclass(frozen=True)
class Capsules:
    """The capsules of one model."""

    names: tuple[str, ...]
    """Part names."""
    ends: tuple[tuple[str, str], ...]
    """Points at the two ends of each axis."""
    radius_m: Float[np.ndarray, "C"]
    """Radius of the mean body."""
    radius_shape: Float[np.ndarray, "C S"]
    """Change of the radius for one unit of each beta."""
    length_m: Float[np.ndarray, "C"]
    """Length of the axis on the mean body."""

    @classmethod
    def of(cls, model: BodyModel) -> Capsules:
        """Capsules that follow the model's skin: the radius is the mean distance of a part's vertices from its axis."""
        owner = model.weights.argmax(1).cpu().numpy()
        shapes = torch.cat([torch.zeros(1, model.num_betas), torch.eye(model.num_betas)]).to(model.v_template)
        with torch.no_grad():
            bodies = model(betas=shapes)
        rows = []
        for name, (owners, a, b) in CAPSULES.items():
            if not (model.has_point(a) and model.has_point(b)):
                continue
            skin = np.isin(owner, [model.skeleton.index(o) for o in owners])
            ends = (model.point(bodies, end).double().cpu().numpy() for end in (a, b))
            radii, lengths = _radius_length(bodies.vertices[:, skin].double().cpu().numpy(), *ends)
            rows.append((name, (a, b), radii[0], radii[1:] - radii[0], lengths[0]))
        names, ends, radius, slope, length = zip(*rows, strict=True)
        return cls(names, ends, np.array(radius), np.array(slope), np.array(length))


def _radius_length(
    skin: Float[np.ndarray, "B N 3"], start: Float[np.ndarray, "B 3"], end: Float[np.ndarray, "B 3"]
) -> tuple[Float[np.ndarray, "B"], Float[np.ndarray, "B"]]:
    """Mean distance of the skin from the axis, and the axis's length, of bodies in the T-pose."""
    axis = (end - start)[:, None]
    length = np.linalg.norm(axis, axis=2)
    offset = skin - start[:, None]
    along = ((offset * axis).sum(2) / length**2).clip(0, 1)
    away = np.linalg.norm(offset - along[..., None] * axis, axis=2)
    return away.mean(1), length[:, 0]
