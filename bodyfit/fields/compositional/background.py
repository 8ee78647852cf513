"""The background field: what a ray sees in the distance, as a function of its direction and a code."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

__all__ = ["BackgroundField"]


class BackgroundField(nn.Module):
    """A multilayer perceptron on a world direction (y up), encoded by sines of it, and a code."""

    def __init__(self, code_size: int = 8, hidden: int = 32, feature_size: int = 32) -> None:
        super().__init__()
        self.code_size = code_size
        self.first = nn.Linear(15, hidden)
        self.by_code = nn.Linear(code_size, hidden, bias=False)
        self.second = nn.Linear(hidden, hidden)
        self.second_by_code = nn.Linear(code_size, hidden, bias=False)
        self.last = nn.Linear(hidden, feature_size)

    def forward(
        self, directions: Float[Tensor, "R 3"], codes: Float[Tensor, "P D"], picture: Int[Tensor, "R"]
    ) -> Float[Tensor, "R F"]:
        """Features of rays of P pictures with a code each."""
        waves = [f(k * directions) for k in (2.0, 4.0) for f in (torch.sin, torch.cos)]
        x = self.first(torch.cat([directions, *waves], 1)) + self.by_code(codes)[picture]
        x = self.second(nn.functional.leaky_relu(x, 0.1)) + self.second_by_code(codes)[picture]
        return self.last(nn.functional.leaky_relu(x, 0.1))
