"""Views to train on: people before random cameras, as detectors with random faults report them.

The faults are those of `scripts.bench.inputs.synthetic_people` (keypoints that err by parts of the person's height,
more where the body hides them, missing and exchanged limbs, front taken for back, a lift that is bent limb by limb),
each with a strength that is drawn for each person, so that the network reads no one detector's noise into its input.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

import bodyfit
from bodyfit.body.conditional.inputs import Slots, Straight, straighten
from bodyfit.body.points.posed import Points, pose_tree
from bodyfit.geometry.rotation import so3_exp
from bodyfit.skeleton import LAYOUTS, SMPL
from scripts.bench.inputs.synthetic_people import _BENDS
from scripts.train.conditional.motion import Motion

__all__ = ["Batch", "Views"]

_SHARES = {"mediapipe33": 0.4, "coco17": 0.15, "openpose25": 0.12, "lsp14": 0.1, "smpl24": 0.1}
"""How often keypoints are of these layouts; all others share the rest."""
_HEAD = ("nose", "eye", "ear", "mouth", "head", "neck", "chin")
_SPHERES = (
    ("left_shoulder", "left_elbow", 0.05),
    ("left_elbow", "left_wrist", 0.045),
    ("left_hip", "left_knee", 0.07),
    ("left_knee", "left_ankle", 0.05),
    ("right_shoulder", "right_elbow", 0.05),
    ("right_elbow", "right_wrist", 0.045),
    ("right_hip", "right_knee", 0.07),
    ("right_knee", "right_ankle", 0.05),
    ("neck", "head", 0.08),
    ("left_hip", "left_shoulder", 0.1),
    ("right_hip", "right_shoulder", 0.1),
    ("pelvis", "spine3", 0.12),
)
"""Two joints and a radius, metres: what hides points is spheres between them."""


@dataclass(frozen=True)
class Batch:
    """What the network reads of B people, and the truth in the axes of its camera."""

    straight: Straight
    root: Float[Tensor, "B 3 3"]
    pose: Float[Tensor, "B 23 3"]
    betas: Float[Tensor, "B 10"]
    points: Float[Tensor, "B K 3"]
    """Slots about the root joint, metres."""
    joints: Float[Tensor, "B 24 3"]
    """Joints about the root joint, metres."""


def _uniform(rng: torch.Generator, low: float, high: float, *shape: int) -> Tensor:
    return low + (high - low) * torch.rand(*shape, generator=rng)


def _log_uniform(rng: torch.Generator, low: float, high: float, *shape: int) -> Tensor:
    return low * (high / low) ** torch.rand(*shape, generator=rng)


class Views:
    """Source of training examples."""

    def __init__(self, model: bodyfit.BodyModel, motion: Motion, slots: Slots) -> None:
        self.model, self.motion, self.slots = model, motion, slots
        self.points = Points(model, slots.entries)
        names = ["+".join(entry) if len(entry) > 1 else next(iter(entry)) for entry in slots.entries]
        self.names = names
        self.mirrored = torch.tensor(slots.mirrored)
        other = [name for name in LAYOUTS if name not in _SHARES]
        shares = {**_SHARES, **dict.fromkeys(other, (1 - sum(_SHARES.values())) / len(other))}
        member = torch.zeros(len(shares), len(slots))
        for i, name in enumerate(shares):
            member[i, [row for row in slots.of_layout(name) if row >= 0]] = 1
        self.member, self.shares = member, torch.tensor(list(shares.values()))
        self.arms = self._named("elbow", "wrist", "knuckle")
        self.legs = self._named("knee", "ankle", "heel", "toe", "foot")
        self.lower = self._named("knee", "ankle", "heel", "toe", "foot")
        self.hips = self._named("hip", "pelvis")
        self.upper = self.arms | self._named(*_HEAD, "shoulder", "collar", "hand", "spine2", "spine3")
        self.left = self._named("left")
        tree = pose_tree(model, torch.zeros(1, model.num_betas), torch.zeros(1, 24, 3))
        self.heights = self.points.place(tree, torch.zeros(1, model.num_betas)).positions[0, :, 1].clone()
        """Height of each slot on the body at rest, metres."""
        self.bends = [([i for i, n in enumerate(names) if n in start], self._named(*parts)) for start, parts in _BENDS]

    def _named(self, *parts: str) -> Bool[Tensor, "K"]:
        return torch.tensor([any(part in name for part in parts) for name in self.names])

    def batch(self, n: int, rng: torch.Generator) -> Batch:
        """Draw n views, two of each of n / 2 people."""
        few = -(-n // 2)
        pose = self.motion.poses(few, rng)
        betas = torch.randn(few, 10, generator=rng).clamp(-2.5, 2.5)
        tree = pose_tree(self.model, betas, torch.cat([torch.zeros(few, 1, 3), pose], 1))
        root = tree.joints[:, :1]
        both = self.points.place(tree, betas).positions - root, tree.joints - root, pose, betas
        points, joints, pose, betas = (torch.cat([value, value])[:n] for value in both)
        R = self._orientations(n, rng)
        points, joints = points @ R.mT, joints @ R.mT
        depth = _log_uniform(rng, 1.6, 10.0, n)
        side = torch.stack([_uniform(rng, -0.4, 0.4, n), _uniform(rng, -0.3, 0.3, n), torch.ones(n)], 1)
        place = (side * depth[:, None])[:, None]
        member = self.member[torch.multinomial(self.shares, n, replacement=True, generator=rng)]
        seen, confidence, noise = self._observed(points + place, joints + place, member, rng)
        lift = self._lifted(points, rng)
        lifted = member * (torch.rand(n, 1, generator=rng) < 0.55)
        # A detector guesses where the points are that it does not see; other lifts end where the keypoints do.
        lifted = lifted * ((confidence > 0) | (torch.rand(n, 1, generator=rng) < 0.5))
        # Who is taken for facing the other way.
        other = torch.rand(n, generator=rng) < 0.04
        arranged = torch.where(other[:, None], self.mirrored, torch.arange(len(self.slots)))
        seen, lift = _arranged(seen, arranged), _arranged(lift, arranged)
        noise = torch.where(torch.rand(n, generator=rng) < 0.5, noise, -1.0)
        straight = straighten(seen, confidence, lift, lifted, self.heights, noise)
        back = straight.R
        return Batch(straight, back @ R, pose, betas, points @ back.mT, joints @ back.mT)

    def _orientations(self, n: int, rng: torch.Generator) -> Float[Tensor, "B 3 3"]:
        """Draw orientations of the root: all yaws, a camera's pitch, some people who lean or lie.

        The camera is not rolled, for the network's input is upright (`straighten`).
        """
        zero = torch.zeros(n)
        yaw = _uniform(rng, -torch.pi, torch.pi, n)
        pitch = torch.where(
            torch.rand(n, generator=rng) < 0.6, _uniform(rng, -0.6, 0.6, n), 0.2 * torch.randn(n, generator=rng)
        )
        tilt = _log_uniform(rng, 0.05, 1.0, n) * (torch.rand(n, generator=rng) < 0.6)
        lying = torch.rand(n, generator=rng) < 0.12
        lean = torch.where(lying, _uniform(rng, 0.5, torch.pi, n), tilt)
        way = _uniform(rng, -torch.pi, torch.pi, n)
        own = so3_exp(torch.stack([lean * way.cos(), zero, lean * way.sin()], 1))
        R_yaw = so3_exp(torch.stack([zero, yaw, zero], 1))
        R_camera = so3_exp(torch.stack([torch.pi + pitch, zero, zero], 1))
        return R_camera @ R_yaw @ own

    def _observed(
        self,
        points: Float[Tensor, "B K 3"],
        joints: Float[Tensor, "B J 3"],
        member: Float[Tensor, "B K"],
        rng: torch.Generator,
    ) -> tuple[Float[Tensor, "B K 2"], Float[Tensor, "B K"], Float[Tensor, "B"]]:
        """Project points with a detector's faults.

        Return also confidences, 0 for what is missing, and the deviation of a keypoint as a fit would estimate it.
        """
        n, k = points.shape[:2]
        xy = points[..., :2] / points[..., 2:].clamp_min(0.3)
        spans = joints[..., :2] / joints[..., 2:].clamp_min(0.3)
        height = 1.1 * (spans.amax(1) - spans.amin(1)).amax(1)
        hidden = self._hidden(points, joints)
        exact = torch.rand(n, generator=rng) < 0.25
        level = torch.where(exact, _log_uniform(rng, 2e-4, 4e-3, n), _log_uniform(rng, 0.003, 0.022, n))
        # Annotators and markers tell hidden points as well as others, and which side is which.
        careful = (exact & (torch.rand(n, generator=rng) < 0.6)) | (torch.rand(n, generator=rng) < 0.1)
        worse = torch.where(careful[:, None], 1.0, _uniform(rng, 1.5, 4.0, n, 1))
        deviation = (level * height)[:, None] * torch.where(hidden, worse, 1.0)
        noise = deviation[..., None] * torch.randn(n, k, 2, generator=rng)
        # A limb's points err together, too.
        for part in (self.arms, self.legs):
            strength = (level * height * _uniform(rng, 0.0, 1.0, n) * ~careful)[:, None, None]
            noise = noise + strength * torch.randn(n, 1, 2, generator=rng) * part[:, None]
        wild = (torch.rand(n, k, generator=rng) < 0.01) & ~careful[:, None]
        confidence = self._confidences(hidden, member, rng)
        confidence = confidence * ~self._missing(xy, height, careful, rng)
        told = self._told(noise, (confidence > 0).to(xy.dtype), rng)
        xy = xy + noise + wild[..., None] * 0.2 * height[:, None, None] * torch.randn(n, k, 2, generator=rng)
        swap = torch.where(careful, 0.5, torch.rand(n, generator=rng))
        order = torch.arange(k)
        arranged = torch.where((swap < 0.04)[:, None] & self.arms, self.mirrored, order)
        arranged = torch.where((swap > 0.96)[:, None] & self.legs, self.mirrored, arranged)
        return _arranged(xy, arranged), torch.gather(confidence, 1, arranged), told

    def _told(
        self, noise: Float[Tensor, "B K 2"], present: Float[Tensor, "B K"], rng: torch.Generator
    ) -> Float[Tensor, "B"]:
        """Compute the deviation of keypoints as well as a fit can estimate it, within a third."""
        mean = (present[..., None] * noise.square()).sum((1, 2)) / (2 * present.sum(1)).clamp_min(1)
        return mean.sqrt() * (0.3 * torch.randn(len(noise), generator=rng)).exp()

    def _confidences(
        self, hidden: Bool[Tensor, "B K"], member: Float[Tensor, "B K"], rng: torch.Generator
    ) -> Float[Tensor, "B K"]:
        """Draw confidences: lower for hidden points, or one for all points of a person."""
        n, k = hidden.shape
        sure = torch.where(hidden, _uniform(rng, 0.15, 0.7, n, k), _uniform(rng, 0.7, 1.0, n, k))
        blind = torch.rand(n, 1, generator=rng) < 0.25
        return torch.where(blind, _uniform(rng, 0.5, 1.0, n, 1), sure) * member

    def _missing(
        self,
        xy: Float[Tensor, "B K 2"],
        height: Float[Tensor, "B"],
        careful: Bool[Tensor, "B"],
        rng: torch.Generator,
    ) -> Bool[Tensor, "B K"]:
        """Draw which points are missing: single ones, halves of bodies, and what a picture's edge cuts off."""
        n, k = xy.shape[:2]
        missing = torch.rand(n, k, generator=rng) < _uniform(rng, 0.0, 0.12, n, 1) * ~careful[:, None]
        half = torch.rand(n, generator=rng)
        missing = missing | ((half < 0.12)[:, None] & self.lower) | ((half < 0.06)[:, None] & self.hips)
        missing = missing | ((half > 0.97)[:, None] & self.arms) | ((half < 0.02)[:, None] & self.arms)
        missing = missing | ((half > 0.93) & (half < 0.97))[:, None] & self.upper
        missing = missing | ((half > 0.87) & (half < 0.93))[:, None] & self.arms & self.left
        cut = (torch.rand(n, generator=rng) < 0.06)[:, None]
        edge = _uniform(rng, -0.5, 0.3, n, 1) * height[:, None]
        return missing | (cut & (xy[..., 1] - xy[..., 1].mean(1, keepdim=True) > edge.abs()))

    def _hidden(self, points: Float[Tensor, "B K 3"], joints: Float[Tensor, "B J 3"]) -> Bool[Tensor, "B K"]:
        """Determine which points the body hides: spheres on its bones that are 12 cm nearer than the point."""
        middles, radii = [], []
        for start, end, radius in _SPHERES:
            a, b = joints[:, SMPL.index(start)], joints[:, SMPL.index(end)]
            middles += [a + t * (b - a) for t in (0.3, 0.7)]
            radii += [radius, radius]
        spheres = torch.stack(middles, 1)  # (B, S, 3)
        distance = points.norm(dim=2)
        along = (points / distance[..., None]) @ spheres.mT  # (B, K, S)
        away2 = spheres.square().sum(2)[:, None] - along.square()
        nearer = along < distance[..., None] - 0.12
        return ((away2 < torch.tensor(radii).square()) & nearer).any(2)

    def _lifted(self, points: Float[Tensor, "B K 3"], rng: torch.Generator) -> Float[Tensor, "B K 3"]:
        """Make a network's lift: bent limb by limb, turned, noisy most in depth."""
        n, k = points.shape[:2]
        lift = points.clone()
        bend = _log_uniform(rng, 0.04, 0.28, n, 1)
        for start, part in self.bends:
            middle = lift[:, start].mean(1, keepdim=True)
            R = so3_exp(bend * torch.randn(n, 3, generator=rng) * torch.tensor([1.0, 1.0, 0.5]))
            lift[:, part] = middle + (lift[:, part] - middle) @ R.mT
        R = so3_exp(_log_uniform(rng, 0.03, 0.2, n, 1) * torch.randn(n, 3, generator=rng))
        flat = torch.where(torch.rand(n, generator=rng) < 0.3, _uniform(rng, 0.7, 1.05, n), torch.ones(n))
        lift[..., 2] *= flat[:, None]
        noise = _log_uniform(rng, 0.004, 0.05, n, 1, 1) * torch.randn(n, k, 3, generator=rng)
        return _uniform(rng, 0.88, 1.12, n, 1, 1) * (lift @ R.mT) + noise * torch.tensor([1.0, 1.0, 2.0])


def _arranged(values: Float[Tensor, "B K N"], order: Tensor) -> Float[Tensor, "B K N"]:
    return torch.gather(values, 1, order[..., None].expand_as(values))
