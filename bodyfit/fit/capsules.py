"""Interpenetration: the body's parts as capsules, filled with spheres that should not overlap.

Each capsule's axis runs between two points that are linear in betas, its radius is regressed from betas. The overlap of
spheres i and j counts exp(-|ci - cj|^2 / (si^2 + sj^2)) with s a third of the radius (Bogo et al. 2016, E_sp); its
gradient acts on pose alone, so that bodies do not get thin to avoid touching.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from bodyfit.body.model import BodyModel
from bodyfit.body.points import Points, PosedTree
from bodyfit.fit.priors import Quadratic

__all__ = ["CAPSULES", "Capsules", "SphereOverlap"]

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


def _may_touch(a: str, b: str) -> bool:
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


class SphereOverlap:
    """The interpenetration term of one model."""

    def __init__(self, model: BodyModel, *, curvature_pairs: int = 8) -> None:
        capsules = Capsules.of(model)
        self.curvature_pairs = curvature_pairs
        entries, radius, slope, part = [], [], [], []
        for c, (a, b) in enumerate(capsules.ends):
            count = max(2, int(np.ceil(capsules.length_m[c] / (1.2 * capsules.radius_m[c]))) + 1)
            for t in np.linspace(0, 1, count):
                entries.append({name: w for name, w in ((a, 1 - t), (b, t)) if w > 0})
                radius.append(capsules.radius_m[c])
                slope.append(capsules.radius_shape[c])
                part.append(capsules.names[c])
        pairs = [(i, j) for i, j in combinations(range(len(part)), 2) if part[i] != part[j]]
        pairs = [(i, j) for i, j in pairs if not _may_touch(part[i], part[j])]
        self.first, self.second = torch.tensor(pairs, device=model.device).T
        self.points = Points(model, entries)
        self.radius = torch.as_tensor(np.array(radius), dtype=model.dtype, device=model.device)
        self.radius_shape = torch.as_tensor(np.array(slope), dtype=model.dtype, device=model.device)

    def __call__(self, tree: PosedTree, betas: Float[Tensor, "B S"]) -> Quadratic:
        """The term by the axis-angles of the joints, root first; betas do not feel it.

        The gradient is that of every pair; the Hessian's stand-in is Gauss-Newton over the few that overlap most.
        """
        placed = self.points.place(tree, betas)
        centres = placed.positions
        s2 = ((self.radius + betas @ self.radius_shape.T) / 3).square()
        s2_pair = s2[:, self.first] + s2[:, self.second]
        apart = centres[:, self.first] - centres[:, self.second]
        value = (-apart.square().sum(2) / s2_pair).exp()
        # Half the gradient of exp(-d^2 / S) by the first centre is -(value / S) d.
        push = -(value / s2_pair)[..., None] * apart
        force = torch.zeros_like(centres).index_add(1, self.first, push).index_add(1, self.second, -push)
        gradient = placed.pull_back(force)
        n = min(self.curvature_pairs, value.shape[1])
        top, which = value.topk(n, dim=1)
        # The residual is exp(-d^2 / 2S), its derivative by the first centre -residual d / S.
        rows = torch.arange(len(value), device=value.device)[:, None]
        pull = -(top.sqrt() / s2_pair[rows, which])[..., None] * apart[rows, which]
        forces = centres.new_zeros(*which.shape, centres.shape[1], 3)
        items = torch.arange(n, device=value.device)[None]
        forces[rows, items, self.first[which]] = pull
        forces[rows, items, self.second[which]] = -pull
        jacobian = placed.pull_back(forces)
        return Quadratic(value.sum(1), gradient, jacobian.mT @ jacobian)
