"""Approximate fingers and palms by capsules, for tests of whether fingers run into each other."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch
from jaxtyping import Float, Int

from bodyfit.body.model import BodyModel

__all__ = ["HandCapsules"]

_FINGERS = ("thumb", "index", "middle", "ring", "pinky")
_PALM = "palm"


@dataclass(frozen=True)
class HandCapsules:
    """Three capsules a finger and four a palm, from the wrist to each knuckle; of both hands."""

    names: tuple[tuple[str, str, int], ...]
    """Side, finger or "palm", and its number along the finger or across the palm."""
    ends: tuple[tuple[str, str], ...]
    """Names of the points that each axis runs through."""
    reach: Float[np.ndarray, "C 2"]
    """Where the axis starts and ends, as fractions of the way from its first point to its second."""
    radius_m: Float[np.ndarray, "C"]
    """Mean distance of the skin from the axis, on the mean body."""

    @classmethod
    def of(cls, model: BodyModel) -> HandCapsules:
        """Fit capsules to the skin of a model with fingers.

        A vertex belongs to the joint of its largest weight; of the wrist's, those nearest to an axis are the palm's.
        Tips end one radius before the skin does, palms start half-way, where the hand is no wrist. Without skin a
        capsule has no radius.
        """
        with torch.no_grad():
            body = model(betas=torch.zeros(1, model.num_betas).to(model.v_template))
        owner = model.weights.argmax(1).cpu().numpy()
        skin = body.vertices[0].double().cpu().numpy()
        rows = []
        for side in ("left", "right"):
            for finger in _FINGERS:
                points = [f"{side}_{finger}{part}" for part in ("1", "2", "3", "_tip")]
                rows += [((side, finger, i), (points[i], points[i + 1]), points[i]) for i in range(3)]
            palm = enumerate(_FINGERS[1:])
            rows += [((side, _PALM, i), (f"{side}_wrist", f"{side}_{f}1"), f"{side}_wrist") for i, f in palm]
        reach, radius = np.tile([0.0, 1.0], (len(rows), 1)), np.zeros(len(rows))
        for c, ((_, part, number), ends, joint) in enumerate(rows):
            line = [model.point(body, end)[0].double().cpu().numpy() for end in ends]
            along, away = _along_away(skin[owner == model.skeleton.index(joint)], *line)
            if part == _PALM:
                reach[c] = 0.5, 1.0
                near = (along > 0.5) & (along < 1.0)
                # The palm's thickness: its sides are other capsules'.
                radius[c] = np.quantile(away[near], 0.2) if near.any() else 0.0
                continue
            beside = (along > 0.1) & (along < 0.9)
            radius[c] = away[beside].mean() if beside.any() else 0.0
            if number == 2:
                reach[c, 1] = max(1 - radius[c] / np.linalg.norm(line[1] - line[0]), 0.3)
        names, ends, _ = zip(*rows, strict=True)
        return cls(names, ends, reach, radius)

    def axis(self, c: int, along: int) -> dict[str, float]:
        """Return the start (0) or the end (1) of an axis as weights of named points."""
        a, b = self.ends[c]
        t = float(self.reach[c, along])
        return {name: w for name, w in ((a, 1 - t), (b, t)) if w != 0}

    def pairs(self) -> Int[np.ndarray, "N 2"]:
        """List the pairs of capsules that must not overlap: of different fingers, fingers and palm, different hands.

        Left out are those that meet at the knuckles in any pose.
        """
        found = [(i, j) for i, j in combinations(range(len(self.names)), 2) if not self._may_touch(i, j)]
        return np.array(found, dtype=np.int64)

    def _may_touch(self, i: int, j: int) -> bool:
        (side, part, number), (other_side, other_part, other_number) = self.names[i], self.names[j]
        if side != other_side:
            return False
        if part == other_part:  # one finger, or one palm
            return True
        if _PALM in (part, other_part):
            finger, along = (other_part, other_number) if part == _PALM else (part, number)
            return along == 0 or (finger == "thumb" and along == 1)
        return number == other_number == 0


def _along_away(
    skin: Float[np.ndarray, "N 3"], start: Float[np.ndarray, "3"], end: Float[np.ndarray, "3"]
) -> tuple[Float[np.ndarray, "N"], Float[np.ndarray, "N"]]:
    """Return each vertex's coordinate along a line, 0 at its start and 1 at its end, and its distance from the line."""
    axis, offset = end - start, skin - start
    along = offset @ axis / (axis @ axis)
    return along, np.linalg.norm(offset - along[:, None] * axis, axis=1)
