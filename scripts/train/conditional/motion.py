"""Poses to train on: frames of motion clips, mixed limb by limb, perturbed and mirrored, of random adults."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from bodyfit.geometry.rotation import so3_exp, so3_log
from scripts.bench.inputs.synthetic_people import is_held_out
from scripts.build.pose_prior import (
    ANATOMICAL,
    DIM,
    FLOOR_STD,
    JOINTS,
    Clip,
    balanced_frames,
    canonical,
    mirror,
    per_joint,
    read_clips,
)

__all__ = ["Motion", "read_motion"]

_MIRROR = mirror(np.arange(1.0, DIM + 1))
"""Column and sign of each angle in a mirror."""
_QUIET = "reactidle"
"""Name of clips of people who stand: of little variety, so that they count less."""


def _parts() -> list[list[int]]:
    """List the joints that are exchanged together: arms with their collars, legs, the trunk with the head."""
    limb = {"arm": ("collar", "shoulder", "elbow", "wrist", "hand"), "leg": ("hip", "knee", "ankle", "foot")}
    parts = [
        [j for j, name in enumerate(JOINTS) if name.startswith(side) and name.split("_")[-1] in names]
        for names in limb.values()
        for side in ("left", "right")
    ]
    return [*parts, [j for j, name in enumerate(JOINTS) if "_" not in name]]


@dataclass(frozen=True)
class Motion:
    """Frames of motion clips with the weights to draw them by."""

    pose: Float[Tensor, "N 23 3"]
    """Axis-angles of the body's joints, radians."""
    cumulated: Float[Tensor, "N"]
    """Cumulated weights of the frames, up to 1."""
    clips: int

    @classmethod
    def of(cls, clips: Sequence[Clip], balance: float = 0.6) -> Motion:
        """Weigh the frames of clips: by the seconds of an activity to the power `balance`."""
        x, w = balanced_frames(clips, balance)
        x, w = x[: len(x) // 2], w[: len(w) // 2]
        quiet = np.concatenate([np.full(len(c.pose), 0.3 if _QUIET in c.name else 1.0) for c in clips])
        w = w * quiet
        cumulated = torch.tensor(np.cumsum(w / w.sum()))
        return cls(torch.tensor(x, dtype=torch.float32).unflatten(1, (-1, 3)), cumulated, len(clips))

    def draw(self, n: int, rng: torch.Generator) -> Float[Tensor, "N 23 3"]:
        """Draw frames by their weights."""
        at = torch.searchsorted(self.cumulated, torch.rand(n, dtype=torch.float64, generator=rng))
        return self.pose[at.clamp_max(len(self.pose) - 1)]

    def poses(self, n: int, rng: torch.Generator) -> Float[Tensor, "N 23 3"]:
        """Draw poses: frames, a third of them with limbs of other frames, half perturbed, half mirrored.

        Parts of one in eight are moved towards any pose that joints can take, for people do more than the clips show.
        """
        pose, other = self.draw(n, rng), self.draw(2 * n, rng)
        mixed = torch.rand(n, generator=rng) < 0.35
        for part in _parts():
            use = mixed & (torch.rand(n, generator=rng) < 0.4)
            which = torch.randint(0, 2, (n,), generator=rng) * n + torch.arange(n)
            pose[:, part] = torch.where(use[:, None, None], other[which][:, part], pose[:, part])
        low, high = torch.tensor(0.85 * per_joint(ANATOMICAL), dtype=pose.dtype).unbind(2)
        anything = low + (high - low) * torch.rand(pose.shape, generator=rng)
        far = (torch.rand(n, generator=rng) < 0.125) * (0.2 + 0.8 * torch.rand(n, generator=rng))
        for part in _parts():
            share = (far * (torch.rand(n, generator=rng) < 0.5))[:, None, None]
            pose[:, part] = torch.lerp(pose[:, part], anything[:, part], share)
        strength = torch.rand(n, generator=rng) * (torch.rand(n, generator=rng) < 0.5)
        noise = torch.tensor(per_joint(FLOOR_STD), dtype=pose.dtype) * torch.randn(pose.shape, generator=rng)
        pose = pose + strength[:, None, None] * noise
        knees = [JOINTS.index(f"{side}_knee") for side in ("left", "right")]
        pose[:, knees, 0] = torch.where(pose[:, knees, 0] < -0.05, -pose[:, knees, 0], pose[:, knees, 0])
        place, sign = np.abs(_MIRROR).astype(int) - 1, np.sign(_MIRROR)
        seen = pose.flatten(1)[:, torch.tensor(place)] * torch.tensor(sign, dtype=pose.dtype)
        return torch.where(torch.rand(n, 1, generator=rng) < 0.5, seen, pose.flatten(1)).unflatten(1, (-1, 3))


def read_motion(folders: Sequence[Path], fps: float = 10.0) -> tuple[Motion, Motion]:
    """Read the clips of folders in the AMASS layout: those to train on, and those held out (`is_held_out`).

    Clips that begin with a calibration frame are expressed relative to it, which repairs feet and collars of
    retargeting that aligned bone directions (`without_rest_frame`).
    """
    clips = [clip for folder in folders for clip in read_clips(folder, fps)]
    training, held_out = [c for c in clips if not is_held_out(c)], [c for c in clips if is_held_out(c)]
    return Motion.of(training), Motion.of(held_out if held_out else training)


def wrapped(rotvec: Float[Tensor, "*B 3"]) -> Float[Tensor, "*B 3"]:
    """Return the same rotations with angles of at most pi."""
    return torch.tensor(canonical(rotvec.double().numpy()), dtype=rotvec.dtype)


def rotated(R: Float[Tensor, "B 3 3"], rotvec: Float[Tensor, "B 3"]) -> Float[Tensor, "B 3"]:
    """Compute the axis-angle of R exp(rotvec)."""
    return so3_log(R @ so3_exp(rotvec))
