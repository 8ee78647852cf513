"""A critic's loss for completed views: hinge losses of patches at two scales, and features that should match."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from scripts.train.new_views.losses import before_colors, view_loss
from scripts.train.new_views.networks import PatchCritic

__all__ = ["Critic"]

_FOOLING, _MATCHING = 0.02, 0.5
_RATE = 4e-4


class Critic:
    """Learns to tell completed views from true ones, a step whenever it is asked for the loss of a completed one."""

    def __init__(self) -> None:
        self._network = PatchCritic()
        self._optimiser = torch.optim.Adam(self._network.parameters(), lr=_RATE, betas=(0.0, 0.9))
        self.parts: dict[str, Any] = {"critic": self._network, "critic_optimiser": self._optimiser}
        """What a checkpoint has of it."""

    def loss(
        self, inputs: Float[Tensor, "B 16 H W"], outputs: Float[Tensor, "B 5 H W"], truth: Float[Tensor, "B 4 H W"]
    ) -> Float[Tensor, ""]:
        """Compute the loss of views with what the critic says of them, after it has learnt from them."""
        found, goal = before_colors(inputs, outputs, truth, torch.ones(len(inputs), 3, 1, 1))
        body = inputs[:, 9:10]
        true, false = torch.cat([goal, body], 1), torch.cat([found, body], 1)
        of_true, of_false = self._network(true)[0], self._network(false.detach())[0]
        learning = sum((1 - s).relu().mean() for s in of_true) + sum((1 + s).relu().mean() for s in of_false)
        self._optimiser.zero_grad()
        torch.as_tensor(learning).backward()
        self._optimiser.step()
        self._network.requires_grad_(False)
        scores, features = self._network(false)
        with torch.no_grad():
            _, goals = self._network(true)
        self._network.requires_grad_(True)
        fooling = -torch.stack([score.mean() for score in scores]).sum()
        pairs = zip(features, goals, strict=True)
        matching = torch.stack([nn.functional.l1_loss(a, b) for a, b in pairs]).sum()
        return view_loss(inputs, outputs, truth) + _FOOLING * fooling + _MATCHING * matching
