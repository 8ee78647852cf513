"""What the conditional pose prior reads: keypoints of any layout as rays of a camera that looks straight at the person.

A keypoint is a point of the body whatever layout names it, so that layouts are subsets of one list of points
(`Slots`). The camera is turned to the middle of the visible points, and about its axis until the person stands upright
in the picture: the same person anywhere in a picture, and in one held any way round, is the same input.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

from bodyfit.skeleton import LAYOUTS, correspondence

__all__ = ["Slots", "Straight", "features_of", "straighten"]

_LEFT_OUT = ("tip", "middle_knuckle", "ring_knuckle")
_LEAST_NOISE = 1e-3
"""Least noise, in parts of the person's size, that the network distinguishes from none."""


@dataclass(frozen=True)
class Slots:
    """The points of the body that some keypoint layout has, each once."""

    entries: tuple[dict[str, float], ...]
    """Each point as a weighted mean of joints and surface keypoints (`skeleton.correspondence`)."""

    @classmethod
    def of_layouts(cls) -> Slots:
        """List the points of all layouts; of hands, wrists and three knuckles."""
        found: dict[str, dict[str, float]] = {}
        for layout in LAYOUTS:
            for entry in correspondence(layout):
                if entry and not any(part in name for name in entry for part in _LEFT_OUT):
                    found.setdefault(_key(entry), entry)
        return cls(tuple(found.values()))

    @classmethod
    def of_json(cls, text: str) -> Slots:
        """Read the list of `to_json`."""
        return cls(tuple({str(name): float(w) for name, w in entry.items()} for entry in json.loads(text)))

    def to_json(self) -> str:
        """Write the list as text."""
        return json.dumps(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    @cached_property
    def mirrored(self) -> tuple[int, ...]:
        """Slot of each point's counterpart on the other side of the body, or its own."""
        by_key = {_key(entry): row for row, entry in enumerate(self.entries)}
        other = {"left": "right", "right": "left"}
        swapped = [
            {"_".join(other.get(word, word) for word in name.split("_")): w for name, w in entry.items()}
            for entry in self.entries
        ]
        return tuple(by_key.get(_key(entry), row) for row, entry in enumerate(swapped))

    def rows(self, entries: Sequence[dict[str, float]]) -> list[int]:
        """Return the slot of each keypoint, -1 for keypoints that have none; of keypoints alike the first has it."""
        by_key = {_key(entry): row for row, entry in enumerate(self.entries)}
        found: list[int] = []
        for entry in entries:
            row = by_key.get(_key(entry), -1) if entry else -1
            found.append(-1 if row in found else row)
        return found

    def of_layout(self, layout: str) -> list[int]:
        """Return the slot of each keypoint of a layout (`rows`)."""
        return self.rows(correspondence(layout))

    def place(self, values: Float[Tensor, "B K *N"], rows: Sequence[int]) -> Float[Tensor, "B S *N"]:
        """Arrange values of keypoints by slot; 0 for slots without a keypoint."""
        some = [k for k, row in enumerate(rows) if row >= 0]
        out = values.new_zeros(len(values), len(self), *values.shape[2:])
        out[:, [rows[k] for k in some]] = values[:, some]
        return out


@lru_cache(maxsize=256)
def _key_of(items: tuple[tuple[str, float], ...]) -> str:
    return json.dumps(sorted(items))


def _key(entry: dict[str, float]) -> str:
    return _key_of(tuple(entry.items()))


@dataclass(frozen=True)
class Straight:
    """Keypoints by slot in a camera that is turned to their middle."""

    features: Float[Tensor, "B F"]
    """The network's input."""
    R: Float[Tensor, "B 3 3"]
    """Rotation of the picture's camera to this one: x_straight = R x_camera."""


def straighten(
    xy: Float[Tensor, "B S 2"],
    confidence: Float[Tensor, "B S"],
    lift_m: Float[Tensor, "B S 3"],
    lifted: Float[Tensor, "B S"],
    heights: Float[Tensor, "S"],
    noise: Float[Tensor, "B"] | None = None,
) -> Straight:
    """Turn the camera to the middle of the visible keypoints, upright, and scale them to a mean square of 1.

    Upright is the regression of the keypoints' places on their heights on a standing body, `heights`.

    xy: normalised image coordinates, (x px - cx) / f; confidence: 0 where missing. lift_m: a detector's 3D keypoints in
    camera axes about any origin, metres; lifted: 1 where there are any, else 0. noise: standard deviation of the
    keypoints in each axis, normalised image coordinates; negative, or None for all people, where it is unknown.
    """
    present = (confidence > 0).to(xy.dtype)
    count = present.sum(1, keepdim=True).clamp_min(1)
    middle = (present[..., None] * xy).sum(1) / count
    R = _to_ray(middle)
    rays = torch.cat([xy, torch.ones_like(xy[..., :1])], 2) @ R.mT
    turned = rays[..., :2] / rays[..., 2:].clamp_min(0.05)
    turned = (turned * present[..., None]).clamp(-10, 10)
    above = present * heights - present * (present * heights).sum(1, keepdim=True) / count
    R_roll = _upright((above[..., None] * turned).sum(1))
    R, turned = R_roll @ R, turned @ R_roll[:, :2, :2].mT
    size = (turned.square().sum((1, 2)) / count[:, 0]).sqrt().clamp_min(1e-3)
    shape = turned / size[:, None, None]
    n_lifted = lifted.sum(1).clamp_min(1)[:, None, None]
    about = lift_m - (lifted[..., None] * lift_m).sum(1, keepdim=True) / n_lifted
    about = (about @ R.mT * lifted[..., None]).clamp(-3, 3)
    each = torch.cat([shape, confidence[..., None], present[..., None], 2 * about, lifted[..., None]], 2)
    more = [size.log() + 1.5, *_noise_features(torch.full_like(size, -1.0) if noise is None else noise, size)]
    return Straight(torch.cat([each.flatten(1), torch.stack(more, 1)], 1), R)


def _noise_features(
    noise: Float[Tensor, "B"], size: Float[Tensor, "B"]
) -> tuple[Float[Tensor, "B"], Float[Tensor, "B"]]:
    """Return the logarithm of the noise in parts of the person's size, and 1 where it is known; 0 and 0 elsewhere."""
    known = (noise >= 0).to(size.dtype)
    return known * ((noise / size).clamp(_LEAST_NOISE, 1.0).log() / 1.5 + 3.0), known


def _upright(up: Float[Tensor, "B 2"]) -> Float[Tensor, "B 3 3"]:
    """Return the rotation about the camera's axis that takes a direction to (0, -1), up in the picture."""
    length = up.norm(dim=1, keepdim=True)
    x, y = torch.where(length > 1e-6, up / length.clamp_min(1e-9), up.new_tensor([0.0, -1.0])).unbind(1)
    zero, one = torch.zeros_like(x), torch.ones_like(x)
    return torch.stack([-y, x, zero, -x, -y, zero, zero, zero, one], 1).unflatten(1, (3, 3))


def _to_ray(xy: Float[Tensor, "B 2"]) -> Float[Tensor, "B 3 3"]:
    """Return the smallest rotation that takes the ray through each point to the camera's axis."""
    ray = torch.cat([xy, torch.ones_like(xy[:, :1])], 1)
    x, y, z = (ray / ray.norm(dim=1, keepdim=True)).unbind(1)
    # Of v = ray x axis = (y, -x, 0): 1 + [v] + [v]^2 / (1 + z), Rodrigues without angles; z > 0.
    h = 1 / (1 + z)
    rows = [1 - h * x * x, -h * x * y, -x, -h * x * y, 1 - h * y * y, -y, x, y, z]
    return torch.stack(rows, 1).unflatten(1, (3, 3))


def features_of(slots: int) -> int:
    """Return the number of the network's inputs for a number of slots."""
    return 8 * slots + 3
