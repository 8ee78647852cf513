"""Approximate the body's parts by capsules, for fast tests of contact.

Each capsule's axis lies on the line through two points that are linear in betas; its radius is regressed from betas
(Bogo et al. 2016, section 3.3). The trunk is wider than deep, so it is two capsules side by side.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int

from bodyfit.body.model import BodyModel

__all__ = ["CAPSULES", "Capsules", "may_touch"]

_TIPS = ("head", "hand", "foot")
_LIMBS = ("upper_arm", "forearm", "hand"), ("thigh", "shin", "foot")

# Name -> (joints whose skin the capsule approximates, points at the start and the end of its axis).
CAPSULES: dict[str, tuple[tuple[str, ...], str, str]] = {
    "head": (("head",), "head", "head_top"),
    **{
        f"{side}_{part}": (owners, f"{side}_{a}", f"{side}_{b}")
        for side in ("left", "right")
        for part, owners, a, b in (
            ("trunk", ("pelvis", "spine1", "spine2", "spine3", f"{side}_collar"), "hip", "collar"),
            ("upper_arm", (f"{side}_shoulder",), "shoulder", "elbow"),
            ("forearm", (f"{side}_elbow",), "elbow", "wrist"),
            ("hand", (f"{side}_wrist", f"{side}_hand"), "wrist", "hand"),
            ("thigh", (f"{side}_hip",), "hip", "knee"),
            ("shin", (f"{side}_knee",), "knee", "ankle"),
            ("foot", (f"{side}_ankle", f"{side}_foot"), "ankle", "foot"),
        )
    },
}


def may_touch(a: str, b: str) -> bool:
    """Tell whether two parts meet at a joint or touch in any pose, so that their overlap is no penetration."""
    (side_a, part_a), (side_b, part_b) = _side_part(a), _side_part(b)
    if {part_a, part_b} in ({"trunk"}, {"trunk", "head"}, {"trunk", "upper_arm"}, {"trunk", "thigh"}):
        return True
    if "head" in (part_a, part_b):
        return "upper_arm" in (part_a, part_b)
    if side_a != side_b:
        return part_a == part_b == "thigh"
    return any(part_a in o and part_b in o and abs(o.index(part_a) - o.index(part_b)) <= 1 for o in _LIMBS)


def _side_part(name: str) -> tuple[str, str]:
    """Split a name into side and part: ("left", "upper_arm") for "left_upper_arm", ("", "head") for "head"."""
    side, _, part = name.partition("_")
    return (side, part) if side in ("left", "right") else ("", name)


@dataclass(frozen=True)
class Capsules:
    """The capsules of one model."""

    names: tuple[str, ...]
    """Part names."""
    ends: tuple[tuple[str, str], ...]
    """Names of the points that each axis runs through."""
    radius_m: Float[np.ndarray, "C"]
    """Radius of the mean body."""
    radius_shape: Float[np.ndarray, "C S"]
    """Change of the radius for one unit of each beta."""
    length_m: Float[np.ndarray, "C"]
    """Length of the axis on the mean body."""
    reach: Float[np.ndarray, "C 2"]
    """Where the axis starts and ends, as fractions of the way from its first point to its second."""

    def axis(self, c: int, along: float) -> dict[str, float]:
        """Return a point on an axis as weights of named points; `along` runs from its start (0) to its end (1)."""
        (a, b), (start, end) = self.ends[c], self.reach[c]
        t = float(start + along * (end - start))
        return {name: w for name, w in ((a, 1 - t), (b, t)) if w != 0}

    @classmethod
    def of(cls, model: BodyModel) -> Capsules:
        """Fit capsules to the model's skin.

        A vertex belongs to the nearest of the axes of its joint. An axis runs between its two points, and at head, hand
        and foot to one radius before the tip; the radius is the area-weighted mean distance of the skin beside the
        axis.
        """
        owner = model.weights.argmax(1).cpu().numpy()
        shapes = torch.cat([torch.zeros(1, model.num_betas), torch.eye(model.num_betas)]).to(model.v_template)
        with torch.no_grad():
            bodies = model(betas=shapes)
        present = {n: v for n, v in CAPSULES.items() if model.has_point(v[1]) and model.has_point(v[2])}
        skin = bodies.vertices.double().cpu().numpy()
        area = _areas(skin[0], model.faces.cpu().numpy())
        lines = [
            np.stack([model.point(bodies, end).double().cpu().numpy() for end in ends], 1)
            for _, *ends in present.values()
        ]
        away = np.full((len(lines), len(owner)), np.inf)
        for c, (owners, *_) in enumerate(present.values()):
            mine = np.isin(owner, [model.skeleton.index(o) for o in owners if o in model.skeleton.names])
            away[c, mine] = _along_away(skin[:1, mine], lines[c][:1])[1][0]
        member = np.isfinite(away) & (away <= away.min(0) + 1e-4)  # vertices on the midline belong to both sides
        rows = []
        for c, (name, (_, *ends)) in enumerate(present.items()):
            if member[c].any():
                radii, reach, length = _fit_capsule(
                    skin[:, member[c]], lines[c], area[member[c]], tip=name.endswith(_TIPS)
                )
                rows.append((name, tuple(ends), radii[0], radii[1:] - radii[0], length, reach))
        names, ends, radius, slope, length, reach = zip(*rows, strict=True)
        return cls(names, ends, np.array(radius), np.array(slope), np.array(length), np.array(reach))


def _areas(vertices: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"]) -> Float[np.ndarray, "V"]:
    """Sum the areas of each vertex's faces, plus 1e-9 so that a vertex without faces has weight."""
    a, b, c = vertices[faces].transpose(1, 0, 2)
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1)
    return 1e-9 + np.bincount(faces.ravel(), np.repeat(area, 3), len(vertices))


def _along_away(
    skin: Float[np.ndarray, "B N 3"], line: Float[np.ndarray, "B 2 3"]
) -> tuple[Float[np.ndarray, "B N"], Float[np.ndarray, "B N"]]:
    """Return each vertex's coordinate along a line (its points at 0 and 1) and its distance from the line."""
    axis = line[:, 1:] - line[:, :1]
    offset = skin - line[:, :1]
    along = (offset * axis).sum(2) / (axis**2).sum(2)
    return along, np.linalg.norm(offset - along[..., None] * axis, axis=2)


def _fit_capsule(
    skin: Float[np.ndarray, "B N 3"], line: Float[np.ndarray, "B 2 3"], area: Float[np.ndarray, "N"], *, tip: bool
) -> tuple[Float[np.ndarray, "B"], Float[np.ndarray, "2"], float]:
    """Fit the radius for each body in the T-pose, and reach and length of the axis on the first body."""
    along, away = _along_away(skin, line)
    length = float(np.linalg.norm(line[0, 1] - line[0, 0]))
    end = 1.0
    if tip:
        end = max(float(np.quantile(along[0], 0.98)) - np.average(away[0], weights=area) / length, 0.2)
    beside = (along[0] >= 0) & (along[0] <= max(end, 1.0))
    beside = beside if beside.any() else np.ones_like(beside)
    return np.average(away[:, beside], axis=1, weights=area[beside]), np.array([0.0, end]), length * end
