"""Load and evaluate the conditional pose prior: what keypoints of one picture tell of pose, shape and depth."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from bodyfit.body.assets import asset_path, read_archive
from bodyfit.body.conditional.inputs import Slots, straighten
from bodyfit.body.conditional.network import PoseNetwork, Predicted
from bodyfit.errors import AssetError
from bodyfit.skeleton import SMPL, mirrored_rows

__all__ = ["ConditionalPrior", "load_conditional_prior"]

_WEIGHTS = "weights/"
_JOINTS = [row - 1 for row in mirrored_rows(SMPL.names)[1:]]
_LARGEST = 4096
"""Most units of a layer in a file."""
_ROWS = 32
"""Rows of a product of matrices: those of 16 people and of their images in a mirror."""


class ConditionalPrior:
    """A trained network and the list of points that it reads."""

    def __init__(self, network: PoseNetwork, slots: Slots, facts: dict[str, Any]) -> None:
        self.network, self.slots, self.facts = network.eval().requires_grad_(False), slots, facts

    @torch.no_grad()
    def __call__(
        self,
        rows: Sequence[int],
        target: Float[Tensor, "B K 2"],
        confidence: Float[Tensor, "B K"],
        lift_m: Float[Tensor, "B K 3"] | None = None,
        lifted: Float[Tensor, "B K"] | None = None,
        noise: Float[Tensor, "B"] | None = None,
    ) -> Predicted:
        """Predict the distributions of B people in the axes of the picture's camera.

        They are the mean of those of the people and of their images in a mirror.

        rows: slot of each keypoint (`Slots.of_layout`). target: normalised image coordinates, (x px - cx) / f.
        confidence: in [0, 1], 0 where missing. lift_m: a detector's 3D keypoints in camera axes, metres, about any
        origin; lifted: 1 where they are known, else 0. noise: standard deviation of the keypoints, as `target`;
        negative where unknown. `points` and `points_scale` are those of the keypoints. A person's distributions do not
        depend on who else is in the batch.
        """
        device = next(self.network.parameters()).device
        like = {"dtype": torch.float32, "device": device}
        lift = torch.zeros(*target.shape[:2], 3) if lift_m is None or lifted is None else lift_m
        known = torch.zeros(target.shape[:2]) if lifted is None or lift_m is None else lifted
        xy, sure, lift, known = (self.slots.place(v.to(**like), rows) for v in (target, confidence, lift, known))
        noise = None if noise is None else noise.to(**like)
        straight = straighten(xy, sure, lift, known, self.network.heights, noise)
        other, across = list(self.slots.mirrored), xy.new_tensor([-1.0, 1.0, 1.0])
        mirror = across[:2] * xy[:, other], sure[:, other], across * lift[:, other], known[:, other]
        reflected = straighten(*mirror, self.network.heights, noise)
        both = self._evaluated(torch.stack([straight.features, reflected.features], 1).flatten(0, 1))
        found = both.select(slice(0, None, 2)).averaged(both.select(slice(1, None, 2)).mirrored(_JOINTS, other))
        at = [max(row, 0) for row in rows]
        return replace(
            found,
            root=straight.R.mT @ found.root,
            points=found.points[:, at] @ straight.R,
            points_scale=found.points_scale[:, at],
        )

    def _evaluated(self, features: Float[Tensor, "B F"]) -> Predicted:
        """Evaluate the network in blocks of as many rows each.

        Products of matrices round otherwise for other numbers of rows.
        """
        n = len(features)
        padded = torch.nn.functional.pad(features, (0, 0, 0, -n % _ROWS))
        blocks = [self.network(block) for block in padded.split(_ROWS)]
        return Predicted.cat(blocks).select(slice(n))


@lru_cache(maxsize=4)
def load_conditional_prior(path: Path | None = None) -> ConditionalPrior:
    """Load the shipped network, or one that `scripts/train/pose_prior.py` wrote.

    Raises `AssetError`, naming the file.
    """
    path = asset_path("prior", "conditional.npz") if path is None else path
    if not path.is_file():
        raise AssetError(f"{path}: no such file; give a network that scripts/train/pose_prior.py wrote")
    arrays = read_archive(path)
    try:
        facts = json.loads(bytes(np.asarray(arrays["facts"], np.uint8)))
        slots = Slots.of_json(json.dumps(facts["slots"]))
        sizes = {name: int(facts[name]) for name in ("width", "blocks", "joints", "betas")}
    except (KeyError, TypeError, ValueError, AttributeError):
        raise AssetError(f"{path}: not a conditional pose prior; it has no description of its network") from None
    if not all(0 < size <= _LARGEST for size in sizes.values()):
        raise AssetError(f"{path}: a network of {sizes} is not one of ours")
    network = PoseNetwork(slots=len(slots), **sizes)
    state = {
        name.removeprefix(_WEIGHTS): torch.from_numpy(np.asarray(value, np.float32))
        for name, value in arrays.items()
        if name.startswith(_WEIGHTS)
    }
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise AssetError(f"{path}: its weights are not those of its network: {error}") from None
    if not all(bool(torch.isfinite(value).all()) for value in state.values()):
        raise AssetError(f"{path}: its weights hold NaN or infinity")
    return ConditionalPrior(network, slots, facts)
